//! Plays one row of the table of clients against a gateway, and compares what came with what stands there.
//!
//! What an error answer must be for the gateway's own configuration is for the caller to say ([`Scene::judge`]); here are
//! the connection, the order of answers, and what the upstream received. Breaches are sentences for an operator.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::answers::{Answer, Ended, Reader, Unanswered};
use super::clients::{
    Act, Alert, Asked, ClientFault, Ending, Expected, Hello, PLAY, Reaches, SERVED, Setting, Shaken,
};
use super::good;
use super::line::{self, Line};
use super::record::{Request, Seen};
use super::script::{Script, Step, reply, say};
use super::upstream::Upstream;

/// Where rows are played, and who judges.
pub struct Scene<'a> {
    /// How a connection to the gateway is made.
    pub connect: Connect,
    /// What the gateway offers.
    pub setting: &'a Setting,
    /// The upstream behind it, which plays [`upstream_script`].
    pub upstream: &'a Upstream,
    /// No wait is longer.
    pub limit: Duration,
    /// Whether an answer is what was expected.
    pub judge: Judge<'a>,
}

/// Says what is wrong with an answer.
pub type Judge<'a> = &'a (dyn Fn(Expected, Asked, &Answer) -> Result<(), String> + Sync);

/// The way to a gateway.
#[derive(Clone, Copy, Debug)]
pub struct Connect {
    /// Where it listens.
    pub gateway: SocketAddr,
    /// Which address of this machine asks; the system's choice when `None`.
    pub from: Option<Ipv4Addr>,
    /// A relay that is told the gateway's address in a first line, `ADDRESS\n`, and passes everything else on.
    pub relay: Option<SocketAddr>,
}

/// What came of a row.
#[derive(Clone, Debug)]
pub struct Played {
    /// Every answer that was read, those of the request that followed included.
    pub answers: Vec<Answer>,
    /// What was received, as it came; the first mebibyte.
    pub raw: Vec<u8>,
    /// The first thing that is not as it stands in the table.
    pub breach: Option<String>,
}

impl Connect {
    /// A new connection; `narrow` is one whose receive buffer is as small as it gets.
    ///
    /// # Errors
    /// Nobody listens, or the system has no more sockets.
    pub async fn open(&self, narrow: bool) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if narrow {
            socket.set_recv_buffer_size(4096)?;
        }
        if let Some(address) = self.from {
            // A port that rests after another connection will do: on a busy machine there may be no other.
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::from((address, 0)))?;
        }
        let mut stream = socket.connect(self.relay.unwrap_or(self.gateway)).await?;
        stream.set_nodelay(true)?;
        if self.relay.is_some() {
            stream.write_all(format!("{}\n", self.gateway).as_bytes()).await?;
        }
        Ok(stream)
    }
}

/// Plays a row to its end.
pub async fn play(row: &ClientFault, scene: &Scene<'_>) -> Played {
    let stream = match scene.connect.open(row.narrow).await {
        Ok(stream) => stream,
        Err(error) => {
            let breach = Some(format!("no connection to the gateway: {error}"));
            return Played { answers: Vec::new(), raw: Vec::new(), breach };
        }
    };
    let before = Received::of(&row.mark(), scene.upstream);
    let mut talk = Talk {
        row,
        scene,
        before,
        reader: Some(Reader::new(stream, scene.limit)),
        answers: Vec::new(),
        raw: Vec::new(),
    };
    let outcome = talk.play().await;
    if let Some(reader) = &talk.reader {
        talk.raw = reader.raw().to_vec();
    }
    let breach = match outcome {
        Ok(()) => Received::of(&row.mark(), scene.upstream).judge(before, row.reaches).err(),
        Err(breach) => Some(breach),
    };
    Played { answers: talk.answers, raw: talk.raw, breach }
}

/// A row that is being played.
struct Talk<'a> {
    row: &'a ClientFault,
    scene: &'a Scene<'a>,
    before: Received,
    /// Gone when the client has left.
    reader: Option<Reader>,
    answers: Vec<Answer>,
    raw: Vec<u8>,
}

