use super::*;

#[test]
fn a_tree_is_read() {
    let text = "a v0.1.0 (file:///x)\nb v1.2.3 (proc-macro)\n\nc v2.0.0-rc.1\nc v2.0.0-rc.1\n";
    let found: Vec<_> =
        parse_tree(text).unwrap().into_iter().map(|(name, version)| name + " " + &version).collect();
    assert_eq!(found, ["a 0.1.0", "b 1.2.3", "c 2.0.0-rc.1"]);
}

#[test]
fn a_tree_of_another_form_is_an_error() {
    assert!(parse_tree("").is_err());
    assert!(parse_tree("a 0.1.0").is_err());
    assert!(parse_tree("a").is_err());
}

#[test]
fn the_graph_of_this_checkout_has_its_crates() {
    let graph = Graph::load(crate::root()).unwrap();
    let wire = graph.members.iter().find(|member| member.name == "bms-wire").unwrap();
    assert!(wire.direct.contains("serde") && wire.linked.contains("serde_json"));
    assert!(!wire.linked.contains("bms-wire"));
    let xtask = graph.members.iter().find(|member| member.name == "xtask").unwrap();
    assert!(xtask.direct.contains("bms-wire") && xtask.direct.contains("tempfile"));
    assert!(graph.dependencies.iter().any(|d| d.name == "serde" && d.license.is_some()));
    assert!(!graph.dependencies.iter().any(|d| d.name == "bms-wire"));
}
