use serde_json::json;

use super::*;

fn rendered(store: &str) -> Vec<Rendered> {
    let server = json!({"name": "server", "args": ["up", store]});
    let document = json!({"kind": "Deployment", "spec": {"template": {"spec": {"containers": [server]}}}});
    vec![Rendered { template: String::new(), document }]
}

#[test]
fn without_services_or_without_sharing_it_is_a_folder() {
    let services = [("BMS_POSTGRES", "postgres://x/postgres?host=/nowhere"), ("BMS_TEST_S3", "s3://b")];
    let services = services.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (store, services) in [("--store=s3://a/b", &[][..]), ("--json", &services[..])] {
        assert_eq!(Ground::of("set", &rendered(store), services).unwrap().servers(), 1);
    }
    // Nothing listens there, which would have been asked.
    assert!(Ground::of("set", &rendered("--store=s3://a/b"), &services).is_err());
}
