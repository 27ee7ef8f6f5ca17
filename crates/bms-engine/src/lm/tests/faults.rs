//! A decoder that fails.

use super::fake::{Fault, expected};
use super::harness::{Rig, prompt, request};
use crate::lm::Request;

#[test]
fn a_failed_batch_fails_its_requests_and_no_others() {
    for fault in [Fault::Error, Fault::Panic, Fault::Nan, Fault::Short] {
        let mut rig = Rig::new(64);
        let asks: Vec<_> = (0..3)
            .map(|seed| rig.ask(Request { n: 2, ignore_eos: true, ..request(prompt(seed, 40), 20) }))
            .collect();
        *rig.strings.fault.lock().unwrap() = Some((5, fault));
        rig.finish();
        for ask in &asks {
            assert!(ask.failed().is_some(), "{fault:?}");
        }
        assert_eq!(rig.core.metrics.failed, 6);
        let after = rig.ask(request(prompt(0, 40), 20));
        rig.finish();
        assert_eq!(after.ids(0), expected(&after.request.prompt, 20, None, usize::MAX), "{fault:?}");
    }
}

#[test]
fn a_sink_that_panics_or_closes_cancels_its_request() {
    use crate::lm::sequence::Listener;
    let listener = Listener::new(|_| panic!("a bad sink"));
    listener.hear(crate::lm::Event::Failed(bms_wire::Error::new(bms_wire::Code::Internal, "x")));
    assert!(listener.interest.is_lost());
    let listener = Listener::new(|_| false);
    listener.hear(crate::lm::Event::Failed(bms_wire::Error::new(bms_wire::Code::Internal, "x")));
    assert!(listener.interest.is_lost());
}

#[test]
fn a_fault_of_the_engine_leaves_it_alive() {
    let mut rig = Rig::new(64);
    let ask = rig.ask(request(prompt(0, 40), 20));
    rig.step();
    rig.core.start_over();
    assert!(ask.failed().is_some());
    rig.finish();
    let after = rig.ask(request(prompt(0, 40), 20));
    rig.finish();
    assert_eq!(after.ids(0), expected(&after.request.prompt, 20, None, usize::MAX));
}
