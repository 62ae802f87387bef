//! A temporary folder, and large files of reproducible noise.

use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A new, empty folder, below cargo's folder for tests unless it must be public; removed on drop.
#[derive(Debug)]
pub struct Folder {
    pub path: PathBuf,
}

impl Folder {
    pub fn new(purpose: &str) -> Folder {
        Folder::below(Path::new(env!("CARGO_TARGET_TMPDIR")), purpose)
    }

    /// Below another folder.
    pub fn below(parent: &Path, purpose: &str) -> Folder {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{purpose}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder { path }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Writes `size` bytes (a multiple of 8) of incompressible, non-repeating noise.
pub fn write_noise(path: &Path, size: u64) {
    let mut file = BufWriter::with_capacity(1 << 20, std::fs::File::create(path).unwrap());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64; // xorshift64*: Vigna 2016
    for _ in 0..size / 8 {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        file.write_all(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()).unwrap();
    }
    file.flush().unwrap();
}

/// Length and CRC-32 of a file.
pub fn checksum(path: &Path) -> (u64, u32) {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut crc = flate2::Crc::new();
    let mut length = 0;
    let mut block = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut block).unwrap();
        if read == 0 {
            return (length, crc.sum());
        }
        crc.update(&block[..read]);
        length += read as u64;
    }
}
