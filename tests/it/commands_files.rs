//! Commands around the configuration file: `proxy` does without one, `init` writes one, `schema` says what may be in one.

use std::path::Path;
use std::process::Command;
use std::sync::Once;

use super::gateway::{Folder, Gateway, run};
use super::upstreams::{ok, refusing};

#[test]
fn proxy_serves_as_run_does_with_the_file_that_it_prints() {
    let upstream = ok("fine");
    let to = upstream.address().to_string();
    let arguments = ["--from", "127.0.0.1:0", "--telemetry", "127.0.0.1:0", "--to", &to, "--timeout", "2s"];
    let (status, printed, _) = run(&[&["proxy", "--print-config"][..], &arguments].concat(), &[]);
    assert_eq!(status, Some(0));
    let folder = Folder::new();
    let file = folder.write("statusquo.yaml", &printed);
    for command in [&[&["proxy"][..], &arguments].concat(), &vec!["run", file.to_str().unwrap()]] {
        let gateway = Gateway::by_command(command);
        gateway.client().get("/anything").is(200, "fine");
        gateway.expect_metric("responses_total", &[("route", "all"), ("code", "200")], 1.0);
    }
}

#[test]
fn what_proxy_prints_is_the_least_that_says_it() {
    let arguments =
        ["proxy", "--to", "127.0.0.1:3000", "--to", "http://b.internal:80,c:81", "--timeout", "9s"];
    let (status, printed, _) = run(&[&arguments[..], &["--print-config"]].concat(), &[]);
    assert_eq!(status, Some(0));
    assert_eq!(
        printed,
        "version: 1\n\nlisten:\n  - address: \":8080\"\n\ntimeouts:\n  response_head: 9s\n  total: 9s\n\nupstreams:\n  \
         main:\n    servers: [\"127.0.0.1:3000\", \"http://b.internal:80\", \"c:81\"]\n\nroutes:\n  - name: all\n    \
         upstream: main\n"
    );
}

#[test]
fn proxy_answers_for_a_server_that_is_not_there() {
    let upstream = refusing();
    let to = upstream.address().to_string();
    let gateway =
        Gateway::by_command(&["proxy", "--from", "127.0.0.1:0", "--telemetry", "127.0.0.1:0", "--to", &to]);
    gateway.client().get("/").is_made(504);
}

#[test]
fn proxy_limits_each_client_to_what_it_is_told() {
    let upstream = ok("fine");
    let to = upstream.address().to_string();
    let addresses = ["--from", "127.0.0.1:0", "--telemetry", "127.0.0.1:0", "--to", &to];
    let gateway = Gateway::by_command(&[&["proxy", "--limit", "2 per 1h"][..], &addresses].concat());
    let mut client = gateway.client();
    client.get("/").is(200, "fine");
    client.get("/").is(200, "fine");
    let answer = client.get("/");
    answer.is_made(429);
    assert_eq!((answer.field("x-ratelimit-limit"), answer.field("retry-after")), (Some("2"), Some("1800")));
    assert_eq!(upstream.request_count(), 2);
}

#[test]
fn options_of_proxy_that_make_no_sense_are_status_2_with_a_remedy() {
    for (arguments, said) in [
        (&["--from", "8080", "--to", "a:1"][..], "write \":8080\""),
        (&["--to", "nonsense"], "write \"nonsense:8000\""),
        (&["--to", "a:1", "--timeout", "15"], "write 15s"),
        (&["--to", "a:1", "--limit", "100 per minute"], "write 100 per 1m"),
        (&["--to", "a:1", "--telemetry", "x"], "not an address to listen on"),
        (&[], "--to"),
    ] {
        let (status, out, err) = run(&[&["proxy"], arguments].concat(), &[]);
        assert_eq!((status, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.contains(said), "{arguments:?}: {err}");
    }
}

#[test]
fn init_writes_a_file_that_check_accepts_and_never_over_another() {
    let folder = Folder::new();
    let file = folder.path("new.yaml");
    let file = file.to_str().unwrap();
    let (status, out, said) = run(&["init", file], &[]);
    assert_eq!((status, out.as_str()), (Some(0), ""), "{said}");
    assert!(said.contains(&format!("statusquo run {file}")), "{said}");
    assert_eq!(run(&["check", file], &[]).0, Some(0));

    let written = std::fs::read_to_string(file).unwrap();
    let (status, printed, _) = run(&["init", "-"], &[]);
    assert_eq!((status, &printed), (Some(0), &written));

    std::fs::write(file, "mine").unwrap();
    let (status, _, said) = run(&["init", file], &[]);
    assert_eq!(status, Some(1));
    assert!(said.contains("is there already") && said.trim().lines().count() == 1, "{said}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "mine");
}

#[test]
fn what_init_leaves_out_can_be_taken_in_by_removing_the_mark() {
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
    let folder = Folder::new();
    let file = folder.write("all.yaml", &all);
    let (status, _, said) = run(&["check", file.to_str().unwrap()], &[]);
    assert_eq!(status, Some(0), "{said}\n{all}");
}

/// What an independent validator, which reads YAML by itself, says about these files: nothing, or its complaints.
fn validated(arguments: &[&str]) -> Result<(), String> {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let installed = Command::new(".ci/packages").output().unwrap();
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    });
    let output =
        Command::new("target/packages/python/bin/check-jsonschema").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    match output.status.code() {
        Some(0) => Ok(()),
        Some(1) if said.contains("Schema validation errors") => Err(said),
        other => panic!("{other:?}: {said}"),
    }
}

