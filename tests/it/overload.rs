//! Overload of an upstream, its queue, the listeners and the process: rejected requests get a documented 503 with
//! Retry-After and never reach an upstream.

use std::time::{Duration, Instant};

use statusquo::conformance::Script;

use super::connections::hold_place;
use super::h2_upstream::RawH2Server;
use super::prelude::*;

/// Waits for the gate under `/held`; responds to all other requests immediately with their path.
fn upstream_behind_gate(gate: &Gate) -> ScriptedUpstream {
    let gate = gate.clone();
    by_request(move |request| {
        let response = Step::Write(http_response("200 OK", request.path()));
        if request.path().starts_with("/held") {
            vec![Step::ReadBody, Step::WaitForGate(gate.clone()), response]
        } else {
            vec![Step::ReadBody, response]
        }
    })
}

fn with_concurrency(upstream: &ScriptedUpstream, concurrency: &str) -> GatewaySetup {
    Gateway::with_upstream(upstream).set("upstream.concurrency", &format!("{{ {concurrency} }}"))
}

/// Sends a request without reading the response.
fn send_get(gateway: &Gateway, path: &str) -> Client {
    let mut client = gateway.client();
    client.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
    client
}

/// Sends a request and waits until the queue has `queue_length` requests.
fn send_queued_get(gateway: &Gateway, path: &str, queue_length: u32) -> Client {
    let client = send_get(gateway, path);
    gateway.expect_metric("requests_queued", &[("upstream", "main")], f64::from(queue_length));
    client
}

fn read_response(client: &mut Client) -> HttpResponse {
    client.read(SentRequest::Http11("GET"))
}

#[test]
fn request_over_a_full_queue_gets_503_and_never_reaches_the_upstream() {
    let gate = Gate::new();
    let upstream = upstream_behind_gate(&gate);
    let gateway = with_concurrency(&upstream, "max: 1, queue: 0").set("errors.retry_after", "7s").start();
    let mut first = send_get(&gateway, "/held");
    assert!(upstream.wait_until(limit(), |seen| seen.requests().count() == 1));
    let mut second = gateway.client();
    for _ in 0..2 {
        let response = second.get("/");
        response.assert_local_reply(503);
        assert_eq!(response.header("retry-after"), Some("7"), "no measurement yet: {response:#?}");
        assert!(response.connection_usable);
    }
    assert_eq!(upstream.request_count(), 1);
    let labels = [("upstream", "main")];
    gateway.expect_metric("concurrency_limit", &labels, 1.0);
    gateway.expect_metric("requests_in_flight", &labels, 1.0);
    gateway.expect_metric("shed_total", &[("upstream", "main"), ("cause", "queue_full")], 2.0);
    gateway.expect_metric("upstream_attempts_total", &labels, 0.0);
    let line = gateway.log_line(|line| line["cause"] == "queue_full");
    assert_eq!((&line["outcome"], &line["request_sent"]), (&"rejected".into(), &"none".into()));
    gate.open();
    read_response(&mut first).assert_response(200, "/held");
    gateway.expect_metric("requests_in_flight", &labels, 0.0);
    second.get("/later").assert_response(200, "/later");
    gateway.expect_metrics_match_responses();
}

#[test]
fn queue_timeout_gets_503_in_time() {
    let upstream = upstream_behind_gate(&Gate::new());
    let gateway = with_concurrency(&upstream, "max: 1, queue: 4, queue_timeout: 300ms").start();
    let _first = send_get(&gateway, "/held");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    let started = Instant::now();
    gateway.client().get("/").assert_local_reply(503);
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(295), "{waited:?}");
    gateway.expect_metric("errors_total", &[("cause", "queue_timeout"), ("code", "503")], 1.0);
    gateway.expect_metric("shed_total", &[("cause", "queue_timeout")], 1.0);
    gateway.expect_metric("requests_queued", &[], 0.0);
    assert_eq!(upstream.request_count(), 1);
}

