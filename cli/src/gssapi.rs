//! GSSAPI by the system's own library, with the Kerberos tickets that the user has: a client's context, and messages under it.
//!
//! The library is loaded when it is needed first. All of unsafe code that speaks to it is here and in [`abi`]; what is given out frees itself.
//! Nothing here knows SOCKS, nor waits for anybody but the library.
#![allow(unsafe_code, reason = "C functions")]

mod abi;
pub(crate) mod environment;
mod error;

use std::ffi::c_int;
use std::ptr::{null, null_mut};

use abi::{Functions, HOST_BASED_SERVICE, KERBEROS, Opaque, PRINCIPAL, RawBuffer, Status};
pub(crate) use error::{Cause, Error};

/// RFC 2744 appendix A: `GSS_C_MUTUAL_FLAG`, `GSS_C_REPLAY_FLAG`, `GSS_C_SEQUENCE_FLAG`, `GSS_C_CONF_FLAG`, `GSS_C_INTEG_FLAG`.
const MUTUAL: u32 = 2;
const REPLAY: u32 = 4;
const SEQUENCE: u32 = 8;
const CONFIDENTIALITY: u32 = 16;
const INTEGRITY: u32 = 32;

/// `GSS_S_CONTINUE_NEEDED`
const CONTINUE_NEEDED: Status = 1;

/// Bits of a status that say that a message came twice, too late, or not in its turn (RFC 2744 section 3.9.1).
const OUT_OF_TURN: Status = 0b1_1110;

/// Bits of a status that mean failure (RFC 2744 section 3.9.1).
const FAILURE: Status = 0xffff_0000;

/// A context with a service, of which we are the initiator.
pub(crate) struct Context {
    functions: &'static Functions,
    service: Opaque,
    handle: Opaque,
    wanted: u32,
    flags: u32,
}

// SAFETY: the library binds no context to a thread (RFC 2743 section 1.2.5 on), and one that is not shared is used by one at a time.
unsafe impl Send for Context {}

/// Whom the library may ask who a service is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Naming {
    /// This machine's resolver, for the canonical name of the service's host, as krb5.conf has it (`dns_canonicalize_hostname`, `rdns`).
    ByHost,
    /// The KDC alone: the name is what it is, and the realm the user's own, or where its KDC refers to.
    Exact,
}

/// What is to be done to establish a context.
pub(crate) struct Step {
    /// For the service; it may be empty.
    pub(crate) token: Buffer,
    /// Does nothing more have to come from the service?
    pub(crate) is_complete: bool,
}

/// Bytes that the library has allocated.
pub(crate) struct Buffer {
    functions: &'static Functions,
    raw: RawBuffer,
}

// SAFETY: plain memory, which any thread may free.
unsafe impl Send for Buffer {}

impl Context {
    /// A context that is yet to be established with a service, `NAME@HOST`. `in_order`: are messages to come in the order in which they were sent, each of
    /// them? Twice none may come in any case.
    ///
    /// # Errors
    /// [`Error`]: there is no library, or this cannot be a service's name.
    pub(crate) fn new(service: &str, naming: Naming, in_order: bool) -> Result<Self, Error> {
        let functions = abi::functions().map_err(Error::Library)?;
        let order = if in_order { SEQUENCE } else { 0 };
        let wanted = MUTUAL | REPLAY | order | CONFIDENTIALITY | INTEGRITY;
        let mut context = Self { functions, service: null_mut(), handle: null_mut(), wanted, flags: 0 };
        let (service, form) = match naming {
            Naming::ByHost => (service.to_owned(), &HOST_BASED_SERVICE),
            Naming::Exact => (principal(service), &PRINCIPAL),
        };
        let name = borrowed(service.as_bytes());
        let mut minor = 0;
        // SAFETY: the name is read during the call; there is room for what is written.
        let major = unsafe {
            (functions.import_name)(&raw mut minor, &raw const name, form.as_ptr(), &raw mut context.service)
        };
        Error::check(functions, major, minor)?;
        Ok(context)
    }

    /// The next token for the service, given its last (none at first). Without a ticket for the service it asks the KDC, and waits for it.
    ///
    /// # Errors
    /// [`Error`]
    pub(crate) fn step(&mut self, token: &[u8]) -> Result<Step, Error> {
        let input = borrowed(token);
        let mut output = self.empty();
        let mut minor = 0;
        // SAFETY: the handles are the library's own or null, as before the first call; the token is read during the call, and there is room for all that
        // is written. Null stands for the default credential, no bindings, and what is not asked for.
        let major = unsafe {
            (self.functions.init_sec_context)(
                &raw mut minor,
                null_mut(),
                &raw mut self.handle,
                self.service,
                KERBEROS.as_ptr(),
                self.wanted,
                0,
                null_mut(),
                &raw const input,
                null_mut(),
                &raw mut output.raw,
                &raw mut self.flags,
                null_mut(),
            )
        };
        Error::check(self.functions, major, minor)?;
        Ok(Step { token: output, is_complete: major & CONTINUE_NEEDED == 0 })
    }

