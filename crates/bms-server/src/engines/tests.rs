use std::path::Path;
use std::time::Duration;

use bms_wire::{Code, limits};

use super::{Engines, Places, Protocol, Runner, Runs};

/// An engine `e` with these lines in its entry.
fn entry(lines: &str) -> bms_wire::Result<Engines> {
    Engines::from_toml(&format!("schema = 1\n[engines.e]\n{lines}\n"))
}

#[track_caller]
fn refused(lines: &str, part: &str) {
    let error = entry(lines).expect_err(lines);
    let text = format!("{error} {}", error.body().hint.unwrap_or_default());
    assert!([Code::InvalidRequest, Code::TooLarge].contains(&error.code()), "{error:?}");
    assert!(text.contains(part), "{lines}: {text}");
}

const HERE: &str =
    "protocol = \"openai\"\ncommand = [\"llama-server\", \"-m\", \"{weights}\", \"--port\", \"{port}\"]";
const AWAY: &str = "protocol = \"openai\"\nurl = \"http://gpu-7:8000/vllm/\"\nserves = \"big\"";

#[test]
fn a_command_has_its_usual_values() {
    let engines = entry(HERE).unwrap();
    let Runner::Engine(engine) = engines.runner(Some("e")) else { panic!("it runs versions") };
    assert!(matches!(&engine.runs, Runs::Here { threads, .. } if 1 <= *threads));
    assert_eq!((engine.protocol, engine.uses_socket()), (Protocol::OpenAi, false));
    assert_eq!((engine.health.as_slice(), engine.model_of("m").as_str()), (&["/health".to_owned()][..], "m"));
    assert_eq!(engine.silent_after, Duration::from_secs(10));
    assert_eq!(engine.operations.len(), 3);
    assert!(engines.check("e").is_ok() && engines.serving_all().next().is_none());
}

#[test]
fn an_engine_elsewhere_serves_its_own_model_and_no_version() {
    let engines = entry(AWAY).unwrap();
    assert_eq!(engines.serving("big").unwrap().name, "e");
    assert!(engines.serving("e").is_none());
    assert!(matches!(engines.runner(Some("e")), Runner::Missing(_)));
    assert_eq!(engines.check("e").unwrap_err().code(), Code::InvalidRequest);
}

#[test]
fn authorities_that_are_not_there_are_noticed_before_anything_starts() {
    let away = AWAY.replace("http:", "https:");
    assert!(entry(&away).is_ok());
    let error = entry(&format!("{away}\nca_file = \"/nowhere/ca.pem\"")).unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
}

#[test]
fn what_is_not_understood_is_an_error() {
    refused("protocol = \"openai\"", "neither `command` nor `url`");
    refused(&format!("{HERE}\nurl = \"http://a\""), "both `command` and `url`");
    refused(&format!("{HERE}\nport = 7"), "unknown field `port`");
    refused(&HERE.replace("openai", "grpc"), "unknown variant `grpc`");
    refused(&HERE.replace("{port}", "8080"), "one of {socket} and {port}");
    refused(&HERE.replace("\"-m\"", "\"{socket}\""), "one of {socket} and {port}");
    refused(&HERE.replace("{weights}", "{model}"), "`{model}` stands for nothing");
    refused(&format!("{HERE}\nserves = \"m\""), "`{weights}` is of a version");
    refused(&format!("{HERE}\nca_file = \"x\""), "`ca_file`");
    refused(&format!("{HERE}\nhealth = []"), "`health`");
    refused(&format!("{HERE}\nhealth = [\"v2\"]"), "`health`");
    refused(&format!("{HERE}\noperations = [\"/v1/load_lora_adapter\"]"), "does not pass on");
    refused(&format!("{HERE}\nsilent_seconds = 0"), "`silent_seconds` is 1 to");
    refused(&format!("{HERE}\nsilent_seconds = 60\nstalled_seconds = 30"), "at least `silent_seconds`");
    refused(&format!("{HERE}\nconcurrency = 0"), "`concurrency`");
    refused(&format!("{HERE}\nmodel_version = \"1\""), "`model_version`");
    refused(&format!("{HERE}\nmodel = \"{{weights}}\""), "{name} only");
    refused(&format!("{HERE}\n[engines.e.environment]\n\"A B\" = \"1\""), "name of a variable");
    refused(&format!("{HERE}\n[engines.e.environment]\nA = {{ path = \"1\" }}"), "data did not match");
    refused(&AWAY.replace("serves = \"big\"", ""), "serves = ");
    refused(&AWAY.replace("http:", "ftp:"), "http:// or https://");
    refused(&AWAY.replace("gpu-7", "me:secret@gpu-7"), "without user");
    refused(&format!("{AWAY}\nthreads = 1"), "`threads`");
    let twice = format!("schema = 1\n[engines.e]\n{AWAY}\n[engines.f]\n{AWAY}\n");
    assert!(Engines::from_toml(&twice).unwrap_err().to_string().contains("both `e` and `f` serve `big`"));
    assert!(Engines::from_toml("schema = 2").is_err());
    assert!(Engines::from_toml("schema = 1\n[engines.E]\nprotocol = \"oip\"").is_err());
    let many: String = (0..=limits::ENGINES_MAX).map(|n| format!("[engines.e{n}]\n{HERE}\n")).collect();
    assert_eq!(Engines::from_toml(&format!("schema = 1\n{many}")).unwrap_err().code(), Code::TooLarge);
}

#[test]
fn placeholders_are_filled_in_and_other_braces_stay() {
    let places = Places {
        name: "m",
        version: 3,
        bundle: Some((Path::new("/b"), Path::new("/b/w.gguf"))),
        socket: Path::new("/s"),
        port: 81,
        threads: 2,
    };
    for (text, filled) in [
        ("-m={weights}", "-m=/b/w.gguf"),
        ("{folder}/{name}-{version}:{port}", "/b/m-3:81"),
        ("{socket},{threads}", "/s,2"),
        ("{\"a\": {\"b\": \"{name}\"}}", "{\"a\": {\"b\": \"m\"}}"),
        ("{{name}}", "{m}"),
        ("{", "{"),
        ("}{", "}{"),
        ("", ""),
    ] {
        assert_eq!(places.fill(text), *filled, "{text}");
    }
}

#[test]
fn a_secret_comes_from_its_file_and_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, " s3cret\n").unwrap();
    assert_eq!(*super::secret::read(&file).unwrap(), "s3cret");
    for bad in ["", " \n", "two words", "a\u{e9}"] {
        std::fs::write(&file, bad).unwrap();
        assert!(super::secret::read(&file).is_err(), "{bad:?}");
    }
    std::fs::write(&file, "x".repeat(usize::try_from(limits::KEY_FILE_BYTES_MAX).unwrap() + 1)).unwrap();
    assert_eq!(super::secret::read(&file).unwrap_err().code(), Code::TooLarge);
    let shown =
        format!("{:?}", entry(&format!("{HERE}\n[engines.e.environment]\nTOKEN = \"s3cret\"")).unwrap());
    assert!(!shown.contains("s3cret"), "{shown}");
}
