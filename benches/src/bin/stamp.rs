//! The smallest program that says when it began to run: its first act is to read the clock, its
//! second to send that to a socket.

use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;

use nix::time::{ClockId, clock_gettime};

fn main() -> ExitCode {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC);
    let sent = std::env::args_os().nth(1).zip(now.ok()).map(|(socket, now)| {
        let nanos = now.tv_sec() * 1_000_000_000 + now.tv_nsec();
        UnixDatagram::unbound().and_then(|from| from.send_to(&nanos.to_le_bytes(), socket))
    });
    match sent {
        Some(Ok(_)) => ExitCode::SUCCESS,
        Some(Err(_)) | None => ExitCode::FAILURE,
    }
}
