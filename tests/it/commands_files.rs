//! Commands around the configuration file: `proxy` works without one, `init` writes one, `schema` describes one.

use std::path::Path;
use std::process::Command;
use std::sync::Once;

use super::gateway::{Gateway, TestFolder, run};
use super::scripted_upstreams::{ok_upstream, refusing_port};

#[test]
fn proxy_serves_like_run_with_its_printed_config() {
    let upstream = ok_upstream("fine");
    let to = upstream.address().to_string();
    let arguments = ["--from", "127.0.0.1:0", "--telemetry", "127.0.0.1:0", "--to", &to, "--timeout", "2s"];
    let (status, printed, _) = run(&[&["proxy", "--print-config"][..], &arguments].concat(), &[]);
    assert_eq!(status, Some(0));
    let folder = TestFolder::new();
    let file = folder.write("statusquo.yaml", &printed);
    for command in [&[&["proxy"][..], &arguments].concat(), &vec!["run", file.to_str().unwrap()]] {
        let gateway = Gateway::from_command(command);
        gateway.client().get("/anything").assert_response(200, "fine");
        gateway.expect_metric("responses_total", &[("route", "all"), ("code", "200")], 1.0);
    }
}

#[test]
fn proxy_prints_a_minimal_config() {
    let arguments =
        ["proxy", "--to", "127.0.0.1:3000", "--to", "http://b.internal:80,c:81", "--timeout", "9s"];
    let (status, printed, _) = run(&[&arguments[..], &["--print-config"]].concat(), &[]);
    assert_eq!(status, Some(0));
    assert_eq!(
        printed,
        "version: 1\n\nlisten:\n  - address: \":8080\"\n\ntimeouts:\n  response_headers: 9s\n  deadline: 9s\n\nupstreams:\n  \
         main:\n    servers: [\"127.0.0.1:3000\", \"http://b.internal:80\", \"c:81\"]\n\nroutes:\n  - name: all\n    \
         upstream: main\n"
    );
}

#[test]
fn proxy_serves_the_built_in_contract_of_the_option() {
    let arguments = ["proxy", "--to", "127.0.0.1:3000", "--contract", "problem", "--print-config"];
    let (status, printed, _) = run(&arguments, &[]);
    assert_eq!(status, Some(0));
    assert!(printed.contains("\ncontract: problem\n"), "{printed}");
    let (status, _, error) = run(&["proxy", "--to", "127.0.0.1:3000", "--contract", "problm"], &[]);
    assert!(status == Some(2) && error.contains("appwrite, appwrite-current, problem"), "{error}");
}

#[test]
fn proxy_replies_for_an_unreachable_server() {
    let upstream = refusing_port();
    let to = upstream.address().to_string();
    let gateway =
        Gateway::from_command(&["proxy", "--from", "127.0.0.1:0", "--telemetry", "127.0.0.1:0", "--to", &to]);
    gateway.client().get("/").assert_local_reply(504);
}

#[test]
fn proxy_applies_the_limit_option_per_client() {
    let upstream = ok_upstream("fine");
    let to = upstream.address().to_string();
    let addresses = ["--from", "127.0.0.1:0", "--telemetry", "127.0.0.1:0", "--to", &to];
    let gateway = Gateway::from_command(&[&["proxy", "--limit", "2 per 1h"][..], &addresses].concat());
    let mut client = gateway.client();
    client.get("/").assert_response(200, "fine");
    client.get("/").assert_response(200, "fine");
    let response = client.get("/");
    response.assert_local_reply(429);
    assert_eq!(
        (response.header("x-ratelimit-limit"), response.header("retry-after")),
        (Some("2"), Some("1800"))
    );
    assert_eq!(upstream.request_count(), 2);
}

