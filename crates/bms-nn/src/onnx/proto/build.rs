//! Constructors for what is written often: nodes, attributes, constants, typed names.

use super::{
    AttributeProto, AttributeType, Bytes, DataType, Dimension, DimensionValue, GraphProto, ModelProto,
    NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TensorType, TypeProto, TypeValue,
    ValueInfoProto,
};

impl ModelProto {
    /// A graph of operators of the default domain in this version.
    pub fn new(graph: GraphProto, opset: i64) -> ModelProto {
        ModelProto {
            ir_version: Some(8),
            opset_import: vec![OperatorSetIdProto { domain: None, version: Some(opset) }],
            graph: Some(graph),
            ..ModelProto::default()
        }
    }
}

impl NodeProto {
    /// A node of the default domain. `name` should be unique in the graph.
    pub fn new(op_type: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
        NodeProto {
            op_type: Some(op_type.into()),
            name: Some(name.into()),
            input: inputs.iter().map(|&name| name.into()).collect(),
            output: outputs.iter().map(|&name| name.into()).collect(),
            ..NodeProto::default()
        }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, attribute: AttributeProto) -> NodeProto {
        self.attribute.push(attribute);
        self
    }

    /// The attribute of this name.
    pub fn attr(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|attribute| attribute.name() == name)
    }

    /// The operator with its domain, the default domain left out, e.g. `Conv`, `com.microsoft.Gelu`.
    pub fn qualified_op(&self) -> String {
        match self.domain() {
            "" | "ai.onnx" => self.op_type().to_owned(),
            domain => format!("{domain}.{}", self.op_type()),
        }
    }
}

impl AttributeProto {
    fn typed(name: &str, kind: AttributeType) -> AttributeProto {
        AttributeProto { name: Some(name.into()), r#type: Some(kind as i32), ..AttributeProto::default() }
    }

    /// An integer.
    pub fn int(name: &str, value: i64) -> AttributeProto {
        AttributeProto { i: Some(value), ..Self::typed(name, AttributeType::Int) }
    }

    /// Integers.
    pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
        AttributeProto { ints: values.to_vec(), ..Self::typed(name, AttributeType::Ints) }
    }

    /// A float.
    pub fn float(name: &str, value: f32) -> AttributeProto {
        AttributeProto { f: Some(value), ..Self::typed(name, AttributeType::Float) }
    }

    /// A string.
    pub fn string(name: &str, value: &str) -> AttributeProto {
        AttributeProto { s: Some(value.as_bytes().to_vec()), ..Self::typed(name, AttributeType::String) }
    }

    /// A tensor.
    pub fn tensor(name: &str, value: TensorProto) -> AttributeProto {
        AttributeProto { t: Some(value), ..Self::typed(name, AttributeType::Tensor) }
    }

    /// A graph.
    pub fn graph(name: &str, value: GraphProto) -> AttributeProto {
        AttributeProto { g: Some(value), ..Self::typed(name, AttributeType::Graph) }
    }

    /// The string as text; empty when it is absent or not UTF-8.
    pub fn text(&self) -> &str {
        self.s.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl TensorProto {
    fn raw(name: &str, dims: &[i64], data_type: DataType, raw: Vec<u8>) -> TensorProto {
        TensorProto {
            name: Some(name.into()),
            dims: dims.to_vec(),
            data_type: Some(data_type as i32),
            raw_data: Some(Bytes::from(raw)),
            ..TensorProto::default()
        }
    }

    /// A constant of 32-bit floating point numbers.
    pub fn f32(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
        Self::raw(name, dims, DataType::Float, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A constant of 64-bit integers.
    pub fn i64(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
        Self::raw(name, dims, DataType::Int64, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A constant of 32-bit integers.
    pub fn i32(name: &str, dims: &[i64], values: &[i32]) -> TensorProto {
        Self::raw(name, dims, DataType::Int32, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A constant of signed bytes.
    pub fn i8(name: &str, dims: &[i64], values: &[i8]) -> TensorProto {
        Self::raw(name, dims, DataType::Int8, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A constant of unsigned bytes.
    pub fn u8(name: &str, dims: &[i64], values: &[u8]) -> TensorProto {
        Self::raw(name, dims, DataType::Uint8, values.to_vec())
    }

    /// The values, when they are 32-bit floating point, wherever they lie in the message.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        if self.data_type != Some(DataType::Float as i32) {
            return None;
        }
        Some(match &self.raw_data {
            Some(raw) => raw.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            None => self.float_data.clone(),
        })
    }

    /// The values, when they are 64-bit integers, wherever they lie in the message.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        if self.data_type != Some(DataType::Int64 as i32) {
            return None;
        }
        Some(match &self.raw_data {
            Some(raw) => raw.as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b)).collect(),
            None => self.int64_data.clone(),
        })
    }
}

impl ValueInfoProto {
    /// A tensor; a dimension is a length or, when `Err`, the name of a free one.
    pub fn tensor(name: &str, data_type: DataType, dims: &[Result<i64, &str>]) -> ValueInfoProto {
        let dim = dims
            .iter()
            .map(|dim| match *dim {
                Ok(length) => DimensionValue::DimValue(length),
                Err(symbol) => DimensionValue::DimParam(symbol.into()),
            })
            .map(|value| Dimension { value: Some(value), denotation: None })
            .collect();
        let tensor = TensorType { elem_type: Some(data_type as i32), shape: Some(TensorShapeProto { dim }) };
        ValueInfoProto {
            name: Some(name.into()),
            r#type: Some(TypeProto { value: Some(TypeValue::TensorType(tensor)), denotation: None }),
            ..ValueInfoProto::default()
        }
    }

    /// The tensor type, when the value is a dense tensor.
    pub fn tensor_type(&self) -> Option<&TensorType> {
        match self.r#type.as_ref()?.value.as_ref()? {
            TypeValue::TensorType(tensor) => Some(tensor),
            _ => None,
        }
    }
}
