//! JSON, SVG and other text: what in them makes a reader run or fetch something.

use crate::Severity;
use crate::json::{Json, without_odd_numbers};
use crate::scan::context::{Context, quote};
use crate::scan::{keras, location, pickle, template, tensorflow, xml};

/// Bytes of a document. The largest tokenisers have half of that, and parsing takes a multiple.
const DOCUMENT_BYTES_MAX: usize = 64 << 20;

/// Reports and refuses documents that are too large to be parsed.
fn too_large(bytes: &[u8], context: &mut Context) -> bool {
    let large = DOCUMENT_BYTES_MAX < bytes.len();
    if large {
        let message = format!("the document holds {} bytes, too many to be scanned", bytes.len());
        context.attack("document-size", Severity::Medium, "", message);
    }
    large
}

/// Scans a JSON document: settings of tokenisers and models name code and files.
pub(crate) fn json(bytes: &[u8], context: &mut Context) {
    if too_large(bytes, context) {
        return;
    }
    let start = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let plain = without_odd_numbers(start);
    match Json::parse_all(plain.as_deref().unwrap_or(start)) {
        Ok(value) => {
            let mut walk = Walk { context, keras: false };
            walk.value(&value, "");
            let keras = walk.keras;
            if value.has_repeated_key() {
                let message = "a key is repeated, readers take different values";
                match keras {
                    true => context.attack("json-repeated", Severity::Medium, "", message),
                    false => context.note("json-repeated", Severity::Low, "", message),
                }
            }
        }
        // Deeper than the parser goes; whoever reads it has the same limit or should have.
        Err(_) => context.attack("json-nesting", Severity::Medium, "", "the document is nested too deeply"),
    }
}

/// A walk over a JSON document.
struct Walk<'c> {
    context: &'c mut Context,
    /// Whether it holds a configuration of Keras's.
    keras: bool,
}

impl Walk<'_> {
    fn value(&mut self, value: &Json, key: &str) {
        if self.context.is_full() {
            return;
        }
        match value {
            Json::Array(items) => items.iter().for_each(|item| self.value(item, key)),
            Json::Object(members) => {
                if keras::is_config(value) {
                    self.keras = true;
                    keras::judge(value, self.context);
                }
                if value.get("__loader__").is_some() {
                    skops(value, self.context);
                }
                for (key, value) in members {
                    self.member(key, value);
                }
            }
            Json::Text(text) => self.text(key, text),
            Json::Other | Json::Unsigned(_) => {}
        }
    }

    fn member(&mut self, key: &str, value: &Json) {
        match (key, value) {
            ("auto_map", Json::Object(entries)) if !entries.is_empty() => {
                let message = "the settings name Python code of the repository to be run";
                self.context.attack("json-code", Severity::High, "auto_map", message);
            }
            ("custom_pipelines", Json::Object(entries)) => {
                for implementation in entries.iter().filter_map(|(_, entry)| entry.text("impl")) {
                    let message =
                        format!("the settings name the pipeline {} to be run", quote(implementation));
                    self.context.attack("json-code", Severity::High, "custom_pipelines", message);
                }
            }
            ("trust_remote_code", Json::Other) => {}
            ("weight_map", Json::Object(files)) => {
                for (tensor, file) in files {
                    weights(tensor, file, self.context);
                }
            }
            // TorchServe: the handler is a file of the archive, or one of the server's own.
            ("handler", Json::Text(handler)) if is_code_path(handler) => {
                let message = format!("the manifest names the code {} to be run", quote(handler));
                self.context.attack("json-code", Severity::High, "handler", message);
            }
            // Diffusers: `[library, class]`, imported by its name.
            _ => {
                if let Json::Array(pair) = value
                    && let [Json::Text(library), Json::Text(class)] = &pair[..]
                {
                    pipeline_part(key, library, class, self.context);
                }
                self.value(value, key);
            }
        }
    }

    fn text(&mut self, key: &str, text: &str) {
        if key == "chat_template" || key.ends_with("_template") || key == "template" && text.contains('{') {
            template::scan(key, text, self.context);
        }
        if matches!(key, "_target_" | "_target" | "__target__") {
            target(text, self.context);
        }
        if matches!(key, "auto_map" | "AutoModel" | "AutoConfig") && text.contains("--") {
            let message = format!("the settings name code of another repository, {}", quote(text));
            self.context.attack("json-code", Severity::High, key, message);
        }
        if text.len() < NESTED_BYTES_MAX
            && text.starts_with('{')
            && text.contains("class_name")
            && let Ok(nested) = Json::parse_all(text.as_bytes())
        {
            self.value(&nested, key);
        }
    }
}