#[test]
fn queue_wait_counts_towards_the_deadline() {
    let upstream = upstream_behind_gate(&Gate::new());
    let gateway =
        with_concurrency(&upstream, "max: 1, queue: 1, queue_timeout: 9s").set("timeouts.deadline", "400ms");
    let gateway = gateway.set("timeouts.response_headers", "400ms").set("timeouts.connect", "400ms");
    let gateway = gateway
        .route(
            "name: slow, match: { path: /held }, upstream: main, timeouts: { deadline: 9s, response_headers: 9s }",
        )
        .route("name: rest, match: { path: \"/{*rest}\" }, upstream: main")
        .start();
    let _first = send_get(&gateway, "/held");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    gateway.client().get("/").assert_local_reply(504);
    gateway.expect_metric("shed_total", &[("cause", "deadline_exceeded")], 1.0);
    assert_eq!(upstream.request_count(), 1);
}

#[test]
fn queue_is_first_in_first_out() {
    let gate = Gate::new();
    let upstream = upstream_behind_gate(&gate);
    let gateway = with_concurrency(&upstream, "max: 1, queue: 3, queue_timeout: 9s").start();
    let mut first = send_get(&gateway, "/held");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    let mut waiting: Vec<Client> = (1..=3)
        .map(|queue_length| send_queued_get(&gateway, &format!("/{queue_length}"), queue_length))
        .collect();
    send_get(&gateway, "/4").read(SentRequest::Http11("GET")).assert_local_reply(503);
    gate.open();
    read_response(&mut first).assert_response(200, "/held");
    for (client, queue_length) in waiting.iter_mut().zip(1..) {
        read_response(client).assert_response(200, &format!("/{queue_length}"));
    }
    let seen = upstream.recording();
    let targets: Vec<_> = seen.requests().map(|request| request.head.target.as_str()).collect();
    assert_eq!(targets, ["/held", "/1", "/2", "/3"]);
}

#[test]
fn cancelled_waiter_frees_its_queue_slot() {
    let gate = Gate::new();
    let upstream = upstream_behind_gate(&gate);
    let gateway = with_concurrency(&upstream, "max: 1, queue: 1, queue_timeout: 9s").start();
    let mut first = send_get(&gateway, "/held");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    for leave in [Client::reset as fn(Client), drop] {
        leave(send_queued_get(&gateway, "/left", 1));
        gateway.expect_metric("requests_queued", &[], 0.0);
    }
    let mut third = send_queued_get(&gateway, "/stayed", 1);
    gate.open();
    read_response(&mut first).assert_response(200, "/held");
    read_response(&mut third).assert_response(200, "/stayed");
    assert_eq!(upstream.recording().requests_for("/left"), 0);
    gateway.expect_metric("client_disconnects_total", &[], 2.0);
    gateway.expect_metric("closed_without_response_total", &[("cause", "client_gone")], 2.0);
    gateway.expect_metric("shed_total", &[], 0.0);
}

#[test]
fn permit_is_released_however_the_request_ends() {
    let chosen = |request: &statusquo::conformance::RecordedHead| -> Script {
        let half = write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf");
        match request.path() {
            "/html" => {
                vec![Step::Write(http_response("502 Bad Gateway\ncontent-type: text/html", "<p>"))]
            }
            "/json" => vec![Step::Write(http_response(
                "404 No\ncontent-type: application/json",
                r#"{"message":"No.","code":404}"#,
            ))],
            "/close" => vec![Step::Close],
            "/garbage" => vec![write_bytes("what?\r\n\r\n"), Step::Close],
            "/hang" => vec![Step::ReadUntilClose],
            "/cut" => vec![half, Step::CloseAbruptly],
            "/half" => vec![half, Step::ReadUntilClose],
            path => vec![Step::Write(http_response("200 OK", path))],
        }
    };
    let upstream = by_request(chosen);
    // One permit: if it leaked, all later requests would time out.
    let gateway = with_concurrency(&upstream, "max: 1, queue: 1, queue_timeout: 9s")
        .set("timeouts.response_headers", "300ms")
        // Ends a response whose client has closed its side: that alone does not cancel a request.
        .set("timeouts.body_idle", "300ms")
        .limit(Duration::from_secs(30))
        .start();
    let still_served = |after: &str| {
        let path = format!("/after{after}");
        gateway.client().get(&path).assert_response(200, &path);
    };
    for (path, status) in [("/html", 504), ("/json", 404), ("/close", 504), ("/garbage", 504), ("/hang", 504)]
    {
        assert_eq!(gateway.client().get(path).status, status, "{path}");
        still_served(path);
    }
    let cut = gateway.client().get("/cut");
    assert!(matches!(cut.end, ResponseEnd::Truncated { .. } | ResponseEnd::Reset { .. }), "{cut:#?}");
    still_served("/cut");
    for leave in [Client::reset as fn(Client), drop] {
        let waiting = send_get(&gateway, "/hang");
        gateway.expect_metric("requests_in_flight", &[], 1.0);
        leave(waiting);
        still_served("/gone");
        let mut reading = send_get(&gateway, "/half");
        reading.wait_for("half");
        leave(reading);
        still_served("/gone-reading");
    }
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    gateway.expect_metric("shed_total", &[], 0.0);
}

