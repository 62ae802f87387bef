//! One case from the upstream's side: a plain request, any bytes for an answer, and what the client must see then.
//!
//! The client waits for its answer, so there is no excuse: one whole response of the contract, or one that is visibly
//! cut after its head; and where the strict reader understands what the upstream said, the client has been told the same.

use std::io::{Cursor, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::super::load::limit;
use super::super::promise;
use super::super::reader::{Answer, Asked, Ended, Framing, Reader, Unanswered};
use super::generate::{self, Piece};
use super::ledger::Ledger;
use super::peer::{Peer, Play, Then};
use super::random::Random;
use super::run::Side;

/// The gateway gives nobody less time.
pub const SHORTEST_LIMIT: Duration = Duration::from_millis(200);

/// The gateway, the upstream behind it, and the accounts of the clients before it.
pub struct UpstreamSide<'a> {
    pub gateway: SocketAddr,
    pub peer: &'a Peer,
    pub ledger: &'a Ledger,
}

/// What is asked and what the upstream does about it.
#[derive(Clone, Debug)]
pub struct Case {
    asks: usize,
    pieces: Vec<Piece>,
    then: Then,
    /// The connection is used once more.
    again: bool,
}

/// Request line without target, and the rest of the request.
const ASKS: [(Asked, &str, &str, &str); 7] = [
    (Asked::Http11("GET"), "GET", "1.1", "host: test\r\n\r\n"),
    (Asked::Http11("GET"), "GET", "1.1", "host: test\r\nconnection: close\r\n\r\n"),
    (Asked::Http11("HEAD"), "HEAD", "1.1", "host: test\r\n\r\n"),
    (Asked::Http11("POST"), "POST", "1.1", "host: test\r\ncontent-length: 4\r\n\r\nbody"),
    (
        Asked::Http11("PUT"),
        "PUT",
        "1.1",
        "host: test\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    ),
    (Asked::Http10("GET"), "GET", "1.0", "\r\n"),
    (Asked::Http10("GET"), "GET", "1.0", "host: test\r\nconnection: keep-alive\r\n\r\n"),
];

impl Side for UpstreamSide<'_> {
    type Case = Case;

    fn make(&self, _: u64, random: &mut Random) -> Case {
        // Half of them are the plainest request.
        let asks = random.below(2 * ASKS.len()).saturating_sub(ASKS.len());
        let pieces = generate::answer(random);
        let then = match random.below(100) {
            0..35 => Then::Serve,
            35..80 => Then::Close,
            80..95 => Then::Reset,
            _ => Then::Hang,
        };
        Case { asks, pieces, then, again: random.percent(25) }
    }

    fn check(&self, number: u64, case: &Case) -> Result<(), String> {
        // Whoever closes or hangs behind a whole response would meet the next one who has this connection.
        let target = format!("/{}/{number}", if case.then == Then::Serve { "kept" } else { "single" });
        let mut pieces = generate::writes(&case.pieces);
        let said = pieces.concat();
        if case.then == Then::Serve && !ends_clearly(ASKS[case.asks].0, &said) {
            // What comes behind a response a moment later would meet the next one who has this connection, and no
            // gateway could know.
            pieces = vec![said.clone()];
        }
        let play = Play { pieces, then: case.then, early: false };
        self.peer.play(&target, play);
        let outcome = self.ask(&target, case, &said);
        self.peer.forget(&target);
        outcome
    }

    fn smaller(case: &Case) -> Vec<Case> {
        let smaller = generate::without_one(&case.pieces);
        smaller.into_iter().map(|pieces| Case { pieces, ..case.clone() }).collect()
    }

    fn show(case: &Case) -> String {
        let (_, method, version, rest) = ASKS[case.asks];
        let request = format!("{method} /u/N HTTP/{version}\r\n{rest}");
        format!(
            "the client: b\"{}\"\nthe upstream:\n{}then {:?}\n",
            request.escape_default(),
            generate::show(&case.pieces),
            case.then
        )
    }
}