/// Judges a node of a skops file: its type is imported by name, or called.
fn skops(node: &Json, context: &mut Context) {
    let texts = |wanted: &'static str| -> Vec<&str> {
        let members = node.members().iter().filter(|(name, _)| name == wanted);
        members
            .filter_map(|(_, value)| if let Json::Text(text) = value { Some(text.as_str()) } else { None })
            .collect()
    };
    for loader in
        texts("__loader__").into_iter().filter(|loader| matches!(*loader, "MethodNode" | "OperatorFuncNode"))
    {
        let message = format!("a node of the kind {} is called by a name it states", quote(loader));
        context.attack("skops-type", Severity::High, "", message);
    }
    let classes = texts("__class__");
    for module in texts("__module__") {
        for class in classes.iter().filter(|class| !pickle::is_data(module, class)) {
            let (module, class) = (quote(module), quote(class));
            let message = format!("the type {module}.{class} is imported, which does more than rebuild data");
            context.attack("skops-type", Severity::High, "", message);
        }
    }
}

/// Bytes of a document inside a text of another.
const NESTED_BYTES_MAX: usize = 16 << 20;

fn is_code_path(text: &str) -> bool {
    let end = text.split(':').next().unwrap_or(text).to_ascii_lowercase();
    [".py", ".pyc", ".so", ".sh", ".jar", ".dll"].iter().any(|extension| end.ends_with(extension))
}

/// A part of a diffusers pipeline: its library is imported.
fn pipeline_part(key: &str, library: &str, class: &str, context: &mut Context) {
    let class_like = class.starts_with(|c: char| c.is_ascii_uppercase())
        && class.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if library.contains("..") && class_like {
        let message = format!("the part {} is imported from {}", quote(key), quote(library));
        context.attack("json-code", Severity::High, "", message);
    }
}

fn weights(tensor: &str, file: &Json, context: &mut Context) {
    let Json::Text(file) = file else { return };
    if let Some(why) = location::fault(file) {
        let message = format!("the weights of {} are read from {}, which {why}", quote(tensor), quote(file));
        context.attack("json-path", Severity::High, "weight_map", message);
    }
}

/// Packages whose classes Hydra may build: neural networks and what trains them.
const TARGETS: [&str; 16] = [
    "diffusers",
    "espnet2",
    "fairseq",
    "lightning",
    "nemo",
    "numpy",
    "omegaconf",
    "peft",
    "pytorch_lightning",
    "speechbrain",
    "timm",
    "torch.nn",
    "torch.optim",
    "torchmetrics",
    "torchvision",
    "transformers",
];

/// Judges what Hydra would import and call: a class of a known package passes, nothing else does.
fn target(path: &str, context: &mut Context) {
    let path = path.trim().trim_matches(['"', '\'']);
    let mut parts = path.rsplit('.');
    let class = parts.next().unwrap_or_default();
    let is_class = class.starts_with(|c: char| c.is_ascii_uppercase());
    let plain = path.split('.').all(|part| {
        !part.is_empty()
            && !part.starts_with("__")
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    });
    let out = ["os", "sys", "subprocess", "builtins", "importlib", "runpy", "shutil", "ctypes", "utils"];
    let known =
        TARGETS.iter().any(|package| path.strip_prefix(package).is_some_and(|rest| rest.starts_with('.')));
    if !(is_class && plain && known) || path.split('.').any(|part| out.contains(&part) && part != "utils") {
        let message = format!("the settings have {} imported and called", quote(path));
        context.attack("settings-target", Severity::High, "", message);
    }
}

