//! A file of the system that is read again when it has changed.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;

/// Identifies the content of a file without reading it; `None` for a file that cannot be read.
type Stamp = Option<(u64, u64, Option<SystemTime>)>;

/// A file and the stamp of the content that was read last.
#[derive(Debug)]
pub(super) struct WatchedFile {
    path: PathBuf,
    read: Option<Stamp>,
}

impl WatchedFile {
    /// The file has not been read yet.
    pub(super) const fn new(path: PathBuf) -> Self {
        WatchedFile { path, read: None }
    }

    /// Whether the file differs from what was read last. Costs one system call.
    pub(super) fn has_changed(&self) -> bool {
        self.read != Some(self.stamp())
    }

    /// The content if it has changed since the last call; an empty one if the file does not exist.
    ///
    /// # Errors
    /// The file cannot be read for another reason. It counts as read.
    pub(super) fn read_changed(&mut self) -> io::Result<Option<Vec<u8>>> {
        // Before reading: a change in between is noticed by the next call.
        let stamp = self.stamp();
        if self.read == Some(stamp) {
            return Ok(None);
        }
        self.read = Some(stamp);
        match std::fs::read(&self.path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(Vec::new())),
            Err(error) => Err(error),
        }
    }

    fn stamp(&self) -> Stamp {
        let metadata = std::fs::metadata(&self.path).ok()?;
        Some((metadata.ino(), metadata.len(), metadata.modified().ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_returned_once_for_each_change() {
        let path = std::env::temp_dir().join(format!("statusquo-watched-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mut file = WatchedFile::new(path.clone());
        assert_eq!(file.read_changed().unwrap(), Some(Vec::new()), "an absent file is empty");
        assert_eq!(file.read_changed().unwrap(), None);
        std::fs::write(&path, "127.0.0.1 a").unwrap();
        assert!(file.has_changed());
        assert_eq!(file.read_changed().unwrap(), Some(b"127.0.0.1 a".to_vec()));
        assert!(!file.has_changed());
        std::fs::write(&path, "127.0.0.1 longer").unwrap();
        assert_eq!(file.read_changed().unwrap(), Some(b"127.0.0.1 longer".to_vec()));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file.read_changed().unwrap(), Some(Vec::new()));
    }
}
