//! The cache of keys and values: pages of sequences, shared where the tokens are the same.

use bms_nn::lm::{Decoder, PageId};

use crate::lm::pages::Pages;
use crate::lm::prefixes::{Next, NodeId, Prefixes};

/// Tokens a copied beginning of a page must save to be worth the copy.
const PARTIAL_TOKENS_MIN: usize = 2;

/// The pages of one sequence.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// From position zero on.
    pub(crate) pages: Vec<PageId>,
    /// Positions whose keys and values are in the pages.
    pub(crate) computed: usize,
    /// The last node of the tree that the chain follows, and how many nodes there are up to it; `None` before the
    /// chain took its place.
    node: Option<(NodeId, usize)>,
    /// Pending nodes after it that this sequence is to fill.
    claimed: std::collections::VecDeque<NodeId>,
}

impl Chain {
    /// Whether the sequence computes what others may wait for.
    pub(crate) fn has_claims(&self) -> bool {
        !self.claimed.is_empty()
    }

    /// Whether the sequence is to fill this node.
    pub(crate) fn claims(&self, node: NodeId) -> bool {
        self.claimed.contains(&node)
    }
}

/// What came of the attempt to follow the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    /// The chain has what there is; the sequence computes the rest.
    Alone,
    /// The next page is being computed by the sequence that claimed this node.
    Waits(NodeId),
}

/// All pages.
#[derive(Debug)]
pub(crate) struct Cache {
    pages: Pages,
    prefixes: Prefixes,
    page_tokens: usize,
}

impl Cache {
    pub(crate) fn new(pages: usize, page_tokens: usize) -> Cache {
        Cache { pages: Pages::new(pages), prefixes: Prefixes::default(), page_tokens }
    }

    pub(crate) fn total(&self) -> usize {
        self.pages.total()
    }

    /// Pages that can be had without taking one from a sequence.
    pub(crate) fn available(&self) -> usize {
        self.pages.free() + self.prefixes.idle()
    }

    /// Pages kept for later requests only.
    pub(crate) fn idle(&self) -> usize {
        self.prefixes.idle()
    }

