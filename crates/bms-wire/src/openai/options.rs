//! The options all of OpenAI's generating routes share.

use serde_json::{Map, Value, json};

use crate::fields::{Fields, mistyped, unsupported, whole};
use crate::generation::{Constraint, Generation, Sampling};
use crate::{Code, Error, Result, limits};

/// Fields that do not change the answer: whose request it is, where it is billed, how it may be cached.
pub(super) const HARMLESS: &[&str] = &[
    "cache_prompt",
    "metadata",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "service_tier",
    "include_reasoning",
];

/// Reads how tokens are drawn.
pub(super) fn sampling(fields: &mut Fields) -> Result<Sampling> {
    let number = |fields: &mut Fields, name: &str, from: f64, to: f64| -> Result<Option<f32>> {
        Ok(fields.number(name, from..=to)?.map(|value| value as f32))
    };
    // vLLM writes "all" as -1.
    let top_k = fields.whole("top_k", -1..=i64::from(u32::MAX))?;
    let seed = fields.whole("seed", i64::MIN..=i64::MAX)?;
    let repetition = match number(fields, "repetition_penalty", 0.01, 10.0)? {
        None => number(fields, "repeat_penalty", 0.01, 10.0)?,
        given => given,
    };
    Ok(Sampling {
        temperature: number(fields, "temperature", 0.0, f64::from(limits::TEMPERATURE_MAX))?,
        top_k: top_k.map(|k| usize::try_from(k).unwrap_or(0)),
        top_p: number(fields, "top_p", 0.0, 1.0)?,
        min_p: number(fields, "min_p", 0.0, 1.0)?,
        repetition_penalty: repetition,
        frequency_penalty: number(fields, "frequency_penalty", -2.0, 2.0)?,
        presence_penalty: number(fields, "presence_penalty", -2.0, 2.0)?,
        // The bits of a negative seed are as good as any.
        seed: seed.map(|seed| seed as u64),
        logit_bias: logit_bias(fields)?,
    })
}

fn logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>> {
    let Some(biases) = fields.object("logit_bias")? else { return Ok(Vec::new()) };
    let path = fields.path("logit_bias");
    if limits::LOGIT_BIASES_MAX < biases.len() {
        let what = format!("`{path}` names {} tokens, at most {}", biases.len(), limits::LOGIT_BIASES_MAX);
        return Err(Error::new(Code::TooLarge, what).about(path));
    }
    let mut out = Vec::with_capacity(biases.len());
    for (token, bias) in &biases {
        let at = format!("{path}.{token}");
        let token = token.parse().map_err(|_| {
            Error::new(Code::InvalidRequest, format!("`{token}` in `{path}` is not the number of a token"))
                .about(&path)
        })?;
        let bias = bias.as_f64().ok_or_else(|| mistyped(&at, bias, "a number"))?;
        if !(-100.0..=100.0).contains(&bias) {
            let what = format!("`{at}` is {bias}, expected a value from -100 to 100");
            return Err(Error::new(Code::InvalidRequest, what).about(at));
        }
        out.push((token, bias as f32));
    }
    Ok(out)
}

/// Reads everything about the answer that chat and completions share. Lengths and log probabilities are
/// each route's own.
pub(super) fn generation(fields: &mut Fields) -> Result<Generation> {
    let stream = fields.flag("stream")?.unwrap_or(false);
    let include_usage = stream_options(fields, stream)?;
    refuse_what_has_no_counterpart(fields)?;
    let priority = fields.whole("priority", -100..=100)?;
    patience(fields)?;
    let user = match fields.text("user")? {
        None => fields.text("safety_identifier")?,
        user => {
            fields.text("safety_identifier")?;
            user
        }
    };
    Ok(Generation {
        model: fields.text("model")?,
        sampling: sampling(fields)?,
        stop: stops(fields, "stop")?,
        stop_tokens: tokens(fields, "stop_token_ids", limits::STOP_TOKENS_MAX)?,
        ignore_eos: fields.flag("ignore_eos")?.unwrap_or(false),
        min_tokens: fields.count("min_tokens", 0..=i32::MAX as usize)?.unwrap_or(0),
        max_tokens: None,
        n: fields.count("n", 1..=limits::ANSWERS_MAX)?.unwrap_or(1),
        logprobs: None,
        constraint: constraint(fields)?,
        user,
        priority: priority.and_then(|p| i32::try_from(p).ok()).unwrap_or(0),
        stream,
        include_usage,
    })
}

/// Seconds the client waits for its answer. That is for the gateway, which has read it before.
pub(super) fn patience(fields: &mut Fields) -> Result<()> {
    fields.number("timeout", 0.0..=f64::from(u32::MAX)).map(drop)
}