#[test]
fn invalid_proxy_options_exit_2_with_a_help_line() {
    for (arguments, diagnostics) in [
        (&["--from", "8080", "--to", "a:1"][..], "write \":8080\""),
        (&["--to", "nonsense"], "write \"nonsense:8000\""),
        (&["--to", "a:1", "--timeout", "15"], "write 15s"),
        (&["--to", "a:1", "--limit", "100 per minute"], "write 100 per 1m"),
        (&["--to", "a:1", "--telemetry", "x"], "is not a listen address"),
        (&["--to", "a:1", "--limit", "5 per 400d"], "use a period of at most 365d, for example 5 per 365d"),
        (&["--to", "a:1", "--limit", "0 per 1m"], "--limit: \"0 per 1m\" would deny every request; write"),
        (&["--to", "a:1", "--limit", "4000000000 per 1ms"], "for example --limit \"100 per 1m\""),
        (&["--to", "a:1", "--timeout", "0s"], "--timeout: the duration must be greater than 0; write"),
        (&["--to", "a:1", "--to", "http://a:1/"], "--to: a:1 is listed twice; write each server once"),
        (&["--to", "a:1", "--to", "https://b:1"], "--to: a:1 does not use TLS"),
        (&["--to", "a:1", "--from", "127.0.0.1:9464"], "for example --telemetry 127.0.0.1:9465"),
        (&["--to", "a:1", "--telemetry", "127.0.0.1:8080"], "for example --telemetry 127.0.0.1:9464"),
        (&[], "--to"),
    ] {
        let (status, out, err) = run(&[&["proxy"], arguments].concat(), &[]);
        assert_eq!((status, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.contains(diagnostics) && !err.contains("proxy.yaml"), "{arguments:?}: {err}");
        assert_eq!(err.matches("error: ").count(), 1, "{arguments:?}: {err}");
    }
}

#[test]
fn simulate_reports_an_unreadable_log_with_a_help_line() {
    let folder = TestFolder::new();
    let file = folder.path("statusquo.yaml").display().to_string();
    assert_eq!(run(&["init", &file], &[]).0, Some(0));
    let directory = folder.path("").display().to_string();
    for (log, expected) in [
        (
            "nope",
            "cannot read nope: no such file; pass the path of an access log, or `--log -` for standard input",
        ),
        (&directory, "it is a directory; pass the path of a log file in it"),
    ] {
        let (status, out, diagnostics) = run(&["limits", "simulate", "--log", log, &file], &[]);
        assert_eq!((status, out.as_str()), (Some(1), ""), "{diagnostics}");
        assert!(diagnostics.contains(expected) && !diagnostics.contains("os error"), "{diagnostics}");
    }
}

#[test]
fn init_writes_a_valid_file_and_never_overwrites() {
    let folder = TestFolder::new();
    let file = folder.path("new.yaml");
    let file = file.to_str().unwrap();
    let (status, out, diagnostics) = run(&["init", file], &[]);
    assert_eq!((status, out.as_str()), (Some(0), ""), "{diagnostics}");
    assert!(diagnostics.contains(&format!("statusquo run {file}")), "{diagnostics}");
    assert_eq!(run(&["check", file], &[]).0, Some(0));

    let written = std::fs::read_to_string(file).unwrap();
    let (status, printed, _) = run(&["init", "-"], &[]);
    assert_eq!((status, &printed), (Some(0), &written));

    std::fs::write(file, "mine").unwrap();
    let (status, _, diagnostics) = run(&["init", file], &[]);
    assert_eq!(status, Some(1));
    assert!(
        diagnostics.contains("already exists") && diagnostics.trim().lines().count() == 1,
        "{diagnostics}"
    );
    assert_eq!(std::fs::read_to_string(file).unwrap(), "mine");
}

#[test]
fn commented_parts_of_the_init_file_are_valid_when_uncommented() {
    let (_, printed, _) = run(&["init", "-"], &[]);
    let taken_in = |line: &str| {
        let (spaces, rest) = line.split_at(line.len() - line.trim_start().len());
        let key = rest
            .strip_prefix("# ")
            .filter(|rest| rest.contains(": ") || rest.ends_with(':') || rest.contains("- {"));
        let is_key = |text: &&str| {
            text.trim_start_matches([' ', '-', '{']).split(':').next().is_some_and(|word| {
                !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            })
        };
        match key.filter(is_key).filter(|text| !text.starts_with("statusquo")) {
            Some(text) => format!("{spaces}{text}\n"),
            None => format!("{line}\n"),
        }
    };
    let all: String = printed.lines().map(taken_in).collect();
    assert!(all.lines().any(|line| line.starts_with("log: {")), "{all}");
    let folder = TestFolder::new();
    let file = folder.write("all.yaml", &all);
    let (status, _, diagnostics) = run(&["check", file.to_str().unwrap()], &[]);
    assert_eq!(status, Some(0), "{diagnostics}\n{all}");
}

/// Runs an independent YAML and JSON Schema validator on these files; returns its errors.
fn run_validator(arguments: &[&str]) -> Result<(), String> {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let installed = Command::new(".ci/packages").output().unwrap();
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    });
    let output =
        Command::new("target/packages/python/bin/check-jsonschema").args(arguments).output().unwrap();
    let diagnostics = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    match output.status.code() {
        Some(0) => Ok(()),
        Some(1) if diagnostics.contains("Schema validation errors") => Err(diagnostics),
        other => panic!("{other:?}: {diagnostics}"),
    }
}

/// Validates one text with the printed schema.
fn validate_text(folder: &TestFolder, yaml: &str) -> Result<(), String> {
    let instance = folder.write("instance.yaml", yaml);
    run_validator(&["--schemafile", SCHEMA_PATH, instance.to_str().unwrap()])
}

const SCHEMA_PATH: &str = "docs/config.schema.json";

