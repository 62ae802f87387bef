//! Lookups against scripted name servers.

use std::net::SocketAddr;
use std::path::Path;

use super::name_state::FamilyAnswer;
use super::*;
use crate::conformance::{NameQuestion, NameRecord, NameReply, RecordType, ScriptedNameServer};

const REFRESH: Duration = Duration::from_secs(30);
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const REFUSED: u8 = 5;

fn name_server(script: impl Fn(&NameQuestion) -> NameReply + Send + Sync + 'static) -> ScriptedNameServer {
    ScriptedNameServer::start(script).unwrap()
}

/// A folder that is removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("statusquo-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn resolver(servers: &[SocketAddr], hosts: &Path) -> Resolver {
    let source = NameSource::NameServers(servers.to_vec());
    Resolver::with_files(source, REFRESH, hosts.to_owned(), "/nonexistent".into())
}

async fn lookup(servers: &[&ScriptedNameServer], host: &str) -> NameAnswer {
    let servers: Vec<SocketAddr> = servers.iter().map(|server| server.address()).collect();
    resolver(&servers, Path::new("/nonexistent")).lookup(host).await
}

fn addresses(ttl: u64, texts: &[&str]) -> FamilyAnswer {
    let addresses = texts.iter().map(|text| text.parse().unwrap()).collect();
    FamilyAnswer::Addresses { addresses, ttl: Duration::from_secs(ttl) }
}

#[tokio::test]
async fn both_families_are_asked_and_have_their_ttl() {
    let server = name_server(|question| match question.question_type {
        RecordType::A => NameReply::addresses("db.test", 0, &["10.0.0.1", "10.0.0.2"]),
        _ => NameReply::addresses("db.test", 7, &["fd00::1"]),
    });
    let answer = lookup(&[&server], "DB.test").await;
    assert_eq!(
        answer,
        NameAnswer { v4: addresses(0, &["10.0.0.1", "10.0.0.2"]), v6: addresses(7, &["fd00::1"]) }
    );
    assert!(server.questions().iter().all(|question| question.name == "db.test" && !question.tcp));
}

#[tokio::test]
async fn absent_name_is_empty_and_answers_of_one_family_are_enough() {
    let server = name_server(|question| match question.question_type {
        RecordType::A if question.name == "four.test" => NameReply::addresses("four.test", 5, &["10.0.0.1"]),
        _ if question.name == "gone.test" => NameReply::Code(NXDOMAIN),
        _ => NameReply::Records(Vec::new()),
    });
    let gone = lookup(&[&server], "gone.test").await;
    assert_eq!(gone, NameAnswer { v4: FamilyAnswer::Empty, v6: FamilyAnswer::Empty });
    assert_eq!(gone.failure(), Some(LookupFailure::Error));
    let four = lookup(&[&server], "four.test").await;
    assert_eq!(four, NameAnswer { v4: addresses(5, &["10.0.0.1"]), v6: FamilyAnswer::Empty });
}

#[tokio::test]
async fn server_that_fails_or_is_silent_is_followed_by_the_next() {
    let good = name_server(|_| NameReply::addresses("db.test", 5, &["10.0.0.1"]));
    for reply in [NameReply::Code(SERVFAIL), NameReply::Code(REFUSED), NameReply::Silence] {
        let script = reply.clone();
        let bad = name_server(move |_| script.clone());
        let answer = lookup(&[&bad, &good], "db.test").await;
        assert_eq!(answer.v4, addresses(5, &["10.0.0.1"]), "{reply:?}");
        assert!(!bad.questions().is_empty());
    }
}

#[tokio::test]
async fn errors_and_silence_are_distinguished() {
    for (reply, failure) in
        [(NameReply::Code(SERVFAIL), LookupFailure::Error), (NameReply::Silence, LookupFailure::TimedOut)]
    {
        let script = reply.clone();
        let server = name_server(move |_| script.clone());
        assert_eq!(lookup(&[&server], "db.test").await, NameAnswer::failed(failure), "{reply:?}");
    }
}

#[tokio::test]
async fn truncated_response_is_asked_for_again_over_tcp() {
    let many: Vec<String> = (1..=60).map(|last| format!("10.0.0.{last}")).collect();
    let server = name_server(move |question| match (question.tcp, question.question_type) {
        (false, RecordType::A) => NameReply::Truncated,
        (true, RecordType::A) => {
            NameReply::addresses("big.test", 5, &many.iter().map(String::as_str).collect::<Vec<_>>())
        }
        _ => NameReply::Records(Vec::new()),
    });
    let FamilyAnswer::Addresses { addresses, .. } = lookup(&[&server], "big.test").await.v4 else {
        panic!("no addresses")
    };
    assert_eq!(addresses.len(), 60);
}

