//! XML: PMML and OpenVINO models, and what XML itself can fetch.

use crate::Severity;
use crate::scan::context::{Context, quote};
use crate::scan::location;

/// Scans a document that begins with `<`.
pub(crate) fn scan(text: &str, context: &mut Context) {
    let lower = text.to_ascii_lowercase();
    if lower.contains("<!entity") {
        let message = "the document defines entities, which fetch or multiply text";
        context.attack("xml-entity", Severity::High, "", message);
    }
    for declaration in lower.match_indices("<!doctype").map(|(at, _)| &lower[at..]) {
        let head = declaration.split(['[', '>']).next().unwrap_or_default();
        let html = head.contains("html") || head.contains("svg") || head.contains("plist");
        if (head.contains(" system ") || head.contains(" public ")) && !html {
            context.attack(
                "xml-entity",
                Severity::High,
                "",
                "the document is completed by another that is fetched",
            );
        }
    }
    if lower.contains("http://www.w3.org/2001/xinclude") {
        context.attack("xml-entity", Severity::High, "", "the document includes others");
    }
    if lower.contains("<?xml-stylesheet") {
        context.attack(
            "xml-stylesheet",
            Severity::Medium,
            "",
            "the document is transformed by another that is fetched",
        );
    }
    if lower.contains("<net ") && lower.contains("<layer") {
        openvino(text, context);
    }
}

/// Judges the layers of an OpenVINO model.
fn openvino(text: &str, context: &mut Context) {
    for tag in tags(text) {
        if context.is_full() {
            return;
        }
        let name = tag.split(|c: char| c.is_whitespace()).next().unwrap_or_default().to_ascii_lowercase();
        for (key, value) in attributes(tag) {
            let lower = value.to_ascii_lowercase();
            if [".so", ".dll", ".dylib"]
                .iter()
                .any(|end| lower.ends_with(end) || lower.contains(&format!("{end}.")))
            {
                let message = format!("the model has the library {} loaded", quote(value));
                context.attack("openvino-library", Severity::Critical, "", message);
            } else if name == "layer" && key == "version" && !is_operator_set(&lower) {
                let message = format!("a layer is of {}, which a library from outside brings", quote(value));
                context.attack("openvino-custom", Severity::High, "", message);
            } else if name == "layer"
                && key == "type"
                && ["python", "pyop", "custom", "extension"].contains(&&*lower)
            {
                let message = format!("a layer of the type {} runs code from outside", quote(value));
                context.attack("openvino-custom", Severity::High, "", message);
            } else if matches!(key, "path" | "file" | "location" | "library")
                && location::fault(value).is_some()
            {
                let message = format!("the model names the file {}", quote(value));
                context.attack("openvino-path", Severity::High, "", message);
            }
        }
        if matches!(&*name, "extension" | "extensions" | "custom_layer" | "customlayer" | "kernel") {
            let message = format!("the model asks for an extension, {}", quote(tag));
            context.attack("openvino-custom", Severity::High, "", message);
        }
    }
}

/// Operator sets that come with OpenVINO.
fn is_operator_set(version: &str) -> bool {
    let numbered =
        version.strip_prefix("opset").is_some_and(|n| n.parse::<u8>().is_ok_and(|n| (1..=32).contains(&n)));
    numbered
        || matches!(
            version,
            "experimental" | "ie_internal_opset" | "type_relaxed_opset" | "util" | "gpu_opset" | ""
        )
}

/// What stands between `<` and `>`, comments left out.
fn tags(text: &str) -> impl Iterator<Item = &str> {
    let mut left = text;
    std::iter::from_fn(move || {
        loop {
            let (_, rest) = left.split_once('<')?;
            if let Some(comment) = rest.strip_prefix("!--") {
                left = comment.split_once("-->").map_or("", |(_, rest)| rest);
                continue;
            }
            let (tag, rest) = rest.split_once('>').unwrap_or((rest, ""));
            left = rest;
            return Some(tag);
        }
    })
}

/// Names and values of a tag's attributes.
fn attributes(tag: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut left = tag;
    std::iter::from_fn(move || {
        let (before, rest) = left.split_once('=')?;
        let key = before.split_whitespace().last().unwrap_or_default();
        let rest = rest.trim_start();
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (value, rest) = rest[1..].split_once(quote)?;
        left = rest;
        Some((key, value))
    })
}
