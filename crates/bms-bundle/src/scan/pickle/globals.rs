//! Which imports only rebuild data.
//!
//! The whole dotted path is compared: `numpy.dtype` is data, `numpy.f2py.os.system` is not. What
//! is on no list is denied, because a list of dangerous names is never complete.

use crate::Severity;

/// Modules and the names in them that are harmless when called with any arguments.
const DATA: &[(&str, &[&str])] = &[
    ("__builtin__", &BUILTINS),
    ("builtins", &BUILTINS),
    ("_codecs", &["encode"]),
    ("argparse", &["Namespace"]),
    ("collections", &["Counter", "OrderedDict", "defaultdict", "deque"]),
    ("copy_reg", &["_reconstructor"]),
    ("copyreg", &["_reconstructor"]),
    ("datetime", &["date", "datetime", "time", "timedelta", "timezone"]),
    ("decimal", &["Decimal"]),
    ("fractions", &["Fraction"]),
    ("pathlib", &["Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"]),
    ("types", &["SimpleNamespace"]),
    ("uuid", &["UUID"]),
    ("joblib.numpy_pickle", &["NumpyArrayWrapper"]),
    ("numpy", &NUMPY),
    ("numpy.core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy._core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy.core.numeric", &["_frombuffer"]),
    ("numpy._core.numeric", &["_frombuffer"]),
    ("numpy.core._internal", &["_reconstruct"]),
    ("numpy.matrixlib.defmatrix", &["matrix"]),
    ("numpy.ma.core", &["MaskedArray", "_mareconstruct"]),
    ("numpy.random._pickle", &["__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor"]),
    ("numpy.random._mt19937", &["MT19937"]),
    ("numpy.random._pcg64", &["PCG64", "PCG64DXSM"]),
    ("numpy.random._philox", &["Philox"]),
    ("numpy.random._sfc64", &["SFC64"]),
    ("numpy.random.bit_generator", &["SeedSequence", "__pyx_unpickle_SeedSequence"]),
    ("pandas._libs.internals", &["_unpickle_block"]),
    ("pandas.core.frame", &["DataFrame"]),
    ("pandas.core.indexes.base", &["Index", "_new_Index"]),
    ("pandas.core.indexes.range", &["RangeIndex"]),
    ("pandas.core.internals.managers", &["BlockManager", "SingleBlockManager"]),
    ("pandas.core.series", &["Series"]),
    ("scipy.sparse._bsr", &["bsr_array", "bsr_matrix"]),
    ("scipy.sparse._coo", &["coo_array", "coo_matrix"]),
    ("scipy.sparse._csc", &["csc_array", "csc_matrix"]),
    ("scipy.sparse._csr", &["csr_array", "csr_matrix"]),
    ("scipy.sparse._dia", &["dia_array", "dia_matrix"]),
    ("torch", &TORCH),
    ("torch._tensor", &["_rebuild_from_type_v2"]),
    ("torch._utils", &TORCH_UTILS),
    ("torch.jit._pickle", &TORCHSCRIPT),
    ("torch.nn.parameter", &["Buffer", "Parameter"]),
    ("torch.serialization", &["_get_layout"]),
    ("torch.storage", &["TypedStorage", "UntypedStorage"]),
];

const BUILTINS: [&str; 19] = [
    "Ellipsis",
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "long",
    "object",
    "range",
    "set",
    "slice",
    "str",
    "tuple",
    "unicode",
    "xrange",
];

const NUMPY: [&str; 24] = [
    "bool_",
    "bytes_",
    "complex128",
    "complex64",
    "datetime64",
    "dtype",
    "float16",
    "float32",
    "float64",
    "int16",
    "int32",
    "int64",
    "int8",
    "intc",
    "longdouble",
    "matrix",
    "ndarray",
    "object_",
    "str_",
    "timedelta64",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
];

const TORCH: [&str; 75] = [
    "BFloat16Storage",
    "BFloat16Tensor",
    "BoolStorage",
    "BoolTensor",
    "ByteStorage",
    "ByteTensor",
    "CharStorage",
    "CharTensor",
    "ComplexDoubleStorage",
    "ComplexFloatStorage",
    "DoubleStorage",
    "DoubleTensor",
    "FloatStorage",
    "FloatTensor",
    "Generator",
    "HalfStorage",
    "HalfTensor",
    "IntStorage",
    "IntTensor",
    "LongStorage",
    "LongTensor",
    "QInt32Storage",
    "QInt8Storage",
    "QUInt2x4Storage",
    "QUInt4x2Storage",
    "QUInt8Storage",
    "ShortStorage",
    "ShortTensor",
    "Size",
    "Tensor",
    "UntypedStorage",
    "bfloat16",
    "bit",
    "bits16",
    "bits1x8",
    "bits2x4",
    "bits4x2",
    "bits8",
    "bool",
    "channels_last",
    "channels_last_3d",
    "complex128",
    "complex32",
    "complex64",
    "contiguous_format",
    "device",
    "double",
    "float",
    "float16",
    "float32",
    "float64",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "half",
    "int",
    "int16",
    "int32",
    "int64",
    "int8",
    "long",
    "per_channel_affine",
    "per_channel_affine_float_qparams",
    "per_tensor_affine",
    "preserve_format",
    "qint32",
    "qint8",
    "quint8",
    "short",
    "sparse_coo",
    "sparse_csr",
    "strided",
    "uint8",
];

