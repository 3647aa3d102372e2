//! Options of a program's socket that are in our way: what is changed is put back.
//!
//! `SetAside` has those that are in the way of a handshake, and are put back after it, however it ends. A program sets them for its own bytes, and ours are others. `SO_RCVLOWAT`: an answer that is shorter wakes nobody. `TCP_CORK`: a request that fills
//! no segment is held back. `SO_TIMESTAMPING`: what becomes of our requests is told in the error queue, which is the program's to read. (Nagle's
//! algorithm holds nothing back that is said after an answer, and the first ten segments have no pace.)

use std::cell::RefCell;
use std::os::fd::BorrowedFd;

use super::{option, set_option_bytes};

/// When a segment is queued, sent, acknowledged, and the like (linux/net_tstamp.h, `SOF_TIMESTAMPING_TX_RECORD_MASK`).
const ABOUT_WHAT_IS_SENT: i32 = 1 | 1 << 1 | 1 << 8 | 1 << 9 | 1 << 18;

/// `SO_TIMESTAMPING` with times that have 64 bits everywhere (asm/socket.h).
const SO_TIMESTAMPING_NEW: i32 = 65;

/// What was set aside; put back when it is dropped.
pub(crate) struct SetAside<'a> {
    socket: BorrowedFd<'a>,
    values: Vec<Value>,
}

/// An option's value, as long as the kernel has it: an int, or more that begins with one.
pub(super) struct Value {
    level: i32,
    name: i32,
    bytes: [u8; 8],
    len: usize,
}

impl<'a> SetAside<'a> {
    pub(crate) fn of(socket: BorrowedFd<'a>) -> Self {
        let mut aside = Self { socket, values: Vec::new() };
        aside.set(libc::SOL_SOCKET, libc::SO_RCVLOWAT, |_| 1);
        aside.set(libc::IPPROTO_TCP, libc::TCP_CORK, |_| 0);
        let of_what_comes = |flags| flags & !ABOUT_WHAT_IS_SENT;
        // The older option tells of the newer one, too, but to set it is to make it the older one.
        let older = Value::of(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPING);
        if older.is_some_and(|flags| flags.int() != of_what_comes(flags.int())) {
            aside.set(libc::SOL_SOCKET, SO_TIMESTAMPING_NEW, of_what_comes);
            aside.set(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, of_what_comes);
        }
        aside
    }

    /// Sets the option to what `to` makes of its value. Where the kernel does not have it, or let it be set, it is in nobody's way.
    fn set(&mut self, level: i32, name: i32, to: impl FnOnce(i32) -> i32) {
        let Some(value) = Value::of(self.socket, level, name) else { return };
        let instead = value.with(to(value.int()));
        if instead.bytes != value.bytes && instead.write(self.socket) {
            self.values.push(value);
        }
    }
}

/// Options that cannot be set any more when the socket is connected: so they are put back only if it is not.
#[derive(Default)]
pub(super) struct Lifted(RefCell<Vec<Value>>);

impl Lifted {
    /// Has the option off. False where the kernel does not have it, or let it be set.
    pub(super) fn lift(&self, socket: BorrowedFd<'_>, level: i32, name: i32) -> bool {
        let Some(value) = Value::of(socket, level, name) else { return false };
        if value.int() == 0 {
            return true;
        }
        let is_off = value.with(0).write(socket);
        if is_off {
            self.0.borrow_mut().push(value);
        }
        is_off
    }

    pub(super) fn put_back(&self, socket: BorrowedFd<'_>) {
        for value in self.0.take() {
            // It had this value when it was unconnected before.
            value.write(socket);
        }
    }
}

/// Does what has the kernel forget options that a connect() which fails would not: they have their values again afterwards.
pub(super) fn with_options_kept<T>(socket: BorrowedFd<'_>, call: impl FnOnce() -> T) -> T {
    let options = [(libc::SOL_SOCKET, libc::SO_PEEK_OFF), (libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP)];
    let values = options.map(|(level, name)| Value::of(socket, level, name));
    let result = call();
    for value in values.iter().flatten() {
        // A kernel that does not let it be set has not forgotten it.
        let _ = value.write(socket);
    }
    result
}

/// Does what the kernel refuses on an IPv6 socket that is for IPv6 only, as one is that was bound to an IPv6 address. One that has a port cannot be had for both
/// families: it stays as it is.
pub(super) fn for_both_families<T>(socket: BorrowedFd<'_>, call: impl FnOnce() -> T) -> T {
    let lifted = Lifted::default();
    lifted.lift(socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
    let result = call();
    lifted.put_back(socket);
    result
}

impl Drop for SetAside<'_> {
    fn drop(&mut self) {
        for value in &self.values {
            // It had this value before; it is refused on no TCP socket.
            value.write(self.socket);
        }
    }
}

impl Value {
    fn of(socket: BorrowedFd<'_>, level: i32, name: i32) -> Option<Self> {
        let mut bytes = [0; 8];
        let len = option(socket, level, name, &mut bytes).ok()?;
        Some(Self { level, name, bytes, len })
    }

    fn int(&self) -> i32 {
        self.bytes.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes))
    }

    fn with(&self, int: i32) -> Self {
        let mut bytes = self.bytes;
        if let Some(first) = bytes.first_chunk_mut() {
            *first = int.to_ne_bytes();
        }
        Self { bytes, ..*self }
    }

    /// Is it set?
    fn write(&self, socket: BorrowedFd<'_>) -> bool {
        let bytes = self.bytes.get(..self.len).unwrap_or(&[]);
        set_option_bytes(socket, self.level, self.name, bytes).is_ok()
    }
}