/// The same, of one text by our schema.
fn validated_text(folder: &Folder, yaml: &str) -> Result<(), String> {
    let instance = folder.write("instance.yaml", yaml);
    validated(&["--schemafile", SCHEMA, instance.to_str().unwrap()])
}

const SCHEMA: &str = "docs/config.schema.json";

#[test]
fn an_independent_validator_finds_our_schema_to_be_one() {
    assert_eq!(validated(&["--check-metaschema", SCHEMA]), Ok(()));
}

#[test]
fn an_independent_validator_accepts_every_example_by_our_schema() {
    let folder = Folder::new();
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
        assert_eq!(validated_text(&folder, &text), Ok(()), "{name}");
    }
}

#[test]
fn an_independent_validator_refuses_by_our_schema_what_check_refuses() {
    const GOOD: &str = include_str!("../../config/minimal.yaml");
    let folder = Folder::new();
    for (yaml, said) in [
        (GOOD.replace("listen:\n  - address: \":8080\"\n", ""), "listen"),
        (GOOD.replace("upstream: app", "upstraem: app"), "upstraem"),
        (format!("{GOOD}timeouts: {{ total: 5 }}\n"), "timeouts"),
        (format!("{GOOD}timeouts: {{ total: 5 seconds }}\n"), "5 seconds"),
        (format!("{GOOD}client: {{ max_body: 10M }}\n"), "10M"),
        (format!("{GOOD}log: {{ level: loud }}\n"), "loud"),
        (GOOD.replace("127.0.0.1:3000", "127.0.0.1"), "servers"),
        (GOOD.replace("version: 1", "version: one"), "one"),
        (format!("{GOOD}rate_limits: {{ a: {{ allow: 100 per minute }} }}\n"), "100 per minute"),
        (GOOD.replace("version: 1", "admin: { address: 127.0.0.1:9465 }"), "admin"),
    ] {
        let file = folder.write("statusquo.yaml", &yaml);
        assert_eq!(run(&["check", file.to_str().unwrap()], &[]).0, Some(78), "{yaml}");
        let refused = validated_text(&folder, &yaml).expect_err(&yaml);
        assert!(refused.contains(said), "{refused}");
    }
}

#[test]
fn an_independent_validator_takes_variables_and_empty_keys_as_check_does() {
    let folder = Folder::new();
    let yaml = "version: ${VERSION:-1}\nworkers: 2\nlisten:\n  - address: \"0.0.0.0:${PORT:-8080}\"\n    h2c: ${H2C:-false}\n\
        client:\nlog: { level: \"${LEVEL:-info}\" }\ntimeouts: { total: \"${TOTAL:-5s}\", whole: off }\n\
        upstreams: { a: { servers: [\"${SERVER:-b:1}\"], keepalive: { max: \"${MAX:-1}\" } } }\n\
        routes: [{ name: a, upstream: a, errors: { overrides: [{ when: { cause: [dns_error], upstream: a }, code: 503 }, \
        { when: { upstream_status: [405, 406] }, code: 404 }] } }]\n";
    let file = folder.write("statusquo.yaml", yaml);
    let (status, _, said) = run(&["check", file.to_str().unwrap()], &[]);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(validated_text(&folder, yaml), Ok(()));
}

#[test]
fn the_schema_that_is_printed_is_the_committed_one() {
    let (status, printed, _) = run(&["schema"], &[]);
    assert_eq!((status, printed.as_str()), (Some(0), include_str!("../../docs/config.schema.json")));
}

#[test]
fn every_command_explains_itself() {
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
fn completions_are_made_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let (status, printed, _) = run(&["completions", shell], &[]);
        assert_eq!(status, Some(0));
        assert!(printed.contains("upstream-status"), "{shell}");
    }
    assert_eq!(run(&["completions", "abacus"], &[]).0, Some(2));
}
