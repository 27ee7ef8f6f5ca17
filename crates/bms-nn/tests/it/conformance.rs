//! The node cases of the ONNX backend test suite on both run-times.
//!
//! Each case is a model of one operator with inputs and expected outputs. What counts is that no case
//! comes out wrong: a case passes, or is refused when it is loaded, or fails to run with an error.
//! `BMS_ONNX_CASES` names the folder with the cases (`onnx/backend/test/data/node` of the onnx package).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bms_nn::onnx::proto::{DataType, Message, TensorProto};
use bms_nn::onnx::{self, LoadOptions, RuntimeChoice, RuntimeKind};
use bms_nn::{Data, Tensor};
use half::{bf16, f16};

/// Tolerances of the suite's own runner.
const RTOL: f64 = 1e-3;
const ATOL: f64 = 1e-5;

/// Cases rten has to pass at least; fewer means that a refusal became too wide.
const RTEN_PASSES_MIN: usize = 200;
/// The same for ONNX Runtime, where its library is found.
const ONNXRUNTIME_PASSES_MIN: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Pass,
    RefusedAtLoad,
    RefusedAtRun,
    /// The suite's expected output is not what the specification says.
    Disputed,
    Wrong,
}

struct Outcome {
    verdict: Verdict,
    detail: String,
}

fn outcome(verdict: Verdict, detail: impl ToString) -> Outcome {
    Outcome { verdict, detail: detail.to_string() }
}

/// The cases, or `None` after saying loudly that there are none.
fn cases() -> Option<Vec<PathBuf>> {
    let Some(root) = std::env::var_os("BMS_ONNX_CASES") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "BMS_ONNX_CASES must be set in CI; `cargo xtask fixtures` gets the cases"
        );
        eprintln!("SKIPPED: the ONNX conformance cases were not run, because BMS_ONNX_CASES is not set");
        return None;
    };
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&root)
        .unwrap_or_else(|error| panic!("BMS_ONNX_CASES `{}`: {error}", root.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("model.onnx").is_file())
        .collect();
    cases.sort();
    assert!(cases.len() > 1000, "`{}` has only {} cases", root.display(), cases.len());
    Some(cases)
}

#[test]
fn rten_computes_no_case_wrong() {
    check(RuntimeKind::Rten, RTEN_PASSES_MIN);
}

#[test]
fn onnxruntime_computes_no_case_wrong() {
    if has_onnxruntime() {
        check(RuntimeKind::OnnxRuntime, ONNXRUNTIME_PASSES_MIN);
    }
}

/// Whether ONNX Runtime can be tested; says loudly when it cannot.
fn has_onnxruntime() -> bool {
    let info = onnx::runtimes().into_iter().find(|info| info.kind == RuntimeKind::OnnxRuntime).unwrap();
    if !info.available {
        assert!(std::env::var_os("CI").is_none(), "ONNX Runtime must be found in CI: {}", info.detail);
        eprintln!("SKIPPED: nothing was run on ONNX Runtime: {}", info.detail);
    }
    info.available
}

fn check(kind: RuntimeKind, passes_min: usize) {
    let Some(cases) = cases() else { return };
    let mut tally: BTreeMap<Verdict, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    let verbose = std::env::var_os("BMS_ONNX_VERBOSE").is_some();
    for case in &cases {
        let outcome = run(case, kind);
        let name = case.file_name().unwrap().to_string_lossy();
        if verbose {
            println!("{kind} {name}: {:?} {}", outcome.verdict, outcome.detail.replace('\n', " "));
        }
        if outcome.verdict == Verdict::Wrong {
            wrong.push(format!("{name}: {}", outcome.detail));
        }
        *tally.entry(outcome.verdict).or_default() += 1;
    }
    println!("{kind}: {tally:?} of {}", cases.len());
    assert!(wrong.is_empty(), "{kind} computes {} cases wrong:\n{}", wrong.len(), wrong.join("\n"));
    let passes = tally.get(&Verdict::Pass).copied().unwrap_or_default();
    assert!(passes >= passes_min, "{kind} passes only {passes} cases");
}

