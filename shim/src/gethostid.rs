//! gethostid(3): the number in /etc/hostid, or 0.
//!
//! Without that file libc makes the number from the address of the machine's own name, which it looks up inside itself.
#![allow(unsafe_code)]

use libc::{c_int, c_long};

use crate::sys;

redhook::hook! {
    // gethostid(3). Changes: never looks a name up. Never fails.
    unsafe fn gethostid() -> c_long => hooked_gethostid {
        written_down().map_or(0, c_long::from)
    }
}

/// The number that sethostid(2) has left.
fn written_down() -> Option<c_int> {
    let file = sys::open(c"/etc/hostid").ok()?;
    let mut bytes = [0; size_of::<c_int>()];
    let len = sys::read(file, &mut bytes);
    sys::close(file);
    (len == Ok(bytes.len())).then(|| c_int::from_ne_bytes(bytes))
}
