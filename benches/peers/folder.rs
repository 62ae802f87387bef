//! A folder for one proxy's files, under cargo's own for tests; it goes away with its value.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The folder.
pub struct ProxyFolder {
    pub path: PathBuf,
}

impl ProxyFolder {
    /// A new, empty one.
    pub fn new() -> Result<ProxyFolder, String> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bench-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(ProxyFolder { path })
    }
}

impl Drop for ProxyFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
