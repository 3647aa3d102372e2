//! The shim as a file that the loader can find.
//!
//! The tool carries the shim inside itself and writes it, named by its content, into a directory that only the user can
//! change; it is compared byte for byte before every use, and never looked for anywhere else. The path for LD_PRELOAD contains
//! `$LIB` (ld.so(8)): glibc replaces it, other loaders do not find such a file and skip it, and so a wrapped shell can
//! start programs of another libc, which a glibc library would kill.
//!
//! The loader looks the path up anew in every program, long after we did. It finds the same file: only the user and root can rename
//! or write anything on the way to it ([`Directory::reach`]). A descriptor's path (/proc/self/fd, a sealed memfd) would not do: execve(2)
//! closes it or programs do, its number is the program's to use, and without `$LIB` in it every loader would load the file.

mod directory;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::{env, io};

use rustix::process::geteuid;

use directory::Directory;

/// What the file's name begins with.
pub(crate) const SHIM_PREFIX: &[u8] = b"libpresocks";

/// The file's name, from its content.
const NAME: &str = env!("SHIM_NAME");
static SHIM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libpresocks.so"));

/// What glibc makes of `$LIB` on the distributions' various layouts.
#[cfg(target_arch = "x86_64")]
const LIB_DIRECTORIES: [&str; 3] = ["lib/x86_64-linux-gnu", "lib64", "lib"];
#[cfg(target_arch = "aarch64")]
const LIB_DIRECTORIES: [&str; 3] = ["lib/aarch64-linux-gnu", "lib64", "lib"];

/// Puts the shim in place; the entry for LD_PRELOAD.
///
/// # Errors
/// Every directory that was tried, with what is wrong with it.
pub(crate) fn materialise() -> Result<OsString, String> {
    let mut complaints = String::new();
    for directory in candidates() {
        match place(&directory) {
            Ok(entry) => return Ok(entry),
            Err(why) => complaints.push_str(&format!("\n  {}: {why}", directory.display())),
        }
    }
    Err(format!(
        "there is no directory for the shim library (only you and root may be able to write it, programs must be able to \
         run from it, no space or colon in its path; set XDG_RUNTIME_DIR to one):{complaints}"
    ))
}

fn candidates() -> Vec<PathBuf> {
    let mut all = Vec::new();
    let absolute = |variable| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    if geteuid().is_root() {
        all.push("/run/presocks".into());
    } else {
        all.extend(absolute("XDG_RUNTIME_DIR").map(|directory| directory.join("presocks")));
    }
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    all.extend(cache.map(|directory| directory.join("presocks")));
    all.push(format!("/tmp/presocks-{}", geteuid().as_raw()).into());
    all
}

fn place(directory: &Path) -> Result<OsString, String> {
    let entry = directory.join("$LIB").join(NAME).into_os_string();
    // ld.so(8): these separate entries, and a dollar sign begins a word that is replaced.
    if directory.to_str().is_none_or(|path| path.contains([' ', ':', '\t', '\n', '$'])) {
        return Err("LD_PRELOAD cannot hold this path".into());
    }
    let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
        return Err("it has no name".into());
    };
    let own = Directory::reach(parent)?.own(name, mode())?;
    if own.forbids_execution() {
        return Err("it is mounted noexec".into());
    }
    let file = directory.join(NAME);
    let complaint = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    if !own.has_file(OsStr::new(NAME), SHIM)? {
        own.put_file(OsStr::new(NAME), SHIM, mode()).map_err(|error| complaint(&file, error))?;
    }
    for lib in LIB_DIRECTORIES {
        let mut within = None;
        for name in Path::new(lib) {
            within = Some(within.as_ref().unwrap_or(&own).own(name, mode())?);
        }
        let within = within.as_ref().unwrap_or(&own);
        if !within.has_link(OsStr::new(NAME), &file) {
            let link = directory.join(lib).join(NAME);
            within.put_link(OsStr::new(NAME), &file).map_err(|error| complaint(&link, error))?;
        }
    }
    Ok(entry)
}

/// Root's programs change to users who must be able to read the library too.
fn mode() -> u32 {
    if geteuid().is_root() { 0o755 } else { 0o700 }
}
