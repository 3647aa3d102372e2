//! Names in other scripts than ASCII (IDNA2008, RFC 5891), for `AI_IDN`, `AI_CANONIDN` and `NI_IDN`.
//!
//! The charset of such a name is that of the program's locale, and which names there are is libidn2's knowledge: so they are
//! converted here, by the library that libc itself loads for these flags, and keeps, and by the same of its functions. Nothing
//! without these flags, and no ASCII name that is to be looked up, comes here.
#![allow(unsafe_code)]

use core::ffi::CStr;
use core::mem::transmute;
use core::ptr::{NonNull, null_mut};

use libc::{c_char, c_int};

use crate::errno;

/// As libc calls it.
const LIBRARY: &CStr = c"libidn2.so.0";

/// `IDN2_MALLOC` (idn2.h).
const NO_MEMORY: c_int = -100;

/// netdb.h
const EAI_IDN_ENCODE: c_int = -105;

/// `idn2_lookup_ul(3)`, `idn2_to_unicode_lzlz(3)`: 0, or what is wrong; the result is to be freed.
type Convert = unsafe extern "C" fn(*const c_char, *mut *mut c_char, c_int) -> c_int;

/// A name that was converted, in memory of libc's.
pub(crate) struct Converted(NonNull<c_char>);

impl Converted {
    pub(crate) fn as_c_str(&self) -> &CStr {
        // SAFETY: the library ends what it gives with a NUL.
        unsafe { CStr::from_ptr(self.0.as_ptr()) }
    }
}

impl Drop for Converted {
    fn drop(&mut self) {
        // SAFETY: malloc(3) has given it, and nobody else frees it.
        unsafe { libc::free(self.0.as_ptr().cast()) };
    }
}

/// The form in which a name that is not in ASCII is looked up.
///
/// # Errors
/// As getaddrinfo(3): `EAI_IDN_ENCODE` for what is no name, or when there is no library; `EAI_MEMORY`.
pub(crate) fn to_ascii(name: &CStr) -> Result<Converted, c_int> {
    let convert = function(c"idn2_lookup_ul").ok_or(EAI_IDN_ENCODE)?;
    run(convert, name)?.ok_or(EAI_IDN_ENCODE)
}

/// A name as the program's user reads it; `None` for one that stays as it is: it is not in such a form, or the locale cannot show it, or there is
/// no library.
///
/// # Errors
/// `EAI_MEMORY`.
pub(crate) fn to_locale(name: &CStr) -> Result<Option<Converted>, c_int> {
    let Some(convert) = function(c"idn2_to_unicode_lzlz") else { return Ok(None) };
    match run(convert, name) {
        Err(EAI_IDN_ENCODE) => Ok(None),
        result => result,
    }
}

fn run(convert: Convert, name: &CStr) -> Result<Option<Converted>, c_int> {
    let kept = errno::current();
    let mut result = null_mut();
    // SAFETY: a string, and a place for the result; no flags, as libc has it.
    let outcome = unsafe { convert(name.as_ptr(), &raw mut result, 0) };
    errno::set(kept);
    match outcome {
        0 => Ok(NonNull::new(result).map(Converted)),
        NO_MEMORY => Err(libc::EAI_MEMORY),
        _ => Err(EAI_IDN_ENCODE),
    }
}

/// A function of the library, which stays loaded, as libc's own copy does.
fn function(name: &CStr) -> Option<Convert> {
    let kept = errno::current();
    // SAFETY: the name ends with a NUL.
    let library = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW) };
    let mut found = null_mut();
    if !library.is_null() {
        // SAFETY: a library that was loaded, and a name that ends with a NUL.
        found = unsafe { libc::dlsym(library, name.as_ptr()) };
    }
    if found.is_null() {
        // SAFETY: no argument. The program must not find our question's failure as its own.
        let _ = unsafe { libc::dlerror() };
    }
    errno::set(kept);
    // SAFETY: both functions have this type (idn2.h), and null is none.
    unsafe { transmute::<*mut libc::c_void, Option<Convert>>(found) }
}
