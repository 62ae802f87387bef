//! `completions` and `man`: shell completions and the manual page for packages, generated from the command-line help.

use std::io::Write as _;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;

/// Prints the completions for one shell.
pub(crate) fn completions(shell: Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), env!("CARGO_PKG_NAME"), &mut text);
    print_bytes(&text)
}

/// Prints the manual page: the program, then each command with its options.
pub(crate) fn man() -> ExitCode {
    let mut program = Cli::command();
    program.build();
    let mut text = Vec::new();
    // Writing to memory cannot fail.
    let _ = clap_mangen::Man::new(program.clone()).render(&mut text);
    for command in program.get_subcommands().filter(|command| command.get_name() != "help") {
        let page = clap_mangen::Man::new(command.clone());
        let _ = writeln!(text, ".SH \"{}\"", command.get_name().to_uppercase());
        let _ = page.render_description_section(&mut text);
        let _ = page.render_options_section(&mut text);
    }
    print_bytes(&text)
}

fn print_bytes(text: &[u8]) -> ExitCode {
    match std::io::stdout().lock().write_all(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