fn refuse_what_has_no_counterpart(fields: &mut Fields) -> Result<()> {
    let (yes, no) = ([json!(true)], [json!(false)]);
    fields.only("store", &no, "cannot be true: answers are not stored")?;
    fields.only("use_beam_search", &no, "is not supported")?;
    fields.only(
        "length_penalty",
        &[json!(1), json!(1.0)],
        "belongs to beam search, which is not supported",
    )?;
    fields.only("skip_special_tokens", &yes, "cannot be false: special tokens are not text")?;
    fields.only("spaces_between_special_tokens", &[json!(true), json!(false)], "is true or false")?;
    fields.only(
        "include_stop_str_in_output",
        &no,
        "cannot be true: a stop text is not part of the answer",
    )?;
    fields.refuse("truncate_prompt_tokens", "is not supported: a prompt is never shortened silently")?;
    fields.refuse("bad_words", "is not supported; use `logit_bias`")?;
    fields.refuse("logits_processors", "is not supported: no code is taken from requests")?;
    fields.refuse("moderation", "is not supported")
}

/// Whether usage ends the stream.
pub(super) fn stream_options(fields: &mut Fields, stream: bool) -> Result<bool> {
    let Some(mut options) = fields.nested("stream_options")? else { return Ok(false) };
    if !stream {
        return Err(unsupported("stream_options", "is only for streamed answers (`stream`: true)"));
    }
    options.only("include_obfuscation", &[json!(false)], "cannot be true")?;
    options.only("continuous_usage_stats", &[json!(false)], "cannot be true")?;
    let include = options.flag("include_usage")?.unwrap_or(false);
    options.end(&[])?;
    Ok(include)
}

/// One text or several that end an answer.
pub(crate) fn stops(fields: &mut Fields, name: &str) -> Result<Vec<String>> {
    let path = fields.path(name);
    let stops = match fields.take(name) {
        None => Vec::new(),
        Some(Value::String(stop)) => vec![stop],
        Some(Value::Array(stops)) => texts(&path, stops)?,
        Some(other) => return Err(mistyped(&path, &other, "a string or a list of strings")),
    };
    if limits::STOP_STRINGS_MAX < stops.len()
        || stops.iter().any(|stop| limits::STOP_STRING_BYTES_MAX < stop.len())
    {
        let (count, bytes) = (limits::STOP_STRINGS_MAX, limits::STOP_STRING_BYTES_MAX);
        let what = format!("`{path}` takes at most {count} texts of at most {bytes} bytes");
        return Err(Error::new(Code::TooLarge, what).about(path));
    }
    if stops.iter().any(String::is_empty) {
        return Err(unsupported(&path, "holds an empty text, which would end every answer at once"));
    }
    Ok(stops)
}

pub(super) fn texts(path: &str, items: Vec<Value>) -> Result<Vec<String>> {
    let text = |(index, item)| match item {
        Value::String(text) => Ok(text),
        other => Err(mistyped(&format!("{path}[{index}]"), &other, "a string")),
    };
    items.into_iter().enumerate().map(text).collect()
}

/// A list of token numbers.
pub(crate) fn tokens(fields: &mut Fields, name: &str, tokens_max: usize) -> Result<Vec<u32>> {
    let path = fields.path(name);
    token_list(&path, fields.list(name, tokens_max)?.unwrap_or_default())
}

pub(super) fn token_list(path: &str, items: Vec<Value>) -> Result<Vec<u32>> {
    let token = |(index, item): (usize, Value)| {
        let token = whole(&item).and_then(|token| u32::try_from(token).ok());
        token.ok_or_else(|| mistyped(&format!("{path}[{index}]"), &item, "the number of a token"))
    };
    items.into_iter().enumerate().map(token).collect()
}

/// What the text must look like: OpenAI's `response_format` and the ways vLLM has to say more.
fn constraint(fields: &mut Fields) -> Result<Option<Constraint>> {
    let mut all = Vec::new();
    if let Some(format) = fields.nested("response_format")? {
        all.extend(response_format(format)?);
    }
    if let Some(mut nested) = fields.nested("structured_outputs")? {
        all.extend(guided(&mut nested, "")?);
        nested.end(&[])?;
    }
    all.extend(guided(fields, "guided_")?);
    fields.refuse("guided_decoding_backend", "is not a choice here: there is one way of constraining")?;
    fields.refuse("guided_whitespace_pattern", "is not supported")?;
    fields
        .refuse("grammar", "is in a notation not supported here; use `guided_grammar` with a Lark grammar")?;
    let mut all = all.into_iter();
    match (all.next(), all.next()) {
        (only, None) => Ok(only),
        (_, Some(_)) => Err(unsupported("response_format", "is given more than once, in different ways")),
    }
}