/// Inputs the suite does not have, made of its own: large, tiny, negated, all equal (ties), zero. There
/// are no expected outputs for them, but two run-times that agree are right, and one that overflows or
/// breaks ties its own way does not agree.
#[test]
fn the_runtimes_agree_beyond_the_suite() {
    let Some(cases) = cases().filter(|_| has_onnxruntime()) else { return };
    let load = |case: &Path, kind| {
        let bytes: Arc<[u8]> = std::fs::read(case.join("model.onnx")).unwrap().into();
        onnx::load(bytes, &LoadOptions { runtime: RuntimeChoice::Fixed(kind), threads: 1 }).ok()
    };
    type Change = fn(f32) -> f32;
    let changes: [(&str, Change); 5] = [
        ("x100", |v| v * 100.0),
        ("tiny", |v| v * 1e-4),
        ("negated", |v| -v),
        ("equal", |_| 0.5),
        ("zero", |_| 0.0),
    ];
    let (mut compared, mut differ) = (0, Vec::new());
    for case in &cases {
        let (Some(mut rten), Some(mut reference)) =
            (load(case, RuntimeKind::Rten), load(case, RuntimeKind::OnnxRuntime))
        else {
            continue;
        };
        let given: Option<Vec<Tensor>> =
            tensors(&case.join("test_data_set_0"), "input").into_iter().collect();
        let specs = rten.inputs().to_vec();
        let Some(given) = given.filter(|given| given.iter().any(|tensor| tensor.as_f32().is_some())) else {
            continue;
        };
        for (what, change) in changes {
            let inputs: Vec<(String, Tensor)> = specs
                .iter()
                .zip(&given)
                .map(|(spec, tensor)| (spec.name.clone(), changed(&spec.name, tensor, change)))
                .collect();
            // An error is an answer too: neither run-time has to accept an arbitrary input.
            let (Ok(a), Ok(b)) = (rten.run(inputs.clone()), reference.run(inputs)) else { continue };
            compared += 1;
            for ((name, a), (_, b)) in a.iter().zip(&b) {
                if let Err(difference) =
                    compare(a, b).or_else(|difference| overflowed(b).then_some(()).ok_or(difference))
                {
                    let case = case.file_name().unwrap().to_string_lossy();
                    differ.push(format!("{case}, inputs {what}: output `{name}`: {difference}"));
                }
            }
        }
    }
    println!("compared {compared} runs beyond the suite");
    assert!(compared > 2000, "only {compared} runs could be compared");
    assert!(differ.is_empty(), "{} runs differ:\n{}", differ.len(), differ.join("\n"));
}

/// Whether a floating point number too large for an integer was cast to one, which the specification
/// leaves open: the processor's own cast gives the smallest integer.
fn overflowed(tensor: &Tensor) -> bool {
    matches!(tensor.data(), Data::I32(values) if values.contains(&i32::MIN))
}

fn changed(name: &str, tensor: &Tensor, change: fn(f32) -> f32) -> Tensor {
    // Scales say how large the result is; a hundredfold would measure the memory.
    match tensor.as_f32().filter(|_| name != "scales") {
        Some(values) => {
            Tensor::f32(tensor.shape().to_vec(), values.iter().copied().map(change).collect()).unwrap()
        }
        None => tensor.clone(),
    }
}

