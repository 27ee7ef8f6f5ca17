//! The lists: what real models of the well-known libraries import, each entry looked at for what it does when called.

/// Modules and the names in them that are harmless when called with any arguments.
pub(super) const DATA: &[(&str, &[&str])] = &[
    ("__builtin__", &BUILTINS),
    ("builtins", &BUILTINS),
    ("_codecs", &["encode"]),
    ("_collections", &["OrderedDict", "defaultdict", "deque"]),
    ("array", &["_array_reconstructor", "array"]),
    ("argparse", &["Namespace"]),
    ("collections", &["Counter", "OrderedDict", "defaultdict", "deque"]),
    ("copy_reg", &["_reconstructor"]),
    ("copyreg", &["_reconstructor"]),
    ("datetime", &["date", "datetime", "time", "timedelta", "timezone"]),
    ("decimal", &["Decimal"]),
    ("fractions", &["Fraction"]),
    ("functools", &["partial"]),
    ("operator", &["itemgetter"]),
    ("pathlib", &["Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"]),
    ("re", &["_compile"]),
    ("types", &["SimpleNamespace"]),
    ("typing", &["Any", "Dict", "List", "Optional", "Sequence", "Tuple", "Union"]),
    ("_pydatetime", &["date", "datetime", "time", "timedelta", "timezone"]),
    ("zoneinfo", &["ZoneInfo._unpickle"]),
    ("pytz", &["_UTC", "_p"]),
    ("uuid", &["UUID"]),
    ("joblib.numpy_pickle", &["NDArrayWrapper", "NumpyArrayWrapper", "ZNDArrayWrapper"]),
    ("sklearn.externals.joblib.numpy_pickle", &["NDArrayWrapper", "NumpyArrayWrapper", "ZNDArrayWrapper"]),
    ("numpy", &NUMPY),
    ("numpy.core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy._core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy.core.numeric", &["_frombuffer"]),
    ("numpy._core.numeric", &["_frombuffer"]),
    ("numpy.core._internal", &["_reconstruct"]),
    ("numpy.matrixlib.defmatrix", &["matrix"]),
    ("numpy.ma", &["MaskedArray"]),
    ("numpy.ma.core", &["MaskedArray", "_mareconstruct"]),
    ("numpy._core._internal", &["_reconstruct"]),
    ("numpy.lib.polynomial", &["poly1d"]),
    ("numpy.random", &["__RandomState_ctor", "__randomstate_ctor"]),
    ("numpy.random._generator", &["Generator"]),
    ("numpy.random.mtrand", &["RandomState"]),
    ("numpy.rec", &["recarray"]),
    ("numpy.random._pickle", &["__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor"]),
    ("numpy.random._mt19937", &["MT19937"]),
    ("numpy.random._pcg64", &["PCG64", "PCG64DXSM"]),
    ("numpy.random._philox", &["Philox"]),
    ("numpy.random._sfc64", &["SFC64"]),
    ("numpy.random.bit_generator", &["SeedSequence", "__pyx_unpickle_SeedSequence"]),
    ("pandas", &PANDAS),
    ("pandas._libs.arrays", &["NDArrayBacked", "__pyx_unpickle_NDArrayBacked"]),
    ("pandas._libs.internals", &["BlockPlacement", "_unpickle_block"]),
    ("pandas._libs.interval", &["Interval"]),
    ("pandas._libs.missing", &["NAType"]),
    ("pandas._libs.sparse", &["BlockIndex", "IntIndex"]),
    ("pandas._libs.tslibs.nattype", &["_nat_unpickle"]),
    ("pandas._libs.tslibs.period", &["_period_unpickle", "Period"]),
    ("pandas._libs.tslibs.timedeltas", &["Timedelta", "_timedelta_unpickle"]),
    ("pandas._libs.tslibs.timestamps", &["Timestamp", "_unpickle_timestamp"]),
    ("pandas.core.dtypes.base", &["ExtensionDtype"]),
    ("pandas.core.flags", &["Flags"]),
    ("pandas.core.indexes.datetimes", &["DatetimeIndex", "_new_DatetimeIndex"]),
    ("pandas.core.indexes.interval", &["IntervalIndex", "_new_IntervalIndex"]),
    ("pandas.core.indexes.period", &["PeriodIndex", "_new_PeriodIndex"]),
    ("pandas.indexes.base", &["Index", "_new_Index"]),
    ("pandas.indexes.range", &["RangeIndex"]),
    ("pandas.core.frame", &["DataFrame"]),
    ("pandas.core.indexes.base", &["Index", "_new_Index"]),
    ("pandas.core.indexes.range", &["RangeIndex"]),
    ("pandas.core.internals.managers", &["BlockManager", "SingleBlockManager"]),
    ("pandas.core.series", &["Series"]),
    ("scipy._lib.array_api_compat.numpy._aliases", &["asarray"]),
    ("scipy.optimize._optimize", &["OptimizeResult"]),
    ("scipy.spatial._ckdtree", &["cKDTree", "cKDTreeNode"]),
    ("scipy.spatial._kdtree", &["KDTree"]),
    ("scipy.spatial.ckdtree", &["cKDTree"]),
    ("scipy.special._ufuncs", &["expit", "logit"]),
    ("sklearn.cluster._kmeans", &["_kmeans_single_elkan", "_kmeans_single_lloyd"]),
    ("sklearn.feature_selection._mutual_info", &["mutual_info_classif", "mutual_info_regression"]),
    ("sklearn.feature_selection._univariate_selection", &UNIVARIATE),
    ("sklearn.feature_selection.univariate_selection", &UNIVARIATE),
    ("sklearn.metrics._dist_metrics", &["newObj"]),
    ("sklearn.metrics._scorer", &["_passthrough_scorer"]),
    ("sklearn.neighbors._ball_tree", &["newObj"]),
    ("sklearn.neighbors._dist_metrics", &["newObj"]),
    ("sklearn.neighbors._kd_tree", &["newObj"]),
    ("sklearn.neighbors.ball_tree", &["newObj"]),
    ("sklearn.neighbors.dist_metrics", &["newObj"]),
    ("sklearn.neighbors.kd_tree", &["newObj"]),
    ("torch", &TORCH),
    ("torch._tensor", &["_rebuild_from_type_v2"]),
    ("torch._C", &["Generator"]),
    ("torch._C._nn", &["gelu"]),
    ("torch._utils", &TORCH_UTILS),
    ("torch.cuda", &TORCH_CUDA),
    ("torch.nn.functional", &ACTIVATIONS),
    ("torch.torch_version", &["TorchVersion"]),
    ("torch.jit._pickle", &TORCHSCRIPT),
    ("torch.nn.parameter", &["Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter"]),
    ("torch.serialization", &["_get_layout"]),
    ("torch.storage", &["TypedStorage", "UntypedStorage"]),
];