#[test]
fn permit_is_released_after_a_refused_connection() {
    let refusing = super::scripted_upstreams::refusing_port();
    let setup = GatewaySetup::with_servers(&[refusing.address()]);
    let gateway = setup.set("upstream.concurrency", "{ max: 1, queue: 0 }").start();
    let mut client = gateway.client();
    for _ in 0..3 {
        // The permit is released before the local reply is sent: the upstream is not involved.
        client.get("/").assert_local_reply(504);
    }
    gateway.expect_metric("shed_total", &[], 0.0);
}

#[test]
fn retry_after_is_computed_from_queue_length_and_request_duration() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = by_request(move |request| {
        let response = Step::Write(http_response("200 OK", request.path()));
        match request.path() {
            "/slow" => vec![Step::Pause(Duration::from_millis(1200)), response],
            "/held" => vec![Step::WaitForGate(opened.clone()), response],
            _ => vec![response],
        }
    });
    let gateway = with_concurrency(&upstream, "max: 1, queue: 1, queue_timeout: 9s").start();
    let started = Instant::now();
    gateway.client().get("/slow").assert_response(200, "/slow");
    let took = started.elapsed();
    let mut first = send_get(&gateway, "/held");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    let mut second = send_queued_get(&gateway, "/second", 1);
    let refused = gateway.client().get("/third");
    refused.assert_local_reply(503);
    // One request waits and one more would follow; a request takes 1.2 s, or as long as this client has measured.
    let advice: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((3..=(took * 2).as_secs() + 1).contains(&advice), "{took:?} {refused:#?}");
    gate.open();
    read_response(&mut first).assert_response(200, "/held");
    read_response(&mut second).assert_response(200, "/second");
}

