//! Describes TLS errors in sentences: rustls displays most of them by the names of its own types.

use std::fmt::Debug;

use rustls::pki_types::UnixTime;
use rustls::{CertificateError, Error};

use super::expiry::format_date;

/// A sentence for the log or for an operator. "The peer" is the other side of the connection.
pub(crate) fn describe(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => describe_certificate_error(error),
        Error::AlertReceived(alert) => format!("the peer sent the TLS alert {}", words(alert, '_')),
        Error::PeerIncompatible(reason) => format!("the peer is incompatible: {}", words(reason, ' ')),
        Error::PeerMisbehaved(reason) => {
            format!("the peer violated the TLS protocol: {}", words(reason, ' '))
        }
        Error::InvalidMessage(reason) => {
            format!("the peer sent an invalid TLS message: {}", words(reason, ' '))
        }
        Error::InappropriateMessage { got_type, .. } => {
            format!("the peer sent an unexpected TLS record: {}", words(got_type, ' '))
        }
        Error::InappropriateHandshakeMessage { got_type, .. } => {
            format!("the peer sent an unexpected TLS message: {}", words(got_type, ' '))
        }
        Error::NoCertificatesPresented => "the peer sent no certificate".to_owned(),
        Error::NoApplicationProtocol => "the peer supports no common protocol (ALPN)".to_owned(),
        Error::DecryptError => "a TLS record of the peer cannot be decrypted".to_owned(),
        Error::PeerSentOversizedRecord => "a TLS record of the peer is too large".to_owned(),
        // The others are sentences, and the enum is non-exhaustive.
        other => other.to_string(),
    }
}

/// A sentence about a certificate that was rejected.
pub(crate) fn describe_certificate_error(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "the certificate is not signed by a trusted authority".to_owned(),
        CertificateError::BadEncoding => "the certificate is damaged".to_owned(),
        CertificateError::BadSignature => "a signature does not belong to the certificate".to_owned(),
        CertificateError::Expired => "the certificate has expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the certificate expired on {}", date(not_after))
        }
        CertificateError::NotValidYet => "the certificate is not valid yet".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("the certificate is not valid yet, but from {} on", date(not_before))
        }
        CertificateError::NotValidForName => {
            "the certificate is not valid for the name of the server".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            let names: Vec<&str> = names_of_hosts(presented).collect();
            if names.is_empty() {
                format!("the certificate is not valid for the name {expected}: it has none (subjectAltName)")
            } else {
                format!("the certificate is not valid for the name {expected}, but for {}", names.join(", "))
            }
        }
        CertificateError::UnhandledCriticalExtension => {
            "the certificate has a critical extension that is not supported".to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. } => {
            "the certificate is signed with an algorithm that is not supported".to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the key of the certificate, or the signature made with it, is of a kind that is not supported"
                .to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is meant for another purpose (key usage, extended key usage)".to_owned()
        }
        CertificateError::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
            Some(error) => describe_webpki_error(error),
            None => format!("the certificate is invalid: {}", other.0),
        },
        // The enum is non-exhaustive.
        other => format!("the certificate is invalid: {}", words(other, ' ')),
    }
}

/// The names of hosts and addresses among the names of a certificate, as `webpki` writes them. Others are those of
/// persons and services.
pub(super) fn names_of_hosts(presented: &[String]) -> impl Iterator<Item = &str> {
    let of_hosts = |name: &&String| name.starts_with("DnsName(") || name.starts_with("IpAddress(");
    presented.iter().filter(of_hosts).map(|name| name_inside(name))
}

/// A sentence about a certificate that cannot be read.
pub(crate) fn describe_webpki_error(error: &webpki::Error) -> String {
    match error {
        webpki::Error::CaUsedAsEndEntity => {
            "the certificate is that of an authority, not that of a server".to_owned()
        }
        webpki::Error::EndEntityUsedAsCa => {
            "the certificate is signed by one that is not that of an authority".to_owned()
        }
        webpki::Error::UnsupportedCertVersion => "the certificate is not X.509 version 3".to_owned(),
        webpki::Error::BadDer | webpki::Error::BadDerTime => "the certificate is damaged".to_owned(),
        other => format!("the certificate is invalid: {}", words(other, ' ')),
    }
}

fn date(time: &UnixTime) -> String {
    format_date(time.as_secs())
}

/// `a.test` of `DnsName("a.test")`.
fn name_inside(name: &str) -> &str {
    let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inside.trim_matches('"')
}

/// The name of a variant as words in lower case: `NoCommonSuite` becomes `no common suite`.
fn words(value: &impl Debug, separator: char) -> String {
    let name = format!("{value:?}");
    let mut words = String::new();
    let mut before = ' ';
    for letter in name.chars().take_while(|letter| letter.is_ascii_alphanumeric()) {
        if letter.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            words.push(separator);
        }
        words.push(letter.to_ascii_lowercase());
        before = letter;
    }
    words
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::pki_types::ServerName;
    use rustls::{AlertDescription, OtherError, PeerIncompatible};

    use super::*;

    #[test]
    fn errors_are_described_in_sentences() {
        let of_webpki =
            |error| Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))));
        let name = |presented: &[&str]| {
            Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                expected: ServerName::try_from("a.test").unwrap(),
                presented: presented.iter().map(|name| (*name).to_owned()).collect(),
            })
        };
        let expired = CertificateError::ExpiredContext {
            time: UnixTime::since_unix_epoch(Duration::from_secs(2)),
            not_after: UnixTime::since_unix_epoch(Duration::from_secs(1)),
        };
        for (error, expected) in [
            (
                Error::AlertReceived(AlertDescription::HandshakeFailure),
                "the peer sent the TLS alert handshake_failure",
            ),
            (Error::AlertReceived(AlertDescription::UnknownCA), "the peer sent the TLS alert unknown_ca"),
            (
                Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
                "the peer is incompatible: no cipher suites in common",
            ),
            (
                of_webpki(webpki::Error::CaUsedAsEndEntity),
                "the certificate is that of an authority, not that of a server",
            ),
            (of_webpki(webpki::Error::UnsupportedCertVersion), "the certificate is not X.509 version 3"),
            (of_webpki(webpki::Error::EmptyEkuExtension), "the certificate is invalid: empty eku extension"),
            (
                name(&["DnsName(\"b.test\")", "IpAddress(127.0.0.1)"]),
                "the certificate is not valid for the name a.test, but for b.test, 127.0.0.1",
            ),
            (name(&[]), "the certificate is not valid for the name a.test: it has none (subjectAltName)"),
            (
                name(&["Unsupported(0x01)", "UniformResourceIdentifier(\"spiffe://b\")"]),
                "the certificate is not valid for the name a.test: it has none (subjectAltName)",
            ),
            (Error::InvalidCertificate(expired), "the certificate expired on 1970-01-01T00:00:01Z"),
            (Error::InvalidCertificate(CertificateError::Revoked), "the certificate is invalid: revoked"),
        ] {
            assert_eq!(describe(&error), expected);
        }
    }
}