/// Scans text that is none of the formats with their own scanner: YAML and XML can make their
/// readers import and fetch, source is run.
pub(crate) fn text(bytes: &[u8], context: &mut Context) {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start_matches(['\u{feff}', ' ', '\n', '\r', '\t']);
    if text.starts_with('<') {
        xml::scan(text, context);
    }
    let start = text.get(..15).unwrap_or_default().to_ascii_lowercase();
    if start.starts_with("<!doctype html") || start.starts_with("<html") {
        context.attack("html", Severity::Medium, "", "a web page runs in whatever shows it");
    }
    yaml(text, context);
    source(text, context);
    if text.contains("node {") || text.contains("node_def {") {
        tensorflow::scan_text(text, context);
    }
}

/// Characters of a tag that are looked at.
const TAG_CHARS_MAX: usize = 256;

/// Finds tags and entries that make a YAML reader import.
fn yaml(text: &str, context: &mut Context) {
    // `%TAG ! tag:yaml.org,2002:` gives the tags another look.
    let handles: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("%TAG")?.split_whitespace();
            Some((words.next()?, words.next()?))
        })
        .collect();
    for line in text.lines() {
        for (at, _) in line.match_indices('!') {
            // A tag begins a value: prose may speak of one anywhere.
            let before = line[..at].trim_end();
            let begins = before.is_empty()
                || before.ends_with([':', '-', '[', '{', ',', '?'])
                || before.rsplit(' ').next().is_some_and(|word| word.starts_with('&'));
            if !begins {
                continue;
            }
            let rest: String = line[at..].chars().take(TAG_CHARS_MAX).collect();
            let tag = match rest.strip_prefix("!<") {
                Some(verbatim) => verbatim.split('>').next().unwrap_or_default(),
                None => rest.split([' ', '\t', ',']).next().unwrap_or_default(),
            };
            let plain = percent(tag);
            let mut renamed = handles.iter().filter_map(|(handle, prefix)| {
                Some(percent(&format!("{prefix}{}", tag.strip_prefix(handle)?)))
            });
            if plain.contains("python/") || renamed.any(|tag| tag.contains("python/")) {
                let message = format!("the document has Python run: {}", quote(tag));
                context.attack("yaml-python", Severity::High, "", message);
            } else if ["!ruby/", "!!java", "!!javax", "!java"].iter().any(|start| plain.starts_with(start)) {
                let message = format!("the document has objects made: {}", quote(tag));
                context.attack("yaml-python", Severity::High, "", message);
            }
        }
        let entry = line.trim_start().trim_start_matches("- ").trim_start();
        let value = |key: &str| {
            let entry = entry.trim_start_matches(['"', '\'', '{', ' ']);
            let rest = entry.strip_prefix(key)?.trim_start_matches(['"', '\'']).trim_start();
            Some(
                rest.strip_prefix(':')?
                    .split(" #")
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .trim_matches(['"', '\'', '}', ',']),
            )
        };
        if let Some(module) = value("loader_module").filter(|module| !is_flavour(module)) {
            let message = format!("the document names the module {} to be imported", quote(module));
            context.attack("yaml-module", Severity::High, "", message);
        }
        if let Some(path) = value("_target_").or_else(|| value("_target")) {
            target(path, context);
        }
        // Settings inside braces, as flow style has them.
        if let Some(path) = in_braces(line, "_target_") {
            target(path, context);
        }
        if let Some(module) = in_braces(line, "loader_module").filter(|module| !is_flavour(module)) {
            let message = format!("the document names the module {} to be imported", quote(module));
            context.attack("yaml-module", Severity::High, "", message);
        }
    }
}

