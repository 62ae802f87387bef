//! The client's connection to the gateway, plain or TLS, with access to the TCP stream below TLS.
//!
//! TLS faults write directly to the TCP stream. Certificates are not verified: a client accepts every certificate or
//! rejects every certificate.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme,
};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// The parameters of a client's TLS handshake, and its expected outcome.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TlsClientHello {
    /// The server name (SNI).
    pub(crate) server_name: Option<String>,
    /// The offered protocols (ALPN).
    pub(crate) alpn: Vec<String>,
    /// Reject every certificate; otherwise accept every certificate.
    pub(crate) rejects_certificates: bool,
    /// Offer TLS 1.2 only; otherwise TLS 1.3 only.
    pub(crate) tls12: bool,
    /// The expected outcome.
    pub(crate) expect: HandshakeOutcome,
}

impl Default for TlsClientHello {
    fn default() -> TlsClientHello {
        TlsClientHello {
            server_name: Some("verify.invalid".to_owned()),
            alpn: vec!["http/1.1".to_owned()],
            rejects_certificates: false,
            tls12: false,
            expect: HandshakeOutcome::Protocol(Some("http/1.1".to_owned())),
        }
    }
}

/// The outcome of a TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HandshakeOutcome {
    /// It completes with this negotiated protocol.
    Protocol(Option<String>),
    /// The gateway rejects it with an alert.
    Alert(TlsAlert),
    /// The client rejects the certificate.
    CertificateRejected,
}

/// A fatal TLS alert (RFC 8446 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TlsAlert {
    /// A handshake message that is not allowed in this state.
    UnexpectedMessage = 10,
    /// A record that cannot be decrypted.
    BadRecordMac = 20,
    /// No common cipher suite.
    HandshakeFailure = 40,
    /// A message that cannot be decoded.
    DecodeError = 50,
    /// No common protocol version.
    ProtocolVersion = 70,
    /// No common application protocol (ALPN).
    NoApplicationProtocol = 120,
}

impl TlsAlert {
    /// The name in the RFC.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            TlsAlert::UnexpectedMessage => "unexpected_message",
            TlsAlert::BadRecordMac => "bad_record_mac",
            TlsAlert::HandshakeFailure => "handshake_failure",
            TlsAlert::DecodeError => "decode_error",
            TlsAlert::ProtocolVersion => "protocol_version",
            TlsAlert::NoApplicationProtocol => "no_application_protocol",
        }
    }
}

/// A connection to a gateway: TCP, or TLS after its handshake.
pub(crate) type GatewayStream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Performs the client side of a TLS handshake.
///
/// # Errors
/// The handshake failed; see [`received_alert()`] and [`is_certificate_rejection`] for the reason.
pub(crate) async fn tls_handshake(stream: TcpStream, hello: &TlsClientHello) -> io::Result<GatewayStream> {
    let connector = TlsConnector::from(client_config(hello)?);
    Ok(GatewayStream::Right(Box::new(connector.connect(server_name(hello)?, stream).await?)))
}

/// The negotiated protocol; `None` without TLS or ALPN.
pub(crate) fn alpn_protocol(stream: &GatewayStream) -> Option<&[u8]> {
    match stream {
        GatewayStream::Left(_) => None,
        GatewayStream::Right(stream) => stream.get_ref().1.alpn_protocol(),
    }
}

/// The TCP stream below TLS.
pub(crate) fn tcp_stream(stream: &mut GatewayStream) -> &mut TcpStream {
    match stream {
        GatewayStream::Left(stream) => stream,
        GatewayStream::Right(stream) => stream.get_mut().0,
    }
}

/// Waits for a fatal alert and returns its code. On a plain connection the alert is unencrypted.
///
/// # Errors
/// The connection closed or received other data.
pub(crate) async fn read_fatal_alert(stream: &mut GatewayStream) -> io::Result<u8> {
    let mut octets = [0; 7];
    match stream {
        GatewayStream::Left(stream) => {
            stream.read_exact(&mut octets).await?;
            match octets {
                [ALERT_RECORD, 3, 1..=3, 0, 2, FATAL_LEVEL, code] => Ok(code),
                _ => Err(io::Error::other(format!("received {octets:02x?}, which is not a fatal alert"))),
            }
        }
        GatewayStream::Right(stream) => match stream.read(&mut octets).await {
            Ok(0) => Err(io::Error::other("received close_notify")),
            Ok(_) => Err(io::Error::other("received application data")),
            Err(error) => received_alert(&error).ok_or(error),
        },
    }
}

/// Content type of an alert record, and the level of a fatal alert (RFC 8446, sections 5.1 and 6).
const ALERT_RECORD: u8 = 21;
const FATAL_LEVEL: u8 = 2;

/// The code of the alert that the gateway sent, if the error is a received alert.
pub(crate) fn received_alert(error: &io::Error) -> Option<u8> {
    match error.get_ref()?.downcast_ref()? {
        Error::AlertReceived(alert) => Some(u8::from(*alert)),
        _ => None,
    }
}

/// Whether the handshake failed because this client rejected the certificate.
pub(crate) fn is_certificate_rejection(error: &io::Error) -> bool {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(reason, Some(Error::InvalidCertificate(_)))
}

/// The record of an ordinary ClientHello.
///
/// # Errors
/// The system has no random numbers.
pub(crate) fn client_hello_bytes(hello: &TlsClientHello) -> io::Result<Vec<u8>> {
    let mut connection =
        ClientConnection::new(client_config(hello)?, server_name(hello)?).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes)?;
    Ok(bytes)
}

fn client_config(hello: &TlsClientHello) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = TestCertVerifier {
        accept: !hello.rejects_certificates,
        algorithms: provider.signature_verification_algorithms,
    };
    let versions = if hello.tls12 { [&rustls::version::TLS12] } else { [&rustls::version::TLS13] };
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&versions).map_err(io::Error::other)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = hello.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.enable_sni = hello.server_name.is_some();
    Ok(Arc::new(config))
}

fn server_name(hello: &TlsClientHello) -> io::Result<ServerName<'static>> {
    ServerName::try_from(hello.server_name.clone().unwrap_or_else(|| "unused.invalid".to_owned()))
        .map_err(io::Error::other)
}

/// Accepts or rejects every certificate; handshake signatures are verified.
#[derive(Debug)]
struct TestCertVerifier {
    accept: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for TestCertVerifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let rejection = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        self.accept.then(ServerCertVerified::assertion).ok_or(rejection)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
