//! Which activations of a graph become bytes.

use std::collections::{HashMap, HashSet};

use bms_nn::onnx::proto::{GraphProto, NodeProto};

use super::layer::{Kind, Layer};

/// Operators that give only values of their first input: what holds for its range holds for theirs.
const PASSING: &[&str] = &["MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity"];

/// Who writes and who reads each value of a graph.
pub(crate) struct Flow<'g> {
    writers: HashMap<&'g str, &'g NodeProto>,
    readers: HashMap<&'g str, Vec<&'g NodeProto>>,
    outputs: HashSet<&'g str>,
}

impl<'g> Flow<'g> {
    pub(crate) fn new(graph: &'g GraphProto) -> Flow<'g> {
        let (mut writers, mut readers) = (HashMap::new(), HashMap::<&str, Vec<&NodeProto>>::new());
        for node in &graph.node {
            writers.extend(node.output.iter().map(|name| (name.as_str(), node)));
            node.input.iter().for_each(|name| readers.entry(name.as_str()).or_default().push(node));
        }
        let outputs = graph.output.iter().map(|output| output.name()).collect();
        Flow { writers, readers, outputs }
    }

    /// The value whose range `name` shares: followed back through operators that only pass values on.
    pub(crate) fn root(&self, name: &'g str) -> &'g str {
        let mut name = name;
        while let Some(node) = self.writers.get(name) {
            let passing = PASSING.contains(&node.qualified_op().as_str())
                && node.output.first().is_some_and(|o| o == name);
            match node.input.first() {
                Some(input) if passing => name = input,
                _ => break,
            }
        }
        name
    }

    /// The activations to make bytes of, sorted: what the layers read, and what the convolutions write,
    /// because ONNX Runtime convolves in integers only between bytes and bytes. Outputs of the graph stay.
    pub(crate) fn quantised(&self, layers: &'g [Layer]) -> Vec<&'g str> {
        let read = layers.iter().map(|layer| self.root(&layer.input));
        let written =
            layers.iter().filter(|layer| layer.kind == Kind::Conv).map(|layer| self.settled(&layer.output));
        let mut names: Vec<&str> = read.chain(written.filter(|name| !self.outputs.contains(name))).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The ReLU of a value, where that is all that becomes of it: negative values then need no bytes.
    fn settled(&self, name: &'g str) -> &'g str {
        match self.readers.get(name).map(Vec::as_slice) {
            Some([node]) if node.qualified_op() == "Relu" && !self.outputs.contains(name) => {
                node.output.first().map_or(name, String::as_str)
            }
            _ => name,
        }
    }
}
