//! ONNX Runtime, loaded from its shared library when it is found.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bms_wire::{Code, Error, Result};
use half::{bf16, f16};
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor as OrtTensor, TensorElementType};

use super::library::Surroundings;
use super::{Backend, RuntimeInfo, RuntimeKind, fenced};
use crate::{Data, Tensor};

/// How to get the library.
const HINT: &str = "Install it with `pip install onnxruntime` in the active virtual environment, or set \
                    BMS_ONNXRUNTIME to the path of libonnxruntime.so (1.17 or newer).";

/// The library, loaded once for the life of the process: it cannot be unloaded safely, and `ort` allows
/// one environment. A failure is kept as well; a library that failed once is not touched again.
static LIBRARY: OnceLock<std::result::Result<Library, String>> = OnceLock::new();

struct Library {
    environment: Environment,
    path: PathBuf,
    build: String,
}

fn library() -> Result<&'static Library> {
    LIBRARY
        .get_or_init(|| open().map_err(|error| error.message().to_owned()))
        .as_ref()
        .map_err(|message| Error::new(Code::Unavailable, message.clone()).hint(HINT))
}

/// Where the library lies, looked for once: a process that was confined since cannot look any more.
pub(super) fn file() -> Option<&'static Path> {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    FILE.get_or_init(|| Surroundings::read().find()).as_deref()
}

fn open() -> Result<Library> {
    let path = file()
        .map(Path::to_path_buf)
        .ok_or_else(|| Error::new(Code::Unavailable, "the library of ONNX Runtime is not on this machine"))?;
    whole(&path).map_err(|why| {
        Error::new(Code::Unavailable, format!("failed to load ONNX Runtime from `{}`: {why}", path.display()))
    })?;
    // `ort` asserts what it expects of the library; a foreign or damaged one ends up in the fence.
    fenced(Code::Unavailable, "loading ONNX Runtime", || {
        let refused = |cause: &dyn std::fmt::Display| {
            Error::new(
                Code::Unavailable,
                format!("failed to load ONNX Runtime from `{}`: {cause}", path.display()),
            )
        };
        let builder = ort::init_from(&path).map_err(|cause| refused(&cause))?;
        let environment =
            builder.with_name("bms").with_telemetry(false).build().map_err(|cause| refused(&cause))?;
        environment.set_log_level(LogLevel::Fatal);
        let build = ort::info().to_owned();
        Ok(Library { environment, path: path.clone(), build })
    })
}

/// Checks that a shared library is not cut short. The loader maps what the header promises, and a file
/// that is shorter, such as a broken download, would end this process with a bus error.
fn whole(path: &Path) -> std::result::Result<(), String> {
    let mut file = File::open(path).map_err(|cause| cause.to_string())?;
    let size = file.metadata().map_err(|cause| cause.to_string())?.len();
    let mut header = [0; 64];
    file.read_exact(&mut header).map_err(|_| "it is no library".to_owned())?;
    // ELF, 64 bits, little-endian; other systems' libraries are left to their loaders.
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return if cfg!(target_os = "linux") { Err("it is no 64-bit library".into()) } else { Ok(()) };
    }
    let field = |at: usize| u64::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let mut offset = [0; 8];
    offset.copy_from_slice(&header[0x28..0x30]);
    // The table of sections ends the file: its offset, then size and number of its entries.
    let end = u64::from_le_bytes(offset).saturating_add(field(0x3a) * field(0x3c));
    if end > size { Err(format!("it is cut short: {size} of {end} bytes")) } else { Ok(()) }
}

pub(super) fn info() -> RuntimeInfo {
    let kind = RuntimeKind::OnnxRuntime;
    match library() {
        Ok(library) => {
            let version = version(library);
            let detail = format!("ONNX Runtime {version}, {}", library.path.display());
            RuntimeInfo { kind, available: true, detail }
        }
        Err(error) => RuntimeInfo {
            kind,
            available: false,
            detail: format!("{error}. {}", error.advice().unwrap_or_default()),
        },
    }
}

/// The version in the file's name, else the build's branch: the C interface for it is not safe to call.
fn version(library: &Library) -> &str {
    let branch = library.build.split("git-branch=").nth(1).and_then(|rest| rest.split(',').next());
    let file =
        library.path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split(".so.").nth(1));
    file.or(branch).unwrap_or("of unknown version")
}

pub(super) struct OnnxRuntime {
    session: Session,
}

/// Whether the library can be used here.
pub(super) fn available() -> bool {
    library().is_ok()
}

/// Loads a model.
pub(super) fn load(bytes: &[u8], threads: usize) -> Result<OnnxRuntime> {
    let library = library()?;
    let session = fenced(Code::UnsupportedModel, "ONNX Runtime", || {
        let refused = |cause: ort::Error<()>| {
            Error::new(
                Code::UnsupportedModel,
                format!("ONNX Runtime cannot load the model: {}", first_line(cause.message())),
            )
        };
        let mut builder = session_builder(&library.environment, threads).map_err(refused)?;
        builder.commit_from_memory(bytes).map_err(refused)
    })?;
    Ok(OnnxRuntime { session })
}

