use serde_json::json;

use super::*;

const PAGE: &str = "
## `bms gc`
      --grace <HOURS>
## `bms up`
```text
Options:
      --data <DIR>
          Where `--home` is not
      --json
          Print JSON
      --keys <MODE>
      --keys-from <DIR>
      --listen <ADDRESS>
  -h, --help
```
## `bms zip`
      --level <N>
";

fn known() -> Known {
    Known {
        options: options(PAGE).unwrap(),
        variables: ["BMS_HOME".to_owned()].into(),
        metrics: ["bms_queue_depth".to_owned(), "bms_request_duration_seconds".to_owned()].into(),
    }
}

/// A pod with which nothing is wrong.
fn sound() -> Value {
    let safe = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
    });
    let ask = |path: &str| json!({"httpGet": {"path": path, "port": 8081}});
    json!({"kind": "Deployment", "spec": {"template": {"spec": {
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 40,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "server",
            "args": ["up", "--json", "--data=/data", "--listen=0.0.0.0:8080", "--keys=required", "--keys-from=/keys"],
            "env": [{"name": "BMS_HOME"}, {"name": "AWS_REGION"}],
            "startupProbe": ask("/v2/health/live"),
            "livenessProbe": ask("/v2/health/live"),
            "readinessProbe": ask("/v2/health/ready"),
            "lifecycle": {"preStop": {"sleep": {"seconds": 10}}},
            "securityContext": safe,
            "resources": {"limits": {"memory": "1Gi"}},
        }],
    }}}})
}

/// What is found once the value at `pointer` is another.
#[track_caller]
fn check(pointer: &str, value: Value, says: &str) {
    let mut document = sound();
    let at = &format!("/spec/template/spec{pointer}");
    *document.pointer_mut(at).unwrap() = value;
    let found = problems(&document, &known());
    assert_eq!(found, [says], "{pointer}");
}

#[test]
fn options_are_read_from_the_page_of_the_command_alone() {
    let expected = [
        ("--data", true),
        ("--help", false),
        ("--json", false),
        ("--keys", true),
        ("--keys-from", true),
        ("--listen", true),
    ];
    assert_eq!(known().options, expected.map(|(name, value)| (name.to_owned(), value)).into());
    assert!(options("## `bms serve`").is_err());
}

#[test]
fn a_sound_pod_passes_and_each_fault_is_found() {
    assert_eq!(problems(&sound(), &known()), Vec::<String>::new());
    let server = "/containers/0";
    let at = |rest: &str| format!("{server}{rest}");
    check(&at("/args/1"), json!("--grace=2"), "`bms up` has no option `--grace`");
    check(&at("/args/1"), json!("--json=yes"), "`--json` takes no value");
    check(&at("/args/2"), json!("--data="), "`--data` has no value");
    check(&at("/args/3"), json!("--json"), "it is not said where the server listens");
    check(&at("/args/4"), json!("--json"), "others reach the server, and it does not require keys");
    check(&at("/args/5"), json!("--json"), "the first key would stand in the log");
    check(&at("/args/0"), json!("serve"), "the server's command is not `bms up`");
    check(&at("/env/0/name"), json!("BMS_HOUSE"), "the program reads no variable `BMS_HOUSE`");
    let ready = "the livenessProbe does not ask /v2/health/live";
    check(&at("/livenessProbe/httpGet/path"), json!("/v2/health/progress"), ready);
    check("/terminationGracePeriodSeconds", json!(30), "the server may take 30 s to end and is given 30");
    check(&at("/securityContext/capabilities/drop"), json!(["NET_RAW"]), "a container has capabilities");
    check(&at("/securityContext/readOnlyRootFilesystem"), json!(false), "a container may write its root");
    check("/securityContext/runAsNonRoot", json!(false), "it may run as root");
    check("/automountServiceAccountToken", json!(true), "the account's token would be mounted");
    check(&at("/resources/limits/memory"), Value::Null, "a container has no bound of memory");
}

#[test]
fn metrics_that_do_not_exist_are_found() {
    let rule =
        |expr: &str| json!({"kind": "PrometheusRule", "spec": {"groups": [{"rules": [{"expr": expr}]}]}});
    let sound = "sum(rate(bms_request_duration_seconds_bucket[5m])) + max(bms_queue_depth)";
    assert_eq!(problems(&rule(sound), &known()), Vec::<String>::new());
    let found = problems(&rule("max(bms_queue_length)"), &known());
    assert_eq!(found, ["there is no metric `bms_queue_length`"]);
}
