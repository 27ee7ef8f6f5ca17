use super::*;

/// A tree with pages that sequences computed and gave back.
struct Forest {
    tree: Prefixes,
    pages: Pages,
}

impl Forest {
    fn new(pages: usize) -> Forest {
        Forest { tree: Prefixes::default(), pages: Pages::new(pages) }
    }

    /// Adds a page after another and gives it back.
    fn grow(&mut self, at: NodeId, tokens: &[u32]) -> (NodeId, PageId) {
        let id = self.tree.claim(at, tokens);
        let page = self.pages.take().unwrap();
        self.tree.fill(id, page, &mut self.pages);
        self.tree.release(page, &mut self.pages);
        self.tree.audit(&self.pages);
        (id, page)
    }
}

#[test]
fn a_claim_is_pending_until_it_is_filled() {
    let mut forest = Forest::new(4);
    let root = forest.tree.root(None);
    assert_eq!(forest.tree.next(root, &[1, 2]), Next::Absent);
    let id = forest.tree.claim(root, &[1, 2]);
    assert_eq!(forest.tree.next(root, &[1, 2]), Next::Pending(id));
    let page = forest.pages.take().unwrap();
    forest.tree.fill(id, page, &mut forest.pages);
    assert_eq!(forest.tree.next(root, &[1, 2]), Next::Ready(id, page));
    assert_eq!(forest.pages.holders(page), 2);
    let other = forest.tree.claim(id, &[3, 4]);
    forest.tree.abandon(other);
    assert_eq!(forest.tree.next(id, &[3, 4]), Next::Absent);
    // A node that is filled is not abandoned, and one that is gone is no other.
    forest.tree.abandon(id);
    forest.tree.abandon(other);
    assert_eq!(forest.tree.next(root, &[1, 2]), Next::Ready(id, page));
}

#[test]
fn leaves_go_first_and_of_these_the_least_recently_used() {
    let mut forest = Forest::new(8);
    let root = forest.tree.root(None);
    let (a, page_a) = forest.grow(root, &[1, 1]);
    let (_, page_b) = forest.grow(a, &[2, 2]);
    let (_, page_c) = forest.grow(root, &[3, 3]);
    assert_eq!(forest.tree.idle(), 3);
    // Used again.
    forest.tree.hold(page_b, &mut forest.pages);
    assert_eq!(forest.tree.idle(), 2);
    forest.tree.release(page_b, &mut forest.pages);
    let mut gone = Vec::new();
    while forest.tree.evict(&mut forest.pages) {
        gone.extend(
            [page_a, page_b, page_c].into_iter().find(|p| forest.pages.holders(*p) == 0 && !gone.contains(p)),
        );
        forest.tree.audit(&forest.pages);
    }
    assert_eq!(gone, [page_c, page_b, page_a]);
    assert_eq!(forest.pages.free(), 8);
}

#[test]
fn what_somebody_holds_stays() {
    let mut forest = Forest::new(8);
    let root = forest.tree.root(None);
    let (_, page) = forest.grow(root, &[1, 1]);
    forest.tree.hold(page, &mut forest.pages);
    assert!(!forest.tree.evict(&mut forest.pages));
    forest.tree.release(page, &mut forest.pages);
    assert!(forest.tree.evict(&mut forest.pages));
}

#[test]
fn the_longest_common_beginning_is_found() {
    let mut forest = Forest::new(64);
    let root = forest.tree.root(None);
    for i in 0..40 {
        forest.grow(root, &[5, i, 7, i]);
    }
    forest.tree.claim(root, &[5, 20, 8, 0]);
    let common = |tokens: &[u32]| forest.tree.partial(root, tokens).map_or(0, |(_, common)| common);
    assert_eq!(common(&[5, 20, 8, 1]), 2);
    assert_eq!(common(&[5, 20, 7]), 3);
    assert_eq!(common(&[5, 99, 7, 1]), 1);
    assert_eq!(common(&[6]), 0);
}

#[test]
fn roots_are_apart_and_are_cleared() {
    let mut forest = Forest::new(8);
    let (plain, adapted) = (forest.tree.root(None), forest.tree.root(Some(0)));
    assert_ne!(plain, adapted);
    let (a, _) = forest.grow(adapted, &[1]);
    forest.grow(a, &[2]);
    forest.grow(plain, &[1]);
    forest.tree.clear(Some(0), &mut forest.pages);
    assert_eq!(forest.tree.next(adapted, &[1]), Next::Absent);
    assert!(matches!(forest.tree.next(plain, &[1]), Next::Ready(..)));
    assert_eq!((forest.pages.free(), forest.tree.idle()), (7, 1));
    forest.tree.audit(&forest.pages);
}

#[test]
fn entries_out_of_date_do_not_pile_up() {
    let mut forest = Forest::new(8);
    let root = forest.tree.root(None);
    let (_, page) = forest.grow(root, &[1, 1]);
    for _ in 0..10_000 {
        forest.tree.hold(page, &mut forest.pages);
        forest.tree.release(page, &mut forest.pages);
    }
    assert!(forest.tree.leaves.len() < 2000);
    forest.tree.audit(&forest.pages);
}
