//! setsockopt(): options that send packets by themselves, or lead those for loopback, or the answers to them, off the machine.
//!
//! Which, and what becomes of them, says `presocks_abi::option`. The value is read once, into a copy; what passes after a look at it is the copy.
#![allow(unsafe_code)]

use libc::{c_int, c_void, socklen_t};
use presocks_abi::option::{MAX_LEN, is_another_device, kind, refused};
use presocks_proto::frame::{DeviceValue, Reply, Request};
use presocks_proto::session::Queue;

use crate::errno::{Errno, fail};
use crate::pass::{self, at, int, returned};
use crate::ticket::{self, Ticket, report_gone};
use crate::{socket, sys};

redhook::hook! {
    // setsockopt(2). Changes: the options that are looked at. Passes: every other one. Errno: `ENODEV`, `EPERM`; `ENETUNREACH` for a device
    // when there is no broker. Safe in a signal handler. No cancellation point.
    unsafe fn setsockopt(
        fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t
    ) -> c_int => hooked_setsockopt {
        let Some(kind) = kind(level, name) else {
            // SAFETY: the caller's own arguments.
            return unsafe { redhook::real!(setsockopt)(fd, level, name, value, len) };
        };
        let mut bytes = [0_u8; MAX_LEN];
        let read = (len as usize).min(MAX_LEN);
        let Some(copy) = bytes.get_mut(..read).filter(|_| !value.is_null() && c_int::try_from(len).is_ok()) else {
            let arguments = [int(fd), int(level), int(name), 0, len as usize, 0];
            // SAFETY: no value: there is nothing that the kernel could take for one.
            return returned(unsafe { pass::call(libc::SYS_setsockopt, arguments) }) as c_int;
        };
        // SAFETY: setsockopt(2) demands `len` readable bytes at `value`; `read` is no more, and fits the array.
        unsafe { core::ptr::copy_nonoverlapping(value.cast::<u8>(), copy.as_mut_ptr(), read) };
        if let Some(error) = refused(kind, copy) {
            return fail(error);
        }
        if is_another_device(kind, copy) {
            socket::note_device();
            return set_device(fd, (level, name), copy).map_or_else(fail, |()| 0);
        }
        let arguments = [int(fd), int(level), int(name), at(copy.as_ptr()), read, 0];
        // SAFETY: pointer and length are those of the copy.
        returned(unsafe { pass::call(libc::SYS_setsockopt, arguments) }) as c_int
    }
}

/// Finds the real function.
pub(crate) fn resolve() {
    let _ = redhook::real!(setsockopt);
}

/// The broker sets it, which is the one that connects datagram sockets to this machine: whatever a program's threads do meanwhile, no socket is
/// bound to another device and connected here.
fn set_device(fd: c_int, (level, name): (c_int, c_int), value: &[u8]) -> Result<(), Errno> {
    // What is no socket is not given away.
    if let Err(error) = sys::cookie(fd)
        && ticket::forbidden(error).is_none_or(|_| !pass::filter_stands())
    {
        return Err(error);
    }
    if ticket::is_left_to_the_filter() {
        return set_unjudged(fd, (level, name), value);
    }
    let ticket = match Ticket::open(Queue::AtOnce) {
        Ok(ticket) => ticket,
        Err(_) if pass::filter_stands() => return set_unjudged(fd, (level, name), value),
        Err(why) => return Err(why.report()),
    };
    let (level, name) = (level.cast_unsigned(), u16::try_from(name).map_err(|_| libc::ENOPROTOOPT)?);
    match ticket.ask(&Request::Device { level, name, value: DeviceValue::new(value) }, Some(fd))? {
        Reply::Done { .. } => Ok(()),
        _ => Err(libc::ENETUNREACH),
    }
}

/// The seccomp filter brings the call before the broker.
fn set_unjudged(fd: c_int, (level, name): (c_int, c_int), value: &[u8]) -> Result<(), Errno> {
    let arguments = [int(fd), int(level), int(name), at(value.as_ptr()), value.len(), 0];
    // SAFETY: pointer and length are those of the value.
    let result = unsafe { pass::call_unjudged(libc::SYS_setsockopt, arguments) };
    result.map(drop).map_err(|error| if error == libc::ENOSYS { report_gone() } else { error })
}