fn session_builder(environment: &Environment, threads: usize) -> ort::Result<SessionBuilder> {
    let mut builder = Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads.max(1))?
        .with_inter_threads(1)?
        // Spinning threads would burn a core each while a server waits for requests.
        .with_intra_op_spinning(false)?;
    builder = builder.with_log_level(LogLevel::Fatal)?;
    Ok(builder)
}

fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

impl Backend for OnnxRuntime {
    fn run(&mut self, given: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>> {
        fenced(Code::Internal, "ONNX Runtime", || {
            let inputs = given
                .into_iter()
                .map(|(name, tensor)| {
                    check_strings(&name, &tensor)?;
                    Ok((name, SessionInputValue::from(to_value(tensor).map_err(internal)?)))
                })
                .collect::<Result<Vec<_>>>()?;
            let names: Vec<String> =
                self.session.outputs().iter().map(|outlet| outlet.name().to_owned()).collect();
            let results = self.session.run(inputs).map_err(|cause| {
                let message = format!("the model cannot run on this input: {}", first_line(cause.message()));
                Error::new(Code::InvalidInput, message)
            })?;
            let mut outputs = Vec::with_capacity(names.len());
            for (name, value) in names.into_iter().zip(results.values()) {
                let tensor = from_value(&name, &value)?;
                outputs.push((name, tensor));
            }
            Ok(outputs)
        })
    }
}

fn internal(cause: ort::Error<()>) -> Error {
    Error::new(Code::Internal, format!("ONNX Runtime failed: {}", first_line(cause.message())))
}

/// ONNX Runtime takes strings as C has them.
fn check_strings(name: &str, tensor: &Tensor) -> Result<()> {
    match tensor.data() {
        Data::Text(values) if values.iter().any(|text| text.contains('\0')) => {
            Err(Error::new(Code::InvalidInput, format!("input `{name}` has a string with a zero byte")))
        }
        _ => Ok(()),
    }
}

fn to_value(tensor: Tensor) -> ort::Result<DynValue> {
    let (shape, data) = tensor.into_parts();
    Ok(match data {
        Data::F32(values) => OrtTensor::from_array((shape, values))?.into_dyn(),
        Data::F64(values) => OrtTensor::from_array((shape, values))?.into_dyn(),
        Data::I64(values) => OrtTensor::from_array((shape, values))?.into_dyn(),
        Data::I32(values) => OrtTensor::from_array((shape, values))?.into_dyn(),
        Data::I16(values) => OrtTensor::from_array((shape, values))?.into_dyn(),
        Data::I8(values) => OrtTensor::from_array((shape, values))?.into_dyn(),
        Data::U64(values) => OrtTensor::from_array((shape, values))?.into_dyn(),
        Data::U32(values) => OrtTensor::from_array((shape, values))?.into_dyn(),
        Data::U16(values) => OrtTensor::from_array((shape, values))?.into_dyn(),
        Data::U8(values) => OrtTensor::from_array((shape, values))?.into_dyn(),
        Data::Bool(values) => OrtTensor::from_array((shape, values))?.into_dyn(),
        Data::F16(values) => OrtTensor::from_array((shape, values))?.into_dyn(),
        Data::BF16(values) => OrtTensor::from_array((shape, values))?.into_dyn(),
        Data::Text(values) => OrtTensor::from_string_array((shape, &values[..]))?.into_dyn(),
    })
}

fn from_value(name: &str, value: &DynValue) -> Result<Tensor> {
    let unsupported = || {
        Error::new(
            Code::UnsupportedModel,
            format!("output `{name}` is a {}, not a tensor of numbers", value.dtype()),
        )
    };
    let shape = value.dtype().tensor_shape().ok_or_else(unsupported)?;
    let shape = shape
        .iter()
        .map(|&dim| usize::try_from(dim).ok())
        .collect::<Option<Vec<_>>>()
        .ok_or_else(unsupported)?;
    macro_rules! extract {
        ($variant:ident, $type:ty) => {
            Data::$variant(value.try_extract_tensor::<$type>().map_err(internal)?.1.to_vec())
        };
    }
    let data = match value.dtype().tensor_type().ok_or_else(unsupported)? {
        TensorElementType::Float32 => extract!(F32, f32),
        TensorElementType::Float64 => extract!(F64, f64),
        TensorElementType::Int64 => extract!(I64, i64),
        TensorElementType::Int32 => extract!(I32, i32),
        TensorElementType::Int16 => extract!(I16, i16),
        TensorElementType::Int8 => extract!(I8, i8),
        TensorElementType::Uint64 => extract!(U64, u64),
        TensorElementType::Uint32 => extract!(U32, u32),
        TensorElementType::Uint16 => extract!(U16, u16),
        TensorElementType::Uint8 => extract!(U8, u8),
        TensorElementType::Bool => extract!(Bool, bool),
        TensorElementType::Float16 => extract!(F16, f16),
        TensorElementType::Bfloat16 => extract!(BF16, bf16),
        TensorElementType::String => Data::Text(value.try_extract_strings().map_err(internal)?.1),
        _ => return Err(unsupported()),
    };
    Tensor::new(shape, data)
}
