//! Where a listener accepts connections, as written: a TCP address or a Unix socket, and the permissions of the socket.

use super::ListenAddress;
use super::problem::{Diagnostic, NOT_YET, quoted, refuse};
use super::socket_path::socket_path;
use super::suggestions;
use super::units::{network, tcp_address};
use crate::http::peer::PeerRange;

/// The permissions of a socket: its owner and group may connect, whatever the umask.
const DEFAULT_SOCKET_MODE: u32 = 0o660;

/// A listen address: a TCP address, or `unix:/path`.
///
/// # Errors
/// Neither of the two.
pub(crate) fn listen_address(text: &str) -> Result<ListenAddress, Diagnostic> {
    if let Some(socket) = suggestions::socket(text) {
        return refuse(text, "is not a socket with a path", format!("write {}", quoted(&socket)));
    }
    if text.starts_with("fd:") {
        return refuse(text, format!("is {NOT_YET}"), "write an address such as \":8080\"");
    }
    match text.strip_prefix("unix:") {
        Some(path) => socket_path(path).map(|path| ListenAddress::Unix(path, DEFAULT_SOCKET_MODE)),
        None => tcp_address(text).map(ListenAddress::Tcp),
    }
}

/// The permissions of a socket in octal digits, such as 0660.
///
/// # Errors
/// Not 3 octal digits, with an optional leading zero; or nobody could connect.
pub(crate) fn file_mode(text: &str) -> Result<u32, Diagnostic> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let digits = digits.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(digits);
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if digits.len() == 3 && mode & 0o222 == 0 => Err(Diagnostic::new(
            format!("with mode {} nobody may connect: that needs permission to write", quoted(text)),
            "write \"0660\" for the owner and the group",
        )),
        Ok(mode) if digits.len() == 3 => Ok(mode),
        Ok(_) | Err(_) => {
            let help = "write 3 octal digits for owner, group and others, for example \"0660\"";
            refuse(text, "is not a file mode", help)
        }
    }
}

/// A network, an address, or `unix`.
///
/// # Errors
/// None of them.
pub(crate) fn peer_range(text: &str) -> Result<PeerRange, Diagnostic> {
    match text {
        "unix" => Ok(PeerRange::Unix),
        _ if text.starts_with("unix:") => {
            refuse(text, "names one socket", "write unix, for the peers of all Unix sockets")
        }
        _ => network(text).map(PeerRange::Network),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn listen_address_is_tcp_or_the_path_of_a_socket() {
        assert_eq!(listen_address(":80"), Ok(ListenAddress::Tcp("0.0.0.0:80".parse().unwrap())));
        let path = |text: &str| match listen_address(text) {
            Ok(ListenAddress::Unix(path, 0o660)) => path.display().to_string(),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(path("unix:/run/app.sock"), "/run/app.sock");
        for (text, help) in [
            ("/run/app.sock", "write \"unix:/run/app.sock\""),
            ("unix:///run/app.sock", "write \"unix:/run/app.sock\""),
            ("unix:app.sock", "write an absolute path, for example \"unix:/run/app.sock\""),
            ("unix:@app", "use a path, for example \"unix:/run/app.sock\""),
        ] {
            assert_eq!(listen_address(text).unwrap_err().help, help, "{text}");
        }
    }

    #[test]
    fn file_mode_has_three_octal_digits_and_lets_somebody_connect() {
        for text in ["0660", "660", "0o660"] {
            assert_eq!(file_mode(text), Ok(0o660), "{text}");
        }
        for text in ["", "0", "66", "0669", "rw-rw----", "07770", "+660", "1777", "0444", "000"] {
            assert!(file_mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn peer_range_is_a_network_or_unix() {
        assert_eq!(peer_range("unix"), Ok(PeerRange::Unix));
        assert_eq!(peer_range("10.0.0.0/8"), Ok(PeerRange::Network("10.0.0.0/8".parse().unwrap())));
        assert_eq!(
            peer_range("unix:/run/a.sock").unwrap_err().help,
            "write unix, for the peers of all Unix sockets"
        );
        assert!(peer_range("office").is_err());
    }
}
