//! Tells what is wrong with the certificates that are served, and where none is asked for, at the start and at every
//! reload.
//!
//! An expired one is served all the same: clients that check it are refused either way, and the others would lose the
//! whole gateway at the next restart. `check` refuses it, so that nobody deploys one.

use std::time::SystemTime;

use tracing::error;

use crate::config::Config;

/// Logs every certificate that is not valid `now`, and every upstream that is believed without one.
pub fn log_problems(config: &Config, now: SystemTime) {
    for listener in &config.listeners {
        for certificate in listener.tls.iter().flat_map(|tls| &tls.certificates) {
            if let Some(problem) = certificate.validity.problem(now) {
                let (address, file) = (listener.address, &certificate.file);
                error!(%address, file, "serving a certificate that {problem}: clients refuse it");
            }
        }
    }
    for upstream in &config.upstreams {
        if upstream.cert_verification.as_ref().is_some_and(|trust| !trust.is_enabled()) {
            error!(
                upstream = upstream.name,
                "NOT verifying the certificates of this upstream's servers (tls.verify: false): whoever stands in between \
                 can read and change everything"
            );
        }
    }
}
