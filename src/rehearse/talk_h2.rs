//! Plays one row of the table of HTTP/2 clients against a gateway, and compares what became of its streams and of the
//! connection with what stands there.
//!
//! The counterpart of [`super::talk`], with the same scene and the same judge. It reads and writes at the same time, as
//! HTTP/2 demands, and acknowledges what a polite client would.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::answers::{Answer, Ended, Framing, keep};
use super::clients::{Asked, Expected};
use super::clients_h2::{Deed, Fate, FrameFault, LastWord};
use super::frames::{self, ACK, END_HEADERS, END_STREAM, Frame, PREFACE, kind, setting};
use super::hpack;
use super::talk::{Played, Received, Scene};

/// The stream of the upload that goes on beside a row.
const NEIGHBOUR: u32 = 1;
/// The stream of the request that follows.
const FOLLOWING: u32 = 0x0100_0001;
/// So often the neighbour sends a piece: more often than the limit on bodies.
const PIECE_EVERY: Duration = Duration::from_millis(200);
/// Half of what a window can be: what comes is counted, never held back.
const LARGE_WINDOW: u32 = 0x4000_0000;

/// Plays a row to its end.
pub async fn play(row: &FrameFault, scene: &Scene<'_>) -> Played {
    let stream = match scene.connect.open(false).await {
        Ok(stream) => stream,
        Err(error) => {
            let breach = Some(format!("no connection to the gateway: {error}"));
            return Played { answers: Vec::new(), raw: Vec::new(), breach };
        }
    };
    let mut talk = Talk::new(row, scene, stream);
    let outcome = talk.play().await;
    let breach = match outcome {
        Ok(()) => Received::of(&row.mark(), scene.upstream).judge(talk.before, row.reaches).err(),
        Err(breach) => Some(breach),
    };
    Played { answers: talk.judged, raw: Vec::new(), breach }
}

/// A row that is being played.
struct Talk<'a> {
    row: &'a FrameFault,
    scene: &'a Scene<'a>,
    before: Received,
    reading: OwnedReadHalf,
    writing: OwnedWriteHalf,
    /// What came and is no whole frame yet.
    come: Vec<u8>,
    /// What is to be written next.
    output: Bytes,
    /// Acknowledgements, to be written between two deeds.
    replies: VecDeque<Vec<u8>>,
    streams: BTreeMap<u32, Heard>,
    /// The answers that the row and what goes on beside it wait for.
    judged: Vec<Answer>,
    /// The other side's SETTINGS came.
    greeted: bool,
    /// The code of its GOAWAY.
    goaway: Option<u32>,
    ended: bool,
    left: bool,
    mute: bool,
    deadline: Instant,
    /// When the neighbour sends its next piece; `None` before its head and once it ends.
    next_piece: Option<Instant>,
}

/// What came on one stream.
#[derive(Debug, Default)]
struct Heard {
    answer: Option<Answer>,
    interim: Vec<u16>,
    whole: bool,
    reset: Option<u32>,
}

impl Heard {
    fn is_over(&self) -> bool {
        self.whole || self.reset.is_some()
    }
}

impl<'a> Talk<'a> {
    fn new(row: &'a FrameFault, scene: &'a Scene<'a>, stream: TcpStream) -> Self {
        let (reading, writing) = stream.into_split();
        Talk {
            row,
            scene,
            before: Received::of(&row.mark(), scene.upstream),
            reading,
            writing,
            come: Vec::new(),
            output: Bytes::new(),
            replies: VecDeque::new(),
            streams: BTreeMap::new(),
            judged: Vec::new(),
            greeted: false,
            goaway: None,
            ended: false,
            left: false,
            mute: false,
            deadline: Instant::now() + scene.limit,
            next_piece: None,
        }
    }

    async fn play(&mut self) -> Result<(), String> {
        if let Some(settings) = &self.row.settings {
            // Nothing is to be remembered of the answers' fields, and nothing to be held back but what the row says.
            let own = [(setting::HEADER_TABLE_SIZE, 0), (setting::INITIAL_WINDOW_SIZE, LARGE_WINDOW)];
            let told: Vec<_> = own.into_iter().chain(settings.iter().copied()).collect();
            let more = frames::window(0, LARGE_WINDOW - 0xffff);
            self.write([PREFACE, &frames::settings(&told), &more].concat()).await?;
            // Acknowledged, too: what follows may be half of something.
            self.until("its SETTINGS", |talk| {
                talk.greeted && talk.replies.is_empty() && talk.output.is_empty()
            })
            .await?;
        }
        if self.row.neighbour {
            let head = self.scene.setting.neighbour().block();
            self.write(frames::frame(kind::HEADERS, END_HEADERS, NEIGHBOUR, head)).await?;
            // Not before: DATA of a stream that nobody has opened ends the connection.
            self.next_piece = Some(Instant::now() + PIECE_EVERY);
        }
        for deed in &self.row.deeds {
            if self.left {
                break;
            }
            self.deed(deed).await?;
        }
        self.end().await
    }

