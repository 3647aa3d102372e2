//! Sun RPC as libc still has it for programs linked before 2.32 (rpc(3)): refused.
//!
//! It looks names up, connects and sends inside libc. libtirpc has functions of the same names whose calls the other hooks see:
//! where a program was started with it, those are called.
#![allow(unsafe_code)]
#![allow(clippy::too_many_arguments, reason = "pmap_rmtcall(3) has ten")]

use core::ffi::CStr;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, Ordering};

use libc::{c_char, c_int, c_uint, c_ulong, c_ushort, c_void, sockaddr_in, timeval};

use crate::errno::fail;

/// `enum clnt_stat`: what the system calls beneath failed with is in errno.
const RPC_SYSTEMERROR: c_int = 12;

/// A handle that is never made, or a pointer that is only passed on.
type Opaque = *mut c_void;

/// Was every one of these functions found in another library? Libc's own cannot be: dlsym(3) does not see such old versions.
static IN_LIBTIRPC: AtomicBool = AtomicBool::new(false);

macro_rules! rpc {
    ($($name:ident => $hook:ident ( $($argument:ident : $kind:ty),* $(,)? ) -> $result:ty: $refused:expr;)*) => {
        $(
            redhook::hook! {
                unsafe fn $name($($argument: $kind),*) -> $result => $hook {
                    if IN_LIBTIRPC.load(Ordering::Relaxed) {
                        // SAFETY: the caller's own arguments.
                        return unsafe { redhook::real!($name)($($argument),*) };
                    }
                    fail(libc::ENETUNREACH);
                    $refused
                }
            }
        )*

        /// Finds libtirpc's functions.
        pub(crate) fn resolve() {
            let names = [$(concat!(stringify!($name), "\0")),*];
            if !names.into_iter().all(is_elsewhere) {
                return;
            }
            $( let _ = redhook::real!($name); )*
            IN_LIBTIRPC.store(true, Ordering::Relaxed);
        }
    };
}

rpc! {
    clnt_create => hooked_clnt_create(
        host: *const c_char, program: c_ulong, version: c_ulong, protocol: *const c_char
    ) -> Opaque: null_mut();
    clnttcp_create => hooked_clnttcp_create(
        address: *mut sockaddr_in, program: c_ulong, version: c_ulong, fd: *mut c_int,
        send_len: c_uint, receive_len: c_uint
    ) -> Opaque: null_mut();
    clntudp_create => hooked_clntudp_create(
        address: *mut sockaddr_in, program: c_ulong, version: c_ulong, wait: timeval, fd: *mut c_int
    ) -> Opaque: null_mut();
    clntudp_bufcreate => hooked_clntudp_bufcreate(
        address: *mut sockaddr_in, program: c_ulong, version: c_ulong, wait: timeval, fd: *mut c_int,
        send_len: c_uint, receive_len: c_uint
    ) -> Opaque: null_mut();
    svcudp_create => hooked_svcudp_create(fd: c_int) -> Opaque: null_mut();
    svcudp_bufcreate => hooked_svcudp_bufcreate(
        fd: c_int, send_len: c_uint, receive_len: c_uint
    ) -> Opaque: null_mut();
    callrpc => hooked_callrpc(
        host: *const c_char, program: c_ulong, version: c_ulong, procedure: c_ulong,
        encode: Opaque, argument: Opaque, decode: Opaque, result: Opaque
    ) -> c_int: RPC_SYSTEMERROR;
    clnt_broadcast => hooked_clnt_broadcast(
        program: c_ulong, version: c_ulong, procedure: c_ulong, encode: Opaque, argument: Opaque,
        decode: Opaque, result: Opaque, each: Opaque
    ) -> c_int: RPC_SYSTEMERROR;
    pmap_getmaps => hooked_pmap_getmaps(address: *mut sockaddr_in) -> Opaque: null_mut();
    pmap_getport => hooked_pmap_getport(
        address: *mut sockaddr_in, program: c_ulong, version: c_ulong, protocol: c_uint
    ) -> c_ushort: 0;
    pmap_rmtcall => hooked_pmap_rmtcall(
        address: *mut sockaddr_in, program: c_ulong, version: c_ulong, procedure: c_ulong,
        encode: Opaque, argument: Opaque, decode: Opaque, result: Opaque, wait: timeval, port: Opaque
    ) -> c_int: RPC_SYSTEMERROR;
    getrpcport => hooked_getrpcport(
        host: *const c_char, program: c_ulong, version: c_ulong, protocol: c_uint
    ) -> c_int: 0;
    rtime => hooked_rtime(address: *mut sockaddr_in, time: Opaque, wait: Opaque) -> c_int: -1;
    authdes_create => hooked_authdes_create(
        server: *const c_char, window: c_uint, clock: Opaque, key: Opaque
    ) -> Opaque: null_mut();
    authdes_pk_create => hooked_authdes_pk_create(
        server: *const c_char, public_key: Opaque, window: c_uint, clock: Opaque, key: Opaque
    ) -> Opaque: null_mut();
}

/// Does a library after this one have a function of that name, ending with a NUL, for whoever asks for no version?
pub(crate) fn is_elsewhere(name: &str) -> bool {
    let Ok(name) = CStr::from_bytes_with_nul(name.as_bytes()) else { return false };
    // SAFETY: the name ends with a NUL.
    let is_there = !unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }.is_null();
    if !is_there {
        // SAFETY: no argument. The program must not find our question's failure as its own.
        let _ = unsafe { libc::dlerror() };
    }
    is_there
}