#[test]
fn queued_upload_arrives_complete() {
    let gate = Gate::new();
    let upstream = upstream_behind_gate(&gate);
    let gateway = with_concurrency(&upstream, "max: 1, queue: 1, queue_timeout: 9s").start();
    let mut first = send_get(&gateway, "/held");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    let body = "0123456789".repeat(30_000);
    let mut second = gateway.client();
    let mut writer = second.writer();
    let head = format!("POST /up HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
    std::thread::scope(|scope| {
        let message = head + &body;
        scope.spawn(move || std::io::Write::write_all(&mut writer, message.as_bytes()).unwrap());
        gateway.expect_metric("requests_queued", &[], 1.0);
        gate.open();
        read_response(&mut first).assert_response(200, "/held");
        second.read(SentRequest::Http11("POST")).assert_response(200, "/up");
    });
    let seen = upstream.recording();
    let upload = seen.requests().find(|request| request.head.target == "/up").unwrap();
    assert!(upload.complete && upload.body == body.as_bytes());
}

#[test]
fn http2_streams_share_the_same_concurrency_limit() {
    let gate = Gate::new();
    let upstream = upstream_behind_gate(&gate);
    let gateway =
        with_concurrency(&upstream, "max: 2, queue: 1, queue_timeout: 9s").with_h2c_listener().start();
    let stream_responses = std::thread::scope(|scope| {
        let client_thread = scope.spawn(|| gateway.h2_client().get_all(&["/held"; 5]));
        gateway.expect_metric("shed_total", &[("cause", "queue_full")], 2.0);
        gate.open();
        client_thread.join().unwrap()
    });
    let with = |status| stream_responses.iter().filter(|response| response.status == status).count();
    assert_eq!((with(200), with(503)), (3, 2));
    assert_eq!(upstream.request_count(), 3);
    gateway.expect_metric("shed_total", &[("cause", "queue_full")], 2.0);
    gateway.expect_metrics_match_responses();
}

#[test]
fn rejected_connections_use_no_slot_and_freed_slots_are_reused() {
    let upstream = ok_upstream("fine");
    let gateway =
        Gateway::with_upstream(&upstream).set("client.max_connections", "2").with_h2c_listener().start();
    let (mut first, second) = (hold_place(&gateway, 1), hold_place(&gateway, 2));
    // Kept open, so that they would still be counted if rejected connections took a slot.
    let refused: Vec<_> = (0..4)
        .map(|_| {
            let mut client = gateway.client();
            let response = client.request("HEAD", "/", "", "");
            assert_eq!((response.status, response.has_connection_close()), (503, true), "{response:#?}");
            client
        })
        .collect();
    let response = gateway.h2_client().get("/");
    response.assert_local_reply(503);
    drop(second);
    let deadline = Instant::now() + limit();
    let mut third = gateway.client();
    while third.get("/").status != 200 {
        assert!(Instant::now() < deadline, "a released slot is not available");
        third = gateway.client();
    }
    drop(refused);
    // Now a connection is idle: it loses its place.
    gateway.h2_client().get("/").assert_response(200, "fine");
    third.expect_close();
    first.get("/").assert_response(200, "fine");
    gateway.expect_metrics_match_responses();
}

#[test]
fn connection_flood_gets_documented_responses_with_few_descriptors() {
    let gates = [Gate::new(), Gate::new()];
    let held = gates.clone();
    let upstream = by_request(move |request| {
        let gate = match request.path() {
            "/held/0" => Some(&held[0]),
            "/held/1" => Some(&held[1]),
            _ => None,
        };
        let wait = gate.map(|gate| Step::WaitForGate(gate.clone()));
        wait.into_iter().chain([Step::Write(http_response("200 OK", "fine"))]).collect()
    });
    let gateway = Gateway::with_upstream(&upstream).descriptors(128).limit(Duration::from_secs(30)).start();
    let refused = [("cause", "connection_limit_reached"), ("code", "503")];
    for (round, gate) in gates.iter().enumerate() {
        let mut clients: Vec<Client> = (0..300).map(|_| gateway.client()).collect();
        for client in &mut clients {
            client.send(format!("GET /held/{round} HTTP/1.1\r\nhost: test\r\n\r\n"));
        }
        // All clients read concurrently; those with a response disconnect.
        let responses: Vec<(HttpResponse, Client)> = std::thread::scope(|scope| {
            let readers: Vec<_> = clients
                .into_iter()
                .map(|mut client| {
                    scope.spawn(move || {
                        let response = read_response(&mut client);
                        // Served clients stay connected and keep their slots.
                        (response.status == 200).then_some((response, client))
                    })
                })
                .collect();
            // Until then no served connection is idle, which would give its place to another one.
            gateway.expect_metric("errors_total", &refused, 282.0 * (round + 1) as f64);
            gate.open();
            readers.into_iter().filter_map(|reader| reader.join().unwrap()).collect()
        });
        assert_eq!(responses.len(), 18, "half of the available of 128 descriptors");
        assert_eq!(gateway.get_telemetry("/livez").status, 200);
        for (_, mut client) in responses {
            client.get("/").assert_response(200, "fine");
        }
        gateway.expect_metric("connections", &[("listener", &gateway.address().to_string())], 0.0);
    }
    gateway.expect_metric("closed_without_response_total", &[], 0.0);
    gateway.expect_metrics_match_responses();
    assert!(!gateway.log_text().contains("could not accept"), "{}", gateway.log_text());
}

#[test]
fn silent_connections_over_the_limit_do_not_block_others() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).descriptors(128).start();
    let silent: Vec<Client> = (0..40).map(|_| gateway.client()).collect();
    send_get(&gateway, "/").read(SentRequest::Http11("GET")).assert_local_reply(503);
    drop(silent);
}

