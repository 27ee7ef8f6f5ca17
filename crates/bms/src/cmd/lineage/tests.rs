use bms_wire::api::LineageData;

use super::*;

fn node(name: Option<(&str, u64)>, digest: &str, parent: Option<&str>) -> LineageNode {
    LineageNode {
        model: name.map(|(model, _)| model.to_owned()),
        version: name.map(|(_, version)| version),
        digest: digest.to_owned(),
        parent: parent.map(str::to_owned),
        distance: 0,
        data: Vec::new(),
        job: None,
        run: None,
        deleted: false,
    }
}

#[test]
fn a_lineage_reads_as_a_tree() {
    let data = LineageData { name: "digits".into(), digest: "ff".into() };
    let graph = Graph {
        version: LineageNode { data: vec![data], ..node(Some(("digits", 2)), "b", Some("a")) },
        ancestors: vec![node(None, "a", None)],
        descendants: vec![
            node(Some(("digits", 3)), "c", Some("b")),
            node(Some(("small", 1)), "e", Some("b")),
            LineageNode { deleted: true, ..node(Some(("digits", 4)), "d", Some("c")) },
        ],
        truncated: false,
    };
    let want = "\
unknown version a…
└─ digits@2  [data digits (ff…)]  ◀
   └─ digits@3
      └─ digits@4  [deleted]
   └─ small@1";
    assert_eq!(tree(&graph), want);
}
