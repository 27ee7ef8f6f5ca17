//! TensorFlow graphs: a walk over every node of every graph, the function library included.
//!
//! Field numbers are those of `saved_model.proto`, `meta_graph.proto`, `graph.proto`, `function.proto`, `node_def.proto`
//! and Keras's `saved_metadata.proto`. A graph is a program whose operators read and write files and call Python, so
//! an operator is let through when TensorFlow's own list has it and it does nothing of that kind.

mod operators;

use std::collections::HashMap;

use crate::Severity;
use crate::scan::context::{Context, quote};
use crate::scan::document;
use crate::scan::protobuf::{Fault, Fields, Value, outline};

/// Nodes of one file: the largest models have some hundred thousand.
const NODES_MAX: u64 = 5_000_000;

/// What kind of message a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    SavedModel,
    MetaGraph,
    Graph,
    /// The Keras configuration beside a SavedModel.
    KerasMetadata,
}

/// Whether the file is one of TensorFlow's graphs.
pub(crate) fn is_graph(bytes: &[u8]) -> bool {
    kind(bytes).is_some()
}

fn kind(bytes: &[u8]) -> Option<Kind> {
    let mut fields = outline(bytes).map(|(number, wire, value)| (number, wire, content(wire, value)));
    let (number, wire, value) = fields.next()?;
    match (number, wire) {
        (1, 0) => {
            let (number, wire, value) = fields.next()?;
            ((number, wire) == (2, 2) && is_meta_graph(value)).then_some(Kind::SavedModel)
        }
        (1, 2) if is_node(value) => Some(Kind::Graph),
        (1, 2) if is_saved_object(value) => Some(Kind::KerasMetadata),
        (1 | 2, 2) if is_meta_graph(bytes) => Some(Kind::MetaGraph),
        // The schema's number, zero, is not written; a graph without nodes begins with its versions.
        (2, 2) if is_meta_graph(value) => Some(Kind::SavedModel),
        (2, 2) if is_library(value) => Some(Kind::Graph),
        _ => None,
    }
}

/// The bytes of a length-delimited field whose value begins here, as many as there are.
fn content(wire: u8, value: &[u8]) -> &[u8] {
    if wire != 2 {
        return value;
    }
    let length = value.iter().take(10).take_while(|byte| 0x80 <= **byte).count() + 1;
    let claimed = value.iter().take(length).rev().fold(0_u64, |sum, byte| sum << 7 | u64::from(byte & 0x7f));
    let rest = value.get(length..).unwrap_or_default();
    &rest[..rest.len().min(usize::try_from(claimed).unwrap_or(usize::MAX))]
}

fn is_meta_graph(bytes: &[u8]) -> bool {
    // Information about it, then the graph: nodes, a library, or versions.
    outline(bytes).take(2).any(|(number, wire, value)| {
        let value = content(wire, value);
        number == 2
            && wire == 2
            && outline(value).next().is_some_and(|(number, wire, value)| match (number, wire) {
                (1, 2) => is_node(content(wire, value)),
                (2, 2) => is_library(content(wire, value)),
                (4, 2) => content(wire, value).len() < 64,
                _ => false,
            })
    })
}

/// Whether it has a name and an operator.
fn is_node(bytes: &[u8]) -> bool {
    let mut operator = false;
    for (number, wire, value) in outline(bytes).take(3) {
        match (number, wire) {
            (1, 2) if std::str::from_utf8(content(wire, value)).is_ok() => {}
            (2, 2) => operator = is_operator_name(content(wire, value)),
            (3..=7, 2) => {}
            _ => return false,
        }
    }
    operator
}

fn is_operator_name(bytes: &[u8]) -> bool {
    let plain = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'>' | b'.' | b'-');
    matches!(bytes, [b'A'..=b'Z' | b'a'..=b'z' | b'_', ..]) && bytes.len() < 256 && bytes.iter().all(plain)
}

fn is_library(bytes: &[u8]) -> bool {
    // A function, its signature, and that one's name.
    let first = |bytes| {
        outline(bytes)
            .next()
            .filter(|(number, wire, _)| (*number, *wire) == (1, 2))
            .map(|(_, wire, value)| content(wire, value))
    };
    first(bytes).and_then(first).and_then(first).is_some_and(|name| std::str::from_utf8(name).is_ok())
}

fn is_saved_object(bytes: &[u8]) -> bool {
    outline(bytes).take(5).any(|(number, wire, value)| {
        (number, wire) == (4, 2) && content(wire, value).starts_with(b"_tf_keras")
    })
}

/// Scans a file that [`is_graph`].
pub(crate) fn scan(bytes: &[u8], context: &mut Context) {
    let mut walk = Walk { context, nodes_left: NODES_MAX };
    let result = match kind(bytes) {
        Some(Kind::SavedModel) => walk.each(bytes, 2, Walk::meta_graph),
        Some(Kind::MetaGraph) => walk.meta_graph(bytes),
        Some(Kind::Graph) => walk.graph(bytes),
        Some(Kind::KerasMetadata) => walk.each(bytes, 1, |walk, object| walk.each(object, 5, Walk::metadata)),
        None => Ok(()),
    };
    if let Err(fault) = result {
        context.malformed("tensorflow-malformed", "", format!("the TensorFlow graph is malformed: {fault}"));
    }
}

struct Walk<'c> {
    context: &'c mut Context,
    nodes_left: u64,
}

