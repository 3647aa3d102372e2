//! The C interface of GSSAPI (RFC 2744 appendix A), as MIT's and Heimdal's libraries have it on Linux, and how one of them is loaded.
#![allow(unsafe_code, reason = "a library that is found at run time is called by pointers")]

use std::error::Error as _;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use libloading::Library;

/// MIT Kerberos', then Heimdal's.
const LIBRARIES: [&str; 2] = ["libgssapi_krb5.so.2", "libgssapi.so.3"];

/// `OM_uint32`
pub(super) type Status = u32;

/// `gss_name_t`, `gss_ctx_id_t`, `gss_cred_id_t`: pointers to what only the library knows.
pub(super) type Opaque = *mut c_void;

/// `gss_buffer_desc`
#[repr(C)]
#[derive(Debug)]
pub(super) struct RawBuffer {
    pub(super) length: usize,
    pub(super) value: *mut c_void,
}

/// `gss_OID_desc`
#[repr(C)]
pub(super) struct RawOid {
    length: u32,
    elements: *const c_void,
}

/// An object identifier for the library to read.
pub(super) struct Oid(RawOid);

// SAFETY: it points to constants.
unsafe impl Sync for Oid {}

/// The Kerberos 5 mechanism, 1.2.840.113554.1.2.2 (RFC 4121 section 1).
pub(super) static KERBEROS: Oid = Oid::new(b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02");

/// `GSS_C_NT_HOSTBASED_SERVICE`, 1.2.840.113554.1.2.1.4 (RFC 2743 section 4.1).
pub(super) static HOST_BASED_SERVICE: Oid = Oid::new(b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x04");

/// `GSS_KRB5_NT_PRINCIPAL_NAME`, 1.2.840.113554.1.2.2.1 (RFC 1964 section 2.1.1).
pub(super) static PRINCIPAL: Oid = Oid::new(b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01");

impl Oid {
    const fn new(elements: &'static [u8]) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "ten bytes at most")]
        let length = elements.len() as u32;
        Self(RawOid { length, elements: elements.as_ptr().cast() })
    }

    pub(super) fn as_ptr(&'static self) -> *const RawOid {
        &raw const self.0
    }
}

macro_rules! functions {
    ($($(#[$doc:meta])* $field:ident = $symbol:literal: fn($($argument:ty),* $(,)?);)*) => {
        /// The functions of a library that stays loaded.
        pub(super) struct Functions {
            $($(#[$doc])* pub(super) $field: unsafe extern "C" fn($($argument),*) -> Status,)*
        }

        impl Functions {
            fn of(library: &Library) -> Result<Self, libloading::Error> {
                Ok(Self {
                    $($field: {
                        // SAFETY: the type is the one that RFC 2744 gives this function, on Linux.
                        let symbol = unsafe { library.get(concat!($symbol, "\0")) };
                        *symbol?
                    },)*
                })
            }
        }
    };
}

functions! {
    import_name = "gss_import_name": fn(*mut Status, *const RawBuffer, *const RawOid, *mut Opaque);
    release_name = "gss_release_name": fn(*mut Status, *mut Opaque);
    init_sec_context = "gss_init_sec_context": fn(
        *mut Status,
        Opaque,
        *mut Opaque,
        Opaque,
        *const RawOid,
        u32,
        u32,
        *mut c_void,
        *const RawBuffer,
        *mut *mut RawOid,
        *mut RawBuffer,
        *mut u32,
        *mut u32,
    );
    delete_sec_context = "gss_delete_sec_context": fn(*mut Status, *mut Opaque, *mut RawBuffer);
    wrap = "gss_wrap": fn(*mut Status, Opaque, c_int, u32, *const RawBuffer, *mut c_int, *mut RawBuffer);
    unwrap = "gss_unwrap": fn(*mut Status, Opaque, *const RawBuffer, *mut RawBuffer, *mut c_int, *mut u32);
    wrap_size_limit = "gss_wrap_size_limit": fn(*mut Status, Opaque, c_int, u32, u32, *mut u32);
    release_buffer = "gss_release_buffer": fn(*mut Status, *mut RawBuffer);
    display_status = "gss_display_status": fn(*mut Status, Status, c_int, *const RawOid, *mut u32, *mut RawBuffer);
}

/// The functions of the first library that there is. It is loaded once, and for good: it keeps state of its own.
///
/// # Errors
/// Why none of them can be loaded.
pub(super) fn functions() -> Result<&'static Functions, String> {
    static LOADED: OnceLock<Functions> = OnceLock::new();
    if let Some(functions) = LOADED.get() {
        return Ok(functions);
    }
    let mut first = None;
    for name in LIBRARIES {
        match load(name) {
            Ok(functions) => return Ok(LOADED.get_or_init(|| functions)),
            Err(error) => drop(first.get_or_insert(error)),
        }
    }
    // What the loader says is the source.
    let why = first.map(|error| error.source().map_or_else(|| error.to_string(), ToString::to_string));
    Err(why.unwrap_or_default())
}

fn load(name: &str) -> Result<Functions, libloading::Error> {
    // SAFETY: a library of the system's, by the loader's own search; what it runs when it is loaded it runs in every program that is linked with it.
    let library = unsafe { Library::new(name) }?;
    let functions = Functions::of(&library)?;
    std::mem::forget(library);
    Ok(functions)
}
