//! Sanitizer runtimes, which want to be the first of all libraries.
//!
//! AddressSanitizer looks at the list of libraries when it starts, and ends the program if its runtime is not the first
//! (`verify_asan_link_order`). A preloaded runtime is put before the shim. One that the program is linked with cannot be; so it is told not to look.
//! Its interceptors then stand behind the shim's hooks, which call them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// The options of AddressSanitizer (gcc, clang): NAME=VALUE, with colons in between.
pub(super) const OPTIONS: &str = "ASAN_OPTIONS";

const LINK_ORDER: &str = "verify_asan_link_order";

/// How the names of the files begin, gcc's and clang's.
const RUNTIMES: [&str; 6] = ["libasan.", "libhwasan.", "liblsan.", "libtsan.", "libubsan.", "libclang_rt."];

/// The libraries to preload (ld.so(8)): sanitizers, the shim, the other ones that the user has set.
pub(super) fn preload(shim: &OsStr, existing: &OsStr) -> OsString {
    let entries = existing.as_bytes().split(|byte| b": ".contains(byte)).filter(|entry| !entry.is_empty());
    let (first, last): (Vec<_>, Vec<_>) = entries.partition(|entry| is_runtime(entry));
    let all = [first, vec![shim.as_bytes()], last].concat();
    OsString::from_vec(all.join(&b':'))
}

/// [`OPTIONS`] as the user has them, less the look at the order unless they speak of it.
pub(super) fn options(existing: &OsStr) -> OsString {
    let speaks_of_it =
        existing.as_bytes().windows(LINK_ORDER.len()).any(|part| part == LINK_ORDER.as_bytes());
    let mut options = existing.to_owned();
    if !speaks_of_it {
        if !options.is_empty() {
            options.push(":");
        }
        options.push(format!("{LINK_ORDER}=0"));
    }
    options
}

fn is_runtime(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    RUNTIMES.iter().any(|runtime| name.starts_with(runtime.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sanitizers_come_before_the_shim_and_the_others_after_it() {
        let with = |existing: &str| preload(OsStr::new("/run/shim.so"), OsStr::new(existing));
        assert_eq!(with(""), "/run/shim.so");
        assert_eq!(with("/usr/lib/libjemalloc.so.2"), "/run/shim.so:/usr/lib/libjemalloc.so.2");
        assert_eq!(with("libasan.so.8"), "libasan.so.8:/run/shim.so");
        assert_eq!(
            with("/a/libasan.d/x.so /usr/lib/clang/libclang_rt.asan-x86_64.so:/b/libtsan.so.2: y.so"),
            "/usr/lib/clang/libclang_rt.asan-x86_64.so:/b/libtsan.so.2:/run/shim.so:/a/libasan.d/x.so:y.so"
        );
    }

    #[test]
    fn the_users_options_are_kept() {
        assert_eq!(options(OsStr::new("")), "verify_asan_link_order=0");
        assert_eq!(options(OsStr::new("detect_leaks=0")), "detect_leaks=0:verify_asan_link_order=0");
        let own = "verify_asan_link_order=1:detect_leaks=0";
        assert_eq!(options(OsStr::new(own)), own);
    }
}
