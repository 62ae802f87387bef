//! A server that authenticates connections, as NTLM and Negotiate do: a handshake of three requests, after which every
//! request on the connection belongs to the same user.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::load::limit;

/// The credentials of the first request of a handshake.
pub const TYPE1: &str = "TlRMTVNTUAABAAAA";

/// A request on one of the connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRequest {
    pub path: String,
    pub authorization: Option<String>,
}

/// What happened on one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenConnection {
    pub requests: Vec<SeenRequest>,
    pub closed: bool,
}

type Shared = Arc<(Mutex<Vec<SeenConnection>>, Condvar)>;

/// A running server. Its threads end with the process.
pub struct NtlmServer {
    address: SocketAddr,
    seen: Shared,
}

impl NtlmServer {
    /// Responses have these fields, each line with its CRLF. `/drop` closes without a response, `/last` after it;
    /// `/leave` closes a connection with a user without a response.
    pub fn start(fields: &'static str) -> NtlmServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Shared::default();
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for (index, stream) in listener.incoming().enumerate() {
                let shared = Arc::clone(&shared);
                shared.0.lock().unwrap().push(SeenConnection::default());
                std::thread::spawn(move || {
                    let _ = serve(stream.unwrap(), index, fields, &shared);
                    shared.0.lock().unwrap()[index].closed = true;
                    shared.1.notify_all();
                });
            }
        });
        NtlmServer { address, seen }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn connections(&self) -> Vec<SeenConnection> {
        self.seen.0.lock().unwrap().clone()
    }

    /// Waits until the gateway has closed this connection.
    #[track_caller]
    pub fn wait_until_closed(&self, index: usize) {
        let deadline = Instant::now() + limit();
        let mut seen = self.seen.0.lock().unwrap();
        while !seen.get(index).is_some_and(|connection| connection.closed) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "connection {index} stays open: {seen:#?}");
            seen = self.seen.1.wait_timeout(seen, left).unwrap().0;
        }
    }
}

/// The credentials that complete the handshake of this challenge.
pub fn response_to(challenge: &str) -> String {
    challenge.replace("TYPE2", "TYPE3")
}

fn serve(stream: TcpStream, index: usize, fields: &str, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let (mut challenged, mut authenticated) = (false, false);
    while let Some(request) = read_request(&mut reader)? {
        shared.0.lock().unwrap()[index].requests.push(request.clone());
        if request.path == "/drop" || (request.path == "/leave" && authenticated) {
            return Ok(());
        }
        let scheme =
            request.authorization.as_deref().map(|value| value.split(' ').next().unwrap_or_default());
        let credentials = request.authorization.as_deref().and_then(|value| value.split(' ').nth(1));
        let challenge = match (scheme, credentials) {
            (Some(scheme), Some(TYPE1)) => {
                (challenged, authenticated) = (true, false);
                Some(format!("{scheme} TYPE2-{index}"))
            }
            (Some(_), Some(credentials)) if challenged && credentials == format!("TYPE3-{index}") => {
                authenticated = true;
                None
            }
            (Some(_), _) => {
                authenticated = false;
                Some("NTLM".to_owned())
            }
            (None, _) => (!authenticated).then(|| "NTLM".to_owned()),
        };
        let (status, challenge, body) = match challenge {
            Some(challenge) => {
                ("401 Unauthorized", format!("www-authenticate: {challenge}\r\n"), PAGE.to_owned())
            }
            None => ("200 OK", String::new(), format!("alice on {index}: {}", request.path)),
        };
        let length = body.len();
        write!(writer, "HTTP/1.1 {status}\r\n{challenge}{fields}content-length: {length}\r\n\r\n{body}")?;
        if request.path == "/last" {
            return Ok(());
        }
    }
    Ok(())
}

const PAGE: &str =
    "<html><title>401 - Unauthorized</title>Access is denied due to invalid credentials.</html>";

/// Reads a request with its body; `None` at the end of the connection.
fn read_request(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<SeenRequest>> {
    let (mut path, mut authorization, mut length, mut chunked) = (None, None, 0, false);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if path.is_none() {
            path = line.split(' ').nth(1).map(str::to_owned);
            continue;
        }
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "authorization" => authorization = Some(value.trim().to_owned()),
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "transfer-encoding" => chunked = true,
            _ => {}
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    while chunked {
        let mut size = String::new();
        reader.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        // With the CRLF after the data.
        reader.read_exact(&mut vec![0; size + 2])?;
        chunked = size > 0;
    }
    Ok(path.map(|path| SeenRequest { path, authorization }))
}