/// The value of a key that does not begin its line.
fn in_braces<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (before, rest) = line.split_once(key)?;
    if !before.contains(['{', '[']) {
        return None;
    }
    let value = rest.trim_start_matches(['"', '\'']).trim_start().strip_prefix(':')?;
    value.trim_start_matches(['"', '\'', ' ']).split(['"', '\'', ',', '}', ']', ' ']).next()
}

/// Whether a module is one of MLflow's own flavours, which load what they wrote.
fn is_flavour(module: &str) -> bool {
    module.strip_prefix("mlflow.").is_some_and(|rest| {
        rest.split('.')
            .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
            && !rest.starts_with("pyfunc.")
            && !rest.contains("utils")
            && !rest.contains("projects")
    })
}

/// A tag with its percent escapes resolved.
fn percent(tag: &str) -> String {
    let mut plain = Vec::new();
    let mut left = tag.as_bytes();
    while let [first, rest @ ..] = left {
        let code = (*first == b'%').then(|| rest.get(..2)).flatten();
        let code = code.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        plain.push(code.unwrap_or(*first));
        left = if code.is_some() { &rest[2..] } else { rest };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// Finds Python source by itself: imports at the start of lines, and calls that leave the interpreter. Prose about
/// such calls, with or without code between its lines, is none.
fn source(text: &str, context: &mut Context) {
    const CALLS: [&str; 12] = [
        "os.system(",
        "os.popen(",
        "subprocess.",
        "exec(",
        "eval(",
        "__import__(",
        "pickle.loads(",
        "marshal.loads(",
        "pty.spawn(",
        "socket.socket(",
        "ctypes.CDLL(",
        "urlopen(",
    ];
    let (mut imports, mut code, mut prose) = (0_usize, 0_usize, 0_usize);
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        let import = line.starts_with("import ") || line.starts_with("from ") && line.contains(" import ");
        imports += usize::from(import);
        let inner = line.starts_with("    ") || line.starts_with('\t') || line.starts_with('#');
        match import
            || inner
            || line.ends_with([':', ')', ']', '}', '"', '\'', ',', '('])
            || line.contains(" = ")
        {
            true => code += 1,
            false => prose += 1,
        }
    }
    // `model.eval()` is another thing than `eval()`.
    let called = |call: &&str| {
        text.match_indices(*call)
            .any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '.')))
    };
    let call = CALLS.into_iter().find(called);
    if let Some(call) = call.filter(|_| 0 < imports && prose * 4 < code) {
        let message = format!("the file is Python source that calls {}", quote(call));
        context.attack("code-source", Severity::High, "", message);
    }
}

/// Scans an SVG picture: browsers run scripts in it when it is opened by itself.
pub(crate) fn svg(bytes: &[u8], context: &mut Context) {
    if too_large(bytes, context) {
        return;
    }
    // Spaces around `=` are allowed and mean nothing.
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let text = text.split('=').map(str::trim).collect::<Vec<_>>().join("=");
    const ACTIVE: [&str; 8] =
        ["<script", "<foreignobject", "<iframe", "<embed", "<object", "javascript:", "<!entity", "<handler"];
    if let Some(what) = ACTIVE.into_iter().find(|what| text.contains(what)) {
        context.attack("svg-active", Severity::High, "", format!("the picture holds {}", quote(what)));
    }
    if has_handler(&text) {
        context.attack("svg-active", Severity::High, "", "the picture holds an event handler");
    }
}

/// An attribute such as `onload=` inside a tag.
fn has_handler(text: &str) -> bool {
    text.split('<').skip(1).filter_map(|tag| tag.split('>').next()).any(|tag| {
        tag.split([' ', '\t', '\n', '\r', '/', '"', '\'']).any(|attribute| {
            let name = attribute.split('=').next().unwrap_or_default();
            attribute.contains('=')
                && name
                    .strip_prefix("on")
                    .is_some_and(|event| 2 < event.len() && event.bytes().all(|c| c.is_ascii_alphabetic()))
        })
    })
}