const BUILTINS: [&str; 20] = [
    "Ellipsis", "NotImplemented", "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int",
    "list", "long", "object", "range", "set", "slice", "str", "tuple", "unicode", "xrange",
];

const NUMPY: [&str; 94] = [
    "abs", "absolute", "add", "arctan", "bool", "bool_", "byte", "bytes_", "cdouble", "ceil", "chararray",
    "clip", "clongdouble", "complex128", "complex64", "complex_", "cos", "cosh", "csingle", "datetime64",
    "divide", "double", "dtype", "exp", "exp2", "expm1", "float16", "float32", "float64", "float_", "floor",
    "generic", "half", "int16", "int32", "int64", "int8", "int_", "intc", "intp", "log", "log10", "log1p",
    "log2", "longdouble", "longfloat", "longlong", "matrix", "max", "maximum", "mean", "median", "min",
    "minimum", "multiply", "nanmean", "ndarray", "negative", "number", "object_", "poly1d", "ptp", "recarray",
    "reciprocal", "record", "round", "short", "sign", "sin", "single", "sinh", "sqrt", "square", "std", "str_",
    "string_", "subtract", "sum", "tan", "tanh", "timedelta64", "ubyte", "uint", "uint16", "uint32", "uint64",
    "uint8", "uintc", "uintp", "ulonglong", "unicode_", "ushort", "var", "void",
];

