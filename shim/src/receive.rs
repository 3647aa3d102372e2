//! recvfrom, recvmsg, recvmmsg: the sender that the program sees is the one that it means, not the broker's token (`flows`); a socket that comes in a
//! message, and whose connect is under way, is pending here as well (`pending`).
//!
//! The seccomp filter brings these calls before the broker, which does the same for static programs; so they carry the pass. Calls without room for an
//! address pass the filter as they are.
#![allow(unsafe_code)]

use libc::{c_int, c_uint, c_void, mmsghdr, msghdr, size_t, socklen_t, ssize_t, timespec};
use presocks_abi::control::{Width, descriptors};

use crate::errno::fail;
use crate::kernel_limits::{self, MOST_PARTS};
use crate::pass::{self, at, int, returned};
use crate::sockaddr::{self, Encoded, Given};
use crate::{errno, flows, pending, session, ticket, transfer};

redhook::hook! {
    // recvfrom(2). Changes: the sender, when it is the broker's. Passes: a call without an address. Safe in a signal handler. A cancellation point.
    unsafe fn recvfrom(
        fd: c_int, data: *mut c_void, len: size_t, flags: c_int, address: *mut libc::sockaddr, address_len: *mut socklen_t
    ) -> ssize_t => hooked_recvfrom {
        if let Err(error) = transfer::check(fd, flags, transfer::RECEIVING) {
            return fail(error) as ssize_t;
        }
        if address.is_null() {
            // SAFETY: the caller's own arguments.
            return unsafe { redhook::real!(recvfrom)(fd, data, len, flags, address, address_len) };
        }
        if ticket::is_left_to_the_filter() {
            let arguments = [int(fd), at(data), len, int(flags), at(address), at(address_len)];
            // SAFETY: the caller's own arguments. The broker shows the sender.
            return returned(unsafe { pass::wait_unjudged(libc::SYS_recvfrom, arguments) });
        }
        // SAFETY: recvfrom(2) demands a length behind an address; without one the call fails.
        let room = unsafe { address_len.as_ref() }.copied().unwrap_or(0);
        if c_int::try_from(room).is_ok_and(|room| (1..LONGEST as c_int).contains(&room)) {
            let mut sender = [0_u8; LONGEST];
            let mut sender_len = LONGEST as socklen_t;
            let arguments = [int(fd), at(data), len, int(flags), at(sender.as_mut_ptr()), at(&raw mut sender_len)];
            // SAFETY: the caller's own arguments but for the address, which is ours.
            let result = unsafe { pass::wait(libc::SYS_recvfrom, arguments) };
            if result.is_ok() {
                // SAFETY: `sender` has room for its own length.
                unsafe { show_sender(fd, sender.as_mut_ptr().cast(), &mut sender_len, LONGEST as socklen_t) };
                let part = sender.get(..(room.min(sender_len)) as usize).unwrap_or(&[]);
                // SAFETY: recvfrom(2) demands `room` writable bytes at `address`; the part is no longer.
                unsafe { core::ptr::copy_nonoverlapping(part.as_ptr(), address.cast::<u8>(), part.len()) };
                // SAFETY: there is a length, or there were no room.
                unsafe { address_len.write(sender_len) };
            }
            return returned(result);
        }
        let arguments = [int(fd), at(data), len, int(flags), at(address), at(address_len)];
        // SAFETY: the caller's own arguments.
        let result = unsafe { pass::wait(libc::SYS_recvfrom, arguments) };
        // SAFETY: as above; the call has written the length.
        if let (Ok(_), Some(address_len)) = (result, unsafe { address_len.as_mut() }) {
            // SAFETY: recvfrom(2) demands `room` writable bytes at `address`.
            unsafe { show_sender(fd, address, address_len, room) };
        }
        returned(result)
    }
}

redhook::hook! {
    // The fortified form: `room` is what the compiler knows of the buffer. As recvfrom; ends the program when it is too small, in the
    // real call.
    unsafe fn __recvfrom_chk(
        fd: c_int, data: *mut c_void, len: size_t, room: size_t, flags: c_int, address: *mut libc::sockaddr, address_len: *mut socklen_t
    ) -> ssize_t => hooked_recvfrom_chk {
        if address.is_null() || len > room {
            // SAFETY: the caller's own arguments.
            return unsafe { redhook::real!(__recvfrom_chk)(fd, data, len, room, flags, address, address_len) };
        }
        // SAFETY: the caller's own arguments.
        unsafe { hooked_recvfrom(fd, data, len, flags, address, address_len) }
    }
}