fn run(case: &Path, kind: RuntimeKind) -> Outcome {
    let bytes: Arc<[u8]> = std::fs::read(case.join("model.onnx")).unwrap().into();
    let options = LoadOptions { runtime: RuntimeChoice::Fixed(kind), threads: 1 };
    let mut session = match onnx::load(bytes, &options) {
        Ok(session) => session,
        Err(error) => return outcome(Verdict::RefusedAtLoad, format!("{} {error}", error.code())),
    };
    for set in (0..).map(|i| case.join(format!("test_data_set_{i}"))).take_while(|set| set.is_dir()) {
        let specs = session.inputs().to_vec();
        let mut inputs = Vec::new();
        for (spec, tensor) in specs.iter().zip(tensors(&set, "input")) {
            match tensor {
                Some(tensor) => inputs.push((spec.name.clone(), tensor)),
                None => return outcome(Verdict::RefusedAtRun, "an input of a type there is no tensor for"),
            }
        }
        let outputs = match session.run(inputs) {
            Ok(outputs) => outputs,
            Err(error) => return outcome(Verdict::RefusedAtRun, format!("{} {error}", error.code())),
        };
        let expected = tensors(&set, "output");
        if outputs.len() < expected.len() {
            return outcome(
                Verdict::Wrong,
                format!("{} outputs instead of {}", outputs.len(), expected.len()),
            );
        }
        for ((name, actual), expected) in outputs.iter().zip(expected) {
            let Some(expected) = expected else {
                return outcome(Verdict::Wrong, format!("`{name}` has another type"));
            };
            if disputed(case, actual, &expected) {
                return outcome(Verdict::Disputed, "");
            }
            if let Err(difference) = compare(actual, &expected) {
                return outcome(Verdict::Wrong, format!("output `{name}`: {difference}"));
            }
        }
    }
    outcome(Verdict::Pass, "")
}

/// Whether the suite is at fault, by cause: its expected outputs are computed with numpy, which lets
/// integers wrap where QLinearMatMul saturates, and gives 0/0 for normalising a vector of length zero.
fn disputed(case: &Path, actual: &Tensor, expected: &Tensor) -> bool {
    let name = case.file_name().unwrap().to_string_lossy();
    match (actual.data(), expected.data()) {
        (Data::I8(have), Data::I8(want)) if name.contains("qlinearmatmul") => {
            let mut differ = have.iter().zip(want).filter(|(have, want)| have != want).peekable();
            differ.peek().is_some() && differ.all(|(have, _)| matches!(*have, i8::MIN | i8::MAX))
        }
        (Data::F32(have), Data::F32(want)) if name.contains("normalization") => {
            let mut undefined = have.iter().zip(want).filter(|(_, want)| want.is_nan()).peekable();
            undefined.peek().is_some() && undefined.all(|(have, _)| *have == 0.0)
        }
        _ => false,
    }
}

/// The tensors `{role}_0.pb`, `{role}_1.pb`, … of a data set; `None` for one this crate has no type for.
fn tensors(set: &Path, role: &str) -> Vec<Option<Tensor>> {
    (0..)
        .map(|i| set.join(format!("{role}_{i}.pb")))
        .take_while(|path| path.is_file())
        .map(|path| TensorProto::decode(&*std::fs::read(path).unwrap()).ok().and_then(|proto| tensor(&proto)))
        .collect()
}

fn tensor(proto: &TensorProto) -> Option<Tensor> {
    let shape = proto.dims.iter().map(|&dim| dim as usize).collect();
    let raw = proto.raw_data.as_deref();
    macro_rules! read {
        ($variant:ident, $type:ty, $field:ident) => {
            Data::$variant(match raw {
                Some(raw) => raw
                    .chunks_exact(size_of::<$type>())
                    .map(|bytes| <$type>::from_le_bytes(bytes.try_into().unwrap()))
                    .collect(),
                None => proto.$field.iter().map(|&value| value as $type).collect(),
            })
        };
    }
    let data = match DataType::try_from(proto.data_type()).ok()? {
        DataType::Float => read!(F32, f32, float_data),
        DataType::Double => read!(F64, f64, double_data),
        DataType::Int64 => read!(I64, i64, int64_data),
        DataType::Int32 => read!(I32, i32, int32_data),
        DataType::Int16 => read!(I16, i16, int32_data),
        DataType::Int8 => read!(I8, i8, int32_data),
        DataType::Uint64 => read!(U64, u64, uint64_data),
        DataType::Uint32 => read!(U32, u32, uint64_data),
        DataType::Uint16 => read!(U16, u16, int32_data),
        DataType::Uint8 => read!(U8, u8, int32_data),
        DataType::Bool => Data::Bool(match raw {
            Some(raw) => raw.iter().map(|&byte| byte != 0).collect(),
            None => proto.int32_data.iter().map(|&value| value != 0).collect(),
        }),
        DataType::Float16 => Data::F16(halves(proto).map(f16::from_bits).collect()),
        DataType::Bfloat16 => Data::BF16(halves(proto).map(bf16::from_bits).collect()),
        DataType::String => Data::Text(
            proto.string_data.iter().map(|text| String::from_utf8(text.clone()).unwrap()).collect(),
        ),
        _ => return None,
    };
    Some(Tensor::new(shape, data).unwrap())
}

