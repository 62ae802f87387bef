//! A relay before a Redis, for what a healthy server does not do: slowness, silence, lost connections and nonsense.
//!
//! It knows no protocol: it passes bytes on, late, or answers others in their place.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What becomes of what is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Conduct {
    /// It passes, and so do the answers.
    Pass,
    /// Answers come so much later.
    Late(Duration),
    /// Nothing is answered.
    Silent,
    /// These bytes are the answer to whatever is asked.
    Says(&'static [u8]),
    /// The connection ends.
    Cut,
}

/// A running relay.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    conduct: Mutex<Conduct>,
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    pub fn to(port: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { conduct: Mutex::new(Conduct::Pass), open: Mutex::default() });
        let relay = Relay { address, shared: Arc::clone(&shared) };
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

    /// From now on.
    pub fn set(&self, conduct: Conduct) {
        *self.shared.conduct.lock().unwrap() = conduct;
        if conduct == Conduct::Cut {
            for stream in self.shared.open.lock().unwrap().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

fn serve(client: TcpStream, port: u16, shared: &Arc<Shared>) {
    let conduct = || *shared.conduct.lock().unwrap();
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
    if conduct() == Conduct::Cut {
        return;
    }
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    shared.open.lock().unwrap().push(client.try_clone().unwrap());
    let (from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let answers = Arc::clone(shared);
    thread::spawn(move || {
        passing(from, |bytes| {
            let conduct = *answers.conduct.lock().unwrap();
            match conduct {
                Conduct::Pass => to.write_all(bytes).is_ok(),
                Conduct::Late(by) => {
                    thread::sleep(by);
                    to.write_all(bytes).is_ok()
                }
                Conduct::Silent | Conduct::Says(_) => true,
                Conduct::Cut => false,
            }
        });
        let _ = to.shutdown(Shutdown::Both);
    });
    let (mut back, mut on) = (client.try_clone().unwrap(), server);
    passing(client, |bytes| match conduct() {
        Conduct::Pass | Conduct::Late(_) => on.write_all(bytes).is_ok(),
        Conduct::Silent => true,
        Conduct::Says(answer) => back.write_all(answer).is_ok(),
        Conduct::Cut => false,
    });
    let _ = on.shutdown(Shutdown::Both);
}

fn passing(mut from: TcpStream, mut take: impl FnMut(&[u8]) -> bool) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        if !take(&bytes[..length]) {
            return;
        }
    }
}
