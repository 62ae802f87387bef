//! More than there is room for: at an upstream, in its queue, in the listeners, in the process. Whoever is refused reads a
//! documented 503 that says when to return, and no upstream sees anything of it.

use std::time::{Duration, Instant};

use statusquo::rehearse::{Gate, Script, ScriptedUpstream, UpstreamStep, http_response, write_bytes};

use super::client::Client;
use super::gateway::{Gateway, Setup};
use super::load::limit;
use super::reader::{Answer, Asked, Ended};
use super::upstreams::{by_request, ok};

/// Waits for the gate under `/held`, answers everything else at once with its path.
fn held(gate: &Gate) -> ScriptedUpstream {
    let gate = gate.clone();
    by_request(move |request| {
        let answer = UpstreamStep::Write(http_response("200 OK", request.path()));
        if request.path().starts_with("/held") {
            vec![UpstreamStep::ReadBody, UpstreamStep::WaitForGate(gate.clone()), answer]
        } else {
            vec![UpstreamStep::ReadBody, answer]
        }
    })
}

fn limited(upstream: &ScriptedUpstream, concurrency: &str) -> Setup {
    Gateway::in_front_of(upstream).set("upstream.concurrency", &format!("{{ {concurrency} }}"))
}

/// Asks and does not wait for the answer.
fn begin(gateway: &Gateway, path: &str) -> Client {
    let mut client = gateway.client();
    client.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
    client
}

/// Asks and waits until the request stands in line as number `place`.
fn line_up(gateway: &Gateway, path: &str, place: u32) -> Client {
    let client = begin(gateway, path);
    gateway.expect_metric("requests_waiting", &[("upstream", "main")], f64::from(place));
    client
}

fn read(client: &mut Client) -> Answer {
    client.read(Asked::Http11("GET"))
}

#[test]
fn one_more_than_there_is_room_for_is_a_503_and_the_upstream_sees_nothing_of_it() {
    let gate = Gate::new();
    let upstream = held(&gate);
    let gateway = limited(&upstream, "max: 1, queue: 0").set("errors.retry_after", "7s").start();
    let mut first = begin(&gateway, "/held");
    assert!(upstream.wait_until(limit(), |seen| seen.requests().count() == 1));
    let mut second = gateway.client();
    for _ in 0..2 {
        let answer = second.get("/");
        answer.is_made(503);
        assert_eq!(answer.field("retry-after"), Some("7"), "nothing better is known yet: {answer:#?}");
        assert!(answer.connection_usable);
    }
    assert_eq!(upstream.request_count(), 1);
    let labels = [("upstream", "main")];
    gateway.expect_metric("concurrency_limit", &labels, 1.0);
    gateway.expect_metric("requests_in_flight", &labels, 1.0);
    gateway.expect_metric("shed_total", &[("upstream", "main"), ("cause", "queue_full")], 2.0);
    gateway.expect_metric("upstream_attempts_total", &labels, 0.0);
    let line = gateway.log_line(|line| line["cause"] == "queue_full");
    assert_eq!((&line["outcome"], &line["request_sent"]), (&"refused".into(), &"none".into()));
    gate.open();
    read(&mut first).is(200, "/held");
    gateway.expect_metric("requests_in_flight", &labels, 0.0);
    second.get("/later").is(200, "/later");
    gateway.expect_accounts_to_agree();
}

#[test]
fn who_waits_longer_than_the_limit_is_a_503_in_time() {
    let upstream = held(&Gate::new());
    let gateway = limited(&upstream, "max: 1, queue: 4, queue_timeout: 300ms").start();
    let _first = begin(&gateway, "/held");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    let begun = Instant::now();
    gateway.client().get("/").is_made(503);
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(295), "{waited:?}");
    gateway.expect_metric("errors_total", &[("cause", "queue_timeout"), ("code", "503")], 1.0);
    gateway.expect_metric("shed_total", &[("cause", "queue_timeout")], 1.0);
    gateway.expect_metric("requests_waiting", &[], 0.0);
    assert_eq!(upstream.request_count(), 1);
}