const TORCH: [&str; 108] = [
    "BFloat16Storage", "BFloat16Tensor", "BoolStorage", "BoolTensor", "ByteStorage", "ByteTensor",
    "CharStorage", "CharTensor", "ComplexDoubleStorage", "ComplexFloatStorage", "DoubleStorage", "DoubleTensor",
    "FloatStorage", "FloatTensor", "Generator", "HalfStorage", "HalfTensor", "IntStorage", "IntTensor",
    "LongStorage", "LongTensor", "QInt32Storage", "QInt8Storage", "QUInt2x4Storage", "QUInt4x2Storage",
    "QUInt8Storage", "ScriptObject", "ShortStorage", "ShortTensor", "Size", "Tensor", "UntypedStorage",
    "bfloat16", "bit", "bits16", "bits1x8", "bits2x4", "bits4x2", "bits8", "bool", "cdouble", "cfloat", "chalf",
    "channels_last", "channels_last_3d", "complex128", "complex32", "complex64", "contiguous_format", "device",
    "double", "float", "float16", "float32", "float4_e2m1fn_x2", "float64", "float8_e4m3fn", "float8_e4m3fnuz",
    "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "half", "int", "int1", "int16", "int2", "int3", "int32",
    "int4", "int5", "int6", "int64", "int7", "int8", "jagged", "long", "per_channel_affine",
    "per_channel_affine_float_qparams", "per_channel_symmetric", "per_tensor_affine", "per_tensor_symmetric",
    "preserve_format", "qint32", "qint8", "quint2x4", "quint4x2", "quint8", "relu", "short", "sigmoid",
    "sparse_bsc", "sparse_bsr", "sparse_coo", "sparse_csc", "sparse_csr", "strided", "tanh", "uint1", "uint16",
    "uint2", "uint3", "uint32", "uint4", "uint5", "uint6", "uint64", "uint7", "uint8",
];

const TORCH_UTILS: [&str; 13] = [
    "_rebuild_device_tensor_from_cpu_tensor", "_rebuild_device_tensor_from_numpy",
    "_rebuild_meta_tensor_no_storage", "_rebuild_nested_tensor", "_rebuild_parameter",
    "_rebuild_parameter_with_state", "_rebuild_qtensor", "_rebuild_sparse_csr_tensor", "_rebuild_sparse_tensor",
    "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_wrapper_subclass",
];

const TORCHSCRIPT: [&str; 6] = [
    "build_boollist", "build_doublelist", "build_floatlist", "build_intlist", "build_tensorlist",
    "restore_type_tag",
];

const TORCH_CUDA: [&str; 24] = [
    "BFloat16Storage", "BFloat16Tensor", "BoolStorage", "BoolTensor", "ByteStorage", "ByteTensor",
    "CharStorage", "CharTensor", "ComplexDoubleStorage", "ComplexDoubleTensor", "ComplexFloatStorage",
    "ComplexFloatTensor", "DoubleStorage", "DoubleTensor", "FloatStorage", "FloatTensor", "HalfStorage",
    "HalfTensor", "IntStorage", "IntTensor", "LongStorage", "LongTensor", "ShortStorage", "ShortTensor",
];

const UNIVARIATE: [&str; 5] = [
    "chi2", "f_classif", "f_oneway", "f_regression", "r_regression",
];

const ACTIVATIONS: [&str; 31] = [
    "celu", "cross_entropy", "elu", "gelu", "glu", "hardsigmoid", "hardswish", "hardtanh", "l1_loss",
    "leaky_relu", "log_softmax", "logsigmoid", "mish", "mse_loss", "nll_loss", "normalize", "prelu", "relu",
    "relu6", "rrelu", "selu", "sigmoid", "silu", "smooth_l1_loss", "softmax", "softmin", "softplus", "softsign",
    "tanh", "tanhshrink", "threshold",
];

const PANDAS: [&str; 37] = [
    "ArrowDtype", "BooleanDtype", "Categorical", "CategoricalDtype", "CategoricalIndex", "DataFrame",
    "DatetimeIndex", "DatetimeTZDtype", "Flags", "Float32Dtype", "Float64Dtype", "Float64Index", "Index",
    "Int16Dtype", "Int32Dtype", "Int64Dtype", "Int64Index", "Int8Dtype", "Interval", "IntervalDtype",
    "IntervalIndex", "MultiIndex", "NaT", "Period", "PeriodDtype", "PeriodIndex", "RangeIndex", "Series",
    "SparseDtype", "StringDtype", "Timedelta", "TimedeltaIndex", "Timestamp", "UInt16Dtype", "UInt32Dtype",
    "UInt64Dtype", "UInt8Dtype",
];

