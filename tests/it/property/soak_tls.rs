//! The part of the soak that speaks TLS: many streams on one connection, and a handshake for each request.

use std::sync::atomic::Ordering;

use super::super::h2_client::H2Client;
use super::super::tls_client::TlsClient;
use super::soak::SoakLoad;

/// Streams at once on a connection, and rounds of them before another one is opened.
const STREAMS: usize = 4;
const ROUNDS: usize = 200;

impl SoakLoad<'_> {
    /// One connection of HTTP/2, path after path, several at once.
    pub(super) fn ask_h2(&self, paths: &[String], start: usize) -> Result<(), String> {
        let [_, trusting] = self.trusting;
        let mut at = start;
        while !self.stop.load(Ordering::Relaxed) {
            let mut client = H2Client::connect_tls(self.gateway.h2_address(), "test", trusting);
            for _ in 0..ROUNDS {
                if self.stop.load(Ordering::Relaxed) {
                    break;
                }
                let picked: Vec<&str> =
                    (1..=STREAMS).map(|step| paths[(at + 7 * step) % paths.len()].as_str()).collect();
                at += 7 * STREAMS;
                for response in client.get_all(&picked) {
                    self.observed.record(&response);
                }
            }
        }
        Ok(())
    }

    /// A connection and a handshake for each request.
    pub(super) fn churn_tls(&self) -> Result<(), String> {
        let [trusting, _] = self.trusting;
        while !self.stop.load(Ordering::Relaxed) {
            let mut client = TlsClient::try_connect(self.gateway.h2_address(), "test", trusting)
                .map_err(|error| format!("no handshake: {error}"))?;
            self.observed.record(&client.get("/ok"));
        }
        Ok(())
    }
}
