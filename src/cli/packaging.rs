//! `completions` and `man`: what a package of the product installs beside it, made from the command line's own help.

use std::io::Write as _;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;

/// Prints the completions of one shell.
pub fn completions(shell: Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), env!("CARGO_PKG_NAME"), &mut text);
    print_bytes(&text)
}

/// Prints the manual page: the program, then every command with its options.
pub fn man() -> ExitCode {
    let mut program = Cli::command();
    program.build();
    let mut text = Vec::new();
    // Writing into memory does not fail.
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
