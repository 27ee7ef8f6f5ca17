//! JSON, SVG and other text: what in them makes a reader run or fetch something.

use crate::Severity;
use crate::json::{Json, REPEATED_KEY};
use crate::scan::context::{Context, quote};
use crate::scan::{location, template};

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
    match Json::parse(start) {
        Ok(value) => walk(&value, context),
        Err(e) if e.to_string().contains(REPEATED_KEY) => {
            context.note(
                "json-repeated",
                Severity::Low,
                "",
                "a key is repeated, readers take different values",
            );
        }
        // Deeper than the parser goes; whoever reads it has the same limit or should have.
        Err(_) => context.attack("json-nesting", Severity::Medium, "", "the document is nested too deeply"),
    }
}

fn walk(value: &Json, context: &mut Context) {
    if let Json::Array(items) = value {
        items.iter().for_each(|item| walk(item, context));
    }
    for (key, value) in value.members() {
        match (key.as_str(), value) {
            ("auto_map", Json::Object(_)) => {
                let message = "the settings name Python code of the repository to be run";
                context.attack("json-code", Severity::High, "auto_map", message);
            }
            ("chat_template", Json::Text(source)) => template::scan(key, source, context),
            ("chat_template", Json::Array(list)) => {
                for source in list.iter().filter_map(|entry| entry.get("template")) {
                    if let Json::Text(source) = source {
                        template::scan(key, source, context);
                    }
                }
            }
            ("weight_map", Json::Object(files)) => {
                for (tensor, file) in files {
                    weights(tensor, file, context);
                }
            }
            _ => walk(value, context),
        }
    }
}

fn weights(tensor: &str, file: &Json, context: &mut Context) {
    let Json::Text(file) = file else { return };
    if let Some(why) = location::fault(file) {
        let message = format!("the weights of {} are read from {}, which {why}", quote(tensor), quote(file));
        context.attack("json-path", Severity::High, "weight_map", message);
    }
}

/// Scans text that is none of the formats with their own scanner: YAML and XML can make their
/// readers import and fetch.
pub(crate) fn text(bytes: &[u8], context: &mut Context) {
    let text = String::from_utf8_lossy(bytes);
    if text.trim_start_matches(['\u{feff}', ' ', '\n', '\r', '\t']).starts_with('<')
        && text.contains("<!ENTITY")
    {
        context.attack(
            "xml-entity",
            Severity::High,
            "",
            "the document defines entities, which fetch or multiply text",
        );
    }
    let start = text.trim_start().get(..15).unwrap_or_default().to_ascii_lowercase();
    if start.starts_with("<!doctype html") || start.starts_with("<html") {
        context.attack("html", Severity::Medium, "", "a web page runs in whatever shows it");
    }
    for line in text.lines() {
        let value = line.split_once(": ").map_or(line, |(_, value)| value).trim_start_matches([' ', '-']);
        if value.starts_with("!!python/") || value.starts_with("!<tag:yaml.org,2002:python/") {
            let message = format!("the document has Python run: {}", quote(value));
            context.attack("yaml-python", Severity::High, "", message);
        }
        if let Some(module) = line.trim_start().strip_prefix("loader_module:")
            && !module.trim_start().starts_with("mlflow.")
        {
            let message = format!("the document names the module {} to be imported", quote(module.trim()));
            context.attack("yaml-module", Severity::High, "", message);
        }
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