const TORCH_UTILS: [&str; 11] = [
    "_rebuild_device_tensor_from_cpu_tensor",
    "_rebuild_device_tensor_from_numpy",
    "_rebuild_meta_tensor_no_storage",
    "_rebuild_nested_tensor",
    "_rebuild_parameter",
    "_rebuild_parameter_with_state",
    "_rebuild_qtensor",
    "_rebuild_sparse_csr_tensor",
    "_rebuild_sparse_tensor",
    "_rebuild_tensor",
    "_rebuild_tensor_v2",
];

const TORCHSCRIPT: [&str; 6] = [
    "build_boollist",
    "build_doublelist",
    "build_floatlist",
    "build_intlist",
    "build_tensorlist",
    "restore_type_tag",
];

/// Packages whose classes are estimators, layers or settings: data with methods that nothing
/// calls while loading. Only names that begin like a class count.
const CLASSES: &[&str] = &[
    "numpy.dtypes",
    "pytorch_lightning.callbacks",
    "lightning.pytorch.callbacks",
    "scipy.sparse",
    "sklearn._loss",
    "sklearn.calibration",
    "sklearn.cluster",
    "sklearn.compose",
    "sklearn.cross_decomposition",
    "sklearn.decomposition",
    "sklearn.discriminant_analysis",
    "sklearn.dummy",
    "sklearn.ensemble",
    "sklearn.feature_extraction",
    "sklearn.feature_selection",
    "sklearn.gaussian_process",
    "sklearn.impute",
    "sklearn.isotonic",
    "sklearn.kernel_approximation",
    "sklearn.kernel_ridge",
    "sklearn.linear_model",
    "sklearn.manifold",
    "sklearn.metrics",
    "sklearn.mixture",
    "sklearn.model_selection",
    "sklearn.multiclass",
    "sklearn.multioutput",
    "sklearn.naive_bayes",
    "sklearn.neighbors",
    "sklearn.neural_network",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "sklearn.random_projection",
    "sklearn.semi_supervised",
    "sklearn.svm",
    "sklearn.tree",
    "torch.nn.modules",
    "torch.optim",
    "transformers.integrations.deepspeed",
    "transformers.trainer_utils",
    "transformers.training_args",
    // Classes compiled from the archive itself; Python cannot import them.
    "__torch__",
];

/// Modules whose every function is a way out of the interpreter.
const DANGEROUS: [&str; 28] = [
    "__builtin__",
    "_thread",
    "asyncio",
    "builtins",
    "code",
    "commands",
    "ctypes",
    "functools",
    "importlib",
    "io",
    "marshal",
    "multiprocessing",
    "nt",
    "operator",
    "os",
    "pickle",
    "pip",
    "pkgutil",
    "posix",
    "pty",
    "pydoc",
    "runpy",
    "shutil",
    "socket",
    "subprocess",
    "sys",
    "types",
    "webbrowser",
];

/// How bad an import is; `None` when it only rebuilds data.
pub(super) fn judge(module: &str, name: &str) -> Option<Severity> {
    if DATA.iter().any(|(known, names)| *known == module && names.contains(&name)) {
        return None;
    }
    if is_class(name) && CLASSES.iter().any(|package| inside(module, package)) {
        return None;
    }
    let top = module.split('.').next().unwrap_or(module).trim_start_matches('_');
    let reaches = |word: &str| DANGEROUS.iter().any(|known| known.trim_start_matches('_') == word);
    match reaches(top) || name.split('.').any(reaches) {
        true => Some(Severity::Critical),
        false => Some(Severity::High),
    }
}

/// Whether `module` is `package` or lies in it, and is plainly named.
fn inside(module: &str, package: &str) -> bool {
    let rest = module.strip_prefix(package);
    let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    rest.is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('.').is_some_and(|rest| rest.split('.').all(plain))
    })
}

/// `LogisticRegression`, `_Criterion`; neither `load` nor `Tree.fit`.
fn is_class(name: &str) -> bool {
    let first = name.trim_start_matches('_').chars().next();
    first.is_some_and(|c| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        || name.strip_prefix("__pyx_unpickle_").is_some_and(is_class)
}
