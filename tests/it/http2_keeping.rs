//! HTTP/2 towards upstreams: which connections are doubted, how they show that they are alive, and who suffers for it.
//!
//! What else can become of a connection or a stream is in [`super::http2_upstream`].

use std::time::{Duration, Instant};

use super::h2_upstream::{DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, Raw, STATUS_200};
use super::http2_upstream::before;
use super::load::limit;
use super::reader::{Asked, Ended};

const GET: Asked = Asked::Http11("GET");

#[test]
fn an_answer_to_an_old_ping_does_not_stand_for_a_new_one() {
    let upstream = Raw::playing(|connection| {
        if connection.turn > 0 {
            return connection.serve();
        }
        connection.answer_no_pings();
        connection.preface()?;
        connection.greet(&[])?;
        let long = connection.request()?;
        connection.frame(HEADERS, END_HEADERS, long, STATUS_200)?;
        connection.frame(DATA, 0, long, b"begun,")?;
        // Two that are not answered. The first puts the connection in doubt, and it shows that it is alive by other
        // bytes than the answer to the PING; that comes behind the second.
        let (mut pings, mut resets) = (0, 0);
        while (pings, resets) != (1, 2) {
            match connection.next()?.0 {
                PING => {
                    pings += 1;
                    connection.frame(DATA, 0, long, b"alive,")?;
                }
                RST_STREAM => resets += 1,
                _ => {}
            }
        }
        connection.answer_ping()?;
        connection.frame(DATA, 0, long, b"answered,")?;
        // A third: it says nothing before it is asked again.
        while connection.next()?.0 != PING {}
        connection.answer_ping()?;
        connection.frame(DATA, END_STREAM, long, b"over")?;
        connection.until_closed()
    });
    let gateway = before(&upstream)
        .set("timeouts.response_head", "300ms")
        .set("timeouts.between_bytes", "9s")
        .route("name: late, match: { path: /late }, upstream: main, timeouts: { response_head: 1200ms }")
        .route("name: all, match: { path: \"/{*rest}\" }, upstream: main")
        .start();
    let mut long = gateway.client();
    long.send("GET /late HTTP/1.1\r\nhost: test\r\n\r\n");
    long.wait_for("begun,");
    let (mut first, mut second) = (gateway.client(), gateway.client());
    second.send("GET /late HTTP/1.1\r\nhost: test\r\n\r\n");
    first.send("GET /hang HTTP/1.1\r\nhost: test\r\n\r\n");
    first.read(GET).is_made(504);
    second.read(GET).is_made(504);
    long.wait_for("answered,");
    // While in doubt it gets no request.
    let deadline = Instant::now() + limit();
    while gateway.client().get("/hang").status != 504 {
        assert!(Instant::now() < deadline, "a connection that is alive is never used again");
    }
    let answer = long.read(GET);
    assert_eq!((answer.text().as_str(), answer.ended), ("begun,alive,answered,over", Ended::Complete));
    gateway.expect_metric("aborted_total", &[], 0.0);
}

#[test]
fn a_client_that_is_too_slow_puts_no_connection_in_doubt() {
    // Before the response head, and behind it.
    for answers in [false, true] {
        let upstream = Raw::playing(move |connection| {
            if connection.turn > 0 {
                return connection.serve();
            }
            connection.preface()?;
            connection.greet(&[])?;
            let slow = connection.request()?;
            if answers {
                connection.ok_head(slow, false)?;
                connection.frame(DATA, 0, slow, b"begun")?;
            }
            loop {
                match connection.next()? {
                    (HEADERS, _, stream) => {
                        connection.count_one_more();
                        connection.fine(stream)?;
                    }
                    (PING, 0, _) => connection.count_one_more(),
                    _ => {}
                }
            }
        });
        let gateway = before(&upstream).set("client.body_timeout", "300ms").start();
        let mut slow = gateway.client();
        let began = Instant::now();
        slow.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n");
        let answer = slow.read(Asked::Http11("POST"));
        assert_eq!((answer.status == 200, answer.ended == Ended::Complete), (answers, !answers));
        assert!(began.elapsed() >= Duration::from_millis(300));
        let name = if answers { "aborted_total" } else { "errors_total" };
        gateway.expect_metric(name, &[("cause", "client_too_slow")], 1.0);
        gateway.client().get("/").is(200, "fine");
        // A PING would count as one more.
        assert_eq!((upstream.connections(), upstream.requests()), (1, 2), "{answers}");
    }
}
