//! What a conversion writes, in which order, and where each row comes from.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bms_kernels::Format;
use bms_wire::{Code, Error, Result};
use safetensors::Dtype;

use super::recipe::Shape;
use super::{ConvertOptions, metadata, vocabulary};
use crate::lm::gguf::{Entry, GgufFile, Pair, RANK_MAX, TensorKind};
use crate::lm::hf::{HfFolder, HfTensor};
use crate::lm::names::{self, Change, Mapped, Place};
use crate::lm::{Arch, Hyper, ModelFiles, Tokenizer};

/// A file to be written.
pub(super) struct Plan<'a> {
    pub(super) arch: Arch,
    pub(super) name: Option<String>,
    pub(super) pairs: Vec<(String, Pair)>,
    pub(super) tensors: Vec<Planned<'a>>,
}

/// A tensor to be written: its parts lie one behind the other.
pub(super) struct Planned<'a> {
    pub(super) name: String,
    pub(super) format: Format,
    /// The length of a row first.
    pub(super) dims: Vec<usize>,
    pub(super) parts: Vec<Part<'a>>,
}

impl Planned<'_> {
    pub(super) fn entry(&self) -> Entry {
        Entry { name: self.name.clone(), kind: TensorKind::from(self.format), dims: self.dims.clone() }
    }

    /// Bytes of a row of a part. The recipe has chosen a format whose blocks fit.
    pub(super) fn row_bytes(&self, part: &Part<'_>) -> usize {
        self.format.row_bytes(part.cols).unwrap_or(0)
    }

    pub(super) fn bytes_out(&self) -> usize {
        self.parts.iter().map(|part| self.row_bytes(part) * part.rows).sum()
    }
}

/// A matrix of the model.
pub(super) struct Part<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    pub(super) format: Format,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Rows of a head, when the rows of each are put into another order.
    permuted_by: Option<usize>,
    /// Whether one is added to each value.
    pub(super) plus_one: bool,
}

impl Part<'_> {
    /// A part that lies in no file: one row.
    pub(super) fn owned(bytes: Vec<u8>, format: Format, cols: usize) -> Self {
        Part { bytes: bytes.into(), format, rows: 1, cols, permuted_by: None, plus_one: false }
    }

    pub(super) fn is_as_it_lies(&self, format: Format) -> bool {
        self.format == format && self.permuted_by.is_none() && !self.plus_one
    }

    /// The bytes of the row that is written as row `row`.
    pub(super) fn row(&self, row: usize) -> &[u8] {
        let row = self.permuted_by.map_or(row, |head| names::permuted_row(row, head));
        let length = self.bytes.len() / self.rows;
        &self.bytes[row * length..(row + 1) * length]
    }
}

/// Reads a model and decides how each tensor is stored.
pub(super) fn plan<'a>(files: &ModelFiles<'a>, options: &ConvertOptions<'_>) -> Result<Plan<'a>> {
    let mut plan = match files {
        ModelFiles::Gguf(bytes) => of_gguf(bytes, options)?,
        ModelFiles::Folder(files) => of_folder(files, options)?,
    };
    plan.pairs.retain(|(key, _)| key != "general.file_type" && key != "general.quantization_version");
    plan.pairs.push(("general.file_type".into(), Pair::U32(options.recipe.file_type())));
    plan.pairs.push(("general.quantization_version".into(), Pair::U32(2)));
    for tensor in &plan.tensors {
        let changed =
            tensor.parts.iter().find(|part| part.format != tensor.format && part.format.is_quantised());
        if let Some(part) = changed.filter(|_| !options.requantise) {
            return Err(Error::new(
                Code::UnsupportedModel,
                format!("the tensor `{}` is quantised already, as {}", tensor.name, part.format.as_str()),
            )
            .hint("Convert the original weights, or allow the loss with --requantise."));
        }
    }
    Ok(plan)
}