    async fn deed(&mut self, deed: &Deed) -> Result<(), String> {
        self.deadline = Instant::now() + self.scene.limit;
        match deed {
            Deed::Send(bytes) => self.write(bytes.clone()).await,
            Deed::Repeat(bytes, times) => {
                for _ in 0..*times {
                    if self.ended {
                        break;
                    }
                    self.write(bytes.clone()).await?;
                }
                Ok(())
            }
            Deed::Drip(bytes, every) => {
                let (limit, streams) = (self.deadline, self.row.fates.clone());
                let over = |talk: &Self| {
                    talk.ended
                        || !streams.is_empty() && streams.iter().all(|(number, _)| talk.is_over(*number))
                };
                while !over(self) && Instant::now() < limit {
                    self.deadline = limit;
                    self.write(bytes.clone()).await?;
                    self.deadline = limit.min(Instant::now() + *every);
                    // That nothing has come by then is no breach.
                    let _ = self.until("", over).await;
                }
                self.deadline = limit;
                Ok(())
            }
            Deed::Arrived => {
                let (mark, before) = (self.row.mark(), self.before);
                let upstream = self.scene.upstream;
                self.until("that its request reaches the upstream", |_| {
                    Received::of(&mark, upstream).is_more_than(before)
                })
                .await
            }
            Deed::Answered(number) => self.until("an answer", |talk| talk.is_over(*number)).await,
            Deed::Mute => {
                self.mute = true;
                Ok(())
            }
            Deed::Close => {
                self.left = true;
                // What is unread turns the end into a reset: to who waits it is all the same.
                self.writing.shutdown().await.map_err(|error| format!("cannot close: {error}"))
            }
        }
    }

    async fn end(&mut self) -> Result<(), String> {
        self.deadline = Instant::now() + self.scene.limit;
        if self.left {
            // Gone at once, whatever still comes.
            return Ok(());
        }
        let row = self.row;
        let answered: Vec<u32> =
            row.fates.iter().filter(|(_, fate)| *fate != Fate::Silence).map(|(number, _)| *number).collect();
        for number in answered {
            self.until(&format!("an answer on stream {number}"), |talk| talk.is_over(number) || talk.ended)
                .await?;
        }
        for (number, fate) in &row.fates {
            self.settle(*number, *fate).map_err(|breach| format!("stream {number}: {breach}"))?;
        }
        match row.ending {
            LastWord::Left => Ok(()),
            LastWord::Stays => self.follow_up().await,
            LastWord::Error | LastWord::Farewell => {
                self.until("the end of the connection", |talk| talk.ended).await?;
                match (row.ending, self.goaway) {
                    (LastWord::Error, Some(0)) => Err("a GOAWAY that names no error".to_owned()),
                    (LastWord::Farewell, Some(code)) if code != 0 => {
                        Err(format!("a GOAWAY for the error {code}"))
                    }
                    (LastWord::Error | LastWord::Farewell, None) => {
                        Err("the connection ends without a GOAWAY".to_owned())
                    }
                    (
                        LastWord::Left | LastWord::Stays | LastWord::Error | LastWord::Farewell,
                        Some(_) | None,
                    ) => Ok(()),
                }
            }
        }
    }

    /// Judges what became of a stream.
    fn settle(&mut self, number: u32, fate: Fate) -> Result<(), String> {
        let heard = self.streams.remove(&number).unwrap_or_default();
        let told = format!("{}{}", told(&heard), self.how_it_ended());
        match fate {
            Fate::Silence if heard.answer.is_none() => Ok(()),
            Fate::Reset if heard.answer.is_none() && heard.reset.is_some_and(|code| code != 0) => Ok(()),
            Fate::Empty431 => match heard.answer {
                Some(answer) if answer.status == 431 && answer.length == 0 => Ok(()),
                Some(_) | None => Err(format!("{told} in the place of an empty 431")),
            },
            Fate::HeadOnly(cause) => match heard.answer {
                Some(answer) if answer.length == 0 && answer.ended == Ended::Cut => {
                    // The body is what HEAD would not get: everything but that is judged.
                    let head = Answer { ended: Ended::Whole, ..answer };
                    let verdict = (self.scene.judge)(Expected::Refused(cause), Asked::HEAD, &head);
                    self.judged.push(head);
                    verdict
                }
                Some(_) | None => Err(format!("{told} in the place of a head alone")),
            },
            Fate::Answer(expected) => {
                let Some(answer) = heard.answer else {
                    return Err(format!("{told} in the place of an answer"));
                };
                let verdict =
                    check(&answer).and_then(|()| (self.scene.judge)(expected, Asked::USUAL, &answer));
                self.judged.push(answer);
                verdict
            }
            Fate::Reset => Err(format!("{told} in the place of a reset")),
            Fate::Silence => Err(format!("{told} in the place of nothing")),
        }
    }

