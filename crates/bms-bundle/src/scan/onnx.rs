//! ONNX: a walk over the whole model, graphs inside attributes, functions and training included.
//!
//! Field numbers are those of `onnx.proto` (IR version 3 and later,
//! <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>). The file is never decoded into
//! messages, so a model of gigabytes costs no memory.

use std::collections::HashSet;

use crate::Severity;
use crate::scan::context::{Context, quote};
use crate::scan::protobuf::{Fault, Fields, Value, integers, outline};
use crate::scan::{location, metadata};

/// Graphs inside graphs. Real models nest two or three.
const DEPTH_MAX: usize = 32;
/// Values one tensor without data may claim.
const VALUES_MAX: u64 = 1 << 40;
/// Operator sets that come with the runtimes.
const DOMAINS: [&str; 13] = [
    "",
    "ai.onnx",
    "ai.onnx.ml",
    "ai.onnx.preview",
    "ai.onnx.preview.training",
    "ai.onnx.training",
    "com.microsoft",
    "com.microsoft.experimental",
    "com.microsoft.nchwc",
    "com.microsoft.mlfeaturizers",
    "com.ms.internal.nhwc",
    "org.pytorch.aten",
    "org.pytorch.prim",
];
/// Operator sets that can call Python or the file system.
const CODE_DOMAINS: [&str; 2] = ["ai.onnx.contrib", "com.microsoft.extensions"];

/// Whether the fields at the start are those of a model, up to its graph: a plausible IR version
/// and a graph that begins like one. The graph itself may be truncated.
pub(crate) fn is_model(bytes: &[u8]) -> bool {
    let (mut version, mut graph) = (false, false);
    for (number, wire, value) in outline(bytes) {
        match (number, wire) {
            (1, 0) => version = matches!(value, [1..=64, ..]),
            (7, 2) => graph = is_graph(value),
            (5, 0) | (2 | 3 | 4 | 6 | 8 | 14 | 20 | 25 | 26, 2) => {}
            // Later versions may add fields, after the ones that are known.
            _ => break,
        }
        if version && graph {
            return true;
        }
    }
    false
}

/// Whether a length and a first field follow as they do in a graph.
fn is_graph(value: &[u8]) -> bool {
    // Five bytes of length are enough for the largest message there is.
    let length = value.iter().take(5).take_while(|byte| 0x80 <= **byte).count() + 1;
    let empty = value.first() == Some(&0);
    let tag = value.get(length).map(|tag| (tag >> 3, tag & 7));
    empty || matches!(tag, Some((1 | 2 | 5 | 10..=15, 2)))
}

/// Scans a model.
pub(crate) fn scan(bytes: &[u8], context: &mut Context) {
    let mut walk = Walk { context, functions: functions(bytes) };
    let mut graphs = 0;
    let result = walk.message(bytes, |walk, number, value| {
        match (number, value) {
            (7, Value::Bytes(graph)) => {
                graphs += 1;
                walk.graph(graph, 0)?;
            }
            (14, Value::Bytes(entry)) => walk.metadata(entry)?,
            (20, Value::Bytes(training)) => walk.training(training)?,
            (25, Value::Bytes(function)) => walk.function(function)?,
            _ => {}
        }
        Ok(())
    });
    match result {
        Err(fault) => {
            context.malformed("onnx-malformed", "", format!("the ONNX model is malformed: {fault}"))
        }
        Ok(()) if 1 < graphs => {
            let message = "the model holds several graphs, of which readers take different ones";
            context.attack("onnx-repeated-graph", Severity::Medium, "", message);
        }
        Ok(()) => {}
    }
}

/// The functions a model defines, as (domain, name): nodes may call those.
fn functions(bytes: &[u8]) -> HashSet<(String, String)> {
    let mut defined = HashSet::new();
    for (number, value) in Fields::new(bytes).flatten() {
        if let (25, Value::Bytes(function)) = (number, value) {
            defined.insert((text(function, 10), text(function, 1)));
        }
    }
    defined
}

/// The last value of a text field, which is the one readers take.
fn text(message: &[u8], wanted: u32) -> String {
    let mut found = String::new();
    for (number, value) in Fields::new(message).flatten() {
        if let (true, Value::Bytes(bytes)) = (number == wanted, value) {
            found = String::from_utf8_lossy(bytes).into_owned();
        }
    }
    found
}

struct Walk<'c> {
    context: &'c mut Context,
    functions: HashSet<(String, String)>,
}

/// What a node or attribute says about itself.
#[derive(Default)]
struct Node {
    name: String,
    op_type: String,
    domain: String,
}