#[test]
fn schema_is_valid_for_an_independent_validator() {
    assert_eq!(run_validator(&["--check-metaschema", SCHEMA_PATH]), Ok(()));
}

#[test]
fn independent_validator_accepts_every_example_by_the_schema() {
    let folder = TestFolder::new();
    let mut texts: Vec<(String, String)> = Vec::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            texts.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(texts.len() >= 2, "{texts:?}");
    texts.push(("init".to_owned(), run(&["init", "-"], &[]).1));
    texts.push((
        "proxy".to_owned(),
        run(&["proxy", "--to", "a:1", "--timeout", "1s", "--limit", "9 per 1s", "--print-config"], &[]).1,
    ));
    for (name, text) in texts {
        assert_eq!(validate_text(&folder, &text), Ok(()), "{name}");
    }
}

#[test]
fn independent_validator_rejects_by_the_schema_what_check_rejects() {
    const VALID_CONFIG: &str = include_str!("../../config/minimal.yaml");
    let folder = TestFolder::new();
    for (yaml, diagnostics) in [
        (VALID_CONFIG.replace("listen:\n  - address: \":8080\"\n", ""), "listen"),
        (VALID_CONFIG.replace("upstream: app", "upstraem: app"), "upstraem"),
        (format!("{VALID_CONFIG}timeouts: {{ deadline: 5 }}\n"), "timeouts"),
        (format!("{VALID_CONFIG}timeouts: {{ deadline: 5 seconds }}\n"), "5 seconds"),
        (format!("{VALID_CONFIG}client: {{ max_body: 10M }}\n"), "10M"),
        (format!("{VALID_CONFIG}log: {{ level: loud }}\n"), "loud"),
        (VALID_CONFIG.replace("127.0.0.1:3000", "127.0.0.1"), "servers"),
        (VALID_CONFIG.replace("version: 1", "version: one"), "one"),
        (format!("{VALID_CONFIG}rate_limits: {{ a: {{ allow: 100 per minute }} }}\n"), "100 per minute"),
        (VALID_CONFIG.replace("version: 1", "admin: { address: 127.0.0.1:9465 }"), "admin"),
    ] {
        let file = folder.write("statusquo.yaml", &yaml);
        assert_eq!(run(&["check", file.to_str().unwrap()], &[]).0, Some(78), "{yaml}");
        let refused = validate_text(&folder, &yaml).expect_err(&yaml);
        assert!(refused.contains(diagnostics), "{refused}");
    }
}

#[test]
fn independent_validator_treats_variables_and_empty_keys_like_check() {
    let folder = TestFolder::new();
    let yaml = "version: ${VERSION:-1}\nworkers: 2\nlisten:\n  - address: \"0.0.0.0:${PORT:-8080}\"\n    h2c: ${H2C:-false}\n\
        client:\nlog: { level: \"${LEVEL:-info}\" }\ntimeouts: { deadline: \"${TOTAL:-5s}\", max_duration: off }\n\
        upstreams: { a: { servers: [\"${SERVER:-b:1}\"], keepalive: { max: \"${MAX:-1}\" } } }\n\
        routes: [{ name: a, upstream: a, errors: { overrides: [{ when: { cause: [dns_error], upstream: a }, code: 503 }, \
        { when: { upstream_status: [405, 406] }, code: 404 }] } }]\n";
    let file = folder.write("statusquo.yaml", yaml);
    let (status, _, diagnostics) = run(&["check", file.to_str().unwrap()], &[]);
    assert_eq!(status, Some(0), "{diagnostics}");
    assert_eq!(validate_text(&folder, yaml), Ok(()));
}

#[test]
fn printed_schema_equals_the_committed_one() {
    let (status, printed, _) = run(&["schema"], &[]);
    assert_eq!((status, printed.as_str()), (Some(0), include_str!("../../docs/config.schema.json")));
}

#[test]
fn commands_all_have_help() {
    let (status, help, _) = run(&["--help"], &[]);
    assert_eq!(status, Some(0));
    let (_, after) = help.split_once("Commands:\n").unwrap();
    let commands: Vec<&str> = after
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() >= 10, "{commands:?}");
    let (_, page, _) = run(&["man"], &[]);
    for command in commands {
        let (status, help, _) = run(&[command, "--help"], &[]);
        assert!(status == Some(0) && help.contains("Usage: statusquo"), "{command}: {help}");
        assert!(
            page.contains(&format!(".SH \"{}\"", command.to_uppercase())),
            "{command} is not in the manual page"
        );
    }
}

#[test]
fn completions_are_generated_for_common_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let (status, printed, _) = run(&["completions", shell], &[]);
        assert_eq!(status, Some(0));
        assert!(printed.contains("upstream-status"), "{shell}");
    }
    assert_eq!(run(&["completions", "abacus"], &[]).0, Some(2));
}