    /// Pages for so many positions.
    pub(crate) fn pages_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.page_tokens)
    }

    /// How many full pages hold a beginning of these tokens already, and how many of these nobody holds.
    pub(crate) fn peek(&mut self, adapter: Option<usize>, tokens: &[u32]) -> (usize, usize) {
        let (mut at, mut found, mut idle) = (self.prefixes.root(adapter), 0, 0);
        for page in tokens[..tokens.len() - 1].chunks_exact(self.page_tokens) {
            let Next::Ready(node, page) = self.prefixes.next(at, page) else { break };
            (at, found) = (node, found + 1);
            idle += usize::from(self.pages.holders(page) == 1);
        }
        (found, idle)
    }

    /// Takes over the pages that hold a beginning of `tokens`, but never the last token, whose logits are wanted.
    /// Where somebody computes the next one, the sequence waits; else it claims what it will compute. To be called again
    /// while it waits.
    pub(crate) fn follow(
        &mut self,
        chain: &mut Chain,
        adapter: Option<usize>,
        tokens: &[u32],
        decoder: &mut dyn Decoder,
    ) -> Follow {
        let size = self.page_tokens;
        let (mut at, mut depth) = match chain.node {
            Some(place) => place,
            None => (self.prefixes.root(adapter), 0),
        };
        while (depth + 1) * size < tokens.len() {
            match self.prefixes.next(at, &tokens[depth * size..(depth + 1) * size]) {
                Next::Ready(node, page) => {
                    self.prefixes.hold(page, &mut self.pages);
                    chain.pages.push(page);
                    (at, depth) = (node, depth + 1);
                    chain.computed = depth * size;
                }
                Next::Pending(node) => {
                    chain.node = Some((at, depth));
                    return Follow::Waits(node);
                }
                Next::Absent => break,
            }
        }
        chain.node = Some((at, depth));
        self.copy_beginning(chain, at, tokens, decoder);
        self.claim(chain, at, depth, tokens);
        Follow::Alone
    }

    /// Starts a chain that takes nothing over, for tokens that are computed whole. What it computes is shared.
    pub(crate) fn follow_nothing(&mut self, chain: &mut Chain, adapter: Option<usize>) {
        chain.node = Some((self.prefixes.root(adapter), 0));
    }

    /// Copies the beginning of a page that goes on otherwise.
    fn copy_beginning(&mut self, chain: &mut Chain, at: NodeId, tokens: &[u32], decoder: &mut dyn Decoder) {
        let rest = &tokens[chain.computed..tokens.len() - 1];
        let rest = &rest[..rest.len().min(self.page_tokens)];
        if rest.len() < PARTIAL_TOKENS_MIN {
            return;
        }
        let Some((source, common)) = self.prefixes.partial(at, rest) else { return };
        if common < PARTIAL_TOKENS_MIN {
            return;
        }
        // Held, so that taking a page does not give up this one.
        self.prefixes.hold(source, &mut self.pages);
        if let Some(copy) = self.take() {
            decoder.copy_page(source, copy);
            chain.pages.push(copy);
            chain.computed += common;
        }
        self.prefixes.release(source, &mut self.pages);
    }

    /// Claims the full pages that the sequence will compute.
    fn claim(&mut self, chain: &mut Chain, mut at: NodeId, depth: usize, tokens: &[u32]) {
        let full = tokens.len() / self.page_tokens;
        for page in tokens[depth * self.page_tokens..full * self.page_tokens].chunks_exact(self.page_tokens) {
            if self.prefixes.next(at, page) != Next::Absent {
                return;
            }
            at = self.prefixes.claim(at, page);
            chain.claimed.push_back(at);
        }
    }

    /// Makes room for positions up to `end`: takes pages, and copies one that others read where this one writes.
    /// Returns false, with what it got so far, when pages ran out.
    pub(crate) fn reserve(&mut self, chain: &mut Chain, end: usize, decoder: &mut dyn Decoder) -> bool {
        while chain.pages.len() < self.pages_for(end) {
            let Some(page) = self.take() else { return false };
            chain.pages.push(page);
        }
        let written = chain.computed / self.page_tokens;
        let Some(page) = chain.pages.get(written).copied() else { return true };
        if chain.computed < end && self.pages.holders(page) != 1 {
            let Some(copy) = self.take() else { return false };
            decoder.copy_page(page, copy);
            chain.pages[written] = copy;
            self.prefixes.release(page, &mut self.pages);
        }
        true
    }

    /// Notes that positions up to `computed` are in the pages, and shares those that became full. `tokens` are the
    /// sequence's, at least as many.
    pub(crate) fn advance(&mut self, chain: &mut Chain, computed: usize, tokens: &[u32]) {
        chain.computed = computed;
        let Some((mut at, mut depth)) = chain.node else { return };
        let size = self.page_tokens;
        while (depth + 1) * size <= computed {
            let page_tokens = &tokens[depth * size..(depth + 1) * size];
            let own = chain.pages[depth];
            at = match self.prefixes.next(at, page_tokens) {
                Next::Ready(node, page) => {
                    if page != own {
                        // The same was computed twice; one copy is enough.
                        self.prefixes.hold(page, &mut self.pages);
                        self.prefixes.release(own, &mut self.pages);
                        chain.pages[depth] = page;
                    }
                    node
                }
                Next::Pending(node) => {
                    self.prefixes.fill(node, own, &mut self.pages);
                    node
                }
                Next::Absent => {
                    let node = self.prefixes.claim(at, page_tokens);
                    self.prefixes.fill(node, own, &mut self.pages);
                    node
                }
            };
            if chain.claimed.front() == Some(&at) {
                chain.claimed.pop_front();
            }
            depth += 1;
        }
        chain.node = Some((at, depth));
    }

    /// Another chain of the same pages. Where one of them writes next, it takes a copy.
    pub(crate) fn fork(&mut self, chain: &Chain) -> Chain {
        let pages = &chain.pages[..self.pages_for(chain.computed)];
        for page in pages {
            self.prefixes.hold(*page, &mut self.pages);
        }
        Chain {
            pages: pages.to_vec(),
            computed: chain.computed,
            node: chain.node,
            claimed: std::collections::VecDeque::new(),
        }
    }

    /// Gives all pages of a chain back.
    pub(crate) fn release(&mut self, chain: &mut Chain) {
        // From the end, so that a node goes after those that follow it.
        while let Some(node) = chain.claimed.pop_back() {
            self.prefixes.abandon(node);
        }
        while let Some(page) = chain.pages.pop() {
            self.prefixes.release(page, &mut self.pages);
        }
        *chain = Chain::default();
    }

    /// Forgets what was computed with an adapter, which no sequence uses any more.
    pub(crate) fn forget_adapter(&mut self, adapter: usize) {
        self.prefixes.clear(Some(adapter), &mut self.pages);
    }

    /// Forgets everything that no sequence holds. To be called when none holds anything that will be read again.
    pub(crate) fn forget_all(&mut self) {
        while self.prefixes.evict(&mut self.pages) {}
    }

    fn take(&mut self) -> Option<PageId> {
        loop {
            if let Some(page) = self.pages.take() {
                return Some(page);
            }
            if !self.prefixes.evict(&mut self.pages) {
                return None;
            }
        }
    }
}

#[cfg(test)]
impl Cache {
    /// Panics unless every page is held as often as the chains and the tree name it.
    pub(crate) fn audit<'a>(&self, chains: impl Iterator<Item = &'a Chain>) {
        let mut named = vec![0; self.pages.total()];
        let chains: Vec<&Chain> = chains.collect();
        for page in chains.iter().flat_map(|chain| &chain.pages) {
            named[*page as usize] += 1;
        }
        let of_tree = self.prefixes.audit(&self.pages);
        for page in &of_tree {
            named[*page as usize] += 1;
        }
        for (page, named) in named.iter().enumerate() {
            assert_eq!(self.pages.holders(page as PageId), *named, "holders of page {page}");
        }
        let free = named.iter().filter(|n| **n == 0).count();
        assert_eq!(free, self.pages.free());
    }
}

#[cfg(test)]
mod tests;
