//! /proc/self/fdinfo: how a descriptor is registered in an epoll set (proc(5)).
//!
//! The only way to learn the events and data of a registration that was made before anybody had a reason to remember it. Read with system
//! calls into a small buffer, without allocation.

use libc::{c_int, epoll_event};

use crate::errno::Errno;
use crate::sys;

/// The events and data with which `fd` is registered in `epoll`, `None` when it is not.
///
/// # Errors
/// `ENETUNREACH` when there is no /proc to read it from.
pub(crate) fn registered_event(epoll: c_int, fd: c_int) -> Result<Option<epoll_event>, Errno> {
    let info = sys::open(fdinfo_path(epoll).as_c_str()).map_err(|_| libc::ENETUNREACH)?;
    let mut found = None;
    let mut line = Line::default();
    let mut buffer = [0_u8; 512];
    while found.is_none() {
        match sys::read(info, &mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(len) => {
                found =
                    buffer.iter().take(len).find_map(|byte| line.push(*byte).filter(|(tfd, _)| *tfd == fd));
            }
        }
    }
    sys::close(info);
    Ok(found.map(|(_, event)| event))
}

/// "/proc/self/fdinfo/N", without allocation.
struct Path([u8; 32]);

impl Path {
    fn as_c_str(&self) -> &core::ffi::CStr {
        core::ffi::CStr::from_bytes_until_nul(&self.0).unwrap_or(c"")
    }
}

fn fdinfo_path(number: c_int) -> Path {
    const PREFIX: &[u8] = b"/proc/self/fdinfo/";
    let mut digits = [0_u8; 10];
    let mut rest = number.unsigned_abs();
    let mut count = 0;
    for digit in &mut digits {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
        if rest == 0 {
            break;
        }
    }
    let mut path = [0_u8; 32];
    let text = PREFIX.iter().chain(digits.iter().take(count).rev());
    for (to, from) in path.iter_mut().zip(text) {
        *to = *from;
    }
    Path(path)
}

/// A line of fdinfo as it comes in: "tfd: 5 events: 1d data: 7f00 …", the last two in hexadecimal.
#[derive(Default)]
struct Line {
    field: usize,
    in_word: bool,
    fd: i64,
    events: u32,
    data: u64,
    is_target: bool,
}

impl Line {
    /// Takes one byte; at a line's end, what the line says.
    fn push(&mut self, byte: u8) -> Option<(c_int, epoll_event)> {
        if byte == b'\n' {
            let line = core::mem::take(self);
            let event = epoll_event { events: line.events, u64: line.data };
            return line.is_target.then_some((line.fd as c_int, event));
        }
        let starts = !self.in_word && byte != b' ' && byte != b'\t';
        self.in_word = byte != b' ' && byte != b'\t';
        if starts {
            self.field += 1;
        }
        if !self.in_word {
            return None;
        }
        let digit = char::from(byte).to_digit(16);
        match (self.field, digit) {
            (1, _) if starts => self.is_target = byte == b't',
            (2, Some(digit)) => self.fd = self.fd * 10 + i64::from(digit),
            (4, Some(digit)) => self.events = self.events << 4 | digit,
            (6, Some(digit)) => self.data = self.data << 4 | u64::from(digit),
            _ => {}
        }
        None
    }
}
