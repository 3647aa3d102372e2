//! The shim as a file that the loader can find.
//!
//! The tool carries the shim inside itself and writes it, named by its content, into a directory that only the user can
//! change; it is compared byte for byte before every use, and never looked for anywhere else. The path for LD_PRELOAD contains
//! `$LIB` (ld.so(8)): glibc replaces it, other loaders do not find such a file and skip it, and so a wrapped shell can
//! start programs of another libc, which a glibc library would kill.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink,
};
use std::path::{Path, PathBuf};
use std::{env, process};

use rustix::fs::StatVfsMountFlags;
use rustix::process::geteuid;

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
        "there is no directory for the shim library (only you may be able to write it, programs must be able to \
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
    check_parents(directory)?;
    secure_directory(directory)?;
    if rustix::fs::statvfs(directory).is_ok_and(|at| at.f_flag.contains(StatVfsMountFlags::NOEXEC)) {
        return Err("it is mounted noexec".into());
    }
    let file = directory.join(NAME);
    if !is_in_place(&file)? {
        replace(&file, write).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    for lib in LIB_DIRECTORIES {
        let parent = directory.join(lib);
        if let Some(above) = parent.parent().filter(|above| *above != directory) {
            secure_directory(above)?;
        }
        secure_directory(&parent)?;
        let link = parent.join(NAME);
        if fs::read_link(&link).ok().as_ref() != Some(&file) {
            replace(&link, |link| symlink(&file, link))
                .map_err(|error| format!("{}: {error}", link.display()))?;
        }
    }
    Ok(entry)
}

/// Root's programs change to users who must be able to read the library too.
fn mode() -> u32 {
    if geteuid().is_root() { 0o755 } else { 0o700 }
}

/// Whoever can write a directory above, unless it is sticky (inode(7)), can put another in our directory's place.
fn check_parents(directory: &Path) -> Result<(), String> {
    let parent = directory.parent().unwrap_or(directory);
    let real = fs::canonicalize(parent).map_err(|error| error.to_string())?;
    // By both ways: one goes through the links, which could be replaced as well.
    for above in parent.ancestors().chain(real.ancestors()) {
        let mode = fs::metadata(above).map_err(|error| error.to_string())?.mode();
        if mode & libc::S_IWOTH != 0 && mode & libc::S_ISVTX == 0 {
            return Err(format!("everybody can write {}", above.display()));
        }
    }
    Ok(())
}

/// Makes the directory if need be; it must be ours, and nobody else's to write.
fn secure_directory(directory: &Path) -> Result<(), String> {
    match DirBuilder::new().recursive(false).mode(mode()).create(directory) {
        Ok(()) => {
            // The umask may have taken bits away.
            let permissions = fs::Permissions::from_mode(mode());
            fs::set_permissions(directory, permissions).map_err(|error| error.to_string())?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.to_string()),
    }
    let found = fs::symlink_metadata(directory).map_err(|error| error.to_string())?;
    if !found.is_dir() {
        return Err("it is not a directory".into());
    }
    if found.uid() != geteuid().as_raw() {
        return Err("it belongs to another user".into());
    }
    if found.mode() & 0o022 != 0 {
        return Err("other users can write it".into());
    }
    Ok(())
}

/// Is this very library there already?
fn is_in_place(path: &Path) -> Result<bool, String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error.to_string()),
        Ok(found) if !found.is_file() || found.uid() != geteuid().as_raw() => {
            return Err(format!("{} is not our file", path.display()));
        }
        Ok(found) if found.mode() & 0o022 != 0 => return Ok(false),
        Ok(_) => {}
    }
    Ok(fs::read(path).is_ok_and(|content| content == SHIM))
}

/// Makes the file beside and renames it: a program that starts meanwhile finds the old one or the new one, whole.
fn replace(path: &Path, make: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let beside = path.with_extension(format!("{}.new", process::id()));
    // A leftover of a killed process with our number.
    if let Err(error) = fs::remove_file(&beside)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    make(&beside)?;
    fs::rename(&beside, path)
}

fn write(path: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(mode()).open(path)?;
    file.write_all(SHIM)?;
    file.set_permissions(fs::Permissions::from_mode(mode()))
}
