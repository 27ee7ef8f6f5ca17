use std::sync::Arc;

use super::Centres;
use crate::nodes::{CENTRE_HOST, peer};
use crate::slots::Tls;

fn centres(addresses: &[&str]) -> Centres {
    let tls = Tls::new(peer::joining(&"ab".repeat(32)).unwrap(), CENTRE_HOST).unwrap();
    Centres::new(&texts(addresses), tls).unwrap()
}

fn texts(addresses: &[&str]) -> Vec<String> {
    addresses.iter().map(|address| (*address).to_owned()).collect()
}

#[test]
fn the_next_one_is_asked_and_what_is_known_is_what_was_heard_last() {
    let centres = centres(&["a:1"]);
    centres.go_on();
    assert_eq!(centres.addresses(), ["a:1"], "there is no other");
    let way = centres.now();
    assert!(centres.learn(&texts(&["b:1", "a:1", "c:1"])));
    assert!(Arc::ptr_eq(&way, &centres.now()), "who says so is spoken with on");
    assert_eq!(centres.addresses(), ["a:1", "b:1", "c:1"]);
    centres.go_on();
    assert!(!centres.learn(&texts(&["c:1", "b:1", "a:1"])), "in another order they are the same");
    assert_eq!(centres.addresses(), ["b:1", "c:1", "a:1"]);
    assert!(!centres.learn(&[]), "who does not tell takes nothing away");
    assert!(centres.learn(&texts(&["b:1", "nonsense", "d:1"])));
    assert_eq!(centres.addresses(), ["b:1", "d:1"]);
    assert!(!centres.learn(&texts(&["d:1"])), "the one that answers is kept though it is not named");
    assert_eq!(centres.addresses(), ["b:1", "d:1"]);
    let many: Vec<String> = (1..100).map(|port| format!("m:{port}")).collect();
    assert!(centres.learn(&many));
    assert!(centres.count() <= 1 + bms_wire::limits::CENTRES_MAX);
}