/// Packages whose classes are estimators, layers or settings: data with methods that nothing calls while loading,
/// and constructors that only keep their arguments. Only names that begin like a class count.
pub(super) const CLASSES: &[&str] = &[
    "category_encoders", "imblearn.combine", "imblearn.ensemble", "imblearn.over_sampling", "imblearn.pipeline",
    "imblearn.under_sampling", "interpret.glassbox", "lightgbm.basic", "lightgbm.sklearn", "numpy.dtypes", "numpy.polynomial",
    "pandas.arrays", "pandas.core.arrays", "pandas.core.dtypes.dtypes", "pandas.core.indexes", "pandas.core.internals",
    "pandas._libs.tslibs.offsets", "scipy.interpolate", "scipy.sparse", "sklearn._loss", "sklearn.calibration",
    "sklearn.cluster", "sklearn.compose", "sklearn.covariance", "sklearn.cross_decomposition", "sklearn.decomposition",
    "sklearn.discriminant_analysis", "sklearn.dummy", "sklearn.ensemble", "sklearn.feature_extraction",
    "sklearn.feature_selection", "sklearn.frozen", "sklearn.gaussian_process", "sklearn.impute", "sklearn.isotonic",
    "sklearn.kernel_approximation", "sklearn.kernel_ridge", "sklearn.lda", "sklearn.linear_model", "sklearn.manifold",
    "sklearn.metrics", "sklearn.mixture", "sklearn.model_selection", "sklearn.multiclass", "sklearn.multioutput",
    "sklearn.naive_bayes", "sklearn.neighbors", "sklearn.neural_network", "sklearn.pipeline", "sklearn.preprocessing",
    "sklearn.qda", "sklearn.random_projection", "sklearn.semi_supervised", "sklearn.svm", "sklearn.tree",
    "sklearn.utils._bunch", "sklearn.utils._encode", "sklearn.utils._metadata_requests", "sklearn.utils._tags", "sklearn.utils.Bunch",
    "torch.ao.nn", "torch.ao.quantization", "torch.nn.intrinsic", "torch.nn.modules", "torch.nn.qat", "torch.nn.quantized",
    "torch.optim", "torch.quantization", "torch.utils.data.dataset", "torch.utils.data.sampler", "torch.amp.grad_scaler",
    "torch.cuda.amp.grad_scaler", "xgboost.core", "xgboost.sklearn", "xgboost.training",
    // Classes compiled from the archive itself; Python cannot import them.
    "__torch__",
];

/// Packages whose classes may be rebuilt from their state, but not constructed: their constructors open files. The
/// members of an enumeration are made from one text, which those of [`ENUMERATIONS`] may be.
pub(super) const STATES: &[&str] = &[
    "accelerate.state", "accelerate.utils.dataclasses", "catboost.core", "fairseq.data.dictionary", "gensim.corpora.dictionary",
    "gensim.models.doc2vec", "gensim.models.fasttext", "gensim.models.keyedvectors", "gensim.models.phrases",
    "gensim.models.word2vec", "lightning.fabric.utilities.data", "lightning.pytorch.callbacks",
    "lightning.pytorch.utilities.parsing", "lightning_fabric.utilities.data", "omegaconf.base", "omegaconf.dictconfig",
    "omegaconf.listconfig", "omegaconf.nodes", "peft.tuners", "peft.utils.peft_types", "pytorch_lightning.callbacks",
    "pytorch_lightning.utilities.parsing", "timm.layers", "timm.models", "tokenizers", "torchvision.models",
    "torchvision.ops", "torchvision.transforms", "transformers.activations", "transformers.configuration_utils",
    "transformers.generation.configuration_utils", "transformers.integrations.deepspeed", "transformers.models",
    "transformers.tokenization_utils", "transformers.tokenization_utils_base", "transformers.trainer_pt_utils",
    "transformers.trainer_utils", "transformers.training_args", "transformers.training_args_seq2seq", "transformers.utils.hub",
    "trl.trainer", "ultralytics.nn.modules", "ultralytics.nn.tasks", "ultralytics.utils.loss", "ultralytics.utils.tal",
    "ultralytics.utils",
];

/// Modules whose classes are enumerations, called with the text or number of a member.
pub(super) const ENUMERATIONS: &[&str] = &[
    "accelerate.utils.dataclasses", "peft.utils.peft_types", "torchvision.transforms.functional", "transformers.trainer_utils",
    "transformers.training_args", "transformers.utils.generic", "omegaconf.base",
];

/// Endings of functions of `sklearn.metrics`, which compute.
pub(super) const METRICS: &[&str] = &["_deviance", "_distance", "_distances", "_error", "_kernel", "_loss", "_score", "_similarity"];

/// Formats of sparse arrays, whose classes are in lower case.
pub(super) const SPARSE: &[&str] = &["bsr", "coo", "csc", "csr", "dia", "dok", "lil"];

/// Modules whose every function is a way out of the interpreter.
pub(super) const DANGEROUS: [&str; 28] = [
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