impl Talk<'_> {
    async fn play(&mut self) -> Result<(), String> {
        for act in &self.row.acts {
            self.act(act).await?;
        }
        self.end().await
    }

    async fn act(&mut self, act: &Act) -> Result<(), String> {
        let row = self.row;
        let scene = self.scene;
        let Some(reader) = &mut self.reader else { return Ok(()) };
        reader.deadline = Instant::now() + scene.limit;
        match act {
            Act::Send(bytes) => write(reader, bytes).await,
            Act::Repeat(bytes, times) => {
                for _ in 0..*times {
                    if !write(reader, bytes).await {
                        return Ok(());
                    }
                    tokio::task::yield_now().await;
                }
                true
            }
            Act::Drip(bytes, every) => drip(reader, bytes, *every).await,
            Act::Interim(status) => {
                let came = reader
                    .interim(Asked::USUAL)
                    .await
                    .map_err(|none| missing("an interim response", &none))?;
                if came != *status {
                    return Err(format!("{came} came in the place of {status}"));
                }
                true
            }
            Act::Answer(asked) => return self.answer(*asked, None).await,
            Act::AnswerSlowly(asked, size, pause) => {
                return self.answer(*asked, Some((*size, *pause))).await;
            }
            Act::Arrived => arrived(row, scene, self.before).await?,
            Act::Answered => !reader.stirs().await,
            Act::Pause(time) => {
                tokio::time::sleep(*time).await;
                true
            }
            Act::HalfClose => reader.stream.shutdown().await.is_ok(),
            Act::Close => self.reader.take().is_some(),
            Act::Reset => {
                let reader = self.reader.take();
                reader.is_some_and(|mut reader| reader.stream.beneath().set_zero_linger().is_ok())
            }
            Act::Handshake(hello) => return self.shake_hands(hello).await,
            Act::Beneath(bytes) => {
                let beneath = reader.stream.beneath();
                let written = within(scene.limit, beneath.write_all(bytes)).await;
                written.is_some_and(|written| written.is_ok())
            }
            Act::Alert(Alert { code, name }) => match within(scene.limit, reader.stream.alert()).await {
                Some(Ok(came)) if came == *code => true,
                Some(Ok(came)) => return Err(format!("the alert {came} came in the place of {name}")),
                Some(Err(error)) => return Err(format!("expected the alert {name}: {error}")),
                None => return Err(format!("expected the alert {name}, and nothing comes")),
            },
            Act::Forget => {
                if !reader.forget().await {
                    return Err("expected the end, and nothing comes".to_owned());
                }
                self.reader.take().is_some()
            }
        };
        // What is not taken any more has been answered: reading decides.
        Ok(())
    }

    /// Begins TLS on a connection that nothing was sent on.
    async fn shake_hands(&mut self, hello: &Hello) -> Result<(), String> {
        let Some(Reader { stream: Line::Plain(stream), .. }) = self.reader.take() else { return Ok(()) };
        let limit = self.scene.limit;
        let Some(shaken) = within(limit, Line::shake_hands(stream, hello)).await else {
            return Err("the handshake does not end".to_owned());
        };
        match (hello.gets, shaken) {
            (Shaken::Agrees(protocol), Ok(stream)) if stream.protocol() == protocol.map(str::as_bytes) => {
                self.reader = Some(Reader::new(stream, limit));
                Ok(())
            }
            (Shaken::Alert(Alert { code, .. }), Err(error)) if line::alert(&error) == Some(code) => Ok(()),
            (Shaken::Distrusts, Err(error)) if line::is_refusal(&error) => Ok(()),
            (_, Ok(stream)) => {
                let protocol = stream.protocol().map(String::from_utf8_lossy);
                Err(format!("a handshake that ends well, with {protocol:?}"))
            }
            (_, Err(error)) => Err(format!("a handshake that fails: {error}")),
        }
    }

    async fn answer(&mut self, asked: Asked, slowly: Option<(usize, Duration)>) -> Result<(), String> {
        let number = self.answers.len();
        let Some(expected) = self.row.answers.get(number).copied() else {
            return Err("the row expects fewer answers than it reads".to_owned());
        };
        let Some(reader) = &mut self.reader else { return Ok(()) };
        reader.slowly = slowly;
        reader.most = if expected == Expected::Begun { BEGINNING } else { u64::MAX };
        let answer = reader.answer(asked).await.map_err(|none| missing("an answer", &none))?;
        reader.slowly = None;
        let verdict = (self.scene.judge)(expected, asked, &answer);
        self.answers.push(answer);
        let which =
            if self.row.answers.len() > 1 { format!("answer {}: ", number + 1) } else { String::new() };
        verdict.map_err(|breach| format!("{which}{breach}"))
    }

    async fn end(&mut self) -> Result<(), String> {
        let asked = self.row.last_asked();
        let last_stays = self.answers.last().is_none_or(|answer| answer.leaves_open(asked));
        let Some(reader) = &mut self.reader else { return Ok(()) };
        reader.deadline = Instant::now() + self.scene.limit;
        match self.row.ending {
            Ending::Left(_) | Ending::LeftInside | Ending::Cut => Ok(()),
            Ending::Stays if !last_stays => Err("the connection is given up".to_owned()),
            Ending::Stays => self.follow_up().await,
            Ending::Closes if last_stays => {
                Err("the connection is about to close and does not say so".to_owned())
            }
            Ending::Closes | Ending::Unsaid | Ending::Idle => {
                reader.end().await.map_err(|other| missing("the end", &other))
            }
            Ending::Silence(_) => match reader.end().await {
                Ok(()) | Err(Unanswered::Reset) => Ok(()),
                Err(other) => Err(missing("the end", &other)),
            },
        }
    }

    /// The connection is whole only if the next request on it is served.
    async fn follow_up(&mut self) -> Result<(), String> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        if !reader.surplus().is_empty() {
            return Err("bytes after the answer".to_owned());
        }
        write(reader, &self.scene.setting.follow_up()).await;
        let what = "an answer to the next request on the connection";
        let answer = reader.answer(Asked::USUAL).await.map_err(|none| missing(what, &none))?;
        let verdict = (self.scene.judge)(Expected::Served, Asked::USUAL, &answer);
        self.answers.push(answer);
        verdict.map_err(|breach| format!("the next request on the connection: {breach}"))
    }
}

