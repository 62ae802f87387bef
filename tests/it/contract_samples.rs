//! The contracts of public APIs in `config/contracts`: each file is valid and passes `verify`, and documented error
//! bodies of the API lose nothing.
//!
//! `NAME.samples` has one file per body, named STATUS-CASE.json; CASE.headers has further fields of the upstream's
//! response. The client gets the same bytes, or those of CASE.sent: a 5xx whose text may not pass, or a body that the
//! gateway completes.

use std::net::TcpStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::prelude::*;
use super::response_reader::StrictReader;

const APIS: [&str; 10] = [
    "anthropic",
    "github",
    "google",
    "json-api",
    "kubernetes",
    "oauth2",
    "openai",
    "problem",
    "stripe",
    "twilio",
];

/// The `X-Request-Id` of every request, so that bodies which contain it are known.
const REQUEST_ID: &str = "sample-request";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/contracts")
}

fn file(api: &str) -> String {
    folder().join(format!("{api}.yaml")).display().to_string()
}

/// An error response of the API's documentation.
#[derive(Clone, Debug)]
struct ApiSample {
    name: String,
    status: u16,
    fields: Vec<(String, String)>,
    body: String,
    sent: Option<String>,
}

impl ApiSample {
    fn read(path: &Path) -> ApiSample {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let fields = std::fs::read_to_string(path.with_extension("headers")).unwrap_or_default();
        let field =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        ApiSample {
            status: name.split('-').next().unwrap().parse().expect("the name begins with the status"),
            fields: fields.lines().map(|line| field(line).expect(line)).collect(),
            body: std::fs::read_to_string(path).unwrap(),
            sent: std::fs::read_to_string(path.with_extension("sent")).ok(),
            name,
        }
    }

    fn response(&self, media_type: &str) -> Step {
        let mut head = format!("{} Sample\ncontent-type: {media_type}", self.status);
        for (name, value) in &self.fields {
            head.push_str(&format!("\n{name}: {value}"));
        }
        Step::Write(http_response(&head, &self.body))
    }
}

fn samples(api: &str) -> Vec<ApiSample> {
    let mut paths: Vec<_> = std::fs::read_dir(folder().join(format!("{api}.samples")))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    paths.iter().map(|path| ApiSample::read(path)).collect()
}

fn media_type(configuration: &str) -> &str {
    let line = configuration.lines().find_map(|line| line.trim().strip_prefix("media_type: "));
    line.unwrap_or("application/json")
}

/// The configuration with free ports and this upstream.
fn configuration(api: &str, upstream: std::net::SocketAddr) -> String {
    let text = std::fs::read_to_string(file(api)).unwrap();
    let text = text.replace("127.0.0.1:3000", &upstream.to_string()).replace(":8080", "127.0.0.1:0");
    format!("{text}\ntelemetry: {{ address: \"127.0.0.1:0\" }}\nclient: {{ trusted_proxies: [127.0.0.1] }}\n")
}

/// Sends a request on a new connection. The other clients of these tests check the default contract.
fn get(gateway: &Gateway, target: &str) -> HttpResponse {
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    stream.set_read_timeout(Some(limit())).unwrap();
    let request =
        format!("GET {target} HTTP/1.1\r\nhost: api.example.com\r\nx-request-id: {REQUEST_ID}\r\n\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    StrictReader::new(stream).read(SentRequest::Http11("GET")).unwrap()
}

#[track_caller]
fn every_sample_arrives_whole(api: &str) {
    let samples = samples(api);
    assert!(samples.len() >= 8, "{api}: {} samples", samples.len());
    let media_type = media_type(&std::fs::read_to_string(file(api)).unwrap()).to_owned();
    let (sent, of_upstream) = (samples.clone(), media_type.clone());
    let upstream = by_request(move |request| {
        let number: usize = request.path().trim_start_matches('/').parse().unwrap();
        vec![Step::ReadRequestHead, sent[number].response(&of_upstream)]
    });
    let folder = TestFolder::new();
    let file = folder.write("statusquo.yaml", &configuration(api, upstream.address()));
    let gateway = Gateway::from_command(&["run", file.to_str().unwrap()]);
    let mut wrong = Vec::new();
    for (number, sample) in samples.iter().enumerate() {
        let response = get(&gateway, &format!("/{number}"));
        let expected = sample.sent.as_ref().unwrap_or(&sample.body);
        let found = (response.status, response.header("content-type"), response.text());
        if found != (sample.status, Some(&*media_type), expected.clone()) {
            wrong.push(format!("{}: {found:?}\n  instead of {expected:?}", sample.name));
        }
        let is_kept = |name: &str| sample.sent.is_none() || name.eq_ignore_ascii_case("retry-after");
        for (name, value) in sample.fields.iter().filter(|(name, _)| is_kept(name)) {
            if response.header(&name.to_ascii_lowercase()) != Some(value) {
                wrong.push(format!("{}: {name}: {:?}", sample.name, response.header(name)));
            }
        }
    }
    assert!(wrong.is_empty(), "{api}:\n{}", wrong.join("\n"));
}

#[test]
fn documented_errors_of_public_apis_lose_no_member() {
    APIS.iter().for_each(|api| every_sample_arrives_whole(api));
}

#[test]
fn every_contract_file_has_samples_and_is_tested() {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().into_string().unwrap().strip_suffix(".yaml").map(str::to_owned)
        })
        .collect();
    names.sort();
    assert_eq!(names, APIS);
}

#[test]
fn contracts_of_public_apis_are_valid_without_warnings() {
    for api in APIS {
        let (status, out, err) = super::gateway::run(&["check", "--format", "json", &file(api)], &[]);
        let report: Value =
            serde_json::from_str(&out).unwrap_or_else(|error| panic!("{api}: {error}: {err}"));
        let warnings = report["warnings"].as_array().unwrap().iter();
        // A contract may name a cause before something raises it.
        let is_of_the_contract =
            |warning: &&Value| !warning["message"].as_str().unwrap().contains("is reserved");
        let warnings: Vec<_> = warnings.filter(is_of_the_contract).collect();
        assert!(status == Some(0) && warnings.is_empty(), "{api}: {report:#}");
    }
}
