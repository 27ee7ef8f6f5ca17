//! The stack machine.

mod constant;

use std::collections::HashMap;
use std::rc::Rc;

use crate::Severity;
use crate::scan::context::{Context, quote};

use super::array::{self, Payload};
use super::globals;
use super::opcode::{self, Operation, Undecoded, unsigned};
use super::text;
use super::value::{Arena, Id, Value};

/// Operations of one stream.
const OPERATIONS_MAX: u64 = 50_000_000;
/// Values reached by walking the result, repetitions counted.
const WEIGHT_MAX: u64 = 200_000_000;
/// Containers inside containers; Python's own limit on recursion is 1000.
const DEPTH_MAX: u32 = 500;
/// Memo places that are allocated for one operation of a few bytes.
const MEMO_MAX: u64 = 64 << 20;
/// Pickles inside the arrays of pickles.
const NESTING_MAX: usize = 8;

/// How a stream ended.
pub(super) enum End {
    /// With its STOP.
    Stop,
    /// With an error, which is also how a loader would end.
    Fault {
        /// It claims more memory than there is, or more work than is done here.
        bomb: bool,
        /// The bytes end early.
        truncated: bool,
    },
}

/// An error of the machine.
enum Fault {
    Truncated,
    Bomb(String),
    Wrong(String),
}

type Run<T> = Result<T, Fault>;

/// Runs one stream.
pub(super) struct Machine<'a, 'c> {
    bytes: &'a [u8],
    at: usize,
    frame_end: usize,
    /// Whether it begins as streams of protocol 2 and later do.
    framed: bool,
    nesting: usize,
    operations_left: u64,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    arena: Arena,
    opaque: Id,
    none: Id,
    context: &'c mut Context,
    /// Whether anything was imported.
    pub(super) imports: bool,
    /// Whether anything was called.
    pub(super) calls: bool,
    /// Whether it made something that no reader can walk.
    pub(super) grown: bool,
}

impl<'a, 'c> Machine<'a, 'c> {
    /// A machine at the start of the stream at `at`.
    pub(super) fn new(bytes: &'a [u8], at: usize, context: &'c mut Context) -> Machine<'a, 'c> {
        let mut arena = Arena::default();
        let (opaque, none) = (arena.add(Value::Opaque), arena.add(Value::None));
        Machine {
            bytes,
            at,
            frame_end: 0,
            framed: matches!(bytes[at..], [0x80, 2..=5, ..]),
            nesting: 0,
            operations_left: OPERATIONS_MAX,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            arena,
            opaque,
            none,
            context,
            imports: false,
            calls: false,
            grown: false,
        }
    }

    /// Limits the work, for places that are only guessed to be a stream.
    pub(super) fn with_operations(mut self, operations_max: u64) -> Self {
        self.operations_left = operations_max;
        self
    }

    /// How many operations may still be followed.
    pub(super) fn operations_left(&self) -> u64 {
        self.operations_left
    }

    /// Where the next byte is.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Runs to the end of the stream and reports what it finds.
    pub(super) fn run(&mut self) -> End {
        match self.steps() {
            Ok(()) => End::Stop,
            Err(Fault::Truncated) => {
                self.context.malformed("pickle-truncated", &self.place(), "the pickle ends early");
                End::Fault { bomb: false, truncated: true }
            }
            Err(Fault::Bomb(message)) => {
                self.context.attack("pickle-bomb", Severity::Medium, &self.place(), message);
                End::Fault { bomb: true, truncated: false }
            }
            Err(Fault::Wrong(message)) => {
                let severity = if self.imports { Severity::High } else { Severity::Medium };
                let message = format!("{message}, after loaders have run what came before");
                self.context.attack("pickle-broken", severity, &self.place(), message);
                End::Fault { bomb: false, truncated: false }
            }
        }
    }

    fn place(&self) -> String {
        format!("byte {}", self.at)
    }

