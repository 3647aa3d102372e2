//! The remote commands of BSD: rcmd(3), rexec(3), ruserok(3) and their kin are refused.
//!
//! They look names up and connect inside libc. rcmd and rexec fail as on a machine without a network; the question whether a remote user
//! may enter, which compares names with addresses, is answered no.
#![allow(unsafe_code)]

use libc::{c_char, c_int, c_ushort, sa_family_t};

use crate::errno::fail;
use crate::refuse::refuse;

refuse! { fail(libc::ENETUNREACH) => c_int;
    rcmd => refuse_rcmd(
        host: *mut *mut c_char, port: c_ushort, local: *const c_char, remote: *const c_char,
        command: *const c_char, error_fd: *mut c_int);
    rcmd_af => refuse_rcmd_af(
        host: *mut *mut c_char, port: c_ushort, local: *const c_char, remote: *const c_char,
        command: *const c_char, error_fd: *mut c_int, family: sa_family_t);
    rexec => refuse_rexec(
        host: *mut *mut c_char, port: c_int, user: *const c_char, password: *const c_char,
        command: *const c_char, error_fd: *mut c_int);
    rexec_af => refuse_rexec_af(
        host: *mut *mut c_char, port: c_int, user: *const c_char, password: *const c_char,
        command: *const c_char, error_fd: *mut c_int, family: sa_family_t);
    ruserok => refuse_ruserok(
        host: *const c_char, is_superuser: c_int, remote: *const c_char, local: *const c_char);
    ruserok_af => refuse_ruserok_af(
        host: *const c_char, is_superuser: c_int, remote: *const c_char, local: *const c_char,
        family: sa_family_t);
    iruserok => refuse_iruserok(
        address: u32, is_superuser: c_int, remote: *const c_char, local: *const c_char);
    iruserok_af => refuse_iruserok_af(
        address: *const libc::c_void, is_superuser: c_int, remote: *const c_char, local: *const c_char,
        family: sa_family_t);
}
