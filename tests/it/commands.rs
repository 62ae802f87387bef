//! The command line: output and exit status, mainly of invalid invocations.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use super::gateway::run;
use super::prelude::*;

const VALID_CONFIG: &str = "\
version: 1
listen: [{ address: \"127.0.0.1:0\" }]
telemetry: { address: \"127.0.0.1:0\" }
upstreams: { main: { servers: [\"127.0.0.1:9\"] } }
routes: [{ name: all, match: { path: \"/{*rest}\" }, upstream: main }]
";

fn run_with(command: &str, text: &str) -> (Option<i32>, String, String) {
    let folder = TestFolder::new();
    let file = folder.write("statusquo.yaml", text);
    run(&[command, file.to_str().unwrap()], &[])
}

#[test]
fn check_accepts_a_valid_file() {
    let (status, _, _) = run_with("check", VALID_CONFIG);
    assert_eq!(status, Some(0));
}

#[test]
fn invalid_file_exits_78_and_reports_every_problem_with_its_line() {
    let invalid = VALID_CONFIG
        .replace("version: 1", "version: 1\ntimeout: 3s")
        .replace("upstream: main", "upstream: mian")
        .replace("\"127.0.0.1:9\"", "\"127.0.0.1\"");
    for command in ["check", "run"] {
        let (status, _, output) = run_with(command, &invalid);
        assert_eq!(status, Some(78), "{output}");
        for part in ["statusquo.yaml", "timeout", "timeouts", "mian", "main", "127.0.0.1"] {
            assert!(output.contains(part), "no {part:?} in the output of {command}:\n{output}");
        }
    }
}

#[test]
fn unsupported_key_is_rejected_as_not_supported_yet() {
    let (status, _, output) =
        run_with("run", &format!("{VALID_CONFIG}admin: {{ address: \"127.0.0.1:1\" }}\n"));
    assert_eq!(status, Some(78));
    assert!(output.contains("admin") && output.contains("not supported yet"), "{output}");
}

#[test]
fn port_in_use_exits_1_with_one_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, _, output) = run_with("run", &VALID_CONFIG.replacen("127.0.0.1:0", &address, 1));
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains(&address), "{output}");
    let lines: Vec<_> =
        output.lines().filter(|line| !line.starts_with("listening on") && !line.starts_with('{')).collect();
    assert_eq!(lines.len(), 1, "{output}");
}

#[test]
fn missing_file_prints_one_sentence() {
    let (status, _, output) = run(&["run", "no-such-file.yaml"], &[]);
    assert!(matches!(status, Some(1 | 78)), "{status:?}: {output}");
    assert!(output.contains("no-such-file.yaml") && output.trim().lines().count() == 1, "{output}");
}

#[test]
fn empty_variable_counts_as_unset() {
    let (status, _, diagnostics) = run(&["check"], &[("STATUSQUO_CONFIG".to_owned(), String::new())]);
    assert_eq!(status, Some(78));
    assert!(diagnostics.starts_with("cannot read statusquo.yaml: no such file"), "{diagnostics}");
}

#[test]
fn unreadable_file_is_reported_as_json_where_the_result_would_be() {
    for command in ["check", "explain --cause draining", "verify", "codes", "limits simulate --log -"] {
        let arguments = format!("{command} --format json no-such-file.yaml");
        let (status, out, diagnostics) = run(&arguments.split(' ').collect::<Vec<_>>(), &[]);
        assert_eq!(status, Some(78), "{command}: {diagnostics}");
        let report: serde_json::Value = serde_json::from_str(&out).expect(command);
        let message = "cannot read no-such-file.yaml: no such file";
        assert_eq!((&report["valid"], &report["problems"][0]["message"]), (&false.into(), &message.into()));
    }
}

#[test]
fn status_that_is_no_error_is_refused_with_the_range() {
    for status in ["abc", "200", "600"] {
        let (code, _, diagnostics) = run(&["explain", "--upstream-status", status], &[]);
        assert_eq!(code, Some(2));
        assert!(diagnostics.contains("expected the status code of an error, 400 to 599"), "{diagnostics}");
    }
}

#[test]
fn unknown_command_exits_2() {
    assert_eq!(run(&["serve-everything"], &[]).0, Some(2));
}

#[test]
fn codes_prints_every_documented_code() {
    let (status, output, _) = run(&["codes", "--contract", "appwrite"], &[]);
    assert_eq!(status, Some(0));
    for (code, text) in super::contract_check::DOCUMENTED_CODES {
        assert!(output.contains(&code.to_string()) && output.contains(text), "{code} is missing:\n{output}");
    }
    let (_, json, _) = run(&["codes", "--contract", "appwrite", "--format", "json"], &[]);
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
}

#[test]
fn codes_prints_the_chosen_contract_of_a_file_and_names_the_known_ones() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/contracts/stripe.yaml");
    let (status, output, _) = run(&["codes", file, "--contract", "stripe"], &[]);
    assert_eq!((status, output.lines().next()), (Some(0), Some("contract: stripe")));
    let (status, _, error) = run(&["codes", file, "--contract", "strype"], &[]);
    let expected =
        "--contract strype: no such contract; expected stripe, appwrite, appwrite-current, problem\n";
    assert_eq!((status, &*error), (Some(2), expected));
    let (status, output, _) = run(&["codes", file, "--contract", "problem"], &[]);
    assert_eq!((status, output.lines().next()), (Some(0), Some("contract: problem")));
}

#[test]
fn codes_reads_the_default_file_and_only_built_in_contracts_need_none() {
    let folder = TestFolder::new();
    let codes = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_statusquo"));
        command.arg("codes").args(arguments).current_dir(folder.path("")).env_remove("STATUSQUO_CONFIG");
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (status, output, error) = codes(&["--contract", "problem"]);
    assert_eq!((status, output.lines().next()), (Some(0), Some("contract: problem")), "{error}");
    for arguments in [&[][..], &["--contract", "stripe"]] {
        let (status, output, error) = codes(arguments);
        assert_eq!((status, &*output), (Some(78), ""));
        assert!(error.contains("cannot read statusquo.yaml: no such file"), "{error}");
        assert!(error.contains("needs no file: statusquo codes --contract appwrite"), "{error}");
    }
    folder.write("statusquo.yaml", include_str!("../../config/contracts/stripe.yaml"));
    for arguments in [&[][..], &["--contract", "stripe"]] {
        let (status, output, error) = codes(arguments);
        assert_eq!((status, output.lines().next()), (Some(0), Some("contract: stripe")), "{error}");
    }
    let (status, output, _) = codes(&["--contract", "problem"]);
    assert_eq!((status, output.lines().next()), (Some(0), Some("contract: problem")));
}

#[test]
fn demo_commands_all_run_and_match_the_contract() {
    let mut demo = DemoProcess::start(&[]);
    let lines = demo.lines(|line| line.contains("curl"), 10);
    for line in &lines {
        let url =
            line.split_whitespace().find_map(|word| word.trim_matches('\'').strip_prefix("http://")).unwrap();
        let (address, path) = url.split_once('/').unwrap();
        let mut client = Client::connect(address.parse().unwrap(), Default::default());
        // The strict client and its contract check are the assertion.
        client.send(format!("GET /{path} HTTP/1.1\r\nhost: {address}\r\n\r\n"));
        client.read(SentRequest::Http11("GET"));
    }
    assert!(lines.len() >= 10, "{lines:#?}");
}

#[test]
fn demo_sends_its_list_as_the_page_at_the_root() {
    // The other test may take the default port.
    let mut demo = DemoProcess::start(&["--port", "0"]);
    let output = BufReader::new(demo.0.stdout.take().unwrap());
    let lines: Vec<String> =
        output.lines().map_while(Result::ok).take_while(|line| line != "Counters:").collect();
    let address = lines.iter().find_map(|line| line.trim().strip_prefix("curl -i http://")?.split_once('/'));
    let (address, _) = address.unwrap();
    let mut client = Client::connect(address.parse().unwrap(), Default::default());
    client.send(format!("GET / HTTP/1.1\r\nhost: {address}\r\n\r\n"));
    let page = client.read(SentRequest::Http11("GET"));
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/plain")));
    let text = String::from_utf8(page.body).unwrap();
    // Between empty lines.
    let printed = format!("{}\n", lines.join("\n").trim());
    assert_eq!(text, printed);
    assert!(text.lines().count() > 20, "{text}");
}

/// A running `demo`; ended on drop.
struct DemoProcess(Child);

impl DemoProcess {
    fn start(options: &[&str]) -> DemoProcess {
        let mut command = Command::new(env!("CARGO_BIN_EXE_statusquo"));
        command.arg("demo").args(options).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        DemoProcess(command.spawn().unwrap())
    }

    /// The first `count` output lines that match; fewer when the process exits.
    fn lines(&mut self, matches: impl Fn(&str) -> bool, count: usize) -> Vec<String> {
        let output = BufReader::new(self.0.stdout.take().unwrap());
        output.lines().map_while(Result::ok).filter(|line| matches(line)).take(count).collect()
    }
}

impl Drop for DemoProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