    /// Has the service proven who it is, and can messages be protected as they are to be? Once the context is established.
    pub(crate) fn protects(&self, is_confidential: bool) -> bool {
        let wanted = self.wanted & !CONFIDENTIALITY | if is_confidential { CONFIDENTIALITY } else { 0 };
        self.flags & wanted == wanted
    }

    /// How many bytes a message may have to become no longer than `room`.
    ///
    /// # Errors
    /// [`Error`]
    pub(crate) fn most(&self, is_confidential: bool, room: u32) -> Result<usize, Error> {
        let (mut minor, mut most) = (0, 0);
        // SAFETY: an established context; there is room for what is written.
        let major = unsafe {
            (self.functions.wrap_size_limit)(
                &raw mut minor,
                self.handle,
                is_confidential.into(),
                0,
                room,
                &raw mut most,
            )
        };
        Error::check(self.functions, major, minor)?;
        Ok(usize::try_from(most).unwrap_or(usize::MAX))
    }

    /// A message, protected.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Unprotected`] when it would not be confidential, and is to be.
    pub(crate) fn wrap(&mut self, is_confidential: bool, message: &[u8]) -> Result<Buffer, Error> {
        let input = borrowed(message);
        let mut output = self.empty();
        let (mut minor, mut became_confidential) = (0, 0);
        // SAFETY: an established context; the message is read during the call, and there is room for what is written.
        let major = unsafe {
            (self.functions.wrap)(
                &raw mut minor,
                self.handle,
                is_confidential.into(),
                0,
                &raw const input,
                &raw mut became_confidential,
                &raw mut output.raw,
            )
        };
        Error::check(self.functions, major, minor)?;
        protected(is_confidential, became_confidential, output)
    }

    /// The message in a token of the service's, in its turn.
    ///
    /// # Errors
    /// [`Error`]: it does not hold, or comes out of turn; [`Error::Unprotected`] when it was not confidential, and is to be.
    pub(crate) fn unwrap(&mut self, is_confidential: bool, token: &[u8]) -> Result<Buffer, Error> {
        let input = borrowed(token);
        let mut output = self.empty();
        let (mut minor, mut was_confidential) = (0, 0);
        // SAFETY: an established context; the token is read during the call, and there is room for what is written.
        let major = unsafe {
            (self.functions.unwrap)(
                &raw mut minor,
                self.handle,
                &raw const input,
                &raw mut output.raw,
                &raw mut was_confidential,
                null_mut(),
            )
        };
        Error::check(self.functions, major, minor)?;
        if major & OUT_OF_TURN != 0 {
            return Err(Error::OutOfTurn);
        }
        protected(is_confidential, was_confidential, output)
    }

    fn empty(&self) -> Buffer {
        Buffer { functions: self.functions, raw: RawBuffer { length: 0, value: null_mut() } }
    }
}

fn protected(is_to_be: bool, is: c_int, output: Buffer) -> Result<Buffer, Error> {
    if is_to_be && is == 0 { Err(Error::Unprotected) } else { Ok(output) }
}

/// `NAME@HOST` as `NAME/host@`, of which realm is not said.
fn principal(service: &str) -> String {
    let (name, host) = service.split_once('@').unwrap_or((service, ""));
    format!("{name}/{}@", host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
}

/// Bytes for the library to read, and not to keep.
fn borrowed(bytes: &[u8]) -> RawBuffer {
    RawBuffer { length: bytes.len(), value: bytes.as_ptr().cast_mut().cast() }
}

impl Drop for Context {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: null, or a context of the library's that nobody uses any more; no token is asked for.
        unsafe { (self.functions.delete_sec_context)(&raw mut minor, &raw mut self.handle, null_mut()) };
        // SAFETY: null, or a name of the library's that nobody uses any more.
        unsafe { (self.functions.release_name)(&raw mut minor, &raw mut self.service) };
    }
}

impl Buffer {
    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        if self.raw.value.is_null() {
            return &[];
        }
        // SAFETY: so the library has it, and it stays so until this is dropped.
        unsafe { std::slice::from_raw_parts(self.raw.value.cast_const().cast(), self.raw.length) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: empty, or allocated by this library and not freed yet.
        unsafe { (self.functions.release_buffer)(&raw mut minor, &raw mut self.raw) };
    }
}

/// What the library says of a status; empty when it has no words for it.
fn words(functions: &'static Functions, status: Status, is_of_the_mechanism: bool) -> String {
    /// `GSS_C_GSS_CODE`
    const GENERAL: c_int = 1;
    /// `GSS_C_MECH_CODE`
    const MECHANISM: c_int = 2;
    let (kind, oid) = if is_of_the_mechanism { (MECHANISM, KERBEROS.as_ptr()) } else { (GENERAL, null()) };
    let (mut minor, mut place) = (0, 0);
    let mut text = Buffer { functions, raw: RawBuffer { length: 0, value: null_mut() } };
    // SAFETY: there is room for all that is written. Of several sentences the first one is the one that counts.
    let major = unsafe {
        (functions.display_status)(&raw mut minor, status, kind, oid, &raw mut place, &raw mut text.raw)
    };
    if major & FAILURE != 0 { String::new() } else { String::from_utf8_lossy(text.as_slice()).into_owned() }
}
