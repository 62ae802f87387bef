//! A scripted name server on loopback, over UDP and TCP, for tests of name resolution.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use hickory_resolver::proto::op::{Message, OpCode};
use hickory_resolver::proto::rr::rdata::CNAME;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server_thread::{ServerThread, accept};

/// A question that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameQuestion {
    /// The name in lower case, without the final dot.
    pub name: String,
    /// What is asked.
    pub question_type: RecordType,
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
    thread: ServerThread,
    questions: Arc<Mutex<Vec<NameQuestion>>>,
}

/// How often a port is tried that is free for UDP and TCP.
const MAX_PORTS: u32 = 20;

impl ScriptedNameServer {
    /// Starts the server. Fails if the system is out of ports.
    pub fn start(
        script: impl Fn(&NameQuestion) -> NameReply + Send + Sync + 'static,
    ) -> io::Result<ScriptedNameServer> {
        let (udp, tcp) = bind()?;
        let address = udp.local_addr()?;
        let (script, questions) = (Arc::new(script), Arc::new(Mutex::new(Vec::new())));
        let shared = Arc::clone(&questions);
        let respond = move |request: &[u8], tcp: bool| respond(request, tcp, &*script, &shared);
        let over_tcp = respond.clone();
        let server = async move {
            let serve_tcp = accept(tcp, move |stream| serve_connection(stream, over_tcp.clone()));
            tokio::join!(serve_tcp, serve_datagrams(udp, respond));
        };
        Ok(ScriptedNameServer { thread: ServerThread::run(address, server)?, questions })
    }

    /// The address of both protocols.
    pub const fn address(&self) -> SocketAddr {
        self.thread.address()
    }

    /// The questions so far.
    pub fn questions(&self) -> Vec<NameQuestion> {
        self.questions.lock().clone()
    }
}

/// A port that is free for both protocols.
fn bind() -> io::Result<(UdpSocket, TcpListener)> {
    let mut failure = io::Error::other("no port is free for UDP and TCP");
    for _ in 0..MAX_PORTS {
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        udp.set_nonblocking(true)?;
        match TcpListener::bind(udp.local_addr()?) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn serve_datagrams(udp: UdpSocket, respond: impl Fn(&[u8], bool) -> Option<Vec<u8>>) {
    let Ok(udp) = tokio::net::UdpSocket::from_std(udp) else { return };
    let mut buffer = [0; 4096];
    loop {
        let Ok((length, peer)) = udp.recv_from(&mut buffer).await else { continue };
        if let Some(response) = respond(buffer.get(..length).unwrap_or_default(), false) {
            let _ = udp.send_to(&response, peer).await;
        }
    }
}

/// Answers the questions of one connection, one after the other.
async fn serve_connection(mut stream: TcpStream, respond: impl Fn(&[u8], bool) -> Option<Vec<u8>>) {
    while let Ok(length) = stream.read_u16().await {
        let mut request = vec![0; usize::from(length)];
        if stream.read_exact(&mut request).await.is_err() {
            return;
        }
        let Some(response) = respond(&request, true) else { return };
        let size = u16::try_from(response.len()).unwrap_or(u16::MAX).to_be_bytes();
        if stream.write_all(&[&size[..], &response].concat()).await.is_err() {
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
    let request = Message::from_vec(request).ok()?;
    let query = request.queries.first()?;
    let question_type = query.query_type;
    let name = query.name.to_lowercase().to_ascii().trim_end_matches('.').to_owned();
    let question = NameQuestion { name, question_type, tcp };
    questions.lock().push(question.clone());
    let mut response = Message::response(request.metadata.id, OpCode::Query);
    response.metadata.authoritative = true;
    response.metadata.recursion_desired = true;
    response.metadata.recursion_available = true;
    response.add_query(query.clone());
    match script(&question) {
        NameReply::Records(records) => {
            response.add_answers(records.iter().filter_map(|record| answer(record, question_type)));
        }
        NameReply::Code(code) => response.metadata.response_code = u16::from(code).into(),
        NameReply::Truncated => response.metadata.truncation = true,
        NameReply::Silence => return None,
    }
    response.to_vec().ok()
}

/// A record, unless it is an address of another type than the question's.
fn answer(record: &NameRecord, question_type: RecordType) -> Option<Record> {
    let data = match (&record.data, question_type) {
        (Ok(address @ IpAddr::V4(_)), RecordType::A) | (Ok(address @ IpAddr::V6(_)), RecordType::AAAA) => {
            RData::from(*address)
        }
        (Ok(_), _) => return None,
        (Err(target), _) => RData::CNAME(CNAME(Name::from_ascii(target).ok()?)),
    };
    Some(Record::from_rdata(Name::from_ascii(&record.owner).ok()?, record.ttl, data))
}