/// The bits of values of 16 bits, which lie in numbers of 32 when they are not raw.
fn halves(proto: &TensorProto) -> impl Iterator<Item = u16> {
    let raw = proto.raw_data.as_deref().unwrap_or_default().as_chunks::<2>().0;
    raw.iter().map(|&bytes| u16::from_le_bytes(bytes)).chain(proto.int32_data.iter().map(|&bits| bits as u16))
}

fn compare(actual: &Tensor, expected: &Tensor) -> Result<(), String> {
    if actual.shape() != expected.shape() || actual.dtype() != expected.dtype() {
        let (have, want) = (actual.dtype(), expected.dtype());
        return Err(format!("{have}{:?} instead of {want}{:?}", actual.shape(), expected.shape()));
    }
    // A sum of large terms is off by the rounding of the terms, even where it is expected to be zero.
    let scale = largest(expected).max(1.0);
    let within = |have: f64, want: f64, rtol: f64| {
        have == want
            || (have.is_nan() && want.is_nan())
            || (have - want).abs() <= ATOL * scale + rtol * want.abs()
    };
    let near = |have: f64, want: f64| within(have, want, RTOL);
    // Two units in the last place of a number of 16 bits.
    let near16 = |have: f64, want: f64, digits: i32| within(have, want, 2f64.powi(1 - digits));
    let off = match (actual.data(), expected.data()) {
        (Data::F32(have), Data::F32(want)) => {
            have.iter().zip(want).position(|(&a, &b)| !near(a.into(), b.into()))
        }
        (Data::F64(have), Data::F64(want)) => have.iter().zip(want).position(|(&a, &b)| !near(a, b)),
        (Data::F16(have), Data::F16(want)) => {
            have.iter().zip(want).position(|(a, b)| !near16(a.to_f64(), b.to_f64(), 10))
        }
        (Data::BF16(have), Data::BF16(want)) => {
            have.iter().zip(want).position(|(a, b)| !near16(a.to_f64(), b.to_f64(), 7))
        }
        (have, want) => {
            return if have == want { Ok(()) } else { Err(format!("{have:.60?} instead of {want:.60?}")) };
        }
    };
    match (off, actual.data(), expected.data()) {
        (None, ..) => Ok(()),
        (Some(i), Data::F32(have), Data::F32(want)) => {
            Err(format!("value {i} is {} instead of {}", have[i], want[i]))
        }
        (Some(i), ..) => Err(format!("value {i} is off")),
    }
}

/// Largest finite magnitude in a floating point tensor.
fn largest(tensor: &Tensor) -> f64 {
    let values: Vec<f64> = match tensor.data() {
        Data::F32(values) => values.iter().copied().map(f64::from).collect(),
        Data::F64(values) => values.clone(),
        Data::F16(values) => values.iter().map(|value| value.to_f64()).collect(),
        Data::BF16(values) => values.iter().map(|value| value.to_f64()).collect(),
        _ => Vec::new(),
    };
    values.into_iter().filter(|value| value.is_finite()).fold(0.0, |max, value| max.max(value.abs()))
}