impl Walk<'_> {
    /// Calls `field` for each field of a message.
    fn message<'a>(
        &mut self,
        bytes: &'a [u8],
        mut field: impl FnMut(&mut Self, u32, Value<'a>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        for entry in Fields::new(bytes) {
            let (number, value) = entry?;
            field(self, number, value)?;
        }
        Ok(())
    }

    fn graph(&mut self, bytes: &[u8], depth: usize) -> Result<(), Fault> {
        if self.context.is_full() {
            return Ok(());
        }
        if DEPTH_MAX <= depth {
            let message = format!("graphs are nested over {DEPTH_MAX} deep");
            self.context.attack("onnx-nesting", Severity::Medium, "", message);
            return Ok(());
        }
        self.message(bytes, |walk, number, value| match (number, value) {
            (1, Value::Bytes(node)) => walk.node(node, depth),
            (5, Value::Bytes(tensor)) => walk.tensor(tensor),
            (15, Value::Bytes(sparse)) => walk.sparse(sparse),
            (16, Value::Bytes(entry)) => walk.metadata(entry),
            (1 | 5 | 15, _) => Err(Fault::Malformed("a graph holds a field of the wrong type")),
            _ => Ok(()),
        })
    }

    fn node(&mut self, bytes: &[u8], depth: usize) -> Result<(), Fault> {
        if self.context.is_full() {
            return Ok(());
        }
        let node = Node { name: text(bytes, 3), op_type: text(bytes, 4), domain: text(bytes, 7) };
        self.operator(&node);
        let compiled = node.op_type == "EPContext";
        self.message(bytes, |walk, number, value| match (number, value) {
            (5, Value::Bytes(attribute)) => {
                if compiled {
                    walk.compiled(attribute);
                }
                walk.attribute(attribute, depth)
            }
            (9, Value::Bytes(entry)) => walk.metadata(entry),
            (5, _) => Err(Fault::Malformed("a node holds an attribute of the wrong type")),
            _ => Ok(()),
        })
    }

    /// Judges the operator a node calls.
    fn operator(&mut self, node: &Node) {
        let called = format!("{}::{}", node.domain, node.op_type);
        let place = format!("node {:?}", node.name);
        let defined = self.functions.contains(&(node.domain.clone(), node.op_type.clone()));
        if CODE_DOMAINS.contains(&node.domain.as_str()) || matches!(&*node.op_type, "PyOp" | "PyCustomOp") {
            let message = format!("the operator {} can run code", quote(&called));
            self.context.attack("onnx-code-operator", Severity::Critical, &place, message);
        } else if !defined && !DOMAINS.contains(&node.domain.as_str()) {
            let message = format!("the operator {} needs a library from outside", quote(&called));
            self.context.attack("onnx-custom-operator", Severity::High, &place, message);
        }
    }

    /// An `EPContext` node carries, or names the file of, a program compiled for an accelerator.
    fn compiled(&mut self, attribute: &[u8]) {
        if text(attribute, 1) != "ep_cache_context" {
            return;
        }
        let context = text(attribute, 4);
        match location::fault(&context) {
            Some(why) if context.len() <= 4096 => {
                let message = format!("a compiled program is read from {}, which {why}", quote(&context));
                self.context.attack("onnx-compiled", Severity::High, "", message);
            }
            _ => {
                let message = "the graph carries a compiled program, which nothing can check";
                self.context.attack("onnx-compiled", Severity::Medium, "", message);
            }
        }
    }

    fn attribute(&mut self, bytes: &[u8], depth: usize) -> Result<(), Fault> {
        self.message(bytes, |walk, number, value| match (number, value) {
            (5 | 10, Value::Bytes(tensor)) => walk.tensor(tensor),
            (6 | 11, Value::Bytes(graph)) => walk.graph(graph, depth + 1),
            (22 | 23, Value::Bytes(sparse)) => walk.sparse(sparse),
            (5 | 6 | 10 | 11 | 22 | 23, _) => {
                Err(Fault::Malformed("an attribute holds a field of the wrong type"))
            }
            _ => Ok(()),
        })
    }

    fn sparse(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.message(bytes, |walk, number, value| match (number, value) {
            (1 | 2, Value::Bytes(tensor)) => walk.tensor(tensor),
            (3, dims) => integers(dims).try_for_each(|dim| dim.map(drop)),
            _ => Ok(()),
        })
    }

    fn function(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.message(bytes, |walk, number, value| match (number, value) {
            (7, Value::Bytes(node)) => walk.node(node, 0),
            (11, Value::Bytes(attribute)) => walk.attribute(attribute, 0),
            (14, Value::Bytes(entry)) => walk.metadata(entry),
            _ => Ok(()),
        })
    }

    fn training(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.message(bytes, |walk, number, value| match (number, value) {
            (1 | 2, Value::Bytes(graph)) => walk.graph(graph, 0),
            _ => Ok(()),
        })
    }

    fn metadata(&mut self, entry: &[u8]) -> Result<(), Fault> {
        if self.context.is_full() {
            return Ok(());
        }
        let (key, value) = (text(entry, 1), text(entry, 2));
        metadata::scan(&key, &value, self.context);
        Fields::new(entry).try_for_each(|field| field.map(drop))
    }

    fn tensor(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.context.is_full() {
            return Ok(());
        }
        let mut tensor = Tensor::default();
        self.message(bytes, |walk, number, value| {
            match (number, value) {
                (1, dims) => integers(dims).try_for_each(|dim| dim.map(|dim| tensor.multiply(dim)))?,
                (2, Value::Varint(kind)) => tensor.kind = kind,
                (9, Value::Bytes(raw)) => tensor.raw = Some(raw.len() as u64),
                (4..=7 | 10 | 11, _) => tensor.typed = true,
                (13, Value::Bytes(entry)) => {
                    tensor.external = true;
                    walk.external(entry)?;
                }
                (14, Value::Varint(place)) => tensor.external |= place == 1,
                (16, Value::Bytes(entry)) => walk.metadata(entry)?,
                _ => {}
            }
            Ok(())
        })?;
        let name = format!("tensor {:?}", text(bytes, 8));
        if let Some(why) = tensor.fault() {
            self.context.malformed("onnx-tensor", &name, why);
        }
        if VALUES_MAX < tensor.values && tensor.raw.is_none() {
            let message = "a tensor claims more values than any memory holds";
            self.context.attack("onnx-size-bomb", Severity::Medium, &name, message);
        }
        Ok(())
    }

    /// One entry of `external_data`: where a tensor's bytes are read from.
    fn external(&mut self, entry: &[u8]) -> Result<(), Fault> {
        let (key, value) = (text(entry, 1), text(entry, 2));
        match key.as_str() {
            "location" => match location::fault(&value) {
                Some(why) => {
                    let message = format!("tensor data is read from {}, which {why}", quote(&value));
                    self.context.attack("onnx-external-path", Severity::High, "", message);
                }
                None => {
                    let message = format!("tensor data lies in another file, {}", quote(&value));
                    self.context.note("onnx-external", Severity::Low, "", message);
                }
            },
            "offset" | "length" if value.parse::<u64>().is_err() => {
                let message = format!("external data has the {key} {}", quote(&value));
                self.context.attack("onnx-external-range", Severity::Medium, "", message);
            }
            "offset" | "length" | "checksum" | "basepath" => {}
            _ => {
                let message = format!("external data has the unknown entry {}", quote(&key));
                self.context.note("onnx-external", Severity::Low, "", message);
            }
        }
        if key == "basepath" && !value.is_empty() {
            let message = format!("external data moves its folder to {}", quote(&value));
            self.context.attack("onnx-external-path", Severity::High, "", message);
        }
        Fields::new(entry).try_for_each(|field| field.map(drop))
    }
}