#[test]
fn waiting_is_part_of_the_total_time() {
    let upstream = held(&Gate::new());
    let gateway = limited(&upstream, "max: 1, queue: 1, queue_timeout: 9s").set("timeouts.total", "400ms");
    let gateway = gateway.set("timeouts.response_head", "400ms").set("timeouts.connect", "400ms");
    let gateway = gateway
        .route(
            "name: slow, match: { path: /held }, upstream: main, timeouts: { total: 9s, response_head: 9s }",
        )
        .route("name: rest, match: { path: \"/{*rest}\" }, upstream: main")
        .start();
    let _first = begin(&gateway, "/held");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    gateway.client().get("/").is_made(504);
    gateway.expect_metric("shed_total", &[("cause", "deadline_exceeded")], 1.0);
    assert_eq!(upstream.request_count(), 1);
}

#[test]
fn who_came_first_goes_first() {
    let gate = Gate::new();
    let upstream = held(&gate);
    let gateway = limited(&upstream, "max: 1, queue: 3, queue_timeout: 9s").start();
    let mut first = begin(&gateway, "/held");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    let mut waiting: Vec<Client> =
        (1..=3).map(|place| line_up(&gateway, &format!("/{place}"), place)).collect();
    begin(&gateway, "/4").read(Asked::Http11("GET")).is_made(503);
    gate.open();
    read(&mut first).is(200, "/held");
    for (client, place) in waiting.iter_mut().zip(1..) {
        read(client).is(200, &format!("/{place}"));
    }
    let seen = upstream.recording();
    let targets: Vec<_> = seen.requests().map(|request| request.head.target.as_str()).collect();
    assert_eq!(targets, ["/held", "/1", "/2", "/3"]);
}

#[test]
fn who_leaves_the_line_gives_his_place_to_the_next() {
    let gate = Gate::new();
    let upstream = held(&gate);
    let gateway = limited(&upstream, "max: 1, queue: 1, queue_timeout: 9s").start();
    let mut first = begin(&gateway, "/held");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    for leave in [Client::reset as fn(Client), drop] {
        leave(line_up(&gateway, "/left", 1));
        gateway.expect_metric("requests_waiting", &[], 0.0);
    }
    let mut third = line_up(&gateway, "/stayed", 1);
    gate.open();
    read(&mut first).is(200, "/held");
    read(&mut third).is(200, "/stayed");
    assert_eq!(upstream.recording().requests_for("/left"), 0);
    gateway.expect_metric("client_disconnects_total", &[], 2.0);
    gateway.expect_metric("closed_without_response_total", &[("cause", "client_gone")], 2.0);
    gateway.expect_metric("shed_total", &[], 0.0);
}

#[test]
fn a_permit_comes_back_whatever_the_end_of_the_request() {
    let chosen = |request: &statusquo::rehearse::RecordedHead| -> Script {
        let half = write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf");
        match request.path() {
            "/html" => {
                vec![UpstreamStep::Write(http_response("502 Bad Gateway\ncontent-type: text/html", "<p>"))]
            }
            "/json" => vec![UpstreamStep::Write(http_response(
                "404 No\ncontent-type: application/json",
                r#"{"message":"No.","code":404}"#,
            ))],
            "/close" => vec![UpstreamStep::Close],
            "/garbage" => vec![write_bytes("what?\r\n\r\n"), UpstreamStep::Close],
            "/hang" => vec![UpstreamStep::ReadUntilClose],
            "/cut" => vec![half, UpstreamStep::CloseAbruptly],
            "/half" => vec![half, UpstreamStep::ReadUntilClose],
            path => vec![UpstreamStep::Write(http_response("200 OK", path))],
        }
    };
    let upstream = by_request(chosen);
    // One at a time; a permit that is lost makes everybody after it wait for nothing.
    let gateway = limited(&upstream, "max: 1, queue: 1, queue_timeout: 3s")
        .set("timeouts.response_head", "300ms")
        .limit(Duration::from_secs(30))
        .start();
    let still_served = |after: &str| {
        let path = format!("/after{after}");
        gateway.client().get(&path).is(200, &path);
    };
    for (path, status) in [("/html", 504), ("/json", 404), ("/close", 504), ("/garbage", 504), ("/hang", 504)]
    {
        assert_eq!(gateway.client().get(path).status, status, "{path}");
        still_served(path);
    }
    let cut = gateway.client().get("/cut");
    assert!(matches!(cut.ended, Ended::Cut { .. } | Ended::Reset { .. }), "{cut:#?}");
    still_served("/cut");
    for leave in [Client::reset as fn(Client), drop] {
        let waiting = begin(&gateway, "/hang");
        gateway.expect_metric("requests_in_flight", &[], 1.0);
        leave(waiting);
        still_served("/gone");
        let mut reading = begin(&gateway, "/half");
        reading.wait_for("half");
        leave(reading);
        still_served("/gone-reading");
    }
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    gateway.expect_metric("shed_total", &[], 0.0);
}

