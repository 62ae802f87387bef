//! The command line: what is said and which status is returned, above all when something is wrong.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use super::client::Client;
use super::gateway::{Folder, run};
use super::reader::Asked;

const GOOD: &str = "\
version: 1
listen: [{ address: \"127.0.0.1:0\" }]
telemetry: { address: \"127.0.0.1:0\" }
upstreams: { main: { servers: [\"127.0.0.1:9\"] } }
routes: [{ name: all, match: { path: \"/{*rest}\" }, upstream: main }]
";

fn run_with(command: &str, text: &str) -> (Option<i32>, String, String) {
    let folder = Folder::new();
    let file = folder.write("statusquo.yaml", text);
    run(&[command, file.to_str().unwrap()], &[])
}

#[test]
fn check_accepts_a_good_file() {
    let (status, _, _) = run_with("check", GOOD);
    assert_eq!(status, Some(0));
}

#[test]
fn a_bad_file_is_refused_with_78_and_every_problem_with_its_line() {
    let bad = GOOD
        .replace("version: 1", "version: 1\ntimeout: 3s")
        .replace("upstream: main", "upstream: mian")
        .replace("\"127.0.0.1:9\"", "\"127.0.0.1\"");
    for command in ["check", "run"] {
        let (status, _, said) = run_with(command, &bad);
        assert_eq!(status, Some(78), "{said}");
        for part in ["statusquo.yaml", "timeout", "timeouts", "mian", "main", "127.0.0.1"] {
            assert!(said.contains(part), "{command} does not say {part:?}:\n{said}");
        }
    }
}

#[test]
fn a_key_that_is_not_built_yet_is_refused_and_said_so() {
    let (status, _, said) = run_with("run", &format!("{GOOD}admin: {{ address: \"127.0.0.1:1\" }}\n"));
    assert_eq!(status, Some(78));
    assert!(said.contains("admin") && said.contains("not supported yet"), "{said}");
}

#[test]
fn a_port_in_use_is_one_sentence_and_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, _, said) = run_with("run", &GOOD.replacen("127.0.0.1:0", &address, 1));
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains(&address), "{said}");
    let lines: Vec<_> =
        said.lines().filter(|line| !line.starts_with("listening on") && !line.starts_with('{')).collect();
    assert_eq!(lines.len(), 1, "{said}");
}

#[test]
fn a_missing_file_is_one_sentence() {
    let (status, _, said) = run(&["run", "no-such-file.yaml"], &[]);
    assert!(matches!(status, Some(1 | 78)), "{status:?}: {said}");
    assert!(said.contains("no-such-file.yaml") && said.trim().lines().count() == 1, "{said}");
}

#[test]
fn an_unknown_command_is_status_2() {
    assert_eq!(run(&["serve-everything"], &[]).0, Some(2));
}

#[test]
fn codes_prints_every_documented_code() {
    let (status, said, _) = run(&["codes"], &[]);
    assert_eq!(status, Some(0));
    for (code, text) in super::promise::CODES {
        assert!(said.contains(&code.to_string()) && said.contains(text), "{code} is missing:\n{said}");
    }
    let (_, json, _) = run(&["codes", "--format", "json"], &[]);
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
}

#[test]
fn every_line_that_demo_prints_can_be_tried_and_keeps_the_promise() {
    let mut demo = Demo::start();
    let lines = demo.lines(|line| line.contains("curl"), 10);
    for line in &lines {
        let url =
            line.split_whitespace().find_map(|word| word.trim_matches('\'').strip_prefix("http://")).unwrap();
        let (address, path) = url.split_once('/').unwrap();
        let mut client = Client::connect(address.parse().unwrap(), Default::default());
        // Reading it strictly and holding it to the promise is the test.
        client.send(format!("GET /{path} HTTP/1.1\r\nhost: {address}\r\n\r\n"));
        client.read(Asked::Http11("GET"));
    }
    assert!(lines.len() >= 10, "{lines:#?}");
}

/// A running `demo`, ended when dropped.
struct Demo(Child);

impl Demo {
    fn start() -> Demo {
        let mut command = Command::new(env!("CARGO_BIN_EXE_statusquo"));
        command.arg("demo").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Demo(command.spawn().unwrap())
    }

    /// The first lines of its output that are wanted, waiting for them; fewer when it ends.
    fn lines(&mut self, wanted: impl Fn(&str) -> bool, count: usize) -> Vec<String> {
        let output = BufReader::new(self.0.stdout.take().unwrap());
        output.lines().map_while(Result::ok).filter(|line| wanted(line)).take(count).collect()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
