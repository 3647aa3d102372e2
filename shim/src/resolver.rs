//! The resolver's own interface (resolver(3)): res_query and its kin, answered by the broker.
//!
//! The real ones ask a name server by sockets that no hook sees. Here libc builds the query (res_mkquery asks nobody), and it is
//! exchanged over TCP with the broker's name server, on a socket that lives for this one call (`exchange`). What comes back, and what
//! h_errno says of it, is as after the real call with `RES_USEVC`. Names are looked up as they are: no search list is gone
//! through (the `search` line and `RES_DNSRCH` of resolv.conf(5)), no alias file is read (`HOSTALIASES`).
//!
//! None is safe in a signal handler, nor are the real ones; a thread is not cancelled in them.
#![allow(unsafe_code)]
#![allow(clippy::too_many_arguments, reason = "res_nquerydomain(3) has seven")]

mod exchange;

use core::ffi::CStr;
use core::net::{Ipv4Addr, SocketAddr};
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering};

use libc::{c_char, c_int, c_uint, c_ulong, c_ushort, c_void};

use crate::errno::{self, fail};
use crate::gethostby::{HOST_NOT_FOUND, TRY_AGAIN, set_host_error};

const NO_RECOVERY: c_int = 3;
const NO_DATA: c_int = 4;

/// The longest query for a name: header, name, type and class (RFC 1035 section 4.1).
const LONGEST_QUERY: usize = 12 + 255 + 4;

/// An OPT record without options (RFC 6891 section 6.1.2).
const OPT_LEN: usize = 11;

/// The longest name as text: with each byte escaped, and a NUL (`MAXDNAME` of arpa/nameser.h).
const LONGEST_TEXT: usize = 1025;

/// A header (`HFIXEDSZ`); an answer has one at least.
const HEADER_LEN: usize = 12;

/// What the header's fourth byte says of the outcome (RFC 1035 section 4.1.1).
const RCODE: u8 = 0x0f;
const SERVER_FAILURE: u8 = 2;
const NAME_ERROR: u8 = 3;

/// Where name servers listen.
const PORT: u16 = 53;

/// Defines a hook under a name and libc's other name for it. `$body` is what both do.
macro_rules! hooks {
    ($($name:ident => $hook:ident, $other:ident => $other_hook:ident
       ( $($argument:ident : $kind:ty),* $(,)? ) $body:block)*) => {
        $(
            redhook::hook! { unsafe fn $name($($argument: $kind),*) -> c_int => $hook $body }
            redhook::hook! { unsafe fn $other($($argument: $kind),*) -> c_int => $other_hook $body }
        )*
    };
}