#[test]
fn a_refused_connection_gives_its_permit_back_too() {
    let refusing = super::upstreams::refusing();
    let setup = Setup::of_servers(&[refusing.address()]);
    let gateway = setup.set("upstream.concurrency", "{ max: 1, queue: 0 }").start();
    let mut client = gateway.client();
    for _ in 0..3 {
        // Given back before the answer leaves: the upstream has no part in it.
        client.get("/").is_made(504);
    }
    gateway.expect_metric("shed_total", &[], 0.0);
}

#[test]
fn the_advice_is_made_of_the_line_and_of_how_long_requests_take() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = by_request(move |request| {
        let answer = UpstreamStep::Write(http_response("200 OK", request.path()));
        match request.path() {
            "/slow" => vec![UpstreamStep::Pause(Duration::from_millis(1200)), answer],
            "/held" => vec![UpstreamStep::WaitForGate(opened.clone()), answer],
            _ => vec![answer],
        }
    });
    let gateway = limited(&upstream, "max: 1, queue: 1, queue_timeout: 9s").start();
    let begun = Instant::now();
    gateway.client().get("/slow").is(200, "/slow");
    let took = begun.elapsed();
    let mut first = begin(&gateway, "/held");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    let mut second = line_up(&gateway, "/second", 1);
    let refused = gateway.client().get("/third");
    refused.is_made(503);
    // One waits, one turn more, and a turn takes 1.2 s, or as long as this client has seen.
    let advice: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((3..=(took * 2).as_secs() + 1).contains(&advice), "{took:?} {refused:#?}");
    gate.open();
    read(&mut first).is(200, "/held");
    read(&mut second).is(200, "/second");
}

#[test]
fn an_upload_that_waited_arrives_whole() {
    let gate = Gate::new();
    let upstream = held(&gate);
    let gateway = limited(&upstream, "max: 1, queue: 1, queue_timeout: 9s").start();
    let mut first = begin(&gateway, "/held");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    let body = "0123456789".repeat(30_000);
    let mut second = gateway.client();
    let mut writer = second.writer();
    let head = format!("POST /up HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
    std::thread::scope(|scope| {
        let message = head + &body;
        scope.spawn(move || std::io::Write::write_all(&mut writer, message.as_bytes()).unwrap());
        gateway.expect_metric("requests_waiting", &[], 1.0);
        gate.open();
        read(&mut first).is(200, "/held");
        second.read(Asked::Http11("POST")).is(200, "/up");
    });
    let seen = upstream.recording();
    let upload = seen.requests().find(|request| request.head.target == "/up").unwrap();
    assert!(upload.complete && upload.body == body.as_bytes());
}

#[test]
fn streams_of_http_2_are_held_to_the_same_limit() {
    let gate = Gate::new();
    let upstream = held(&gate);
    let gateway = limited(&upstream, "max: 2, queue: 1, queue_timeout: 9s").h2c().start();
    let answers = std::thread::scope(|scope| {
        let asking = scope.spawn(|| gateway.h2_client().get_all(&["/held"; 5]));
        gateway.expect_metric("shed_total", &[("cause", "queue_full")], 2.0);
        gate.open();
        asking.join().unwrap()
    });
    let with = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((with(200), with(503)), (3, 2));
    assert_eq!(upstream.request_count(), 3);
    gateway.expect_metric("shed_total", &[("cause", "queue_full")], 2.0);
    gateway.expect_accounts_to_agree();
}

#[test]
fn refused_connections_take_no_place_and_a_place_that_is_left_is_free_again() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).set("client.max_connections", "2").h2c().start();
    let mut first = gateway.client();
    first.get("/").is(200, "fine");
    let mut second = gateway.client();
    second.get("/").is(200, "fine");
    // Kept open, so that they would still be counted if they were.
    let refused: Vec<_> = (0..4)
        .map(|_| {
            let mut client = gateway.client();
            let answer = client.ask("HEAD", "/", "", "");
            assert_eq!((answer.status, answer.says_close()), (503, true), "{answer:#?}");
            client
        })
        .collect();
    let answer = gateway.h2_client().get("/");
    answer.is_made(503);
    drop(second);
    let deadline = Instant::now() + limit();
    let mut third = gateway.client();
    while third.get("/").status != 200 {
        assert!(Instant::now() < deadline, "a place that was left is not free");
        third = gateway.client();
    }
    drop(refused);
    gateway.h2_client().get("/").is_made(503);
    first.get("/").is(200, "fine");
    third.get("/").is(200, "fine");
    gateway.expect_accounts_to_agree();
}