fn of_gguf<'a>(bytes: &'a [u8], options: &ConvertOptions<'_>) -> Result<Plan<'a>> {
    let file = GgufFile::parse(bytes)?;
    let hyper = Hyper::from_gguf(&file)?;
    // A file whose tokenizer cannot be used is not worth converting.
    Tokenizer::from_gguf(&file.metadata)?;
    let shape = Shape::new(&hyper, file.tensor("output.weight").is_none());
    let mut tensors = Vec::new();
    for tensor in file.tensors() {
        let source = tensor.kind.format().ok_or_else(|| {
            Error::new(
                Code::UnsupportedModel,
                format!(
                    "the tensor `{}` holds {}, which is not computed with",
                    tensor.name,
                    tensor.kind.name()
                ),
            )
        })?;
        let format = match options.recipe.format(tensor.name, tensor.dims(), shape) {
            // What was left exact once stays as it is.
            Format::F32 if source.is_quantised() && tensor.dims().len() < 2 => source,
            format => format,
        };
        let (rows, cols) = (tensor.rows(), tensor.cols());
        let part = Part {
            bytes: tensor.bytes.into(),
            format: source,
            rows,
            cols,
            permuted_by: None,
            plus_one: false,
        };
        let dims = tensor.dims().to_vec();
        tensors.push(Planned { name: tensor.name.to_owned(), format, dims, parts: vec![part] });
    }
    let layout =
        |key: &str| matches!(key, "general.alignment" | "split.count" | "split.no" | "split.tensors.count");
    let pairs = file.metadata.pairs().iter().filter(|(key, _)| !layout(key));
    let pairs = pairs.map(|(key, value)| ((*key).to_owned(), Pair::copied(*value))).collect();
    Ok(Plan { arch: hyper.arch, name: hyper.name, pairs, tensors })
}

fn of_folder<'a>(files: &'a [(&'a str, &'a [u8])], options: &ConvertOptions<'_>) -> Result<Plan<'a>> {
    let folder = HfFolder::open(files)?;
    let config = folder.file("config.json").unwrap_or_default();
    let hyper = Hyper::from_config(config)?;
    let mut gathered = gather(&folder, &hyper)?;
    let tied = !gathered.contains_key(&Order::of("output.weight"));
    if tied && hyper.tied == Some(false) && hyper.arch != Arch::Bert {
        return Err(Error::new(
            Code::InvalidBundle,
            "the model has no output matrix and does not share its embedding",
        ));
    }
    if hyper.tied == Some(true) {
        gathered.remove(&Order::of("output.weight"));
    }
    let shape = Shape::new(&hyper, tied || hyper.tied == Some(true));
    let mut tensors = metadata::rope_tensors(&hyper)?;
    let rows = gathered
        .get(&Order::of("token_embd.weight"))
        .map_or(0, |tensor| tensor.1.iter().map(|part| part.rows).sum());
    for (Order { name, .. }, (dims, parts)) in gathered {
        let format = options.recipe.format(&name, &dims, shape);
        tensors.push(Planned { name, format, dims, parts });
    }
    let mut pairs = metadata::pairs(&hyper, &folder, rows)?;
    pairs.extend(vocabulary::pairs(&folder, rows)?);
    Ok(Plan { arch: hyper.arch, name: hyper.name, pairs, tensors })
}

/// Tensors in the order of the layers, the embedding first and the output last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    rank: usize,
    name: String,
}

impl Order {
    fn of(name: &str) -> Self {
        let layer = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')?.0.parse::<usize>().ok());
        let rank = match (layer, name) {
            (Some(layer), _) => layer + 1,
            (None, "output.weight" | "output.bias" | "output_norm.weight") => usize::MAX,
            (None, _) => 0,
        };
        Order { rank, name: name.to_owned() }
    }
}

type Gathered<'a> = BTreeMap<Order, (Vec<usize>, Vec<Part<'a>>)>;

