//! Keras configurations: JSON that names the classes and functions a loader imports and calls.
//!
//! Source: `keras/src/saving/serialization_lib.py` and `keras/src/legacy/saving/serialization.py`. The loader imports
//! `module`, takes `class_name` (or, for a function, the name in `config`) from it, and calls it. So only what
//! Keras itself offers for building layers is let through; every other name is a finding.

use crate::Severity;
use crate::json::Json;
use crate::scan::context::{Context, quote};
use crate::scan::location;

/// Packages whose classes are layers and the like.
const PACKAGES: [&str; 12] = [
    "keras",
    "keras_core",
    "keras_cv",
    "keras_hub",
    "keras_nlp",
    "keras_tuner",
    "tf_keras",
    "tensorflow.keras",
    "tensorflow.python.keras",
    "tensorflow_addons",
    "tensorflow_hub.keras_layer",
    "qkeras",
];
/// Modules of those packages whose functions compute: the others have functions that fetch, load and write.
const FUNCTIONS: [&str; 9] = [
    "activations",
    "applications",
    "backend",
    "constraints",
    "initializers",
    "losses",
    "metrics",
    "ops",
    "regularizers",
];
/// Classes that carry code, or load it from elsewhere.
const CODE: [(&str, &str); 6] = [
    ("Lambda", "runs Python code stored in the file"),
    ("__lambda__", "is Python code stored in the file"),
    ("TorchModuleWrapper", "unpickles a torch module stored in the file"),
    ("TFSMLayer", "loads a TensorFlow graph from a path"),
    ("JaxLayer", "calls a function stored in the file"),
    ("FlaxLayer", "calls a module stored in the file"),
];
/// Functions that a layer can use by their name alone: those of `keras.activations`, `losses` and `metrics` are
/// short words, and nothing there is called like these.
const DANGEROUS: [&str; 36] = [
    "__import__",
    "breakpoint",
    "compile",
    "delattr",
    "eval",
    "exec",
    "execfile",
    "exit",
    "getattr",
    "globals",
    "help",
    "input",
    "locals",
    "memoryview",
    "open",
    "print",
    "quit",
    "setattr",
    "vars",
    "system",
    "popen",
    "Popen",
    "call",
    "check_output",
    "check_call",
    "run",
    "spawn",
    "get_file",
    "load_model",
    "enable_unsafe_deserialization",
    "loads",
    "load",
    "import_module",
    "urlopen",
    "urlretrieve",
    "run_path",
];
/// Entries of layers that name a file to be read.
const FILES: [&str; 17] = [
    "vocabulary",
    "vocabulary_path",
    "vocab",
    "merges",
    "proto",
    "spm_proto",
    "sequence_packer",
    "idf_weights",
    "filepath",
    "file_path",
    "fname",
    "filename",
    "origin",
    "cache_dir",
    "path",
    "url",
    "model_path",
];
/// Entries whose text names a function.
const CALLABLES: [&str; 12] = [
    "activation",
    "recurrent_activation",
    "loss",
    "metrics",
    "function",
    "fn",
    "call_fn",
    "init_fn",
    "output_shape",
    "mask",
    "standardize",
    "split",
];

/// Whether an object describes something Keras would rebuild.
pub(crate) fn is_config(value: &Json) -> bool {
    let named = matches!(value.get("class_name"), Some(Json::Text(_)));
    named && ["config", "module", "registered_name", "items"].iter().any(|key| value.get(key).is_some())
}

/// Judges an object that [`is_config`], without what is inside its `config`.
pub(crate) fn judge(value: &Json, context: &mut Context) {
    // With repeated keys, each combination may be what a reader sees.
    let texts = |key: &str| {
        let members = value.members().iter().filter(|(name, _)| name == key);
        members
            .filter_map(|(_, value)| if let Json::Text(text) = value { Some(text.clone()) } else { None })
            .collect::<Vec<_>>()
    };
    let (modules, registered) = (texts("module"), texts("registered_name"));
    for class in texts("class_name") {
        if let Some((_, what)) = CODE.iter().find(|(name, _)| class.rsplit(['.', '>']).next() == Some(*name))
        {
            let message = format!("the class {} {what}", quote(&class));
            context.attack("keras-code", Severity::Critical, "", message);
        } else if class == "function" || class == "class" {
            let name = value.text("config").unwrap_or_default();
            let named = registered.iter().any(|name| name.contains('>'));
            function(&modules, name, named, context);
        } else {
            class_of(&modules, &class, context);
        }
    }
    if let Some(config) = value.get("config") {
        files(config, context);
    }
}

