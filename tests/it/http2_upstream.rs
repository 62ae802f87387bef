//! HTTP/2 towards upstreams: the same promise, many requests on one connection, and every way a stream or a connection
//! can go wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::Barrier;

use super::gateway::Setup;
use super::h2_upstream::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, Raw, RawConnection, STATUS_200,
    Serving, frame,
};
use super::load::limit;
use super::reader::Ended;

pub fn before(raw: &Raw) -> Setup {
    Setup::of_servers(&[raw.address()]).set("upstream.http2", "always")
}

pub fn serving(serving: &Serving) -> Setup {
    Setup::of_servers(&[serving.address()]).set("upstream.http2", "always").h2c()
}

/// Sends this back, with the request's body behind it.
pub fn echo(streams: u32) -> Serving {
    Serving::with(streams, |request, mut respond| async move {
        let (head, mut body) = request.into_parts();
        let mut said = Response::builder().status(200);
        for (name, value) in &head.headers {
            said = said.header(format!("got-{name}"), value);
        }
        said = said.header("got-uri", head.uri.to_string()).header("got-method", head.method.as_str());
        let mut send = respond.send_response(said.body(()).unwrap(), false).unwrap();
        while let Some(Ok(mut piece)) = body.data().await {
            let _ = body.flow_control().release_capacity(piece.len());
            while !piece.is_empty() {
                send.reserve_capacity(piece.len());
                let Some(Ok(room)) = std::future::poll_fn(|cx| send.poll_capacity(cx)).await else { return };
                let part = piece.split_to(room.min(piece.len()));
                send.send_data(part, false).unwrap();
            }
        }
        let _ = send.send_data(Bytes::new(), true);
    })
}

/// One request on every fresh connection, then this.
fn raw(play: impl Fn(&mut RawConnection, u32) -> Option<()> + Send + Sync + 'static) -> Raw {
    Raw::playing(move |connection| {
        connection.preface()?;
        connection.greet(&[])?;
        let stream = connection.request()?;
        play(connection, stream)
    })
}

/// This on the first connection; the ones after it serve well.
fn once(play: impl Fn(&mut RawConnection, u32) -> Option<()> + Send + Sync + 'static) -> Raw {
    Raw::playing(move |connection| {
        if connection.turn > 0 {
            return connection.serve();
        }
        connection.preface()?;
        connection.greet(&[])?;
        let stream = connection.request()?;
        play(connection, stream)
    })
}

#[test]
fn requests_of_both_protocols_share_one_connection_and_say_what_they_said() {
    let upstream = echo(100);
    let gateway = serving(&upstream).start();
    let mut client = gateway.client();
    for _ in 0..3 {
        let answer = client.ask(
            "POST",
            "/a%2fb?c=d",
            "X-One: 1\r\ncookie: a=1\r\nConnection: x-two\r\nX-Two: 2\r\n",
            "body",
        );
        answer.is(200, "body");
        let got = |name: &str| answer.field(&format!("got-{name}")).map(str::to_owned);
        assert_eq!(got("uri").as_deref(), Some("http://test/a%2fb?c=d"));
        assert_eq!(got("method").as_deref(), Some("POST"));
        assert_eq!(got("x-one").as_deref(), Some("1"));
        assert_eq!((got("x-two"), got("connection"), got("host"), got("te")), (None, None, None, None));
        assert_eq!(got("x-forwarded-for").as_deref(), Some("127.0.0.1"));
        assert_eq!(
            (got("x-forwarded-host").as_deref(), got("content-length").as_deref()),
            (Some("test"), Some("4"))
        );
        assert!(got("via").is_some() && got("x-request-id").is_some() && got("traceparent").is_some());
    }
    let fields = [("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")];
    let answer = gateway.h2_client().ask("GET", "/", &fields, Bytes::new());
    assert_eq!((answer.field("got-cookie"), answer.field("got-te")), (Some("a=1; b=2"), Some("trailers")));
    assert_eq!(upstream.connections(), 1);
    gateway.expect_metric("upstream_connections_total", &[("reused", "true")], 3.0);
    gateway.expect_accounts_to_agree();
}