/// What a tensor claims about its size.
struct Tensor {
    values: u64,
    negative: bool,
    kind: u64,
    raw: Option<u64>,
    typed: bool,
    external: bool,
}

impl Default for Tensor {
    fn default() -> Tensor {
        Tensor { values: 1, negative: false, kind: 0, raw: None, typed: false, external: false }
    }
}

impl Tensor {
    fn multiply(&mut self, dim: u64) {
        // Dimensions are signed on the wire.
        self.negative |= (i64::MAX as u64) < dim;
        self.values = self.values.saturating_mul(dim);
    }

    /// What contradicts itself, if anything.
    fn fault(&self) -> Option<String> {
        if self.negative {
            return Some("a dimension is negative".to_owned());
        }
        let raw = self.raw?;
        if raw == 0 && (self.external || self.typed) {
            return None;
        }
        let bits = element_bits(self.kind)?;
        let expected = self.values.checked_mul(bits).map(|bits| bits.div_ceil(8));
        match expected == Some(raw) {
            true => None,
            false => Some(format!("{} values are stored in {raw} bytes", self.values)),
        }
    }
}

/// Bits of one element of `TensorProto.DataType`, when it has a fixed width.
fn element_bits(kind: u64) -> Option<u64> {
    Some(match kind {
        2 | 3 | 9 | 17..=20 | 24 => 8,
        4 | 5 | 10 | 16 => 16,
        1 | 6 | 12 => 32,
        7 | 11 | 13 | 14 => 64,
        15 => 128,
        21..=23 => 4,
        25 | 26 => 2,
        _ => return None,
    })
}