fn guided(fields: &mut Fields, prefix: &str) -> Result<Vec<Constraint>> {
    let mut all = Vec::new();
    let name = |what: &str| format!("{prefix}{what}");
    if let Some(schema) = fields.take(&name("json")) {
        all.push(schema_of(&fields.path(name("json")), schema)?);
    }
    if let Some(regex) = fields.text(&name("regex"))? {
        all.push(Constraint::Regex(bounded(&fields.path(name("regex")), regex)?));
    }
    if let Some(grammar) = fields.text(&name("grammar"))? {
        all.push(Constraint::Grammar(bounded(&fields.path(name("grammar")), grammar)?));
    }
    if let Some(choices) = fields.list(&name("choice"), limits::CHOICES_MAX)? {
        let path = fields.path(name("choice"));
        let choices = texts(&path, choices)?;
        if choices.is_empty() || limits::CONSTRAINT_BYTES_MAX < choices.iter().map(String::len).sum() {
            return Err(unsupported(&path, "needs at least one text, and not megabytes of them"));
        }
        all.push(Constraint::Choice(choices));
    }
    if fields.flag(&name("json_object"))?.unwrap_or(false) {
        all.push(Constraint::JsonObject);
    }
    Ok(all)
}

/// A JSON schema, which vLLM also takes as the text of one.
fn schema_of(path: &str, schema: Value) -> Result<Constraint> {
    let schema = match schema {
        Value::String(text) => serde_json::from_str(&bounded(path, text)?).map_err(|e| {
            Error::new(Code::InvalidRequest, format!("`{path}` is not JSON: {e}")).about(path).because(e)
        })?,
        other => other,
    };
    checked_schema(path, schema).map(Constraint::JsonSchema)
}

/// A schema of bearable size.
pub(crate) fn checked_schema(path: &str, schema: Value) -> Result<Value> {
    if !matches!(schema, Value::Object(_) | Value::Bool(_)) {
        return Err(mistyped(path, &schema, "a JSON schema"));
    }
    bounded(path, schema.to_string())?;
    Ok(schema)
}

fn bounded(path: &str, text: String) -> Result<String> {
    if text.len() <= limits::CONSTRAINT_BYTES_MAX {
        return Ok(text);
    }
    let what = format!("`{path}` is over the limit of {} bytes", limits::CONSTRAINT_BYTES_MAX);
    Err(Error::new(Code::TooLarge, what).about(path))
}

/// `{"type": "text" | "json_object" | "json_schema", …}`.
fn response_format(mut format: Fields) -> Result<Option<Constraint>> {
    let kind = format.text("type")?;
    let constraint = match format.needed("type", kind)?.as_str() {
        "text" => None,
        "json_object" => Some(Constraint::JsonObject),
        "json_schema" => {
            let nested = format.nested("json_schema")?;
            let mut nested = format.needed("json_schema", nested)?;
            let schema = nested.take("schema");
            let schema = nested.needed("schema", schema)?;
            let constraint = schema_of(&nested.path("schema"), schema)?;
            nested.end(&["name", "description", "strict"])?;
            Some(constraint)
        }
        other => {
            let what =
                format!("`response_format.type` is `{other}`, expected text, json_object or json_schema");
            return Err(Error::new(Code::InvalidRequest, what).about("response_format.type"));
        }
    };
    format.end(&[])?;
    Ok(constraint)
}

/// `text.format` of the responses route: the schema's fields lie beside its type.
pub(super) fn text_format(mut format: Fields) -> Result<Option<Constraint>> {
    let kind = format.text("type")?;
    let constraint = match format.needed("type", kind)?.as_str() {
        "text" => None,
        "json_object" => Some(Constraint::JsonObject),
        "json_schema" => {
            let schema = format.take("schema");
            let schema = format.needed("schema", schema)?;
            Some(schema_of(&format.path("schema"), schema)?)
        }
        other => {
            let what = format!("`text.format.type` is `{other}`, expected text, json_object or json_schema");
            return Err(Error::new(Code::InvalidRequest, what).about("text.format.type"));
        }
    };
    format.end(&["name", "description", "strict"])?;
    Ok(constraint)
}

/// `chat_template_kwargs` and the efforts of reasoning, which templates know under their own names.
pub(super) fn template_variables(fields: &mut Fields) -> Result<Map<String, Value>> {
    let mut variables = fields.object("chat_template_kwargs")?.unwrap_or_default();
    if let Some(effort) = fields.text("reasoning_effort")? {
        reasoning_effort(&mut variables, effort);
    }
    Ok(variables)
}

/// Whether and how much the model thinks first.
pub(crate) fn reasoning_effort(variables: &mut Map<String, Value>, effort: String) {
    if effort == "none" {
        variables.insert("enable_thinking".to_owned(), json!(false));
    } else {
        variables.insert("reasoning_effort".to_owned(), json!(effort));
    }
}