#[test]
fn streams_without_descriptors_get_503_and_listeners_keep_accepting() {
    let gate = Gate::new();
    let upstream = upstream_behind_gate(&gate);
    let gateway = Gateway::with_upstream(&upstream).descriptors(128).with_h2c_listener().start();
    let stream_responses = std::thread::scope(|scope| {
        let client_thread = scope.spawn(|| gateway.h2_client().get_all(&["/held"; 120]));
        gateway.expect_metric_of_at_least("errors_total", &[("cause", "resource_exhausted")], 18.0);
        // Before the gate opens: then connections become idle, which are not among the 18 in use.
        assert!(upstream.connection_count() <= 18, "{}", upstream.connection_count());
        gate.open();
        client_thread.join().unwrap()
    });
    let with = |status| stream_responses.iter().filter(|response| response.status == status).count();
    assert_eq!(with(200) + with(503), 120);
    assert!(with(200) >= 18 && with(503) >= 18, "{} and {}", with(200), with(503));
    gateway.expect_metric("errors_total", &[("cause", "resource_exhausted")], with(503) as f64);
    gateway.expect_metric("shed_total", &[("cause", "resource_exhausted")], with(503) as f64);
    gateway.client().get("/held").assert_response(200, "/held");
    gateway.expect_metrics_match_responses();
    assert!(!gateway.log_text().contains("could not accept"));
}

#[test]
fn queue_advances_while_the_rest_of_an_upload_is_drained() {
    for response in ["500 Oh", "200 OK", "404 Not Found\ncontent-type: application/json"] {
        let body = if response.starts_with("404") { r#"{"message":"No.","code":404}"# } else { "done" };
        let early = Step::Write(http_response(response, body));
        let upstream = by_request(move |_| vec![early.clone()]);
        let gateway = with_concurrency(&upstream, "max: 1, queue: 1, queue_timeout: 1s").start();
        let mut first = gateway.client();
        first.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 500\r\n\r\n");
        first.read(SentRequest::Http11("POST"));
        // The rest of the upload is drained for up to twice the queue timeout; the upstream is free meanwhile.
        assert_ne!(gateway.client().get("/").status, 503, "{response}");
        first.send("x".repeat(500));
    }
}

/// Requests that share an HTTP/2 connection need no descriptors of their own.
#[test]
fn requests_on_a_shared_connection_do_not_use_up_the_upstream_connections() {
    const HELD: usize = 60;
    let shared = RawH2Server::with_script(|connection| {
        connection.read_preface()?;
        connection.send_settings(&[])?;
        // Responds to all of them when one more arrives.
        let streams: Option<Vec<u32>> = (0..=HELD).map(|_| connection.next_request()).collect();
        for stream in streams? {
            connection.send_ok_response(stream)?;
        }
        connection.read_until_closed()
    });
    let other = ok_upstream("other");
    let gateway = GatewaySetup::with_servers(&[shared.address()])
        .set("upstream main.http2", "always")
        .upstream("other", &[other.address()])
        .route("name: other, match: { path: /other }, upstream: other")
        .route("name: all, match: { path: \"/{*rest}\" }, upstream: main")
        .descriptors(128)
        .with_h2c_listener()
        .start();
    let responses = std::thread::scope(|scope| {
        let client_thread = scope.spawn(|| gateway.h2_client().get_all(&["/held"; HELD]));
        gateway.expect_metric("requests_in_flight", &[("upstream", "main")], HELD as f64);
        gateway.client().get("/other").assert_response(200, "other");
        gateway.client().get("/last").assert_response(200, "fine");
        client_thread.join().unwrap()
    });
    assert!(responses.iter().all(|response| response.status == 200), "{responses:#?}");
    assert_eq!(shared.connections(), 1);
}