impl UpstreamSide<'_> {
    fn ask(&self, target: &str, case: &Case, said: &[u8]) -> Result<(), String> {
        let (asked, method, version, rest) = ASKS[case.asks];
        let mut stream = TcpStream::connect_timeout(&self.gateway, limit()).map_err(|e| e.to_string())?;
        stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(limit())))
            .map_err(|e| e.to_string())?;
        let begun = Instant::now();
        let request = format!("{method} {target} HTTP/{version}\r\n{rest}");
        stream.write_all(request.as_bytes()).map_err(|e| format!("the gateway takes no request: {e}"))?;
        let mut reader = Reader::of_anything(stream);
        let answer = reader.read(asked).map_err(|none| format!("no answer: {none:?}"))?;
        self.ledger.answer(&answer);
        judge(&answer, asked)?;
        // On a busy machine a limit may strike although the upstream meant well.
        let late = begun.elapsed() >= SHORTEST_LIMIT;
        if !late {
            compare(&answer, asked, said, case.then)?;
        }
        if !answer.connection_usable {
            return match reader.read_end() {
                Unanswered::Closed => Ok(()),
                Unanswered::Reset if answer.ended != Ended::Complete => Ok(()),
                other => Err(format!("after an answer that closes: {other:?}")),
            };
        }
        if !case.again {
            return Ok(());
        }
        let begun = Instant::now();
        let again = reader.stream.write_all(b"GET /fine HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        again.map_err(|e| format!("the connection cannot be used again: {e}"))?;
        let next = reader.read(Asked::Http11("GET")).map_err(|none| format!("no second answer: {none:?}"))?;
        self.ledger.answer(&next);
        let late = next.status == 504 && begun.elapsed() >= SHORTEST_LIMIT;
        if !late && (next.status, next.text().as_str()) != (200, "fine") {
            return Err(format!("the second answer on the connection is {}", tell(&next)));
        }
        Ok(())
    }
}

/// A whole response and nothing behind it.
fn ends_clearly(asked: Asked, said: &[u8]) -> bool {
    let mut reader = Reader::of_anything(Cursor::new(said));
    reader.read(asked).is_ok_and(|answer| answer.ended == Ended::Complete) && reader.surplus().is_empty()
}

/// An answer in few words.
pub fn tell(answer: &Answer) -> String {
    let Answer { status, fields, framing, ended, .. } = answer;
    format!("{status} {fields:?} {framing:?} {ended:?} b\"{}\"", answer.body.escape_ascii())
}

/// The rules that hold for every response.
pub fn judge(answer: &Answer, asked: Asked) -> Result<(), String> {
    if !(200..600).contains(&answer.status) {
        return Err(format!("a status that may not be sent: {}", tell(answer)));
    }
    if matches!(answer.ended, Ended::Silent { .. }) {
        return Err(format!("hangs inside its body: {}", tell(answer)));
    }
    if answer.status >= 400 {
        promise::judge(answer, asked).map_err(|breach| format!("{breach}: {}", tell(answer)))?;
    }
    Ok(())
}

/// What the strict reader understands of the upstream, the client has been told.
fn compare(answer: &Answer, asked: Asked, said: &[u8], then: Then) -> Result<(), String> {
    let Ok(meant) = Reader::of_anything(Cursor::new(said)).read(asked) else { return Ok(()) };
    // Where the end of the connection is the end of the body, only an orderly one is.
    let open = meant.framing == Framing::Close && then != Then::Close;
    // More interim responses than the gateway passes are a fault.
    let flood = meant.interim.len() > 16;
    if !(200..400).contains(&meant.status) || meant.ended != Ended::Complete || open || flood {
        return Ok(());
    }
    let told = (answer.status, &answer.body, answer.ended);
    // A reset may overtake what was sent before it.
    let overtaken = then == Then::Reset && (answer.status == 504 || answer.ended != Ended::Complete);
    if overtaken || told == (meant.status, &meant.body, Ended::Complete) {
        return Ok(());
    }
    Err(format!("the upstream meant {}, the client was told {}", tell(&meant), tell(answer)))
}