    /// For who wonders why nothing came.
    fn how_it_ended(&self) -> String {
        match (self.ended, self.goaway) {
            (false, None) => String::new(),
            (false, Some(code)) => format!(" behind a GOAWAY for {code}"),
            (true, None) => " before the connection ends".to_owned(),
            (true, Some(code)) => format!(" before the connection ends with a GOAWAY for {code}"),
        }
    }

    /// The connection is whole only if what went on beside the row comes to its end, and the next request is served.
    async fn follow_up(&mut self) -> Result<(), String> {
        let mut expected = vec![(FOLLOWING, "the next request on the connection")];
        if self.row.neighbour {
            // Not a piece behind the end.
            self.next_piece = None;
            self.until("that its frames are taken", |talk| talk.replies.is_empty() && talk.output.is_empty())
                .await?;
            self.write(frames::frame(kind::DATA, END_STREAM, NEIGHBOUR, "end")).await?;
            expected.insert(0, (NEIGHBOUR, "another stream of the connection"));
        }
        let head = self.scene.setting.another().block();
        self.write(frames::frame(kind::HEADERS, END_HEADERS | END_STREAM, FOLLOWING, head)).await?;
        if self.row.settings.as_ref().is_some_and(|settings| !settings.is_empty()) {
            // The row has closed the windows of all streams.
            for (number, _) in &expected {
                self.write(frames::window(*number, 0xffff)).await?;
            }
        }
        for (number, what) in expected {
            self.until(&format!("an answer to {what}"), |talk| talk.is_over(number) || talk.ended).await?;
            self.settle(number, Fate::Answer(Expected::Served))
                .map_err(|breach| format!("{what}: {breach}"))?;
        }
        Ok(())
    }

    fn is_over(&self, number: u32) -> bool {
        self.streams.get(&number).is_some_and(Heard::is_over)
    }

    /// Writes all of it, and reads meanwhile.
    async fn write(&mut self, bytes: impl Into<Bytes>) -> Result<(), String> {
        self.output = bytes.into();
        // What is not taken any more has been answered: reading decides.
        self.until("that its frames are taken", |talk| talk.output.is_empty() || talk.ended).await
    }