    fn steps(&mut self) -> Run<()> {
        loop {
            self.operations_left = self
                .operations_left
                .checked_sub(1)
                .ok_or_else(|| Fault::Bomb("the pickle has more operations than are followed".to_owned()))?;
            let operation = opcode::decode(self.bytes, self.at).map_err(|undecoded| match undecoded {
                Undecoded::Truncated => Fault::Truncated,
                Undecoded::Huge(bytes) => Fault::Bomb(format!("an operand claims {bytes} bytes")),
                Undecoded::Unknown(code) => Fault::Wrong(format!("there is no operation {code:#04x}")),
            })?;
            if self.at < self.frame_end && self.frame_end < operation.end {
                let message =
                    "an operand crosses the end of its frame, so readers disagree about what follows";
                self.context.attack("pickle-frame", Severity::High, &self.place(), message);
            }
            if operation.code == b'.' {
                self.pop()?;
                self.at = operation.end;
                return Ok(());
            }
            self.step(&operation)?;
            // Arrays between operations have moved on already.
            self.at = self.at.max(operation.end);
            if self.context.is_full() {
                return Err(Fault::Bomb("the pickle has more findings than are kept".to_owned()));
            }
            let limits = self.stack.last().map(|top| (self.arena.weight(*top), self.arena.depth(*top)));
            if limits.is_some_and(|(weight, depth)| WEIGHT_MAX < weight || DEPTH_MAX < depth) {
                self.grown = true;
                return Err(Fault::Bomb("the pickle grows to more than any reader can walk".to_owned()));
            }
        }
    }

