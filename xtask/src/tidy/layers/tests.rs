use super::*;

/// A graph in which every crate of the table exists, and one of them has these dependencies.
fn graph(name: &str, direct: &[&str], linked: &[&str]) -> Graph {
    let set = |names: &[&str], of: &str| {
        if of == name { names.iter().map(|name| (*name).to_owned()).collect() } else { Default::default() }
    };
    let all = LAYERS.iter().flat_map(|(_, names)| *names);
    let members =
        all.map(|of| Member { name: (*of).to_owned(), direct: set(direct, of), linked: set(linked, of) });
    Graph { members: members.collect(), dependencies: vec![] }
}

#[track_caller]
fn refused(name: &str, direct: &[&str], linked: &[&str], want: &str) {
    let problems = check(&graph(name, direct, linked));
    assert!(problems.len() == 1 && problems[0].message.contains(want), "{want}: {problems:?}");
}

#[test]
fn an_arrow_goes_down() {
    assert_eq!(
        check(&graph("bms-server", &["bms-registry", "bms-engine", "bms-wire", "axum"], &["axum"])),
        []
    );
    assert_eq!(check(&graph("bms", &["bms-server", "bms-wire", "clap"], &["burn", "axum", "tokio"])), []);
    assert_eq!(check(&graph("xtask", &["bms-wire"], &["serde"])), []);
}

#[test]
fn an_arrow_never_goes_up_or_sideways() {
    refused("bms-wire", &["bms-bundle"], &[], "bms-wire (layer 1) may not use bms-bundle (layer 2)");
    refused("bms-engine", &["bms-train"], &[], "bms-engine (layer 3) may not use bms-train (layer 3)");
    refused("bms-edge", &["bms-server"], &[], "(layer 4) may not use bms-server (layer 4)");
    refused("bms", &["xtask"], &[], "(layer 5) may not use xtask (layer 6)");
}

#[test]
fn the_table_and_the_workspace_are_the_same() {
    let mut with_another = graph("bms", &[], &[]);
    with_another.members.push(Member {
        name: "bms-new".into(),
        direct: Default::default(),
        linked: Default::default(),
    });
    assert!(check(&with_another)[0].message.contains("bms-new has no layer"));
    let mut with_less = graph("bms", &[], &[]);
    with_less.members.retain(|member| member.name != "bms-nn");
    assert!(check(&with_less)[0].message.contains("bms-nn stands in the layer table"));
}

#[test]
fn outside_crates_stay_home() {
    refused("bms-edge", &["axum"], &[], "bms-edge may not use axum, only bms-server");
    refused("bms", &["axum-core"], &[], "may not use axum-core");
    refused("bms-server", &["burn"], &[], "may not use burn, only bms-train");
    refused("bms-train", &["tokio"], &[], "bms-train must not use tokio");
    refused("bms-engine", &[], &["tokio"], "bms-engine must not link tokio");
    refused("bms-edge", &[], &["burn"], "bms-edge must not link burn");
}

#[test]
fn a_pattern_stands_for_a_family() {
    assert!(matches("axum*", "axum") && matches("axum*", "axum-core"));
    assert!(!matches("ort*", "orthogonal") && !matches("axum*", "max"));
    assert!(matches("tokio", "tokio") && !matches("tokio", "tokio-util"));
}

#[test]
fn every_crate_a_rule_names_is_in_the_table() {
    let homes = HOMES.iter().flat_map(|(_, homes, _)| homes.iter().copied());
    let banned = NEVER_LINKED.iter().chain(NEVER_NAMED).map(|(name, _)| *name);
    assert!(homes.chain(banned).all(|name| layer(name).is_some()));
}