    /// Reads, and writes what is to be written, until this is so.
    async fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) -> Result<(), String> {
        let mut piece = vec![0; 64 * 1024];
        let mut tick = tokio::time::interval(PIECE_EVERY.min(Duration::from_millis(20)));
        loop {
            if so(self) {
                return Ok(());
            }
            if self.ended {
                return Err(format!("expected {what}, and the connection ends"));
            }
            if self.output.is_empty() {
                self.output = self.replies.pop_front().unwrap_or_default().into();
            }
            tokio::select! {
                            read = self.reading.read(&mut piece) => match read {
                                Ok(size @ 1..) => self.receive(piece.get(..size).unwrap_or_default())?,
                                Ok(0) | Err(_) => self.ended = true,
                            },
                            wrote = self.writing.write(&self.output), if !self.output.is_empty() => match wrote {
                                Ok(size) => drop(self.output.split_to(size)),
                                // What is already here may still be read.
                                Err(_) => self.output.clear(),
                            },
                            // What is awaited may happen elsewhere.
                            _ = tick.tick() => {
            if self.next_piece.is_some_and(|at| Instant::now() > at) && !self.is_over(NEIGHBOUR) {
                                    self.next_piece = Some(Instant::now() + PIECE_EVERY);
                                    self.reply(frames::frame(kind::DATA, 0, NEIGHBOUR, "piece"));
                                }
                            }
                            () = tokio::time::sleep_until(self.deadline.into()) => {
                                return Err(format!("expected {what}, and nothing comes"));
                            }
                        }
            // Floods are sent beside other rows: they must not be late for it.
            tokio::task::yield_now().await;
        }
    }

    fn reply(&mut self, frame: Vec<u8>) {
        if !self.mute {
            self.replies.push_back(frame);
        }
    }

    fn receive(&mut self, piece: &[u8]) -> Result<(), String> {
        self.come.extend_from_slice(piece);
        while let Some(frame) = frames::take(&mut self.come) {
            self.take(&frame).map_err(|what| format!("what comes is malformed: {what}"))?;
        }
        Ok(())
    }

    fn take(&mut self, frame: &Frame) -> Result<(), &'static str> {
        match frame.kind {
            kind::SETTINGS if frame.flags & ACK == 0 => {
                self.greeted = true;
                self.reply(frames::frame(kind::SETTINGS, ACK, 0, []));
            }
            kind::PING if frame.flags & ACK == 0 => {
                self.reply(frames::frame(kind::PING, ACK, 0, &frame.payload));
            }
            kind::GOAWAY => {
                let code = frames::number(frame.payload.get(4..).unwrap_or_default());
                // A farewell may come in two steps; an error is the last word.
                self.goaway = Some(code);
            }
            kind::HEADERS => {
                if frame.flags & END_HEADERS == 0 {
                    return Err("a head in several frames");
                }
                let fields = hpack::read(&frame.payload)?;
                let heard = self.streams.entry(frame.stream).or_default();
                heard.head(fields)?;
                heard.end(frame.flags & END_STREAM != 0);
            }
            kind::DATA => {
                let heard = self.streams.entry(frame.stream).or_default();
                let answer = heard.answer.as_mut().ok_or("DATA before a head")?;
                keep(&mut answer.body, &frame.payload);
                answer.length += frame.payload.len() as u64;
                heard.end(frame.flags & END_STREAM != 0);
            }
            kind::RST_STREAM => {
                let heard = self.streams.entry(frame.stream).or_default();
                heard.reset = Some(frames::number(&frame.payload));
            }
            // PING and SETTINGS that answer ours, windows, and what nobody asked for.
            _ => {}
        }
        Ok(())
    }
}

impl Heard {
    fn head(&mut self, mut fields: hpack::Fields) -> Result<(), &'static str> {
        let pseudo = fields.iter().take_while(|(name, _)| name.starts_with(':')).count();
        if self.answer.is_some() {
            return if pseudo == 0 { Ok(()) } else { Err("a second head") };
        }
        let status =
            fields.first().filter(|(name, _)| name == ":status").ok_or("a head without its status")?;
        let status = status.1.parse().ok().filter(|_| status.1.len() == 3).ok_or("a status that is none")?;
        if pseudo != 1 || fields.iter().any(|(name, _)| name.bytes().any(|octet| octet.is_ascii_uppercase()))
        {
            return Err("a name in upper case, or with a colon");
        }
        if fields.iter().any(|(name, _)| FORBIDDEN.contains(&name.as_str())) {
            return Err("a field that belongs to HTTP/1");
        }
        if (100..200).contains(&status) {
            self.interim.push(status);
            return Ok(());
        }
        fields.remove(0);
        let length = fields.iter().find(|(name, _)| name == "content-length");
        let length = length.and_then(|(_, length)| length.parse().ok());
        self.answer = Some(Answer {
            status,
            fields,
            body: Vec::new(),
            length: 0,
            framing: length.map_or(Framing::Close, Framing::Length),
            ended: Ended::Cut,
            interim: std::mem::take(&mut self.interim),
        });
        Ok(())
    }

    fn end(&mut self, ends: bool) {
        let Some(answer) = self.answer.as_mut().filter(|_| ends) else { return };
        self.whole = true;
        answer.ended = Ended::Whole;
    }
}

/// Fields of one connection of HTTP/1 (RFC 9113 8.2.2).
const FORBIDDEN: [&str; 5] = ["connection", "transfer-encoding", "keep-alive", "upgrade", "proxy-connection"];

/// What it says of its length is true.
fn check(answer: &Answer) -> Result<(), String> {
    match answer.framing {
        Framing::Length(length) if answer.ended == Ended::Whole && length != answer.length => {
            Err(format!("{} bytes for a Content-Length of {length}", answer.length))
        }
        Framing::Length(_) | Framing::Bodiless | Framing::Chunked | Framing::Close => Ok(()),
    }
}

fn told(heard: &Heard) -> String {
    match (&heard.answer, heard.reset) {
        (Some(answer), _) => format!("{} with {} bytes", answer.status, answer.length),
        (None, Some(code)) => format!("a reset for the error {code}"),
        (None, None) => "nothing".to_owned(),
    }
}