/// The tensors of a folder by their names in the file; experts stored one by one become one tensor.
fn gather<'a>(folder: &HfFolder<'a>, hyper: &Hyper) -> Result<Gathered<'a>> {
    let mut experts: BTreeMap<Order, BTreeMap<usize, Part<'a>>> = BTreeMap::new();
    let mut gathered = Gathered::new();
    for tensor in folder.tensors()? {
        let place = match names::place(hyper.arch, &tensor.name) {
            Mapped::Place(place) => place,
            Mapped::Unneeded => continue,
            Mapped::Unknown => {
                let message = format!("nobody knows what the tensor `{}` is for", tensor.name);
                return Err(Error::new(Code::UnsupportedModel, message));
            }
        };
        let (dims, part) = part(&tensor, &place, hyper)?;
        let is_new = match expert(&place.name) {
            Some((stack, number)) => {
                experts.entry(Order::of(&stack)).or_default().insert(number, part).is_none()
            }
            None => gathered.insert(Order::of(&place.name), (dims, vec![part])).is_none(),
        };
        if !is_new {
            return Err(broken(format!("the tensor `{}` is given twice", tensor.name)));
        }
    }
    let count = hyper.experts.as_ref().map_or(0, |experts| experts.count);
    for (order, parts) in experts {
        let numbers_fit = parts.keys().copied().eq(0..count);
        let parts: Vec<Part<'_>> = parts.into_values().collect();
        let (rows, cols) = parts.first().map_or((0, 0), |part| (part.rows, part.cols));
        if !numbers_fit || parts.iter().any(|part| (part.rows, part.cols) != (rows, cols)) {
            let message =
                format!("`{}` needs {count} experts of one shape, there are {}", order.name, parts.len());
            return Err(broken(message));
        }
        gathered.insert(order, (vec![cols, rows, count], parts));
    }
    Ok(gathered)
}

fn broken(message: String) -> Error {
    Error::new(Code::InvalidBundle, message)
}

/// A tensor of a folder as a matrix, and its dimensions in the file.
fn part<'a>(tensor: &HfTensor<'a>, place: &Place, hyper: &Hyper) -> Result<(Vec<usize>, Part<'a>)> {
    let format = match tensor.dtype {
        Dtype::F32 => Format::F32,
        Dtype::F16 => Format::F16,
        Dtype::BF16 => Format::BF16,
        other => {
            let message = format!("the tensor `{}` holds {other:?}, not floating point numbers", tensor.name);
            return Err(Error::new(Code::UnsupportedModel, message));
        }
    };
    let dims: Vec<usize> = tensor.shape.iter().rev().copied().collect();
    if dims.is_empty() || RANK_MAX < dims.len() || dims.contains(&0) {
        return Err(broken(format!("the tensor `{}` has the shape {:?}", tensor.name, tensor.shape)));
    }
    let (mut cols, mut rows) = (dims[0], dims[1..].iter().product());
    let permuted_by =
        matches!(place.change, Change::PermuteQuery | Change::PermuteKey).then_some(hyper.head_dim);
    if let Some(head) = permuted_by {
        // A bias is permuted value by value: each is a row of one.
        if dims.len() == 1 {
            (rows, cols) = (cols, 1);
        }
        if !rows.is_multiple_of(head) {
            return Err(broken(format!("the tensor `{}` is not made of heads of {head} rows", tensor.name)));
        }
    }
    let plus_one = place.change == Change::PlusOne;
    Ok((dims, Part { bytes: tensor.bytes.into(), format, rows, cols, permuted_by, plus_one }))
}

/// `blk.0.ffn_gate.3.weight` is number 3 of `blk.0.ffn_gate_exps.weight`.
fn expert(name: &str) -> Option<(String, usize)> {
    let (front, number) = name.strip_suffix(".weight")?.rsplit_once('.')?;
    let number = number.parse().ok().filter(|_| front.contains(".ffn_"))?;
    Some((format!("{front}_exps.weight"), number))
}
