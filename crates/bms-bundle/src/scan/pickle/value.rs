//! What the walker knows about the values on the stack.

use std::rc::Rc;

/// Index of a value.
pub(super) type Id = u32;

/// Members kept of one tuple or dictionary: enough for the states that are looked into.
const MEMBERS_MAX: usize = 32;

/// A value, as far as it matters.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Anything that is not looked into.
    Opaque,
    /// `None`.
    None,
    /// A small integer.
    Int(i64),
    /// A text constant.
    Text(Rc<str>),
    /// An import, by its dotted path.
    Global(Rc<str>),
    /// A tuple's first members.
    Tuple(Rc<[Id]>),
    /// A list or set.
    List,
    /// A dictionary's first members.
    Dict(Vec<(Id, Id)>),
    /// The result of calling the first with the second.
    Object(Id, Id),
}

/// Everything the walker has made so far.
#[derive(Default)]
pub(super) struct Arena {
    values: Vec<Node>,
}

struct Node {
    value: Value,
    /// Values inside, each counted as often as it is reached.
    weight: u64,
    /// Containers inside containers.
    depth: u32,
}

impl Arena {
    /// Keeps a value.
    pub(super) fn add(&mut self, value: Value) -> Id {
        let id = self.values.len() as Id;
        self.values.push(Node { value, weight: 1, depth: 0 });
        id
    }

    /// Keeps a container of these values.
    pub(super) fn add_with(&mut self, value: Value, inside: &[Id]) -> Id {
        let id = self.add(value);
        self.fill(id, inside);
        id
    }

    /// A tuple of these values.
    pub(super) fn tuple(&mut self, items: &[Id]) -> Id {
        let kept: Rc<[Id]> = items.iter().copied().take(MEMBERS_MAX).collect();
        self.add_with(Value::Tuple(kept), items)
    }

    /// Puts values into a container.
    pub(super) fn fill(&mut self, container: Id, inside: &[Id]) {
        let (mut weight, mut depth) = (0_u64, 0);
        for id in inside {
            let node = &self.values[*id as usize];
            weight = weight.saturating_add(node.weight);
            depth = depth.max(node.depth + 1);
        }
        let node = &mut self.values[container as usize];
        node.weight = node.weight.saturating_add(weight);
        node.depth = node.depth.max(depth);
    }

    /// Puts keys and values, in turn, into a dictionary.
    pub(super) fn fill_pairs(&mut self, container: Id, items: &[Id]) {
        self.fill(container, items);
        if let Value::Dict(members) = &mut self.values[container as usize].value {
            let room = MEMBERS_MAX.saturating_sub(members.len());
            members.extend(items.chunks_exact(2).take(room).map(|pair| (pair[0], pair[1])));
        }
    }

    /// A value.
    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id as usize].value
    }

    /// How many values there are inside, repetitions counted.
    pub(super) fn weight(&self, id: Id) -> u64 {
        self.values[id as usize].weight
    }

    /// How deep it is nested.
    pub(super) fn depth(&self, id: Id) -> u32 {
        self.values[id as usize].depth
    }

    /// Number of values, the next id.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// A text constant.
    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The import that made an object, or the import itself.
    pub(super) fn origin(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Global(path) => Some(path),
            Value::Object(callable, _) => match self.get(*callable) {
                Value::Global(path) => Some(path),
                _ => None,
            },
            _ => None,
        }
    }

    /// The member of a dictionary under a text key.
    pub(super) fn member(&self, dict: Id, key: &str) -> Option<Id> {
        match self.get(dict) {
            Value::Dict(members) => {
                members.iter().rev().find(|(name, _)| self.text(*name) == Some(key)).map(|(_, value)| *value)
            }
            _ => None,
        }
    }
}
