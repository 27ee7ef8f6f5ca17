//! The tree of prefixes: which page holds the keys and values of which tokens after which others.
//!
//! A node is one full page of tokens; the way from a root to it is the prefix. A node is *pending* while a sequence
//! computes its page, so that others wait for it instead of computing it, too. Adapters have roots of their own.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use bms_nn::lm::PageId;

use crate::lm::pages::Pages;

/// A node of the tree. Numbers are not given twice: a sequence may still name a node that is gone.
pub(crate) type NodeId = u64;

/// What stands in the tree after a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Ready(NodeId, PageId),
    /// Somebody computes it.
    Pending(NodeId),
    Absent,
}

#[derive(Debug)]
struct Node {
    /// `None` for a root.
    parent: Option<NodeId>,
    tokens: Arc<[u32]>,
    /// `None` while pending, and of a root.
    page: Option<PageId>,
    children: BTreeMap<Arc<[u32]>, NodeId>,
    /// When it was last used, in the tree's own counting.
    used: u64,
}

/// The tree. It is one holder of each of its pages.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    nodes: HashMap<NodeId, Node>,
    nodes_ever: NodeId,
    roots: HashMap<Option<usize>, NodeId>,
    of_page: HashMap<PageId, NodeId>,
    /// Nodes that may be given up, the least recently used first. Entries may be out of date.
    leaves: BinaryHeap<Reverse<(u64, NodeId)>>,
    clock: u64,
    /// Pages nobody but the tree holds.
    idle: usize,
}

impl Prefixes {
    /// Pages that only wait for a later request.
    pub(crate) fn idle(&self) -> usize {
        self.idle
    }

    /// The root of an adapter's prefixes.
    pub(crate) fn root(&mut self, adapter: Option<usize>) -> NodeId {
        if let Some(root) = self.roots.get(&adapter) {
            return *root;
        }
        let root = self.insert(Node {
            parent: None,
            tokens: Arc::new([]),
            page: None,
            children: BTreeMap::new(),
            used: 0,
        });
        self.roots.insert(adapter, root);
        root
    }

    /// What stands after `at` for a page of these tokens.
    pub(crate) fn next(&self, at: NodeId, tokens: &[u32]) -> Next {
        let child = self.node(at).and_then(|node| node.children.get(tokens).copied());
        let Some(id) = child else { return Next::Absent };
        match self.node(id).and_then(|node| node.page) {
            Some(page) => Next::Ready(id, page),
            None => Next::Pending(id),
        }
    }

    /// The page after `at` that begins with the most of these tokens, and how many they are.
    pub(crate) fn partial(&self, at: NodeId, tokens: &[u32]) -> Option<(PageId, usize)> {
        let node = self.node(at)?;
        // In order of tokens, the longest common beginning is right before or right after.
        let before = node.children.range::<[u32], _>((Bound::Unbounded, Bound::Excluded(tokens))).rev();
        let after = node.children.range::<[u32], _>((Bound::Included(tokens), Bound::Unbounded));
        let ready = |(key, id): (&Arc<[u32]>, &NodeId)| {
            let common = key.iter().zip(tokens).take_while(|(a, b)| a == b).count();
            self.node(*id)?.page.map(|page| (page, common))
        };
        // A few pending ones may lie between.
        let nearest = before.take(4).filter_map(ready).chain(after.take(4).filter_map(ready));
        nearest.max_by_key(|(page, common)| (*common, Reverse(*page))).filter(|(_, common)| *common != 0)
    }

    /// A pending node for the page that somebody is about to compute. There is none of these tokens yet.
    pub(crate) fn claim(&mut self, at: NodeId, tokens: &[u32]) -> NodeId {
        let tokens: Arc<[u32]> = tokens.into();
        let node =
            Node { parent: Some(at), tokens: tokens.clone(), page: None, children: BTreeMap::new(), used: 0 };
        let id = self.insert(node);
        if let Some(parent) = self.node_mut(at) {
            parent.children.insert(tokens, id);
        }
        id
    }

    /// The page of a pending node is computed; the tree becomes a holder of it.
    pub(crate) fn fill(&mut self, id: NodeId, page: PageId, pages: &mut Pages) {
        self.clock += 1;
        let clock = self.clock;
        if let Some(node) = self.node_mut(id) {
            debug_assert!(node.page.is_none(), "a node is filled once");
            (node.page, node.used) = (Some(page), clock);
            self.of_page.insert(page, id);
            pages.share(page);
        }
    }

    /// Takes a pending node away that nobody computes any more. It has no children.
    pub(crate) fn abandon(&mut self, id: NodeId) {
        if self.node(id).is_some_and(|node| node.page.is_none() && node.parent.is_some()) {
            self.remove(id);
        }
    }

