//! The body of an upstream's error, as given on the command line.

use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use http::HeaderValue;

use crate::contract::Contract;
use crate::proxy::SampleResponse;

/// The upstream's response.
#[derive(Debug)]
pub(super) struct UpstreamBody {
    pub(super) response: SampleResponse,
    /// The Content-Type that was assumed, if none is given.
    pub(super) assumed_type: Option<HeaderValue>,
}

impl UpstreamBody {
    /// Reads the body from a file; `-` is standard input. Without a media type the one that fits its first byte is
    /// assumed.
    ///
    /// # Errors
    /// A message for the user.
    pub(super) fn read(
        file: &Path,
        status: u16,
        media_type: Option<&HeaderValue>,
        contract: &Contract,
    ) -> Result<Self, String> {
        let mut body = Vec::new();
        let read = if file == Path::new("-") {
            std::io::stdin().lock().read_to_end(&mut body).map(drop)
        } else {
            std::fs::read(file).map(|content| body = content)
        };
        read.map_err(|error| format!("--upstream-body {}: {error}", file.display()))?;
        let assumed_type = media_type.is_none().then(|| assumed_type(&body, contract));
        let media_type = media_type.or(assumed_type.as_ref());
        let media_type = media_type.cloned().unwrap_or_else(|| HeaderValue::from_static(""));
        let response = SampleResponse::new(status, &media_type, Bytes::from(body))
            .map_err(|error| format!("--upstream-content-type: {error}"))?;
        Ok(UpstreamBody { response, assumed_type })
    }
}

fn assumed_type(body: &[u8], contract: &Contract) -> HeaderValue {
    match body.iter().find(|octet| !octet.is_ascii_whitespace()) {
        Some(b'{' | b'[') => contract.media_type().clone(),
        Some(b'<') => HeaderValue::from_static("text/html"),
        Some(_) | None => HeaderValue::from_static("text/plain"),
    }
}
