//! One case from the client's side: any bytes on one connection, before a good upstream, and what must come of them.
//!
//! What the strict reader takes for a request may be answered by the upstream or refused; what it does not take for one
//! must be refused, and the connection closed. Every silence has its reason in what the client did.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::super::load::limit;
use super::super::reader::{Answer, Asked, Ended, Reader, Unanswered};
use super::generate::{self, Piece};
use super::ledger::{Ledger, Sums};
use super::random::Random;
use super::request_reader::{From, Head, Read, read};
use super::run::Side;
use super::upstream_side::{SHORTEST_LIMIT, judge, tell};

/// The gateway and the accounts of the clients before it.
pub struct ClientSide<'a> {
    pub gateway: SocketAddr,
    pub ledger: &'a Ledger,
}

/// How the client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It shuts down its sending side when everything is answered.
    Polite,
    /// It shuts down its sending side at once, and reads.
    Half,
    /// It never ends by itself.
    Idle,
    /// It resets the connection without reading.
    Reset,
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Case {
    pub pieces: Vec<Piece>,
    pub ending: Ending,
}

impl Side for ClientSide<'_> {
    type Case = Case;

    fn make(&self, _: u64, random: &mut Random) -> Case {
        let ending = match random.below(100) {
            0..60 => Ending::Polite,
            60..88 => Ending::Half,
            88..92 => Ending::Idle,
            _ => Ending::Reset,
        };
        Case { pieces: generate::requests(random, if ending == Ending::Reset { 1 } else { 4 }), ending }
    }

    fn check(&self, _: u64, case: &Case) -> Result<(), String> {
        let writes = generate::writes(&case.pieces);
        let sent = writes.concat();
        let stream = connect(self.gateway).map_err(|e| e.to_string())?;
        for write in &writes {
            // Who is refused early may find nobody to write to.
            let _ = (&stream).write_all(write);
        }
        if case.ending == Ending::Reset {
            let most = parse(&sent).len() as u64;
            self.ledger.add(|sums| {
                sums.unknown.0 += 1;
                sums.unknown.1 += most.max(1);
            });
            return socket2::SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .map_err(|e| e.to_string());
        }
        converse(stream, &sent, case.ending, self.ledger).map(drop)
    }

    fn smaller(case: &Case) -> Vec<Case> {
        let smaller = generate::without_one(&case.pieces);
        smaller.into_iter().map(|pieces| Case { pieces, ..case.clone() }).collect()
    }

    fn show(case: &Case) -> String {
        format!("the client:\n{}then {:?}\n", generate::show(&case.pieces), case.ending)
    }
}

pub fn connect(gateway: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&gateway, limit())?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(limit()))?;
    Ok(stream)
}

/// What the strict reader finds in what a client sent: whole requests, and at the end perhaps something else.
pub fn parse(sent: &[u8]) -> Vec<Read> {
    let mut found = Vec::new();
    let mut rest = sent;
    while !matches!(rest, b"" | b"\r" | b"\r\n") {
        let one = read(rest, From::Client);
        let used = if let Read::Whole(_, _, used) = &one { *used } else { rest.len() };
        found.push(one);
        rest = &rest[used..];
    }
    found
}

