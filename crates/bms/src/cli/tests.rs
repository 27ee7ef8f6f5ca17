use std::collections::BTreeSet;

use clap::{Command, CommandFactory as _};

use super::Cli;

/// What is wrong with the options of a command and of those below it: a name that two of them have. The parser gives what was
/// meant for one to the other then, and finds it out by itself only in builds with debug assertions.
fn twice(command: &Command, path: &str, found: &mut Vec<String>) {
    let (mut long, mut short) = (BTreeSet::new(), BTreeSet::new());
    for argument in command.get_arguments() {
        let names = argument.get_long_and_visible_aliases().unwrap_or_default();
        let again = names.into_iter().filter(|name| !long.insert(name.to_string()));
        found.extend(again.map(|name| format!("{path} --{name}")));
        let again = argument.get_short().filter(|name| !short.insert(*name));
        found.extend(again.map(|name| format!("{path} -{name}")));
    }
    for below in command.get_subcommands() {
        twice(below, &format!("{path} {}", below.get_name()), found);
    }
}

#[test]
fn no_two_options_of_a_command_have_one_name() {
    let mut program = Cli::command();
    program.build();
    let mut found = Vec::new();
    twice(&program, "bms", &mut found);
    assert!(found.is_empty(), "{found:?}");

    let mut wrong = Vec::new();
    let option = |id: &'static str| clap::Arg::new(id).long("key-file");
    twice(&Command::new("x").arg(option("a")).arg(option("b")), "x", &mut wrong);
    assert_eq!(wrong, ["x --key-file"]);
}
