//! Socket addresses in the program's memory.
//!
//! A program's pointer is read once, into an aligned local; what is passed on is the local copy, so that the address that
//! was judged is the address that is used.
#![allow(unsafe_code)]

use libc::{sockaddr, socklen_t};
pub(crate) use presocks_abi::sockaddr::{Encoded, Given, MAX_LEN, in_family, is_local, is_resolver, parse};

/// Reads the address at `pointer`, as far as an IP address goes. (The kernel refuses lengths beyond `sockaddr_storage` in connect() and
/// sendto(), and cuts them in sendmsg().)
///
/// # Safety
/// `pointer` is null or has `len` readable bytes, as the call that is hooked demands of its caller.
pub(crate) unsafe fn read(pointer: *const sockaddr, len: socklen_t) -> Given {
    let mut bytes = [0_u8; MAX_LEN];
    // SAFETY: the caller's promise.
    parse(unsafe { copy(pointer, len, &mut bytes) })
}

/// Copies the address at `pointer`, as far as there is room; nothing of one too short to be any.
///
/// # Safety
/// As for [`read`].
pub(crate) unsafe fn copy(pointer: *const sockaddr, len: socklen_t, room: &mut [u8]) -> &[u8] {
    let len = (len as usize).min(room.len());
    if pointer.is_null() || len < size_of::<libc::sa_family_t>() {
        return &[];
    }
    // SAFETY: `len` bytes are readable (caller) and fit the room (min above); the two do not overlap.
    unsafe { core::ptr::copy_nonoverlapping(pointer.cast::<u8>(), room.as_mut_ptr(), len) };
    room.get(..len).unwrap_or(&[])
}