#[test]
fn a_flood_of_connections_finds_documented_answers_and_no_silence_when_descriptors_are_few() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).descriptors(128).limit(Duration::from_secs(30)).start();
    for _ in 0..2 {
        let mut clients: Vec<Client> = (0..300).map(|_| gateway.client()).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        }
        // Everyone reads at the same time, as clients do: whoever was answered leaves.
        let answers: Vec<(Answer, Client)> = std::thread::scope(|scope| {
            let readers: Vec<_> = clients
                .into_iter()
                .map(|mut client| {
                    scope.spawn(move || {
                        let answer = read(&mut client);
                        // Those that are served stay, and hold their places.
                        (answer.status == 200).then_some((answer, client))
                    })
                })
                .collect();
            readers.into_iter().filter_map(|reader| reader.join().unwrap()).collect()
        });
        assert_eq!(answers.len(), 18, "half of what 128 descriptors leave");
        assert_eq!(gateway.probe("/livez").status, 200);
        for (_, mut client) in answers {
            client.get("/").is(200, "fine");
        }
        gateway.expect_metric("connections", &[("listener", &gateway.address().to_string())], 0.0);
    }
    gateway.expect_metric("errors_total", &[("cause", "connection_limit_reached"), ("code", "503")], 564.0);
    gateway.expect_metric("closed_without_response_total", &[], 0.0);
    gateway.expect_accounts_to_agree();
    assert!(!gateway.log_text().contains("could not accept"), "{}", gateway.log_text());
}

#[test]
fn silent_connections_beyond_the_limit_do_not_keep_others_from_their_answer() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).descriptors(128).start();
    let silent: Vec<Client> = (0..40).map(|_| gateway.client()).collect();
    begin(&gateway, "/").read(Asked::Http11("GET")).is_made(503);
    drop(silent);
}

#[test]
fn streams_beyond_the_descriptors_are_503_and_the_listeners_go_on() {
    let gate = Gate::new();
    let upstream = held(&gate);
    let gateway = Gateway::in_front_of(&upstream).descriptors(128).h2c().start();
    let answers = std::thread::scope(|scope| {
        let asking = scope.spawn(|| gateway.h2_client().get_all(&["/held"; 120]));
        gateway.expect_metric_of_at_least("errors_total", &[("cause", "resource_exhausted")], 18.0);
        gate.open();
        asking.join().unwrap()
    });
    let with = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!(with(200) + with(503), 120);
    assert!(with(200) >= 18 && with(503) >= 18, "{} and {}", with(200), with(503));
    assert!(upstream.connection_count() <= 18, "{}", upstream.connection_count());
    gateway.expect_metric("errors_total", &[("cause", "resource_exhausted")], with(503) as f64);
    gateway.client().get("/held").is(200, "/held");
    gateway.expect_accounts_to_agree();
    assert!(!gateway.log_text().contains("could not accept"));
}

#[test]
fn the_next_turn_does_not_wait_for_the_rest_of_an_upload_that_was_answered() {
    for answer in ["500 Oh", "200 OK", "404 Not Found\ncontent-type: application/json"] {
        let body = if answer.starts_with("404") { r#"{"message":"No.","code":404}"# } else { "done" };
        let early = UpstreamStep::Write(http_response(answer, body));
        let upstream = by_request(move |_| vec![early.clone()]);
        let gateway = limited(&upstream, "max: 1, queue: 1, queue_timeout: 1s").start();
        let mut first = gateway.client();
        first.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 500\r\n\r\n");
        first.read(Asked::Http11("POST"));
        // The rest is waited for, twice as long as the line is, and meanwhile the upstream is free.
        assert_ne!(gateway.client().get("/").status, 503, "{answer}");
        first.send("x".repeat(500));
    }
}
