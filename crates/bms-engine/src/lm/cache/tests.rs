use super::*;
use crate::lm::tests::fake::{FakeClock, FakeDecoder, PAGE};

struct Desk {
    cache: Cache,
    decoder: FakeDecoder,
}

impl Desk {
    fn new(pages: usize) -> Desk {
        Desk { cache: Cache::new(pages, PAGE), decoder: FakeDecoder::new(pages, 4096, FakeClock::new()) }
    }

    fn follow(&mut self, tokens: &[u32]) -> (Chain, Follow) {
        let mut chain = Chain::default();
        let follow = self.cache.follow(&mut chain, None, tokens, &mut self.decoder);
        (chain, follow)
    }

    fn compute(&mut self, chain: &mut Chain, tokens: &[u32]) {
        assert!(self.cache.reserve(chain, tokens.len(), &mut self.decoder));
        self.cache.advance(chain, tokens.len(), tokens);
    }
}

fn tokens(n: u32) -> Vec<u32> {
    (0..n).collect()
}

#[test]
fn one_waits_for_what_another_computes_and_takes_it_over_page_by_page() {
    let mut desk = Desk::new(16);
    let all = tokens(60);
    let (mut first, follow) = desk.follow(&all);
    assert_eq!(follow, Follow::Alone);
    let (mut second, follow) = desk.follow(&all);
    assert!(matches!(follow, Follow::Waits(node) if first.claims(node)));
    assert!(desk.cache.reserve(&mut first, 32, &mut desk.decoder));
    desk.cache.advance(&mut first, 32, &all);
    let follow = desk.cache.follow(&mut second, None, &all, &mut desk.decoder);
    assert!(matches!(follow, Follow::Waits(_)));
    assert_eq!((second.computed, &second.pages[..]), (32, &first.pages[..2]));
    desk.compute(&mut first, &all);
    assert_eq!(desk.cache.follow(&mut second, None, &all, &mut desk.decoder), Follow::Alone);
    assert_eq!(second.computed, 48);
    desk.cache.audit([&first, &second].into_iter());
    desk.cache.release(&mut first);
    desk.cache.release(&mut second);
    desk.cache.audit([].into_iter());
    assert_eq!((desk.cache.available(), desk.cache.idle()), (16, 3));
}

#[test]
fn what_was_computed_twice_is_kept_once() {
    let mut desk = Desk::new(16);
    let all = tokens(40);
    let (mut first, _) = desk.follow(&all);
    let mut second = Chain::default();
    desk.cache.follow_nothing(&mut second, None);
    desk.compute(&mut second, &all);
    desk.compute(&mut first, &all);
    assert_eq!(first.pages[..2], second.pages[..2]);
    assert_ne!(first.pages[2], second.pages[2]);
    desk.cache.audit([&first, &second].into_iter());
    assert!(!first.has_claims());
}

#[test]
fn a_fork_copies_the_page_it_writes() {
    let mut desk = Desk::new(16);
    let all = tokens(40);
    let (mut first, _) = desk.follow(&all);
    desk.compute(&mut first, &all);
    let mut second = desk.cache.fork(&first);
    assert_eq!(first.pages, second.pages);
    assert!(desk.cache.reserve(&mut second, 41, &mut desk.decoder));
    assert_eq!(first.pages[..2], second.pages[..2]);
    assert_ne!(first.pages[2], second.pages[2]);
    // Now nobody else has its page.
    let before = first.pages.clone();
    assert!(desk.cache.reserve(&mut first, 41, &mut desk.decoder));
    assert_eq!(first.pages, before);
    desk.cache.audit([&first, &second].into_iter());
}

#[test]
fn claims_of_one_that_leaves_are_free_for_others() {
    let mut desk = Desk::new(16);
    let all = tokens(60);
    let (mut first, _) = desk.follow(&all);
    let (mut second, _) = desk.follow(&all);
    desk.cache.release(&mut first);
    assert_eq!(desk.cache.follow(&mut second, None, &all, &mut desk.decoder), Follow::Alone);
    assert!(second.has_claims());
    desk.cache.audit([&second].into_iter());
}

#[test]
fn a_reservation_that_fails_keeps_what_it_got() {
    let mut desk = Desk::new(3);
    let (mut chain, _) = desk.follow(&tokens(100));
    assert!(!desk.cache.reserve(&mut chain, 100, &mut desk.decoder));
    assert_eq!(chain.pages.len(), 3);
    desk.cache.audit([&chain].into_iter());
    desk.cache.release(&mut chain);
    assert_eq!(desk.cache.available(), 3);
}
