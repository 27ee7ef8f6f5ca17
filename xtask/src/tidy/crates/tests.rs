use super::*;

const GOOD: &str = "\
[package]
name = \"a\"
description = \"A.\"
version.workspace = true
edition.workspace = true
rust-version.workspace = true
license.workspace = true
publish.workspace = true
[lints]
workspace = true
[dependencies]
b.workspace = true
c = { workspace = true, features = [\"d\"] }
";

fn messages(text: &str) -> Vec<String> {
    check(&Sources::of(&[("crates/a/Cargo.toml", text)])).into_iter().map(|problem| problem.message).collect()
}

#[test]
fn a_manifest_in_order_has_no_problem() {
    assert_eq!(messages(GOOD), [""; 0]);
    assert_eq!(check(&Sources::of(&[("fuzz/Cargo.toml", "[package]")])), []);
}

#[test]
fn every_rule_can_fail() {
    for (from, to, want) in [
        ("[lints]\nworkspace = true\n", "", "takes no lints from the workspace"),
        ("edition.workspace = true", "edition = \"2021\"", "`edition` must come from the workspace"),
        ("description = \"A.\"\n", "", "has no description"),
        ("b.workspace = true", "b = \"1\"", "the dependency `b` must come from"),
        (
            "[dependencies]\n",
            "[dev-dependencies]\ne = { path = \"e\" }\n[dependencies]\n",
            "the dependency `e` must",
        ),
        (
            "[dependencies]\n",
            "[target.'cfg(unix)'.dependencies]\nf = \"1\"\n[dependencies]\n",
            "the dependency `f` must",
        ),
        ("[package]", "[package", "is not TOML"),
    ] {
        let found = messages(&GOOD.replace(from, to));
        assert!(found.len() == 1 && found[0].starts_with(want), "{want}: {found:?}");
    }
}

#[test]
fn the_home_of_unsafe_code_denies_what_hides_it() {
    let package = "[package]\nname = \"bms-kernels\"\ndescription = \"x\"\nversion.workspace = true\nedition.workspace = true\n\
                   rust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n";
    let denied = "[lints.rust]\nunsafe_op_in_unsafe_fn = \"deny\"\n[lints.clippy]\nundocumented_unsafe_blocks = \"deny\"\n";
    assert!(manifest(UNSAFE_HOMES[0], &format!("{package}{denied}")).is_empty());
    assert_eq!(manifest(UNSAFE_HOMES[0], package).len(), 2);
    assert_eq!(manifest("crates/other/Cargo.toml", &format!("{package}{denied}")).len(), 1);
}