/// Judges a class.
fn class_of(modules: &[String], class: &str, context: &mut Context) {
    let plain =
        |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '>' | '-' | ' '));
    let is_class = class.rsplit('>').next().is_some_and(|name| {
        name.trim_start_matches('_').starts_with(|c: char| c.is_ascii_uppercase()) || name.starts_with("__")
    });
    for module in modules {
        if !is_of_keras(module) && module != "builtins" && !module.is_empty() {
            let message = format!("a class is imported from {}, {}", quote(module), quote(class));
            context.attack("keras-import", Severity::High, "", message);
        } else if !is_class && module != "builtins" {
            let message =
                format!("a function of Keras stands for a class, {}.{}", quote(module), quote(class));
            context.attack("keras-import", Severity::High, "", message);
        }
    }
    if !plain(class) || DANGEROUS.contains(&class) {
        let message = format!("the class name {} leads elsewhere", quote(class));
        context.attack("keras-import", Severity::High, "", message);
    } else if !is_class && modules.is_empty() {
        let message =
            format!("the class {} is not Keras's own; whoever loads the file must bring it", quote(class));
        context.note("keras-custom", Severity::Low, "", message);
    }
}

/// Judges a function.
fn function(modules: &[String], name: &str, registered: bool, context: &mut Context) {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '>'));
    let dangerous = !plain || name.starts_with('_') || DANGEROUS.contains(&name);
    let shown = |module: &str| format!("{}.{}", quote(module), quote(name));
    if modules.is_empty() && dangerous {
        let message = format!("the function {} is called", quote(name));
        context.attack("keras-import", Severity::High, "", message);
    }
    for module in modules {
        let computes = is_of_keras(module) && module.split('.').any(|part| FUNCTIONS.contains(&part));
        let custom = matches!(&**module, "builtins" | "__main__" | "") && (registered || plain);
        if dangerous || !computes && !custom {
            let message = format!("the function {} is imported and called", shown(module));
            context.attack("keras-import", Severity::Critical, "", message);
        }
    }
}

fn is_of_keras(module: &str) -> bool {
    let inside = |package: &&str| {
        module.strip_prefix(*package).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let plain = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !part.starts_with("__")
    };
    // Modules of Keras that import others by name are ways out of it.
    let out = ["saving", "config", "os", "sys", "importlib", "subprocess", "builtins"];
    PACKAGES.iter().any(inside) && module.split('.').all(|part| plain(part) && !out.contains(&part))
}

/// Finds entries that name files or functions.
fn files(config: &Json, context: &mut Context) {
    for (key, value) in config.members() {
        let Json::Text(text) = value else { continue };
        if FILES.contains(&key.as_str()) && is_path(text) {
            let message = format!("the entry {} has the loader read {}", quote(key), quote(text));
            context.attack("keras-file", Severity::High, "", message);
        }
        if CALLABLES.contains(&key.as_str()) && DANGEROUS.contains(&text.rsplit('.').next().unwrap_or(text)) {
            let message = format!("the entry {} names the function {}", quote(key), quote(text));
            context.attack("keras-import", Severity::High, "", message);
        }
    }
}

/// Whether a text names a file: a path or URL, or a name with an extension.
fn is_path(text: &str) -> bool {
    location::fault(text).is_some()
        || text.contains('/')
        || text.rsplit_once('.').is_some_and(|(stem, end)| {
            !stem.is_empty() && (1..=5).contains(&end.len()) && end.chars().all(|c| c.is_ascii_alphanumeric())
        })
}