#[tokio::test]
async fn alias_chains_are_followed_and_loops_end() {
    let record = |owner: &str, ttl, data| NameRecord { owner: owner.to_owned(), ttl, data };
    let server = name_server(move |question| match (question.question_type, question.name.as_str()) {
        (_, "www.test") => NameReply::Records(vec![record("www.test", 3, Err("edge.test".to_owned()))]),
        (RecordType::A, "edge.test") => NameReply::Records(vec![
            record("edge.test", 60, Err("host.test".to_owned())),
            record("host.test", 90, Ok([10, 0, 0, 7].into())),
        ]),
        (RecordType::A, "host.test") => {
            NameReply::Records(vec![record("host.test", 90, Ok([10, 0, 0, 7].into()))])
        }
        (_, "loop.test") => NameReply::Records(vec![record("loop.test", 3, Err("loop.test".to_owned()))]),
        _ => NameReply::Records(Vec::new()),
    });
    let FamilyAnswer::Addresses { addresses, ttl } = lookup(&[&server], "www.test").await.v4 else {
        panic!("no addresses")
    };
    assert_eq!(addresses, ["10.0.0.7".parse::<std::net::IpAddr>().unwrap()]);
    assert!(ttl <= Duration::from_secs(60), "{ttl:?}");
    assert!(!lookup(&[&server], "loop.test").await.has_addresses());
}

#[tokio::test]
async fn hosts_file_comes_first_and_is_read_again_when_it_changes() {
    let folder = Folder::new("hosts");
    let hosts = folder.write("hosts", "10.1.1.1 db.test\n");
    let server = name_server(|_| NameReply::addresses("db.test", 5, &["10.0.0.1"]));
    let resolver = resolver(&[server.address()], &hosts);
    assert_eq!(resolver.lookup("db.test").await.v4, addresses(30, &["10.1.1.1"]));
    assert!(!resolver.has_changed());
    assert_eq!(server.questions(), [], "a name of the hosts file is not asked for");
    folder.write("hosts", "10.1.1.200 db.test\n");
    assert!(resolver.has_changed());
    assert_eq!(resolver.lookup("db.test").await.v4, addresses(30, &["10.1.1.200"]));
    folder.write("hosts", "");
    assert_eq!(resolver.lookup("db.test").await.v4, addresses(5, &["10.0.0.1"]));
}

#[test]
fn resolv_conf_names_servers_search_domains_and_options() {
    let read = |text: &str| format!("{:?}", NameServers::from_resolv_conf(text.as_bytes()).unwrap());
    let text = read(
        "# comment\nnameserver 10.0.0.53\nnameserver fd00::53\nsearch ns.svc.test svc.test\n\
         options ndots:5 timeout:1 attempts:3\n",
    );
    for part in ["10.0.0.53:53", "[fd00::53]:53", "ns.svc.test", "ndots: 5", "timeout: 1s", "rounds: 3"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(
        read("nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4\n")
            .contains("1.1.1.3:53]"),
        "at most three"
    );
    assert!(read("search a.test\n").contains("127.0.0.1:53"), "without a name server, that of the machine");
    assert!(read("").contains("timeout: 2s"), "5 s is too long to wait for the next server");
}

#[tokio::test]
async fn names_reserved_by_rfc_6761_never_reach_a_name_server() {
    let server = name_server(|_| NameReply::Code(SERVFAIL));
    assert_eq!(lookup(&[&server], "nowhere.invalid").await.failure(), Some(LookupFailure::Error));
    assert!(lookup(&[&server], "app.localhost").await.has_addresses());
    assert_eq!(server.questions(), []);
}

#[tokio::test]
async fn search_domains_are_tried_in_order_and_failures_do_not_hide_later_ones() {
    let server = name_server(|question| match question.name.as_str() {
        "db.broken.test" => NameReply::Code(SERVFAIL),
        "db.ns.test" => NameReply::addresses("db.ns.test", 5, &["10.0.0.1"]),
        "db" => NameReply::addresses("db", 5, &["10.9.9.9"]),
        _ => NameReply::Code(NXDOMAIN),
    });
    let domains = ["other.test", "broken.test", "ns.test"].map(str::to_owned).to_vec();
    let servers = NameServers::of(&[server.address()], SearchRules { domains, ndots: 1 }).unwrap();
    assert_eq!(servers.lookup("db").await.v4, addresses(5, &["10.0.0.1"]));
    assert_eq!(servers.lookup("db.").await.v4, addresses(5, &["10.9.9.9"]));
    let absent = servers.lookup("gone").await;
    assert_eq!(absent, NameAnswer { v4: FamilyAnswer::Empty, v6: FamilyAnswer::Empty });
}
