//! Killing every child of the calling process, without allocating.
#![expect(unsafe_code, reason = "used by the reaper, which makes only system calls")]

use nix::{errno::Errno, libc};

/// What one round of killing found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Children that took the signal.
    pub killed: u32,
    /// Children that we may not signal.
    pub refused: u32,
}

/// Sends SIGKILL once to each child of the calling thread's process for which `spare` is false.
///
/// A caller that is a subreaper gets the orphans of what it killed as its own children, so repeating
/// this until there is no child left ends every descendant. Must be called on the main thread, the
/// one that all children belong to.
pub fn kill_children(spare: &dyn Fn(i32) -> bool) -> Swept {
    let mut swept = Swept::default();
    // SAFETY: the path is a C string; the flags need no mode.
    let fd = unsafe {
        libc::open(c"/proc/thread-self/children".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC)
    };
    if fd < 0 {
        return swept;
    }
    let mut pid = 0_i32;
    let mut buffer = [0_u8; 4096];
    loop {
        // SAFETY: the buffer is as long as said and not otherwise used during the call.
        let got = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        let Ok(got) = usize::try_from(got) else { break };
        if got == 0 {
            break;
        }
        for byte in buffer.iter().take(got).copied() {
            if byte.is_ascii_digit() {
                pid = pid.wrapping_mul(10).wrapping_add(i32::from(byte - b'0'));
                continue;
            }
            kill(std::mem::take(&mut pid), spare, &mut swept);
        }
    }
    kill(pid, spare, &mut swept);
    // SAFETY: opened above and closed only here.
    unsafe { libc::close(fd) };
    swept
}

fn kill(pid: i32, spare: &dyn Fn(i32) -> bool, swept: &mut Swept) {
    if pid <= 1 || spare(pid) {
        return;
    }
    // SAFETY: only numbers; a child that we have not waited for keeps its pid.
    if unsafe { libc::kill(pid, libc::SIGKILL) } == 0 {
        swept.killed += 1;
    } else if Errno::last() == Errno::EPERM {
        swept.refused += 1;
    }
}
