use serde_json::json;

use super::*;

fn rendered(documents: Vec<Value>) -> Vec<Rendered> {
    documents.into_iter().map(|document| Rendered { template: String::new(), document }).collect()
}

fn home() -> Files {
    [("policy.toml", "p"), ("authority.json", "a")].map(|(name, text)| (name.to_owned(), text.into())).into()
}

/// A pod with a Secret that is rendered and some that are not.
fn documents() -> Vec<Rendered> {
    rendered(vec![
        json!({"kind": "Secret", "metadata": {"name": "keys"}, "data": {"root.admin": STANDARD.encode("a secret of keys")}}),
        json!({"kind": "ConfigMap", "metadata": {"name": "engines"}, "data": {"engines.toml": "schema = 1"}}),
        json!({"kind": "Pod", "spec": {"containers": [{"name": "ask", "args": ["models", "--server=http://bms:80"], "env": [
            {"name": "BMS_API_KEY", "valueFrom": {"secretKeyRef": {"name": "theirs", "key": "ops.admin"}}},
        ]}]}}),
        json!({"kind": "Deployment", "spec": {"template": {"spec": {
            "volumes": [
                {"name": "keys", "secret": {"secretName": "keys"}},
                {"name": "engines", "configMap": {"name": "engines"}},
                {"name": "home", "projected": {"sources": [
                    {"secret": {"name": "home"}},
                    {"secret": {"name": "authority", "items": [{"key": "authority.json", "path": "ca/authority.json"}]}},
                ]}},
            ],
            "containers": [{
                "name": "server",
                "args": ["up", "--listen=0.0.0.0:8080", "--store=s3://a/b", "--data=/data/server", "--keys=required"],
                "env": [{"name": "BMS_HOME", "value": "/etc/home"}, {"name": "BMS_LOG", "value": "warn"}],
                "ports": [{"name": "http", "containerPort": 8080}],
                "livenessProbe": {"httpGet": {"path": "/live", "port": 8080}},
                "volumeMounts": [
                    {"name": "data", "mountPath": "/data"}, {"name": "keys", "mountPath": "/etc/keys"},
                    {"name": "engines", "mountPath": "/etc/engines"}, {"name": "home", "mountPath": "/etc/home"},
                ],
            }],
        }}}}),
    ])
}

#[test]
fn files_stand_where_the_container_has_them() {
    let documents = documents();
    let secrets = Secrets::of(&documents, &home());
    let pod = Pod::of(&documents, &secrets).unwrap();
    let read = |path: &str| std::fs::read_to_string(pod.at(path)).unwrap();
    assert_eq!(read("/etc/keys/root.admin"), "a secret of keys");
    assert_eq!(read("/etc/engines/engines.toml"), "schema = 1");
    assert_eq!(
        (read("/etc/home/policy.toml"), read("/etc/home/ca/authority.json")),
        ("p".into(), "a".into())
    );
    assert!(pod.at("/data").is_dir() && !pod.at("/etc/home/authority.json").exists());
}

#[test]
fn arguments_keep_their_meaning_with_other_places() {
    let documents = documents();
    let secrets = Secrets::of(&documents, &home());
    let pod = Pod::of(&documents, &secrets).unwrap();
    let root = pod.root().display();
    for (argument, here) in [
        ("up", "up".to_owned()),
        ("--listen=0.0.0.0:8080", "--listen=0.0.0.0:0".to_owned()),
        ("--keys=required", "--keys=required".to_owned()),
        ("--data=/data/server", format!("--data={root}/data/server")),
        ("--store=s3://a/b", format!("--store={root}/data/s3")),
    ] {
        assert_eq!(pod.here(argument, &Ground::Folder).unwrap(), here);
    }
    assert!(pod.here("--engines=/opt/engines.toml", &Ground::Folder).is_err(), "no volume brings it");
    let door: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let test = pod.tests(&documents, door).remove(0);
    assert_eq!(test.arguments, ["models", "--server=http://127.0.0.1:9"]);
    assert_eq!(test.environment[0], ("BMS_API_KEY".to_owned(), made_up("theirs", "ops.admin")));
}

#[test]
fn probes_at_another_port_are_found() {
    let mut documents = documents();
    let secrets = Secrets::of(&documents, &home());
    assert_eq!(Pod::of(&documents, &secrets).unwrap().problems(), Vec::<String>::new());
    let server = documents[3].document.pointer_mut("/spec/template/spec/containers/0").unwrap();
    server["ports"][0]["containerPort"] = 8081.into();
    assert_eq!(Pod::of(&documents, &secrets).unwrap().problems().len(), 2);
}

#[test]
fn a_secret_that_is_printed_is_found() {
    let secrets = Secrets::of(&documents(), &home());
    assert_eq!(secrets.shown_in("listening; the key bms_0123456789 was made"), Vec::<String>::new());
    assert_eq!(secrets.shown_in("it is a secret of keys"), ["`root.admin` of the Secret keys is printed"]);
    assert_eq!(secrets.shown_in(&format!("key: {}", made_up("a", "b"))), ["the secret of a key is printed"]);
}