/// So much of an endless answer is read by who wants its beginning.
const BEGINNING: u64 = 100_000;

async fn write(reader: &mut Reader, bytes: &[u8]) -> bool {
    let stream = &mut reader.stream;
    let all = async { stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok() };
    tokio::select! {
        written = all => written,
        () = tokio::time::sleep_until(reader.deadline.into()) => false,
    }
}

/// `None` when it takes longer.
async fn within<T>(limit: Duration, what: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = what => Some(done),
        () = tokio::time::sleep(limit) => None,
    }
}

async fn drip(reader: &mut Reader, bytes: &[u8], every: Duration) -> bool {
    loop {
        tokio::select! {
            biased;
            _ = reader.stirs() => return true,
            () = tokio::time::sleep(every) => {}
        }
        if Instant::now() > reader.deadline || !write(reader, bytes).await {
            return true;
        }
    }
}

async fn arrived(row: &ClientFault, scene: &Scene<'_>, before: Received) -> Result<bool, String> {
    let deadline = Instant::now() + scene.limit;
    let mark = row.mark();
    while !Received::of(&mark, scene.upstream).is_more_than(before) {
        if Instant::now() > deadline {
            return Err("the request does not reach the upstream".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(true)
}

/// How many requests of a row an upstream has received, and how many of them whole.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Received {
    all: usize,
    whole: usize,
}

impl Received {
    /// The requests that bear this mark, until now.
    pub(super) fn of(mark: &str, upstream: &Upstream) -> Received {
        let mut received = Received::default();
        upstream.sees_within(Duration::ZERO, |seen| {
            received.all = of_row(seen, mark).count();
            received.whole = of_row(seen, mark).filter(|whole| **whole).count();
            true
        });
        received
    }

    /// Whether there is one that was not there before: a row may be played twice.
    pub(super) const fn is_more_than(self, before: Received) -> bool {
        self.all > before.all
    }

    /// Compares what came since then with what should have.
    ///
    /// # Errors
    /// What is different.
    pub(super) fn judge(self, before: Received, reaches: Reaches) -> Result<(), String> {
        let (all, whole) = (self.all - before.all, self.whole - before.whole);
        match reaches {
            Reaches::Anything => Ok(()),
            Reaches::Whole(expected) if (all, whole) == (expected, expected) => Ok(()),
            Reaches::Whole(expected) => {
                Err(format!("the upstream received {all} requests, {whole} of them whole, not {expected}"))
            }
            Reaches::NeverWhole if whole == 0 && all <= 1 => Ok(()),
            Reaches::NeverWhole => {
                Err(format!("the upstream received {all} requests, {whole} of them whole"))
            }
        }
    }
}

/// Whether each request of a row came whole.
fn of_row<'a>(seen: &'a Seen, mark: &'a str) -> impl Iterator<Item = &'a bool> {
    let marked = move |target: &str| target.split(['?', '&']).any(|part| part == mark);
    seen.requests().filter(move |request| marked(&request.head.target)).map(|request| &request.whole)
}

fn missing(what: &str, none: &Unanswered) -> String {
    match none {
        Unanswered::Closed => format!("expected {what}, and the connection ends without a byte"),
        Unanswered::Reset => format!("expected {what}, and the connection is reset"),
        Unanswered::Silent => format!("expected {what}, and nothing comes"),
        Unanswered::Malformed(found) => format!("expected {what}, and what comes is malformed: {found}"),
    }
}

/// Judges an answer that the upstream has made.
///
/// # Errors
/// It is another one.
pub fn judge_served(expected: Expected, answer: &Answer) -> Result<(), String> {
    let whole = answer.status == 200 && answer.ended == Ended::Whole;
    match expected {
        Expected::Served if whole && answer.body == SERVED.as_bytes() => Ok(()),
        Expected::ServedBytes(length) if whole && answer.length == length => Ok(()),
        Expected::Begun if answer.status == 200 && answer.ended == Ended::Long => Ok(()),
        Expected::Cut(_) if answer.status == 200 && answer.ended == Ended::Cut => Ok(()),
        Expected::Cut(_) => Err(format!("a {} that is not visibly cut", answer.status)),
        Expected::Served
        | Expected::ServedBytes(_)
        | Expected::Begun
        | Expected::Refused(_)
        | Expected::RefusedOnRoute(_) => {
            let begun: String = answer.text().chars().take(80).collect();
            let how = if whole { "" } else { ", not whole," };
            Err(format!("{} {begun:?}{how} in the place of the upstream's answer", answer.status))
        }
    }
}

/// What the upstream behind the gateway plays for a request of the table of clients.
pub fn upstream_script(request: &Request) -> Script {
    let served = || Step::Write(reply("200 OK\ncontent-type: text/plain", SERVED));
    let chunked = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
    match request.field(PLAY) {
        Some("hang") => vec![Step::ReadHead, Step::Hang],
        Some("early") => vec![Step::ReadHead, served()],
        Some("endless") => {
            let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
            let forever = Step::Repeat { bytes: chunk.into(), times: u64::MAX, every: Duration::ZERO };
            vec![Step::ReadHead, say(chunked), forever]
        }
        Some("megabyte") => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1048576\r\n\r\n";
            let body = Step::Repeat { bytes: good::PATTERN.into(), times: 1024, every: Duration::ZERO };
            vec![Step::ReadHead, say(head), body]
        }
        Some(_) | None => vec![Step::ReadHead, Step::Continue, Step::ReadBody, served()],
    }
}