hooks! {
    // res_query(3): the answer's length, which may be more than there is room for; or -1 and h_errno.
    res_query => hooked_query, __res_query => hooked_query_alias(
        name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int
    ) {
        // SAFETY: the caller's own arguments; the thread's own state.
        unsafe { query(State::own(), name, class, kind, answer, len) }
    }
    // res_search(3): as res_query, whatever the search list.
    res_search => hooked_search, __res_search => hooked_search_alias(
        name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int
    ) {
        // SAFETY: the caller's own arguments; the thread's own state.
        unsafe { query(State::own(), name, class, kind, answer, len) }
    }
    // res_querydomain(3): as res_query, for both names with a dot between them.
    res_querydomain => hooked_querydomain, __res_querydomain => hooked_querydomain_alias(
        name: *const c_char, domain: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int
    ) {
        // SAFETY: the caller's own arguments; the thread's own state.
        unsafe { query_domain(State::own(), name, domain, class, kind, answer, len) }
    }
    // res_send(3): the answer's length, whatever the answer says; or -1 and errno.
    res_send => hooked_send, __res_send => hooked_send_alias(
        message: *const u8, message_len: c_int, answer: *mut u8, len: c_int
    ) {
        // SAFETY: the caller's own arguments.
        unsafe { send(State::own(), message, message_len, answer, len) }
    }
    // The same with a state of the program's own.
    res_nquery => hooked_nquery, __res_nquery => hooked_nquery_alias(
        state: *mut c_void, name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int
    ) {
        // SAFETY: the caller's own arguments.
        unsafe { query(State::of_program(state), name, class, kind, answer, len) }
    }
    res_nsearch => hooked_nsearch, __res_nsearch => hooked_nsearch_alias(
        state: *mut c_void, name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int
    ) {
        // SAFETY: the caller's own arguments.
        unsafe { query(State::of_program(state), name, class, kind, answer, len) }
    }
    res_nquerydomain => hooked_nquerydomain, __res_nquerydomain => hooked_nquerydomain_alias(
        state: *mut c_void, name: *const c_char, domain: *const c_char, class: c_int, kind: c_int,
        answer: *mut u8, len: c_int
    ) {
        // SAFETY: the caller's own arguments.
        unsafe { query_domain(State::of_program(state), name, domain, class, kind, answer, len) }
    }
    res_nsend => hooked_nsend, __res_nsend => hooked_nsend_alias(
        state: *mut c_void, message: *const u8, message_len: c_int, answer: *mut u8, len: c_int
    ) {
        // SAFETY: the caller's own arguments.
        unsafe { send(State::of_program(state), message, message_len, answer, len) }
    }
}

/// Finds what builds queries. Before glibc 2.34 it is in libresolv, which is there when the program was linked with it.
pub(crate) fn resolve() {
    for (place, names) in
        [(&MAKE, [c"res_mkquery", c"__res_mkquery"]), (&MAKE_BY_STATE, [c"res_nmkquery", c"__res_nmkquery"])]
    {
        let found = names.into_iter().map(find).find(|found| !found.is_null());
        place.store(found.unwrap_or(null_mut()), Ordering::Relaxed);
    }
}

fn find(name: &CStr) -> *mut c_void {
    // SAFETY: the name ends with a NUL; dlsym(3) knows RTLD_NEXT.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if found.is_null() {
        // SAFETY: no argument. The program must not find our question's failure as its own.
        let _ = unsafe { libc::dlerror() };
    }
    found
}

/// res_mkquery and res_nmkquery.
static MAKE: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
static MAKE_BY_STATE: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

type Make = unsafe extern "C" fn(
    c_int,
    *const c_char,
    c_int,
    c_int,
    *const u8,
    c_int,
    *const u8,
    *mut u8,
    c_int,
) -> c_int;

type MakeByState = unsafe extern "C" fn(
    *mut Layout,
    c_int,
    *const c_char,
    c_int,
    c_int,
    *const u8,
    c_int,
    *const u8,
    *mut u8,
    c_int,
) -> c_int;

/// `struct __res_state` (resolv.h), which has been the same since glibc 2.0.
#[repr(C)]
struct Layout {
    retrans: c_int,
    retry: c_int,
    options: c_ulong,
    nscount: c_int,
    nsaddr_list: [libc::sockaddr_in; 3],
    id: c_ushort,
    dnsrch: [*mut c_char; 7],
    defdname: [c_char; 256],
    pfcode: c_ulong,
    ndots_and_more: c_uint,
    sort_list: [[u32; 2]; 10],
    qhook: *mut c_void,
    rhook: *mut c_void,
    res_h_errno: c_int,
}

unsafe extern "C" {
    fn __res_state() -> *mut Layout;
}

/// The resolver's state: which options a query has, and a second place for h_errno.
#[derive(Clone, Copy)]
struct State {
    layout: *mut Layout,
    is_own: bool,
}

impl State {
    /// libc's, for the calling thread.
    fn own() -> Self {
        // SAFETY: no argument; libc has one for each thread.
        Self { layout: unsafe { __res_state() }, is_own: true }
    }