/// Reads every answer to what was sent, to the end of the connection.
pub fn converse(
    stream: TcpStream,
    sent: &[u8],
    ending: Ending,
    ledger: &Ledger,
) -> Result<Vec<Answer>, String> {
    if ending == Ending::Half {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut reader = Reader::of_anything(stream);
    let mut answers = Vec::new();
    let requests = parse(sent);
    for request in &requests {
        let asked = asked(request, sent);
        let begun = Instant::now();
        let answer = match reader.read(asked) {
            Ok(answer) => answer,
            // A client that has shut down its sending side counts as gone while its request is at the upstream. It has
            // not when its bytes are no request: then somebody was there to refuse.
            Err(Unanswered::Closed | Unanswered::Reset)
                if ending == Ending::Half && matches!(request, Read::Whole(..)) =>
            {
                ledger.add(|sums| sums.unanswered += 1);
                return Ok(answers);
            }
            Err(none) => return Err(format!("no answer to request {}: {none:?}", answers.len() + 1)),
        };
        ledger.answer(&answer);
        judge(&answer, asked)?;
        // On a busy machine a limit may strike although everybody meant well.
        let late = matches!(answer.status, 400 | 504) && begun.elapsed() >= SHORTEST_LIMIT;
        if !late {
            check_answer(request, &answer, ending, seems_grpc(sent))?;
        }
        let (usable, was_cut) = (answer.connection_usable, answer.ended != Ended::Complete);
        answers.push(answer);
        if !usable {
            return match reader.read_end() {
                Unanswered::Closed => Ok(answers),
                Unanswered::Reset if was_cut => Ok(answers),
                // Refused for what stands before its HEAD, perhaps before that had come: then with a body.
                Unanswered::Malformed(_) if asked.head() && !begins_with_head(sent) => Ok(answers),
                other => Err(format!("after an answer that closes: {other:?}")),
            };
        }
    }
    if ending == Ending::Polite {
        let _ = reader.stream.shutdown(Shutdown::Write);
    }
    match reader.read_end() {
        Unanswered::Closed => {}
        other => return Err(format!("after everything was answered: {other:?}")),
    }
    // A body that was answered before its end, and did not come to it, ends its connection too.
    let clear = requests.iter().all(|request| matches!(request, Read::Whole(..)));
    ledger.add(|sums: &mut Sums| {
        sums.idle += u64::from(ending == Ending::Idle && clear);
        sums.nothing += u64::from(ending != Ending::Idle && requests.is_empty());
    });
    Ok(answers)
}

fn asked(request: &Read, sent: &[u8]) -> Asked {
    match request {
        Read::Whole(head, ..) | Read::Body(head) | Read::BrokenBody(head, _) => asked_by(head),
        // Whoever asks with HEAD takes no body for an answer, however the rest of its head looks.
        Read::More | Read::Broken(_) => {
            let rest = unread(sent);
            Asked::Http11(if rest.trim_ascii_start().starts_with(b"HEAD ") { "HEAD" } else { "GET" })
        }
    }
}

/// What is no request any more begins with HEAD at once, or behind the one empty line that may be there.
fn begins_with_head(sent: &[u8]) -> bool {
    let rest = unread(sent);
    rest.strip_prefix(b"\r\n").unwrap_or(rest).starts_with(b"HEAD ")
}

/// What is behind the whole requests.
fn unread(sent: &[u8]) -> &[u8] {
    let mut rest = sent;
    while let Read::Whole(_, _, used) = read(rest, From::Client) {
        rest = &rest[used..];
    }
    rest
}

fn asked_by(head: &Head) -> Asked {
    match (head.method == "HEAD", head.old) {
        (true, false) => Asked::Http11("HEAD"),
        (false, false) => Asked::Http11("GET"),
        (true, true) => Asked::Http10("HEAD"),
        (false, true) => Asked::Http10("GET"),
    }
}

/// OPTIONS for the server as a whole reaches no route.
fn is_routeless(head: &Head) -> bool {
    head.target == "*" || !head.target.starts_with('/')
}

/// What is no request may say all the same that it is a call of gRPC.
fn seems_grpc(sent: &[u8]) -> bool {
    let rest = String::from_utf8_lossy(unread(sent)).to_ascii_lowercase();
    let says = |line: &str| {
        let value = line.strip_prefix("content-type:");
        value.is_some_and(|value| value.trim_start_matches([' ', '\t']).starts_with("application/grpc"))
    };
    rest.trim_start().starts_with("post ") && rest.split('\n').any(says)
}

fn is_grpc(head: &Head) -> bool {
    let grpc =
        |(name, value): &(String, Vec<u8>)| name == "content-type" && value.starts_with(b"application/grpc");
    head.method == "POST" && head.fields.iter().any(grpc)
}

/// The status that was told; to a caller of gRPC it is told in other words.
fn status(grpc: bool, answer: &Answer) -> u16 {
    if !grpc || answer.status != 200 {
        return answer.status;
    }
    match answer.field("grpc-status") {
        None => 200,
        Some(_) if !answer.body.is_empty() => 0,
        Some("3" | "8") => 400,
        // Time was up for the client, or for the upstream.
        Some("4") if answer.field("grpc-message") == Some("The request was not received in time.") => 400,
        Some("10") => 409,
        Some("12") => 404,
        Some("4" | "13" | "14") => 504,
        Some(_) => 0,
    }
}

fn check_answer(request: &Read, answer: &Answer, ending: Ending, seems_grpc: bool) -> Result<(), String> {
    let told = match request {
        Read::Whole(head, ..) | Read::Body(head) | Read::BrokenBody(head, _) => status(is_grpc(head), answer),
        Read::More | Read::Broken(_) => status(seems_grpc, answer),
    };
    let good = match request {
        Read::Whole(head, ..) => match told {
            200 if answer.ended != Ended::Complete => {
                // An answer without a length is not sent on to a client that may have left; it can see that.
                ending == Ending::Half && head.target.contains("/until") && "fine".starts_with(&answer.text())
            }
            200 => head.method == "HEAD" || answer.text() == "fine",
            400 => true,
            // OPTIONS for everything reaches no route.
            404 => {
                head.target == "*" || head.target.starts_with("HTTP://") || head.target.starts_with("http://")
            }
            504 => head.target.contains("/broken"),
            409 => head.target.contains("/taken"),
            _ => false,
        },
        // The upstream may have answered before it saw that the body is none.
        Read::Body(head) | Read::BrokenBody(head, _) => match told {
            400 => true,
            404 => is_routeless(head),
            _ => head.target.contains("/early"),
        },
        Read::More | Read::Broken(_) => told == 400 && answer.says_close(),
    };
    if good { Ok(()) } else { Err(format!("{request:?} is answered with {}", tell(answer))) }
}