redhook::hook! {
    // recvmsg(2). Changes: as recvfrom; a pending socket that is received is entered as one. Safe in a signal handler. A cancellation point.
    unsafe fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t => hooked_recvmsg {
        if let Err(error) = transfer::check(fd, flags, transfer::RECEIVING) {
            return fail(error) as ssize_t;
        }
        // SAFETY: recvmsg(2) demands a message header, or null, on which the call fails.
        let room = unsafe { message.as_ref() }.map_or(0, |header| header.msg_namelen);
        let arguments = [int(fd), at(message), int(flags), 0, 0, 0];
        let is_left = ticket::is_left_to_the_filter();
        let receive = if is_left { pass::wait_unjudged } else { pass::wait };
        // SAFETY: the caller's own arguments.
        let result = unsafe { receive(libc::SYS_recvmsg, arguments) };
        // SAFETY: as above.
        if let (Ok(_), Some(header)) = (result, unsafe { message.as_mut() }) {
            if !is_left {
                // SAFETY: recvmsg(2) demands `room` writable bytes at `msg_name`.
                unsafe { show_sender(fd, header.msg_name.cast(), &mut header.msg_namelen, room) };
            }
            // SAFETY: the kernel has written as many bytes of control messages as it says.
            unsafe { adopt_received(header) };
        }
        returned(result)
    }
}

redhook::hook! {
    // recvmmsg(2). Changes: as recvfrom. Safe in a signal handler. A cancellation point.
    unsafe fn recvmmsg(
        fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, timeout: *mut timespec
    ) -> c_int => hooked_recvmmsg {
        if let Err(error) = transfer::check(fd, flags, transfer::RECEIVING) {
            return fail(error);
        }
        let mut rooms = [0_u8; MOST_PARTS];
        if !messages.is_null() {
            let looked_at = kernel_limits::readable(messages.cast_const(), (count as usize).min(MOST_PARTS));
            for (place, room) in (0..looked_at).zip(&mut rooms) {
                // SAFETY: recvmmsg(2) demands `count` message headers.
                let header = unsafe { messages.add(place) };
                // SAFETY: as above.
                let len = unsafe { (*header).msg_hdr.msg_namelen };
                *room = u8::try_from(len).unwrap_or(u8::MAX);
            }
        }
        let arguments = [int(fd), at(messages), count as usize, int(flags), at(timeout), 0];
        let is_left = ticket::is_left_to_the_filter();
        let receive = if is_left { pass::wait_unjudged } else { pass::wait };
        // SAFETY: the caller's own arguments.
        let result = unsafe { receive(libc::SYS_recvmmsg, arguments) };
        for (place, room) in (0..result.unwrap_or(0)).zip(&rooms) {
            // SAFETY: recvmmsg(2) demands `count` message headers; the call took no more.
            let header = unsafe { messages.add(place) };
            // SAFETY: as above.
            let header = unsafe { &mut (*header).msg_hdr };
            if !is_left {
                // SAFETY: recvmmsg(2) demands at least `room` writable bytes at `msg_name`.
                unsafe { show_sender(fd, header.msg_name.cast(), &mut header.msg_namelen, (*room).into()) };
            }
            // SAFETY: the kernel has written as many bytes of control messages as it says.
            unsafe { adopt_received(header) };
        }
        returned(result) as c_int
    }
}

/// The longest address of IP: with less room the kernel cuts, and what was cut cannot be read.
const LONGEST: usize = sockaddr::MAX_LEN;

/// Puts the sender that the program means in the place of the broker. One that was cut, for want of room, stays as it is.
///
/// # Safety
/// `address` is null or has `room` writable bytes, into which the kernel has written an address of `len` bytes.
unsafe fn show_sender(fd: c_int, address: *mut libc::sockaddr, len: &mut socklen_t, room: socklen_t) {
    if address.is_null() || *len > room {
        return;
    }
    // SAFETY: the caller's promise; `len` is no more than `room`.
    let Given::Ip(sender) = (unsafe { sockaddr::read(address, *len) }) else { return };
    let kept = errno::current();
    if let Some(origin) = flows::origin(fd, sender) {
        let family = if sender.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
        let shown = Encoded::new(sockaddr::in_family(origin, family));
        let bytes = shown.as_bytes();
        // An IPv4 socket hears no IPv6 sender: the address has the length of the one before it.
        if bytes.len() == *len as usize {
            // SAFETY: `len` bytes are writable (caller), and readable.
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), address.cast::<u8>(), bytes.len()) };
        }
    }
    errno::set(kept);
}

/// Takes in the descriptors that have come with a message.
///
/// # Safety
/// `msg_control` is null or has `msg_controllen` readable bytes.
unsafe fn adopt_received(message: &msghdr) {
    if message.msg_control.is_null() || message.msg_controllen == 0 || !session::is_there() {
        return;
    }
    let kept = errno::current();
    // SAFETY: the caller's promise.
    let bytes =
        unsafe { core::slice::from_raw_parts(message.msg_control.cast::<u8>(), message.msg_controllen) };
    descriptors(bytes, Width::OWN).for_each(pending::adopt_received);
    errno::set(kept);
}

/// Finds the real functions.
pub(crate) fn resolve() {
    let _ = redhook::real!(recvfrom);
    let _ = redhook::real!(__recvfrom_chk);
}
