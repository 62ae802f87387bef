//! The executable: sets the allocator and runs the command line. Everything else is in the library; start at `lib.rs`.

use std::process::ExitCode;

/// Uses 17 % fewer instructions per request than the allocator of the C library (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    statusquo::cli::main()
}
