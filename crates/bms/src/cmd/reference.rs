//! `bms reference`: the Markdown page of all commands, generated from the parser itself.

use clap::Command;

/// Every command with its options, in Markdown.
pub(crate) fn markdown(mut program: Command) -> String {
    program.build();
    let mut page = String::from("# Command line\n\nGenerated from the program by `cargo xtask codegen`.\n");
    for command in program.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        page.push_str(&format!("\n## `bms {}`\n\n{about}\n\n```text\n", command.get_name()));
        let help = command.clone().render_long_help().to_string();
        page.push_str(
            help.lines().skip_while(|l| !l.starts_with("Usage")).collect::<Vec<_>>().join("\n").trim_end(),
        );
        page.push_str("\n```\n");
    }
    page
}
