//! Certificates at the start and at every reload: exports when they expire, and logs problems: invalid validity dates
//! of served ones, and upstreams whose certificates are not verified.
//!
//! An expired certificate is served anyway: refusing to start would also cut off clients that do not verify it. `check`
//! rejects it.

use std::time::SystemTime;

use tracing::error;

use crate::config::{Config, ListenAddress};
use crate::telemetry::Metrics;

/// Exports the expiry dates of the certificates of all listeners, by their bound addresses.
pub(crate) fn export_expiry(config: &Config, bound: &[ListenAddress], metrics: &Metrics) {
    let addresses: Vec<String> = bound.iter().map(ToString::to_string).collect();
    let certificates = config.listeners.iter().zip(&addresses).flat_map(|(listener, address)| {
        listener.tls.iter().flat_map(|tls| &tls.certificates).map(move |certificate| (address, certificate))
    });
    metrics.certificate_expiry(certificates.flat_map(|(address, certificate)| {
        let names = if certificate.names.is_empty() {
            std::slice::from_ref(&certificate.file)
        } else {
            certificate.names.as_slice()
        };
        names.iter().map(move |name| (address.as_str(), name.as_str(), certificate.validity.not_after))
    }));
}

/// Logs every certificate that is not valid at `now`, and every upstream whose certificates are not verified.
pub(crate) fn log_problems(config: &Config, now: SystemTime) {
    for listener in &config.listeners {
        for certificate in listener.tls.iter().flat_map(|tls| &tls.certificates) {
            if let Some(problem) = certificate.validity.problem(now) {
                let (address, file) = (&listener.address, &certificate.file);
                error!(%address, file, "serving a certificate that {problem}; clients will reject it");
            }
        }
    }
    for upstream in &config.upstreams {
        if upstream.cert_verification.as_ref().is_some_and(|trust| !trust.is_enabled()) {
            error!(
                upstream = upstream.name,
                "certificate verification is disabled for this upstream (tls.verify: false): a man in the middle can read and \
                 modify traffic"
            );
        }
    }
}
