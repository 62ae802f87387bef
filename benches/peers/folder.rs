//! A folder for the files of one proxy, below cargo's folder for tests; removed on drop.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

pub struct ProxyFolder {
    pub path: PathBuf,
}

impl ProxyFolder {
    /// Creates a new, empty folder.
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
