//! The TLS part of the soak test: concurrent streams on one connection, and a handshake per request.

use std::sync::atomic::Ordering;

use super::super::h2_client::H2Client;
use super::super::tls_client::TlsClient;
use super::soak::SoakLoad;

/// Concurrent streams of a connection, and rounds of them before a new connection.
const STREAMS: usize = 4;
const ROUNDS: usize = 200;

impl SoakLoad<'_> {
    /// Sends concurrent requests for all paths in turn on one HTTP/2 connection.
    pub(super) fn request_loop_h2(&self, paths: &[String], start: usize) -> Result<(), String> {
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

    /// Opens a connection with a handshake for each request.
    pub(super) fn churn_tls(&self) -> Result<(), String> {
        let [trusting, _] = self.trusting;
        while !self.stop.load(Ordering::Relaxed) {
            let mut client = TlsClient::try_connect(self.gateway.h2_address(), "test", trusting)
                .map_err(|error| format!("handshake failed: {error}"))?;
            self.observed.record(&client.get("/ok"));
        }
        Ok(())
    }
}
