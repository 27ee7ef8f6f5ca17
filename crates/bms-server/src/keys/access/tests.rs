use bms_wire::api::Role;
use http::Method;

use super::{Access, METHODS, ROUTES, of};

#[test]
fn roles_may_what_they_are_for() {
    let chat = of("/v1/chat/completions", "/v1/chat/completions", &Method::POST);
    assert_eq!(chat, Access::Ask);
    assert_eq!(chat.roles(), ["admin", "deployer", "user"]);
    let deploy = of("/api/v1/deployments/{model}", "/api/v1/deployments/m", &Method::PUT);
    assert_eq!(deploy.roles(), ["admin", "deployer"]);
    let keys = of("/api/v1/keys", "/api/v1/keys", &Method::GET);
    assert_eq!(keys.roles(), ["admin"]);
    let report = of("/api/v1/edge/nodes/{node}", "/api/v1/edge/nodes/n", &Method::PUT);
    assert!(report.is_for(Role::Edge) && !report.is_for(Role::User));
    assert_eq!(of("/api/2.0/mlflow/runs/create", "", &Method::POST), Access::Deploy);
}

#[test]
fn inference_is_what_the_door_takes_it_for_by_its_short_way() {
    for route in ["/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"] {
        assert_eq!(of(route, "/v2/models/m/infer", &Method::POST), Access::Ask);
    }
}

#[test]
fn what_no_line_names_is_for_admins() {
    assert_eq!(of("/new", "/new", &Method::GET), Access::Admin);
    assert_eq!(of("/metrics", "/metrics", &Method::DELETE), Access::Admin);
}

#[test]
fn a_method_of_grpc_written_in_another_way_gains_nothing() {
    let route = "/inference.GRPCInferenceService/{method}";
    let load = "/inference.GRPCInferenceService/RepositoryModelLoad";
    assert_eq!(of(route, load, &Method::POST), Access::Deploy);
    assert_eq!(of(route, &load.replace("Load", "Lo%61d"), &Method::POST), Access::Deploy);
    assert_eq!(of(route, "/inference.GRPCInferenceService/ModelInfer", &Method::POST), Access::Ask);
}

#[test]
fn no_line_stands_twice() {
    let mut names: Vec<_> =
        ROUTES.iter().map(|line| line.0).chain(METHODS.iter().map(|line| line.0)).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}
