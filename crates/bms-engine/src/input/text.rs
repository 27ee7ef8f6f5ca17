//! Texts as tokens.

use bms_nn::{DType, Data, Tensor};
use bms_wire::{Code, Error, Result, TextInput};

use crate::Description;
use crate::parts::Parts;

type Tensors = Vec<(String, Tensor)>;

/// The inputs a pipeline names, `[texts, longest]`, and which places are tokens.
pub(super) fn tensors(
    model: &Description,
    pipeline: &TextInput,
    parts: &Parts,
    texts: &[String],
) -> Result<(Tensors, Vec<Vec<bool>>)> {
    let missing = || Error::new(Code::Internal, "the pipeline has no tokenizer");
    let tokenizer = parts.tokenizer.as_ref().ok_or_else(missing)?;
    let (begin, end) = (tokenizer.begin(), tokenizer.end());
    let room = pipeline.tokens_max.saturating_sub(begin.len() + end.len());
    let mut rows: Vec<Vec<u32>> = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let ids = tokenizer.encode(text, false, false);
        let mut ids = ids.map_err(|e| e.while_doing(format!("read text {index}")))?;
        ids.truncate(room);
        rows.push([begin, &ids, end].concat());
    }
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    if width == 0 {
        return Err(Error::new(Code::InvalidInput, "the texts have no tokens"));
    }
    super::check_count(rows.len(), width)?;
    let mask: Vec<Vec<bool>> = rows.iter().map(|row| (0..width).map(|at| at < row.len()).collect()).collect();
    let ids: Vec<i64> = rows
        .iter()
        .flat_map(|row| (0..width).map(|at| i64::from(row.get(at).copied().unwrap_or(pipeline.pad))))
        .collect();
    let mut tensors = vec![integers(model, &pipeline.ids, rows.len(), ids)?];
    if let Some(name) = &pipeline.mask {
        let values = mask.iter().flatten().map(|&is_token| i64::from(is_token)).collect();
        tensors.push(integers(model, name, rows.len(), values)?);
    }
    if let Some(name) = &pipeline.types {
        tensors.push(integers(model, name, rows.len(), vec![0; rows.len() * width])?);
    }
    Ok((tensors, mask))
}

/// Rows of integers as the graph's input of this name takes them.
fn integers(model: &Description, name: &str, rows: usize, values: Vec<i64>) -> Result<(String, Tensor)> {
    let dtype = model.inputs.iter().find(|spec| spec.name == name).map(|spec| spec.dtype);
    let shape = vec![rows, values.len() / rows.max(1)];
    let data = match dtype {
        // Tokens are below 2^31: a vocabulary has a limit.
        Some(DType::I32) => Data::I32(values.into_iter().map(|value| value as i32).collect()),
        _ => Data::I64(values),
    };
    Ok((name.to_owned(), Tensor::new(shape, data)?))
}
