//! The path of a Unix socket, as written behind `unix:`.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::sync::Arc;

use super::problem::{Diagnostic, quoted};

/// The longest path of a Unix socket on Linux, in bytes (unix(7), `sun_path` without its final zero).
const MAX_SOCKET_PATH: usize = 107;

/// The path of a Unix socket: what follows `unix:`.
///
/// # Errors
/// The path is relative, too long, or names no file.
pub(crate) fn socket_path(path: &str) -> Result<Arc<Path>, Diagnostic> {
    let written = quoted(&format!("unix:{path}"));
    const EXAMPLE: &str = "\"unix:/run/app.sock\"";
    if let Some(absolute) = path.strip_prefix("//").filter(|rest| rest.starts_with('/')) {
        let message = format!("{written} is a URL");
        return Err(Diagnostic::new(message, format!("write \"unix:{absolute}\"")));
    }
    if path.starts_with('@') || path.contains('\0') {
        let message = format!("{written} is an abstract socket, which any user of this machine can take");
        return Err(Diagnostic::new(message, format!("use a path, for example {EXAMPLE}")));
    }
    if !path.starts_with('/') || path.ends_with('/') {
        let message = format!("{written} is not the path of a socket");
        return Err(Diagnostic::new(message, format!("write an absolute path, for example {EXAMPLE}")));
    }
    if path.len() > MAX_SOCKET_PATH {
        let message = format!("the path has {} bytes; a socket has at most {MAX_SOCKET_PATH}", path.len());
        return Err(Diagnostic::new(message, format!("use a shorter path, for example {EXAMPLE}")));
    }
    Ok(Arc::from(Path::new(path)))
}

/// Whether a socket could be made at this path. A socket may exist: it is stale, or the gateway is running.
///
/// # Errors
/// The path is something else, or its directory is missing.
pub(crate) fn check_socket(path: &Path) -> Result<(), Diagnostic> {
    let directory = path.parent().unwrap_or(path).display();
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => Ok(()),
        Ok(_) => Err(Diagnostic::new(
            format!("{} exists and is not a socket", path.display()),
            "remove that file, or use another path",
        )),
        Err(_) => match fs::metadata(path.parent().unwrap_or(path)) {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => Err(Diagnostic::new(
                format!("{directory} is not a directory"),
                "use a path in a directory, for example \"unix:/run/app.sock\"",
            )),
            // This user may see less than the one that runs the gateway.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
            Err(_) => Err(Diagnostic::new(
                format!("the directory {directory} does not exist"),
                "create it (systemd: RuntimeDirectory=), or use another path",
            )),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn socket_is_an_absolute_path_of_at_most_107_bytes() {
        let parse = |text: &str| socket_path(text.strip_prefix("unix:").unwrap());
        let path = |text: &str| parse(text).map(|path| path.display().to_string());
        assert_eq!(path("unix:/run/app.sock"), Ok("/run/app.sock".to_owned()));
        let longest = format!("/{}", "x".repeat(106));
        assert_eq!(path(&format!("unix:{longest}")), Ok(longest.clone()));
        for (text, message, help) in [
            ("unix:app.sock", "\"unix:app.sock\" is not the path of a socket", "unix:/run/app.sock"),
            ("unix:/run/", "\"unix:/run/\" is not the path of a socket", "unix:/run/app.sock"),
            ("unix:", "\"unix:\" is not the path of a socket", "unix:/run/app.sock"),
            ("unix:///run/a.sock", "\"unix:///run/a.sock\" is a URL", "write \"unix:/run/a.sock\""),
            (
                "unix:@app",
                "\"unix:@app\" is an abstract socket, which any user of this machine can take",
                "use a path",
            ),
            (
                &format!("unix:{longest}x"),
                "the path has 108 bytes; a socket has at most 107",
                "a shorter path",
            ),
        ] {
            let problem = parse(text).unwrap_err();
            assert_eq!(problem.message, message);
            assert!(problem.help.contains(help), "{}", problem.help);
        }
    }
}
