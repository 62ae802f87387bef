//! One connection to a gateway, on which requests are sent one after the other.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use super::load_factor::LoadFactor;
use crate::conformance::gateway_stream::GatewayStream;
use crate::conformance::response_reader::ResponseReader;
use crate::conformance::{GatewayConnector, ReadError, ReceivedResponse, RequestKind, Tally};

/// How long and how far a response is read.
#[derive(Clone, Copy)]
pub(super) struct ReadLimits {
    time: Duration,
    max_body: u64,
}

impl ReadLimits {
    /// Errors that the route forwards are read in part only, because they may be endless. Times are before the load
    /// factor.
    pub(super) fn new(load: LoadFactor, forwards_errors: bool) -> ReadLimits {
        if forwards_errors {
            ReadLimits { time: load.scale(Duration::from_secs(5)), max_body: 1024 * 1024 }
        } else {
            ReadLimits { time: load.scale(Duration::from_secs(12)), max_body: u64::MAX }
        }
    }
}

/// A connection.
pub(super) struct Connection {
    reader: ResponseReader,
    limits: ReadLimits,
}

/// Opens a connection. It is closed with RST: after a graceful close TIME_WAIT keeps the port for 1 min, and a run has
/// tens of thousands of connections.
///
/// # Errors
/// The gateway refuses the connection.
pub(super) async fn connect(connector: &GatewayConnector, limits: ReadLimits) -> Result<Connection, String> {
    let connect_error = |error| format!("cannot connect to the gateway: {error}");
    let stream = connector.connect(false).await.map_err(connect_error)?;
    stream.set_zero_linger().map_err(connect_error)?;
    let mut reader = ResponseReader::new(GatewayStream::Left(stream), limits.time);
    reader.max_body = limits.max_body;
    Ok(Connection { reader, limits })
}

impl Connection {
    /// Sends a request and reads its response. The caller records the response; its absence is recorded here.
    ///
    /// # Errors
    /// No response arrived, or it is malformed.
    pub(super) async fn exchange(
        &mut self,
        request: &[u8],
        request_kind: RequestKind,
        observed: &Tally,
    ) -> Result<ReceivedResponse, String> {
        self.reader.deadline = Instant::now() + self.limits.time;
        // A failed write is not an error: the gateway may have responded and closed.
        let _ = self.reader.stream.write_all(request).await;
        let response = self.reader.read_response(request_kind).await;
        response.map_err(|error| {
            observed.record_unknown(1);
            match error {
                ReadError::Closed | ReadError::Reset => format!("{error} without a response"),
                ReadError::TimedOut => format!("no response within {} s", self.limits.time.as_secs()),
                ReadError::Malformed(problem) => format!("malformed response: {problem}"),
            }
        })
    }
}