    /// A page of the tree gets a holder.
    pub(crate) fn hold(&mut self, page: PageId, pages: &mut Pages) {
        if pages.share(page) == 2 && self.of_page.contains_key(&page) {
            self.idle -= 1;
        }
    }

    /// A page loses a holder; in the tree or not.
    pub(crate) fn release(&mut self, page: PageId, pages: &mut Pages) {
        if pages.release(page) != 1 {
            return;
        }
        let Some(id) = self.of_page.get(&page).copied() else { return };
        self.idle += 1;
        self.clock += 1;
        let clock = self.clock;
        if let Some(node) = self.node_mut(id) {
            node.used = clock;
            self.leaves.push(Reverse((clock, id)));
        }
        self.tidy(pages);
    }

    /// Gives up the least recently used page that nobody holds and nothing follows.
    pub(crate) fn evict(&mut self, pages: &mut Pages) -> bool {
        while let Some(Reverse((used, id))) = self.leaves.pop() {
            let Some(page) = self.evictable(used, id, pages) else { continue };
            self.forget(id, page, pages);
            return true;
        }
        false
    }

    /// Forgets all prefixes of an adapter. Nobody holds one of its pages.
    pub(crate) fn clear(&mut self, adapter: Option<usize>, pages: &mut Pages) {
        let Some(root) = self.roots.get(&adapter).copied() else { return };
        let mut stack = vec![root];
        let mut found = Vec::new();
        while let Some(id) = stack.pop() {
            found.push(id);
            stack.extend(self.node(id).into_iter().flat_map(|node| node.children.values().copied()));
        }
        for id in found.into_iter().rev().filter(|id| *id != root) {
            match self.node(id).and_then(|node| node.page) {
                Some(page) if pages.holders(page) == 1 => self.forget(id, page, pages),
                _ => {}
            }
        }
    }

    /// The page of a node whose entry is up to date and that can be given up.
    fn evictable(&self, used: u64, id: NodeId, pages: &Pages) -> Option<PageId> {
        let node = self.node(id).filter(|node| node.used == used && node.children.is_empty())?;
        node.page.filter(|page| pages.holders(*page) == 1)
    }

    fn forget(&mut self, id: NodeId, page: PageId, pages: &mut Pages) {
        self.of_page.remove(&page);
        self.idle -= 1;
        pages.release(page);
        self.remove(id);
    }

    /// Takes a node out; its parent may be the next to go.
    fn remove(&mut self, id: NodeId) {
        let Some(node) = self.nodes.remove(&id) else { return };
        debug_assert!(node.children.is_empty(), "nodes go from the leaves");
        let Some(parent_id) = node.parent else { return };
        let Some(parent) = self.node_mut(parent_id) else { return };
        parent.children.remove(&node.tokens);
        if parent.children.is_empty() && parent.page.is_some() {
            let used = parent.used;
            self.leaves.push(Reverse((used, parent_id)));
        }
    }

    /// Drops entries out of date before they are more than the nodes by far.
    fn tidy(&mut self, pages: &Pages) {
        if self.leaves.len() <= 4 * self.nodes.len() + 1024 {
            return;
        }
        let entries = std::mem::take(&mut self.leaves).into_vec();
        let kept =
            entries.into_iter().filter(|Reverse((used, id))| self.evictable(*used, *id, pages).is_some());
        self.leaves = kept.collect();
    }

    fn insert(&mut self, node: Node) -> NodeId {
        self.nodes_ever += 1;
        self.nodes.insert(self.nodes_ever, node);
        self.nodes_ever
    }

    fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(&id)
    }
}

#[cfg(test)]
impl Prefixes {
    /// The pages of the tree. Panics unless it is one.
    pub(crate) fn audit(&self, pages: &Pages) -> Vec<PageId> {
        for (id, node) in &self.nodes {
            for (tokens, child) in &node.children {
                let child = &self.nodes[child];
                assert_eq!((child.parent, &child.tokens), (Some(*id), tokens));
                assert!(
                    node.page.is_some() || node.parent.is_none() || child.page.is_none(),
                    "a gap in a prefix"
                );
            }
            if let Some(page) = node.page {
                assert_eq!(self.of_page[&page], *id);
            }
        }
        let held: Vec<PageId> = self.nodes.values().filter_map(|node| node.page).collect();
        assert_eq!(held.len(), self.of_page.len());
        assert_eq!(held.iter().filter(|page| pages.holders(**page) == 1).count(), self.idle);
        let leaves: std::collections::HashSet<NodeId> = self.leaves.iter().map(|entry| entry.0.1).collect();
        for (id, node) in &self.nodes {
            let idle = node.page.is_some_and(|page| pages.holders(page) == 1);
            assert!(
                !idle || !node.children.is_empty() || leaves.contains(id),
                "a page that is never given up"
            );
        }
        held
    }
}

#[cfg(test)]
mod tests;
