//! A relay in front of Redis that simulates latency, stalls, lost connections and invalid replies.
//!
//! Protocol-independent: it forwards bytes, possibly late, or replies with fixed bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the relay does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RelayBehavior {
    /// Forwards both directions.
    Forward,
    /// Delays replies.
    Delay(Duration),
    /// Sends no replies.
    Silent,
    /// Replies with these bytes to every command.
    Reply(&'static [u8]),
    /// Closes the connection.
    Close,
}

pub struct RedisRelay {
    address: SocketAddr,
    shared: Arc<RelayState>,
}

struct RelayState {
    behavior: Mutex<RelayBehavior>,
    connections: Mutex<Vec<TcpStream>>,
}

impl RedisRelay {
    pub fn start(port: u16) -> RedisRelay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(RelayState {
            behavior: Mutex::new(RelayBehavior::Forward),
            connections: Mutex::default(),
        });
        let relay = RedisRelay { address, shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(client, port, &shared));
            }
        });
        relay
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Sets the behaviour from now on.
    pub fn set(&self, behavior: RelayBehavior) {
        *self.shared.behavior.lock().unwrap() = behavior;
        if behavior == RelayBehavior::Close {
            for stream in self.shared.connections.lock().unwrap().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

fn serve(client: TcpStream, port: u16, shared: &Arc<RelayState>) {
    let behavior = || *shared.behavior.lock().unwrap();
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
    if behavior() == RelayBehavior::Close {
        return;
    }
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    shared.connections.lock().unwrap().push(client.try_clone().unwrap());
    let (from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let responses = Arc::clone(shared);
    thread::spawn(move || {
        copy(from, |bytes| {
            let behavior = *responses.behavior.lock().unwrap();
            match behavior {
                RelayBehavior::Forward => to.write_all(bytes).is_ok(),
                RelayBehavior::Delay(by) => {
                    thread::sleep(by);
                    to.write_all(bytes).is_ok()
                }
                RelayBehavior::Silent | RelayBehavior::Reply(_) => true,
                RelayBehavior::Close => false,
            }
        });
        let _ = to.shutdown(Shutdown::Both);
    });
    let (mut back, mut on) = (client.try_clone().unwrap(), server);
    copy(client, |bytes| match behavior() {
        RelayBehavior::Forward | RelayBehavior::Delay(_) => on.write_all(bytes).is_ok(),
        RelayBehavior::Silent => true,
        RelayBehavior::Reply(response) => back.write_all(response).is_ok(),
        RelayBehavior::Close => false,
    });
    let _ = on.shutdown(Shutdown::Both);
}

fn copy(mut from: TcpStream, mut take: impl FnMut(&[u8]) -> bool) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        if !take(&bytes[..length]) {
            return;
        }
    }
}