#[test]
fn errors_are_replaced_and_conforming_ones_pass() {
    let upstream = Serving::with(100, |request: Request<_>, mut respond| async move {
        let own = request.uri().path() == "/own";
        let (kind, body) = if own {
            ("application/json", r#"{"message":"No such order.","code":404}"#)
        } else {
            ("text/html", "<html>")
        };
        let status = if own { 404 } else { 502 };
        let head = Response::builder().status(status).header("content-type", kind).body(()).unwrap();
        let mut send = respond.send_response(head, false).unwrap();
        let _ = send.send_data(Bytes::from_static(body.as_bytes()), true);
    });
    let gateway = serving(&upstream).start();
    gateway.client().get("/").is_made(504);
    let own = gateway.client().get("/own");
    assert_eq!((own.status, own.text().as_str()), (404, r#"{"message":"No such order.","code":404}"#));
    assert_eq!(upstream.connections(), 1);
    gateway.expect_accounts_to_agree();
}

#[test]
fn what_comes_behind_a_response_of_no_length_is_no_part_of_it() {
    // 200 and Content-Length: 0.
    let head = [STATUS_200, &[0x0f, 0x0d, 1, b'0']].concat();
    let upstream = Raw::playing(move |connection| {
        connection.preface()?;
        connection.greet(&[])?;
        loop {
            let stream = connection.request()?;
            connection.frame(HEADERS, END_HEADERS, stream, &head)?;
            connection.frame(DATA, END_STREAM, stream, b"more")?;
        }
    });
    let gateway = before(&upstream).h2c().start();
    gateway.client().get("/").is(200, "");
    gateway.h2_client().get("/").is(200, "");
    gateway.expect_metric("aborted_total", &[], 0.0);
    gateway.expect_accounts_to_agree();
}

#[test]
fn there_are_as_many_streams_on_a_connection_as_the_server_allows() {
    // Nobody is answered before all five have come.
    let all = Arc::new(Barrier::new(5));
    let upstream = Serving::with(2, move |_, mut respond| {
        let all = Arc::clone(&all);
        async move {
            all.wait().await;
            let _ = respond.send_response(Response::new(()), true);
        }
    });
    let gateway = serving(&upstream).start();
    for answer in gateway.h2_client().get_all(&["/1", "/2", "/3", "/4", "/5"]) {
        answer.is(200, "");
    }
    assert_eq!(upstream.connections(), 3);
}

#[test]
fn twenty_megabytes_go_up_and_come_back_on_both_protocols() {
    let upstream = echo(100);
    let gateway = serving(&upstream).set("client.max_body", "64MiB").set("timeouts.total", "60s").start();
    let body: Vec<u8> = (0..20_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let body = Bytes::from(body);
    let answer = gateway.h2_client().ask("POST", "/", &[], body.clone());
    assert!(answer.status == 200 && answer.body == body, "{} bytes", answer.body.len());
    let mut client = gateway.client();
    let head = format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut writer = client.writer();
    let sent = body.clone();
    let sending = std::thread::spawn(move || {
        std::io::Write::write_all(&mut writer, head.as_bytes()).unwrap();
        std::io::Write::write_all(&mut writer, &sent).unwrap();
    });
    let answer = client.read(super::reader::Asked::Http11("POST"));
    sending.join().unwrap();
    assert!(answer.status == 200 && answer.body == body, "{} bytes", answer.body.len());
    gateway.expect_accounts_to_agree();
}

#[test]
fn a_whole_answer_stays_whole_when_the_server_then_asks_for_no_more_of_the_request() {
    // RFC 9113 8.1: an answer before the end of the request, and RST_STREAM with NO_ERROR behind it.
    for ends_in in ["head", "body", "trailers"] {
        let upstream = Raw::playing(move |connection| {
            connection.preface()?;
            connection.greet(&[])?;
            loop {
                let stream = connection.request()?;
                let head = frame(HEADERS, END_HEADERS, stream, STATUS_200);
                let answer = match ends_in {
                    "head" => frame(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_200),
                    "body" => [head, frame(DATA, END_STREAM, stream, b"fine")].concat(),
                    _ => {
                        let behind = frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\0\x01a\x01b");
                        [head, frame(DATA, 0, stream, b"fine"), behind].concat()
                    }
                };
                connection.say(&[answer, frame(RST_STREAM, 0, stream, &[0; 4])].concat())?;
            }
        });
        let gateway = before(&upstream).h2c().start();
        let body = if ends_in == "head" { "" } else { "fine" };
        let answer = gateway.h2_client().ask("POST", "/", &[], Bytes::from(vec![0; 1_000_000]));
        answer.is(200, body);
        assert_eq!(answer.ended, Ended::Complete);
        let mut client = gateway.client();
        client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n");
        let answer = client.read(super::reader::Asked::Http11("POST"));
        assert_eq!((answer.status, answer.text().as_str(), answer.ended), (200, body, Ended::Complete));
    }
}

#[test]
fn a_reset_before_the_head_is_named_by_its_code_and_a_post_is_not_sent_again() {
    for (code, cause) in [
        (0, "connection_terminated"),
        (1, "http_protocol_error"),
        (2, "connection_terminated"),
        (3, "http_protocol_error"),
        (4, "http_protocol_error"),
        (5, "http_protocol_error"),
        (6, "http_protocol_error"),
        (8, "connection_terminated"),
        (9, "http_protocol_error"),
        (10, "connection_terminated"),
        (11, "connection_terminated"),
        (12, "http_protocol_error"),
        (13, "http_protocol_error"),
        (77, "http_protocol_error"),
    ] {
        let upstream = raw(move |connection, stream| {
            connection.frame(RST_STREAM, 0, stream, &u32::to_be_bytes(code))?;
            connection.until_closed()
        });
        let gateway = before(&upstream).set("errors.include", "[request_sent]").start();
        let answer = gateway.client().ask("POST", "/", "", "body");
        assert_eq!(answer.status, 504, "{code}");
        assert!(!answer.text().contains("\"none\""), "{code}: {}", answer.text());
        gateway.expect_metric("errors_total", &[("cause", cause)], 1.0);
        assert_eq!(upstream.requests(), 1, "{code}");
    }
}

#[test]
fn a_refused_stream_is_sent_again_whatever_its_method() {
    let upstream = Raw::playing(|connection| {
        connection.preface()?;
        connection.greet(&[])?;
        let stream = connection.request()?;
        connection.frame(RST_STREAM, 0, stream, &[0, 0, 0, 7])?;
        let stream = connection.request()?;
        connection.fine(stream)?;
        connection.until_closed()
    });
    let gateway = before(&upstream).start();
    gateway.client().ask("POST", "/", "", "body").is(200, "fine");
    assert_eq!((upstream.connections(), upstream.requests()), (1, 2));
    gateway.expect_metric("upstream_retries_total", &[("result", "ok")], 1.0);
}

#[test]
fn a_goaway_that_passes_a_request_over_sends_it_elsewhere_and_one_that_does_not_is_no_licence() {
    let over = once(|connection, _| {
        connection.go_away(0, 0)?;
        connection.until_closed()
    });
    let gateway = before(&over).start();
    gateway.client().ask("POST", "/", "", "body").is(200, "fine");
    assert_eq!((over.connections(), over.requests()), (2, 2));

    let cut = once(|connection, stream| connection.go_away(stream, 0));
    let gateway = before(&cut).start();
    gateway.client().ask("POST", "/", "", "body").is_made(504);
    gateway.expect_metric("errors_total", &[("cause", "connection_terminated")], 1.0);
    assert_eq!(cut.requests(), 1);
    gateway.client().get("/").is(200, "fine");
}

#[test]
fn a_request_before_a_goaway_is_answered_and_the_next_one_gets_a_new_connection() {
    let upstream = once(|connection, stream| {
        connection.ok_head(stream, false)?;
        connection.go_away(stream, 0)?;
        connection.frame(DATA, END_STREAM, stream, b"late")?;
        connection.until_closed()
    });
    let gateway = before(&upstream).start();
    let mut client = gateway.client();
    client.get("/").is(200, "late");
    client.ask("POST", "/", "", "body").is(200, "fine");
    assert_eq!((upstream.connections(), upstream.requests()), (2, 2));
}

#[test]
fn what_breaks_after_the_head_is_a_visible_cut_and_named() {
    type Play = fn(&mut RawConnection, u32) -> Option<()>;
    let ways: [(Play, &str); 6] = [
        (
            |connection, stream| connection.frame(RST_STREAM, 0, stream, &[0, 0, 0, 2]),
            "http_response_incomplete",
        ),
        (
            |connection, stream| connection.frame(RST_STREAM, 0, stream, &[0, 0, 0, 0]),
            "http_response_incomplete",
        ),
        (
            |connection, stream| connection.frame(RST_STREAM, 0, stream, &[0, 0, 0, 7]),
            "http_response_incomplete",
        ),
        (|connection, stream| connection.go_away(stream, 2), "http_response_incomplete"),
        (|connection, _| connection.frame(DATA, 0, 0, b"to nobody"), "http_protocol_error"),
        (|connection, _| connection.say(b"HTTP/1.1 200 OK\r\n\r\n"), "http_protocol_error"),
    ];
    for (way, cause) in ways {
        let upstream = raw(move |connection, stream| {
            connection.ok_head(stream, false)?;
            connection.frame(DATA, 0, stream, b"begun")?;
            way(connection, stream)?;
            if cause == "http_response_incomplete" { Some(()) } else { connection.until_closed() }
        });
        let gateway = before(&upstream).start();
        let answer = gateway.client().get("/");
        assert_eq!((answer.status, answer.text().as_str()), (200, "begun"), "{cause}");
        assert_ne!(answer.ended, Ended::Complete, "{cause}");
        gateway.expect_metric("aborted_total", &[("cause", cause)], 1.0);
    }
}

#[test]
fn frames_and_heads_that_are_none_are_protocol_errors() {
    type Play = fn(&mut RawConnection, u32) -> Option<()>;
    let ways: [Play; 7] = [
        |connection, stream| connection.frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0x80]),
        |connection, stream| connection.frame(DATA, END_STREAM, stream, b"before the head"),
        |connection, _| connection.frame(DATA, 0, 0, b"to nobody"),
        |connection, _| connection.say(&[0xff; 64]),
        // A head without :status; one with a connection-specific field; the status 101.
        |connection, stream| connection.frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x00\x01a\x01b"),
        |connection, stream| {
            connection.frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x88\x00\x0aconnection\x05close")
        },
        |connection, stream| connection.frame(HEADERS, END_HEADERS, stream, b"\x08\x03101"),
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let upstream = raw(move |connection, stream| {
            way(connection, stream)?;
            connection.until_closed()
        });
        let gateway = before(&upstream).set("errors.include", "[request_sent]").start();
        let answer = gateway.client().ask("POST", "/", "", "x");
        assert_eq!(answer.status, 504, "{number}");
        assert!(!answer.text().contains("\"none\""), "{number}");
        assert_eq!(gateway.metric("errors_total", &[("cause", "http_protocol_error")]), 1.0, "{number}");
    }
}

#[test]
fn a_server_that_does_not_greet_in_http_2_is_found_out_before_anything_is_sent() {
    let silent = Raw::playing(RawConnection::until_closed);
    let other = Raw::playing(|connection| {
        connection.preface()?;
        connection.say(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")?;
        connection.until_closed()
    });
    let closing = Raw::playing(RawConnection::preface);
    for (upstream, cause) in
        [(silent, "connection_timeout"), (other, "http_protocol_error"), (closing, "connection_terminated")]
    {
        let gateway = before(&upstream)
            .set("errors.include", "[request_sent]")
            .set("timeouts.connect", "300ms")
            .start();
        let began = Instant::now();
        let answer = gateway.client().ask("POST", "/", "", "x");
        assert_eq!(answer.status, 504);
        assert!(answer.text().contains("\"request_sent\":\"none\""), "{}", answer.text());
        gateway.expect_metric("errors_total", &[("cause", cause)], 1.0);
        if cause == "connection_timeout" {
            assert!(began.elapsed() >= Duration::from_millis(300));
        }
    }
}

#[test]
fn a_window_that_stays_shut_is_a_timeout_of_writing() {
    let upstream = Raw::playing(|connection| {
        connection.preface()?;
        connection.greet(&[(4, 0)])?;
        connection.request()?;
        connection.until_closed()
    });
    let gateway = before(&upstream).set("timeouts.between_bytes", "300ms").start();
    let began = Instant::now();
    gateway.client().ask("POST", "/", "", "body").is_made(504);
    assert!(began.elapsed() >= Duration::from_millis(300));
    gateway.expect_metric("errors_total", &[("cause", "connection_write_timeout")], 1.0);
}

#[test]
fn a_connection_that_takes_nothing_more_gets_no_further_request() {
    let upstream = Raw::playing(|connection| {
        if connection.turn > 0 {
            return connection.serve();
        }
        connection.preface()?;
        // Room for each stream, and 65,535 octets for all of them together: none is ever given back.
        connection.greet(&[(4, 1 << 20)])?;
        let first = connection.request()?;
        while connection.next()? != (DATA, END_STREAM, first) {}
        connection.fine(first)?;
        // It is left, or asked for a sign of life and trusted again.
        while !matches!(connection.next()?.0, PING | GOAWAY) {}
        let _ = connection.pong();
        connection.count_one_more();
        connection.until_closed()
    });
    let gateway = before(&upstream).set("timeouts.between_bytes", "300ms").start();
    let body = "x".repeat(60_000);
    let upload = || gateway.client().ask("POST", "/", "", &body);
    upload().is(200, "fine");
    upload().is_made(504);
    gateway.expect_metric("errors_total", &[("cause", "connection_write_timeout")], 1.0);
    let deadline = Instant::now() + limit();
    while upstream.requests() < 2 {
        assert!(Instant::now() < deadline, "nothing becomes of the connection");
        std::thread::yield_now();
    }
    upload().is(200, "fine");
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn a_response_without_its_end_is_cut_in_time() {
    let upstream = raw(|connection, stream| {
        connection.ok_head(stream, false)?;
        connection.frame(DATA, 0, stream, b"begun")?;
        connection.until_closed()
    });
    let gateway = before(&upstream).set("timeouts.between_bytes", "300ms").start();
    let answer = gateway.client().get("/");
    assert_ne!(answer.ended, Ended::Complete);
    gateway.expect_metric("aborted_total", &[("cause", "connection_read_timeout")], 1.0);
}

#[test]
fn after_a_timeout_only_a_connection_that_answers_a_ping_serves_on() {
    for answers in [true, false] {
        let upstream = Raw::playing(move |connection| {
            if connection.turn > 0 {
                return connection.serve();
            }
            if !answers {
                connection.answer_no_pings();
            }
            connection.preface()?;
            connection.greet(&[])?;
            // Not answered; then it is asked for a sign of life.
            connection.request()?;
            while connection.next()?.0 != PING {}
            while let Some(stream) = connection.request() {
                connection.ok_head(stream, false)?;
                connection.frame(DATA, END_STREAM, stream, b"first")?;
            }
            connection.count_one_more();
            Some(())
        });
        let gateway = before(&upstream).set("timeouts.response_head", "300ms").start();
        let began = Instant::now();
        gateway.client().get("/").is_made(504);
        assert!(began.elapsed() >= Duration::from_millis(300));
        gateway.expect_metric("errors_total", &[("cause", "http_response_timeout")], 1.0);
        let deadline = Instant::now() + limit();
        if answers {
            while gateway.client().get("/").text() != "first" {
                assert!(Instant::now() < deadline, "a connection that is alive is never used again");
            }
        } else {
            gateway.client().get("/").is(200, "fine");
            // Its end counts as one more.
            while upstream.requests() < 3 {
                assert!(Instant::now() < deadline, "a connection that is dead is never closed");
                std::thread::yield_now();
            }
            gateway.client().get("/").is(200, "fine");
            assert_eq!(upstream.connections(), 2);
        }
    }
}

#[test]
fn a_stream_that_hangs_harms_no_other_one_of_its_connection() {
    let upstream = Serving::with(100, |request: Request<_>, mut respond| async move {
        if request.uri().path() == "/hang" {
            std::future::pending::<()>().await;
        }
        let _ = respond.send_response(Response::new(()), true);
    });
    let gateway = serving(&upstream).set("timeouts.response_head", "400ms").start();
    let mut client = gateway.h2_client();
    let answers = client.get_all(&["/hang", "/1", "/hang", "/2"]);
    let codes: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(codes, [504, 200, 504, 200]);
    client.get("/3").is(200, "");
    gateway.expect_accounts_to_agree();
}

#[test]
fn interim_responses_pass() {
    let upstream = raw(|connection, stream| {
        connection.frame(HEADERS, END_HEADERS, stream, b"\x08\x03103\x00\x04link\x03</>")?;
        connection.fine(stream)?;
        connection.until_closed()
    });
    let gateway = before(&upstream).start();
    let answer = gateway.client().get("/");
    answer.is(200, "fine");
    assert_eq!(answer.interim.len(), 1);
}

#[test]
fn heads_that_are_all_there_is_are_whole() {
    let upstream = Serving::with(100, |request: Request<_>, mut respond| async move {
        let status = if request.uri().path() == "/204" { 204 } else { 200 };
        let mut head = Response::builder().status(status);
        if request.method() == "HEAD" {
            head = head.header("content-length", "900");
        }
        let _ = respond.send_response(head.body(()).unwrap(), true);
    });
    let gateway = serving(&upstream).start();
    let mut client = gateway.client();
    client.get("/204").is(204, "");
    client.get("/200").is(200, "");
    assert_eq!(client.ask("HEAD", "/", "", "").field("content-length"), Some("900"));
    let bare = gateway.h2_client().get("/200");
    assert_eq!((bare.status, bare.field("content-length")), (200, None));
}

#[test]
fn an_idle_connection_is_closed_in_time_and_a_limit_of_none_keeps_none() {
    let upstream = echo(100);
    let gateway = serving(&upstream).set("upstream.keepalive", "{ max: 0 }").start();
    let mut client = gateway.client();
    for _ in 0..3 {
        client.get("/").is(200, "");
    }
    // Two requests may meet on one connection before it has ended; never is one broken by that.
    assert!((1..=3).contains(&upstream.connections()));
    let idle = Raw::playing(|connection| {
        connection.preface()?;
        connection.greet(&[])?;
        let stream = connection.request()?;
        connection.fine(stream)?;
        // GOAWAY, and then the end.
        while connection.next()?.0 != GOAWAY {}
        connection.count_one_more();
        connection.until_closed()
    });
    let gateway = before(&idle).set("upstream.keepalive", "{ idle: 200ms }").start();
    gateway.client().get("/").is(200, "fine");
    let deadline = Instant::now() + limit();
    while idle.requests() < 2 {
        assert!(Instant::now() < deadline, "the idle connection is never closed");
        std::thread::yield_now();
    }
}