    fn step(&mut self, op: &Operation<'_>) -> Run<()> {
        match op.code {
            0x80 | 0x95 => self.framing(op),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop();
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'1' => self.pop_mark().map(drop),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }
            b'g' | b'h' | b'j' | b'p' | b'q' | b'r' | 0x94 => self.memory(op),
            b'c' | b'i' | 0x93 | 0x82..=0x84 => self.import(op),
            b'R' | b'o' | 0x81 | 0x92 | b'b' => self.call(op),
            b't' | b')' | 0x85..=0x87 | b'l' | b'd' | b']' | b'}' | 0x8f | 0x91 => self.container(op),
            b'a' | b'e' | b's' | b'u' | 0x90 => self.insert(op),
            b'Q' => {
                let id = self.pop()?;
                let value = self.persistent(id);
                self.stack.push(value);
                Ok(())
            }
            0x98 => self.top().map(drop),
            _ => self.constant(op),
        }
    }

    fn framing(&mut self, op: &Operation<'_>) -> Run<()> {
        if op.code == 0x80 {
            return match op.operand[0] {
                0..=5 => Ok(()),
                protocol => Err(Fault::Wrong(format!("there is no protocol {protocol}"))),
            };
        }
        if op.end < self.frame_end {
            let message = "a frame begins inside another, so readers disagree about what follows";
            self.context.attack("pickle-frame", Severity::High, &self.place(), message);
        }
        let length = unsigned(op.operand);
        let left = (self.bytes.len() - op.end) as u64;
        if left < length {
            // A frame is read at once, so nothing in it runs when it is cut.
            return if 1 << 40 < length {
                Err(Fault::Bomb(format!("a frame claims {length} bytes")))
            } else {
                Err(Fault::Truncated)
            };
        }
        self.frame_end = op.end + length as usize;
        Ok(())
    }

    fn memory(&mut self, op: &Operation<'_>) -> Run<()> {
        let index = match op.code {
            0x94 => self.memo.len() as u64,
            b'g' | b'p' => text::integer(op.operand)
                .and_then(|index| u64::try_from(index).ok())
                .ok_or_else(|| Fault::Wrong("a memo index is not a number".to_owned()))?,
            _ => unsigned(op.operand),
        };
        if matches!(op.code, b'g' | b'h' | b'j') {
            let id = *self
                .memo
                .get(&index)
                .ok_or_else(|| Fault::Wrong(format!("the memo has no entry {index}")))?;
            self.stack.push(id);
            return Ok(());
        }
        if MEMO_MAX < index {
            return Err(Fault::Bomb(format!("the memo is given an entry {index}")));
        }
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn import(&mut self, op: &Operation<'_>) -> Run<()> {
        if let 0x82..=0x84 = op.code {
            let message = "an import is hidden behind a number of the extension registry";
            let place = self.place();
            // Three raw bytes can spell this by accident, and do nothing by themselves.
            match self.framed || self.imports {
                true => self.context.attack("pickle-extension", Severity::High, &place, message),
                false => self.context.note("pickle-extension", Severity::Low, &place, message),
            }
            self.stack.push(self.opaque);
            return Ok(());
        }
        if op.code == 0x93 {
            let (name, module) = (self.pop()?, self.pop()?);
            let names =
                self.arena.text(module).zip(self.arena.text(name)).map(|(m, n)| (m.to_owned(), n.to_owned()));
            let Some((module, name)) = names else {
                self.imports = true;
                let message = "the name of an import is computed while loading";
                self.context.attack("pickle-computed-import", Severity::Critical, &self.place(), message);
                self.stack.push(self.opaque);
                return Ok(());
            };
            return self.global(&module, &name);
        }
        // Names that are no text stop every loader, and tell raw numbers from pickles.
        let text =
            |line| std::str::from_utf8(line).ok().filter(|line: &&str| !line.contains(char::is_control));
        let Some((module, name)) = text(op.operand).zip(text(op.second)) else {
            return Err(Fault::Wrong("the name of an import is no text".to_owned()));
        };
        self.global(module, name)?;
        if op.code == b'i' {
            let class = self.pop()?;
            let arguments = self.pop_mark()?;
            let arguments = self.arena.tuple(&arguments);
            self.construct(class, arguments);
            self.object(class, arguments);
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Run<()> {
        self.imports = true;
        let path = format!("{module}.{name}");
        if let Some(severity) = globals::judge(module, name) {
            let message = format!("the pickle imports {}, which does more than rebuild data", quote(&path));
            self.context.attack("pickle-import", severity, &self.place(), message);
        }
        let id = self.arena.add(Value::Global(Rc::from(path)));
        self.stack.push(id);
        Ok(())
    }

    fn call(&mut self, op: &Operation<'_>) -> Run<()> {
        match op.code {
            b'b' => return self.build(op.end),
            b'o' => {
                let items = self.pop_mark()?;
                let (class, arguments) =
                    items.split_first().ok_or_else(|| Fault::Wrong("a class is missing".to_owned()))?;
                let arguments = self.arena.tuple(arguments);
                self.construct(*class, arguments);
                self.object(*class, arguments);
            }
            0x92 => {
                let (_keywords, arguments, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.object(class, arguments);
            }
            code => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                if code == b'R' {
                    self.construct(callable, arguments);
                }
                self.object(callable, arguments);
            }
        }
        Ok(())
    }

    /// What a loader puts in the place of a persistent id. Torch stores classes with their source this way:
    /// `("module", class, file, source)` is the class.
    fn persistent(&self, id: Id) -> Id {
        match self.arena.get(id) {
            Value::Tuple(parts) => match parts[..] {
                [kind, class, ..] if self.arena.text(kind) == Some("module") => class,
                _ => self.opaque,
            },
            _ => self.opaque,
        }
    }

    /// Reports a call that constructs what may only be rebuilt.
    fn construct(&mut self, callable: Id, arguments: Id) {
        let Value::Global(path) = self.arena.get(callable) else { return };
        let constant = match self.arena.get(arguments) {
            Value::Tuple(parts) => match parts[..] {
                [] => return,
                [one] => matches!(self.arena.get(one), Value::Text(_) | Value::Int(_)),
                _ => false,
            },
            _ => false,
        };
        if globals::is_state_only(path, constant) {
            let message = format!("the pickle constructs {}, which can open files", quote(path));
            self.context.attack("pickle-construct", Severity::High, &self.place(), message);
        }
    }

    /// Pushes the result of a call.
    fn object(&mut self, callable: Id, arguments: Id) {
        self.calls = true;
        if !matches!(self.arena.get(callable), Value::Global(_)) {
            let message = "the pickle calls a value that is computed while loading";
            self.context.attack("pickle-computed-call", Severity::High, &self.place(), message);
        }
        let id = self.arena.add_with(Value::Object(callable, arguments), &[arguments]);
        self.stack.push(id);
    }

    fn build(&mut self, next: usize) -> Run<()> {
        let (state, object) = (self.pop()?, self.top()?);
        self.calls = true;
        if matches!(self.arena.get(object), Value::Global(_)) {
            let message = "the pickle changes what it imported";
            self.context.attack("pickle-build", Severity::High, &self.place(), message);
        }
        let hooks = [
            "__class__",
            "__builtins__",
            "__globals__",
            "__setstate__",
            "__reduce__",
            "__getattr__",
            "__call__",
            "__del__",
            "__code__",
        ];
        if let Some(hook) = hooks.into_iter().find(|hook| self.arena.member(state, hook).is_some()) {
            let message = format!("the pickle replaces {hook} of an object");
            self.context.attack("pickle-build", Severity::High, &self.place(), message);
        }
        self.arena.fill(object, &[state]);
        match self.arena.origin(object) {
            Some("joblib.numpy_pickle.NumpyArrayWrapper") => self.array(state, next),
            _ => Ok(()),
        }
    }

    /// Skips the array that follows a wrapper of joblib's.
    fn array(&mut self, state: Id, next: usize) -> Run<()> {
        let payload = array::payload(&self.arena, state)
            .ok_or_else(|| Fault::Wrong("an array does not say how long it is".to_owned()))?;
        self.at = next;
        let length = match payload {
            Payload::Raw(length) => length,
            Payload::Padded(length) => {
                let padding = *self.bytes.get(next).ok_or(Fault::Truncated)?;
                length.saturating_add(1 + u64::from(padding))
            }
            Payload::Objects => return self.nested(next),
        };
        let end = usize::try_from(length).ok().and_then(|length| next.checked_add(length));
        self.at = end.filter(|end| *end <= self.bytes.len()).ok_or(Fault::Truncated)?;
        Ok(())
    }

    /// Runs the pickle that stands for an array of objects.
    fn nested(&mut self, next: usize) -> Run<()> {
        if NESTING_MAX <= self.nesting {
            return Err(Fault::Bomb("pickles are nested too deeply".to_owned()));
        }
        let mut inner = Machine::new(self.bytes, next, self.context).with_operations(self.operations_left);
        inner.nesting = self.nesting + 1;
        let result = inner.steps();
        (self.at, self.operations_left) = (inner.at, inner.operations_left);
        self.imports |= inner.imports;
        result
    }

    fn container(&mut self, op: &Operation<'_>) -> Run<()> {
        let id = match op.code {
            b')' => self.arena.tuple(&[]),
            b']' | 0x8f => self.arena.add(Value::List),
            b'}' => self.arena.add(Value::Dict(Vec::new())),
            0x85..=0x87 => {
                let count = usize::from(op.code - 0x84);
                let from = self.height().checked_sub(count).ok_or_else(underflow)? + self.floor();
                let items = self.stack.split_off(from);
                self.arena.tuple(&items)
            }
            b't' => {
                let items = self.pop_mark()?;
                self.arena.tuple(&items)
            }
            b'd' => {
                let items = self.pop_mark()?;
                let id = self.arena.add(Value::Dict(Vec::new()));
                self.arena.fill_pairs(id, &items);
                id
            }
            _ => {
                let items = self.pop_mark()?;
                self.arena.add_with(Value::List, &items)
            }
        };
        self.stack.push(id);
        Ok(())
    }

    fn insert(&mut self, op: &Operation<'_>) -> Run<()> {
        let items = match op.code {
            b'a' => vec![self.pop()?],
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                vec![key, value]
            }
            _ => self.pop_mark()?,
        };
        let target = self.top()?;
        let pairs = matches!(op.code, b's' | b'u');
        if pairs && !self.takes_items(target) {
            let message = "an item is set on something that is no dictionary";
            self.context.attack("pickle-items", Severity::High, &self.place(), message);
        }
        if 1 < items.iter().filter(|item| **item == target).count() {
            let message = "a container holds itself several times, so that walking it never ends";
            self.context.attack("pickle-recursive", Severity::Medium, &self.place(), message);
        }
        match pairs {
            true => self.arena.fill_pairs(target, &items),
            false => self.arena.fill(target, &items),
        }
        Ok(())
    }

    /// Setting items of tensors and arrays writes to their memory.
    fn takes_items(&self, target: Id) -> bool {
        match self.arena.get(target) {
            Value::Dict(_) | Value::Opaque => true,
            Value::Object(..) => {
                let origin = self.arena.origin(target).unwrap_or_default();
                !origin.starts_with("torch.") && !origin.starts_with("numpy.")
            }
            _ => false,
        }
    }

    /// The lowest place that may be popped: nothing is popped across a mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn height(&self) -> usize {
        self.stack.len() - self.floor()
    }

    fn top(&self) -> Run<Id> {
        match self.height() {
            0 => Err(underflow()),
            _ => self.stack.last().copied().ok_or_else(underflow),
        }
    }

    fn pop(&mut self) -> Run<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_mark(&mut self) -> Run<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| Fault::Wrong("a mark is missing".to_owned()))?;
        Ok(self.stack.split_off(mark))
    }
}

fn underflow() -> Fault {
    Fault::Wrong("a value is missing".to_owned())
}