impl Walk<'_> {
    /// Calls `inner` for every value of one field; the others must be readable.
    fn each(
        &mut self,
        bytes: &[u8],
        wanted: u32,
        mut inner: impl FnMut(&mut Self, &[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        for field in Fields::new(bytes) {
            if let (number, Value::Bytes(value)) = field?
                && number == wanted
            {
                inner(self, value)?;
            }
        }
        Ok(())
    }

    fn meta_graph(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.each(bytes, 2, Walk::graph)?;
        // Where the saver's file names come from, and the files that go with the graph.
        self.each(bytes, 6, |walk, asset| walk.each(asset, 2, Walk::asset))
    }

    fn asset(&mut self, name: &[u8]) -> Result<(), Fault> {
        let name = String::from_utf8_lossy(name);
        if let Some(why) = crate::scan::location::fault(&name) {
            let message = format!("an asset is read from {}, which {why}", quote(&name));
            self.context.attack("tensorflow-path", Severity::High, "", message);
        }
        Ok(())
    }

    fn graph(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.nodes(bytes, 1)?;
        self.each(bytes, 2, |walk, library| walk.each(library, 1, |walk, function| walk.nodes(function, 3)))
    }

    /// The nodes of a graph or function, which are the values of one field.
    fn nodes(&mut self, bytes: &[u8], field: u32) -> Result<(), Fault> {
        let mut paths = Paths::new();
        self.each(bytes, field, |_, node| {
            paths.extend(constant_path(node));
            Ok(())
        })?;
        self.each(bytes, field, |walk, node| walk.node(node, &paths))
    }

    fn node(&mut self, bytes: &[u8], paths: &Paths) -> Result<(), Fault> {
        if self.nodes_left == 0 || self.context.is_full() {
            if self.nodes_left == 0 {
                let message = "the graph has more nodes than are followed";
                self.context.attack("tensorflow-size-bomb", Severity::Medium, "", message);
            }
            return Ok(());
        }
        self.nodes_left -= 1;
        let (mut name, mut operator) = (String::new(), String::new());
        let mut path = None;
        for field in Fields::new(bytes) {
            match field? {
                (3, Value::Bytes(input)) if !paths.is_empty() => {
                    let input = String::from_utf8_lossy(input);
                    let source = input.trim_start_matches('^').split(':').next().unwrap_or_default();
                    path = path.or_else(|| paths.get(source));
                }
                (1, Value::Bytes(text)) => name = String::from_utf8_lossy(text).into_owned(),
                (2, Value::Bytes(text)) => operator = String::from_utf8_lossy(text).into_owned(),
                _ => {}
            }
        }
        if let Some(path) = path.filter(|_| FILES.contains(&&*operator)) {
            let message = format!("the operator {operator} uses the fixed path {}", quote(path));
            self.context.attack(
                "tensorflow-path",
                Severity::High,
                &format!("node {}", quote(&name)),
                message,
            );
        }
        let attribute = |wanted: &str| attribute(bytes, wanted);
        if let Some((rule, severity, message)) = operators::judge(&operator, attribute) {
            let place = format!("node {}", quote(&name));
            match severity < Severity::Medium {
                true => self.context.note(rule, severity, &place, message),
                false => self.context.attack(rule, severity, &place, message),
            }
        }
        Ok(())
    }

    fn metadata(&mut self, text: &[u8]) -> Result<(), Fault> {
        document::json(text, self.context);
        Ok(())
    }
}

/// Constants of a graph that name files outside the model's folder, by their nodes.
type Paths = HashMap<String, String>;

/// Operators of savers and tables, which take the names of files. Real ones are given them when they run.
const FILES: [&str; 10] = [
    "InitializeTableFromTextFile",
    "InitializeTableFromTextFileV2",
    "MergeV2Checkpoints",
    "Restore",
    "RestoreSlice",
    "RestoreV2",
    "Save",
    "SaveSlices",
    "SaveV2",
    "ShardedFilename",
];

/// The name and text of a constant node that names a file outside.
fn constant_path(node: &[u8]) -> Option<(String, String)> {
    if bytes_of(node, &[2])? != b"Const" {
        return None;
    }
    let value = bytes_of(attribute_value(node, "value")?, &[8, 8])?;
    let value = std::str::from_utf8(value).ok().filter(|value| value.len() <= PATH_BYTES_MAX)?;
    crate::scan::location::fault(value)?;
    Some((String::from_utf8_lossy(bytes_of(node, &[1])?).into_owned(), value.to_owned()))
}

/// Bytes of a path that systems take.
const PATH_BYTES_MAX: usize = 4096;

/// Follows fields into a message, the last value of each.
fn bytes_of<'a>(message: &'a [u8], path: &[u32]) -> Option<&'a [u8]> {
    path.iter().try_fold(message, |at, wanted| {
        let values = Fields::new(at).flatten().filter_map(|(number, value)| match value {
            Value::Bytes(bytes) if number == *wanted => Some(bytes),
            _ => None,
        });
        values.last()
    })
}

/// The text of a node's attribute.
fn attribute(node: &[u8], wanted: &str) -> Option<String> {
    let value = bytes_of(attribute_value(node, wanted)?, &[2])?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// The value of a node's attribute.
fn attribute_value<'a>(node: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let entries = Fields::new(node).flatten().filter_map(|(number, value)| match (number, value) {
        (5, Value::Bytes(entry)) => Some(entry),
        _ => None,
    });
    let named = entries.filter(|entry| bytes_of(entry, &[1]) == Some(wanted.as_bytes()));
    named.filter_map(|entry| bytes_of(entry, &[2])).last()
}

/// Scans a graph in protocol buffers' text form: its operators are found by their entries.
pub(crate) fn scan_text(text: &str, context: &mut Context) {
    for line in text.lines() {
        let Some(value) = line.trim_start().strip_prefix("op:") else { continue };
        let operator = value.trim().trim_matches(['"', '\'']);
        if let Some((rule, severity, message)) = operators::judge(operator, |_| None)
            && Severity::Medium <= severity
        {
            context.attack(rule, severity, "", message);
        }
    }
}

pub(crate) use operators::judge as judge_operator;