    /// What res_ninit(3) has filled in.
    fn of_program(state: *mut c_void) -> Self {
        Self { layout: state.cast(), is_own: false }
    }

    /// Writes a query as the options have it; its length.
    ///
    /// # Safety
    /// `name` is a string, the state a state.
    unsafe fn make(self, name: *const c_char, class: c_int, kind: c_int, query: &mut [u8]) -> Option<usize> {
        const QUERY: c_int = 0;
        let make = if self.is_own { &MAKE } else { &MAKE_BY_STATE }.load(Ordering::Relaxed);
        if make.is_null() {
            return None;
        }
        let (room, len) = (query.as_mut_ptr(), LONGEST_QUERY.min(query.len()) as c_int);
        // It may look at resolv.conf first.
        let kept = errno::current();
        let made = if self.is_own {
            // SAFETY: dlsym found the function of this name, whose type resolver(3) gives.
            let make = unsafe { core::mem::transmute::<*mut c_void, Make>(make) };
            // SAFETY: the caller's promise; `room` has `len` bytes.
            unsafe { make(QUERY, name, class, kind, null(), 0, null(), room, len) }
        } else {
            // SAFETY: dlsym found the function of this name, whose type resolver(3) gives.
            let make = unsafe { core::mem::transmute::<*mut c_void, MakeByState>(make) };
            // SAFETY: the caller's promise; `room` has `len` bytes.
            unsafe { make(self.layout, QUERY, name, class, kind, null(), 0, null(), room, len) }
        };
        errno::set(kept);
        let made = usize::try_from(made).ok().filter(|made| *made > 0)?;
        // SAFETY: the caller's promise.
        Some(made + unsafe { self.add_edns(query, made) })
    }

    /// Adds what libc adds when it sends (`__res_nopt`): an OPT record, if the options ask for one; its length.
    ///
    /// # Safety
    /// The state is a state.
    unsafe fn add_edns(self, query: &mut [u8], made: usize) -> usize {
        const RES_USE_EDNS0: c_ulong = 0x0010_0000;
        const RES_USE_DNSSEC: c_ulong = 0x0080_0000;
        // SAFETY: the caller's promise.
        let options = unsafe { (*self.layout).options };
        if options & (RES_USE_EDNS0 | RES_USE_DNSSEC) == 0 {
            return 0;
        }
        let dnssec_ok = if options & RES_USE_DNSSEC == 0 { 0 } else { 0x80 };
        // The root, type 41, size 1200 as libc's, which means nothing over TCP.
        let opt = [0, 0, 41, 0x04, 0xb0, 0, 0, dnssec_ok, 0, 0, 0];
        let Some(place) = query.get_mut(made..made + OPT_LEN) else { return 0 };
        place.copy_from_slice(&opt);
        if let Some(count) = query.get_mut(11) {
            *count = 1;
        }
        OPT_LEN
    }

    /// The server that would be asked first, if that is an IPv4 address: the broker may ask it on the far side. Else one of loopback, which
    /// leaves the choice to the broker.
    ///
    /// # Safety
    /// The state is a state.
    unsafe fn server(self) -> SocketAddr {
        // SAFETY: the caller's promise.
        let count = unsafe { (*self.layout).nscount };
        // SAFETY: the caller's promise.
        let [first, ..] = unsafe { (*self.layout).nsaddr_list };
        let is_named = count > 0
            && first.sin_family == libc::AF_INET as libc::sa_family_t
            && u16::from_be(first.sin_port) == PORT;
        let named = is_named.then(|| Ipv4Addr::from(first.sin_addr.s_addr.to_ne_bytes()));
        SocketAddr::from((named.unwrap_or(Ipv4Addr::LOCALHOST), PORT))
    }

    /// # Safety
    /// The state is a state.
    unsafe fn set_host_error(self, value: c_int) {
        set_host_error(value);
        // SAFETY: the caller's promise.
        unsafe { (*self.layout).res_h_errno = value };
    }
}

