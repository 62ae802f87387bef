//! A scripted name server on loopback, over UDP and TCP, for tests of name resolution.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::SockRef;

/// The type of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameQuestionType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Anything else.
    Other,
}

/// A question that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameQuestion {
    /// The name in lower case, without the final dot.
    pub name: String,
    /// What is asked.
    pub question_type: NameQuestionType,
    /// Whether it came over TCP.
    pub tcp: bool,
}

/// One record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRecord {
    /// The name that the record belongs to.
    pub owner: String,
    /// In seconds.
    pub ttl: u32,
    /// An address, or the name that `owner` is an alias of.
    pub data: Result<IpAddr, String>,
}

/// What the server does with a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameReply {
    /// NOERROR with these records. Addresses of the other type are left out.
    Records(Vec<NameRecord>),
    /// An error code: 2 is SERVFAIL, 3 NXDOMAIN, 5 REFUSED.
    Code(u8),
    /// An empty response with the flag TC.
    Truncated,
    /// No response.
    Silence,
}

impl NameReply {
    /// The addresses of the name that is asked for.
    pub fn addresses(name: &str, ttl: u32, addresses: &[&str]) -> NameReply {
        let record = |address: &&str| NameRecord {
            owner: name.to_owned(),
            ttl,
            data: address.parse().map_err(|_| (*address).to_owned()),
        };
        NameReply::Records(addresses.iter().map(record).collect())
    }
}

/// The server; it ends when it is dropped.
#[derive(Debug)]
pub struct ScriptedNameServer {
    address: SocketAddr,
    questions: Arc<Mutex<Vec<NameQuestion>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// How often a thread looks whether the server was dropped.
const POLL: Duration = Duration::from_millis(20);
/// How often a port is tried that is free for UDP and TCP.
const MAX_PORTS: u32 = 20;

impl ScriptedNameServer {
    /// Starts the server. Fails if the system is out of ports.
    pub fn start(
        script: impl Fn(&NameQuestion) -> NameReply + Send + Sync + 'static,
    ) -> io::Result<ScriptedNameServer> {
        let (udp, tcp) = bind()?;
        let address = udp.local_addr()?;
        udp.set_read_timeout(Some(POLL))?;
        // Also the time limit of accept(2).
        SockRef::from(&tcp).set_read_timeout(Some(POLL))?;
        let (script, stop) = (Arc::new(script), Arc::new(AtomicBool::new(false)));
        let questions = Arc::new(Mutex::new(Vec::new()));
        let responder = {
            let questions = Arc::clone(&questions);
            move |request: &[u8], tcp: bool| respond(request, tcp, &*script, &questions)
        };
        let (over_udp, over_tcp) = (responder.clone(), responder);
        let (stop_udp, stop_tcp) = (Arc::clone(&stop), Arc::clone(&stop));
        let udp_thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !stop_udp.load(Ordering::Relaxed) {
                let Ok((length, peer)) = udp.recv_from(&mut buffer) else { continue };
                if let Some(response) = over_udp(buffer.get(..length).unwrap_or_default(), false) {
                    let _ = udp.send_to(&response, peer);
                }
            }
        });
        let tcp_thread = std::thread::spawn(move || {
            while !stop_tcp.load(Ordering::Relaxed) {
                if let Ok((stream, _)) = tcp.accept() {
                    serve(stream, &over_tcp);
                }
            }
        });
        Ok(ScriptedNameServer { address, questions, stop, threads: vec![udp_thread, tcp_thread] })
    }

    /// The address of both protocols.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The questions so far.
    pub fn questions(&self) -> Vec<NameQuestion> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ScriptedNameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A port that is free for both protocols.
fn bind() -> io::Result<(UdpSocket, TcpListener)> {
    let mut failure = io::Error::other("no port is free for UDP and TCP");
    for _ in 0..MAX_PORTS {
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        match TcpListener::bind(udp.local_addr()?) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Answers the questions of one connection, one after the other.
fn serve(mut stream: TcpStream, respond: impl Fn(&[u8], bool) -> Option<Vec<u8>>) {
    let _ = stream.set_read_timeout(Some(POLL * 10));
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut request = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut request).is_err() {
            return;
        }
        let Some(response) = respond(&request, true) else { return };
        let size = u16::try_from(response.len()).unwrap_or(u16::MAX).to_be_bytes();
        if stream.write_all(&[&size[..], &response].concat()).is_err() {
            return;
        }
    }
}

fn respond(
    request: &[u8],
    tcp: bool,
    script: &dyn Fn(&NameQuestion) -> NameReply,
    questions: &Mutex<Vec<NameQuestion>>,
) -> Option<Vec<u8>> {
    let id = request.get(..2)?;
    let (name, end) = read_name(request, 12)?;
    let type_code = u16::from_be_bytes(request.get(end..end + 2)?.try_into().ok()?);
    let question_type = match type_code {
        1 => NameQuestionType::A,
        28 => NameQuestionType::Aaaa,
        _ => NameQuestionType::Other,
    };
    let question = NameQuestion { name, question_type, tcp };
    questions.lock().unwrap_or_else(PoisonError::into_inner).push(question.clone());
    let (code, truncated, records) = match script(&question) {
        NameReply::Records(records) => (0, false, records),
        NameReply::Code(code) => (code, false, Vec::new()),
        NameReply::Truncated => (0, true, Vec::new()),
        NameReply::Silence => return None,
    };
    let answers: Vec<Vec<u8>> = records.iter().filter_map(|record| encode(record, question_type)).collect();
    // QR, AA, RD; RA and the code (RFC 1035, section 4.1.1).
    let flags = [0x85 | (u8::from(truncated) << 1), 0x80 | (code & 0x0f)];
    let count = u16::try_from(answers.len()).ok()?.to_be_bytes();
    let mut response = [id, &flags, &[0, 1], &count, &[0, 0, 0, 0]].concat();
    response.extend_from_slice(request.get(12..end + 4)?);
    answers.iter().for_each(|answer| response.extend_from_slice(answer));
    Some(response)
}

/// The name at this position, and the position behind it. Questions are not compressed.
fn read_name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = message.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

/// A record, unless it is an address of another type than the question's.
fn encode(record: &NameRecord, question_type: NameQuestionType) -> Option<Vec<u8>> {
    let (type_code, data): (u16, Vec<u8>) = match (&record.data, question_type) {
        (Ok(IpAddr::V4(address)), NameQuestionType::A) => (1, address.octets().to_vec()),
        (Ok(IpAddr::V6(address)), NameQuestionType::Aaaa) => (28, address.octets().to_vec()),
        (Ok(_), _) => return None,
        (Err(target), _) => (5, encode_name(target)),
    };
    let length = u16::try_from(data.len()).ok()?;
    Some(
        [
            &encode_name(&record.owner)[..],
            &type_code.to_be_bytes(),
            &[0, 1],
            &record.ttl.to_be_bytes(),
            &length.to_be_bytes(),
            &data,
        ]
        .concat(),
    )
}

fn encode_name(name: &str) -> Vec<u8> {
    let mut encoded = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        encoded.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        encoded.extend_from_slice(label.as_bytes());
    }
    encoded.push(0);
    encoded
}