/// # Safety
/// As resolver(3) demands.
unsafe fn query(
    state: State,
    name: *const c_char,
    class: c_int,
    kind: c_int,
    answer: *mut u8,
    len: c_int,
) -> c_int {
    let mut message = [0_u8; LONGEST_QUERY + OPT_LEN];
    // SAFETY: the caller's promise.
    let made = if name.is_null() { None } else { unsafe { state.make(name, class, kind, &mut message) } };
    let Some(message) = made.and_then(|made| message.get(..made)) else {
        // SAFETY: the caller's promise.
        unsafe { state.set_host_error(NO_RECOVERY) };
        return -1;
    };
    // SAFETY: the caller's promise.
    let received = unsafe { send(state, message.as_ptr(), message.len() as c_int, answer, len) };
    let host_error = if received < 0 {
        TRY_AGAIN
    } else {
        // SAFETY: an answer was received, so there is room for a header, and it is filled.
        let header = unsafe { core::slice::from_raw_parts(answer, HEADER_LEN) };
        judge(header)
    };
    // SAFETY: the caller's promise.
    unsafe { state.set_host_error(host_error) };
    if host_error == 0 { received } else { -1 }
}

/// h_errno for an answer (gethostbyname(3)); 0 when it has records.
fn judge(header: &[u8]) -> c_int {
    let &[_, _, _, flags, _, _, answers_high, answers_low, ..] = header else { return TRY_AGAIN };
    match flags & RCODE {
        0 if (answers_high, answers_low) != (0, 0) => 0,
        0 => NO_DATA,
        SERVER_FAILURE => TRY_AGAIN,
        NAME_ERROR => HOST_NOT_FOUND,
        _ => NO_RECOVERY,
    }
}

/// # Safety
/// As resolver(3) demands.
unsafe fn query_domain(
    state: State,
    name: *const c_char,
    domain: *const c_char,
    class: c_int,
    kind: c_int,
    answer: *mut u8,
    len: c_int,
) -> c_int {
    let mut text = [0_u8; LONGEST_TEXT];
    let mut room = text.iter_mut();
    let mut put = |bytes: &[u8]| bytes.iter().all(|byte| room.next().map(|place| *place = *byte).is_some());
    let string = |pointer: *const c_char| {
        // SAFETY: not null; resolver(3) demands a string.
        (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_bytes())
    };
    let fits = match (string(name), string(domain)) {
        (None, _) => false,
        (Some(name), None) => put(name.strip_suffix(b".").unwrap_or(name)),
        (Some(name), Some(domain)) => put(name) && put(b".") && put(domain),
    };
    if !fits || !put(&[0]) {
        // SAFETY: the caller's promise.
        unsafe { state.set_host_error(NO_RECOVERY) };
        return -1;
    }
    // SAFETY: the text ends with a NUL; else the caller's promise.
    unsafe { query(state, text.as_ptr().cast(), class, kind, answer, len) }
}

/// # Safety
/// As resolver(3) demands.
unsafe fn send(state: State, message: *const u8, message_len: c_int, answer: *mut u8, len: c_int) -> c_int {
    let (Ok(message_len), Ok(len)) = (usize::try_from(message_len), usize::try_from(len)) else {
        return fail(libc::EINVAL);
    };
    if message.is_null() || answer.is_null() || len < HEADER_LEN {
        return fail(libc::EINVAL);
    }
    // SAFETY: not null, and as long as the caller says.
    let message = unsafe { core::slice::from_raw_parts(message, message_len) };
    // SAFETY: not null, and as long as the caller says.
    let answer = unsafe { core::slice::from_raw_parts_mut(answer, len) };
    // SAFETY: the caller's promise.
    let server = unsafe { state.server() };
    match exchange::exchange(server, message, answer) {
        Ok(length) => length as c_int,
        Err(error) => fail(error),
    }
}
