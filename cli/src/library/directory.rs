//! Directories in which nobody but the user and root can replace anything.
//!
//! A path is walked one component at a time, from `/`, through its links. Each component is opened by its name in the directory before it,
//! judged as what was opened, and never looked up again: what somebody renames meanwhile changes nothing. Everything is then
//! made, read and renamed relative to the descriptor.
//!
//! Who can write a directory can rename what is in it, so the root directory, every directory and every link on the way must be the user's or
//! root's, and nobody else may be able to write a directory on the way, unless it is sticky: then an entry is its owner's and the
//! directory's owner's to rename (inode(7)), and both are known. A list of users (acl(5)) shows in the group's bits.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, PROC_SUPER_MAGIC, Stat, StatVfsMountFlags, chmodat, fchmod, fstat,
    fstatfs, fstatvfs, mkdirat, openat, readlinkat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::procfs;

/// Links that the kernel follows in one path (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// inode(7): the group or others may write.
const OTHERS_WRITE: u32 = libc::S_IWGRP | libc::S_IWOTH;

/// A directory, open.
pub(super) struct Directory {
    handle: OwnedFd,
    /// By which way it was reached; for messages.
    path: PathBuf,
    /// It is sticky, and everybody or a group can make entries in it.
    is_shared: bool,
}

impl Directory {
    /// Opens the directory at an absolute path.
    ///
    /// # Errors
    /// Why it cannot be reached, or who could replace something on the way.
    pub(super) fn reach(path: &Path) -> Result<Self, String> {
        let mut at = Self::root()?;
        let mut to_go: Vec<OsString> = components(path);
        let mut links = 0;
        while let Some(name) = to_go.pop() {
            if name == "/" {
                at = Self::root()?;
                continue;
            }
            let path = if name == ".." { at.above() } else { at.path.join(&name) };
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = openat(&at.handle, &name, flags, Mode::empty()).map_err(of(&path))?;
            let stat = fstat(&found).map_err(of(&path))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => at = Self::judge(found, path, &stat, at.is_shared)?,
                FileType::Symlink if links < MOST_LINKS => {
                    links += 1;
                    to_go.extend(components(&target(&found, &stat, &path, at.is_shared)?));
                }
                FileType::Symlink => return Err(of(&path)(Errno::LOOP)),
                _ => return Err(of(&path)(Errno::NOTDIR)),
            }
        }
        Ok(at)
    }

    fn root() -> Result<Self, String> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = PathBuf::from("/");
        let handle = rustix::fs::open(&path, flags, Mode::empty()).map_err(of(&path))?;
        let stat = fstat(&handle).map_err(of(&path))?;
        Self::judge(handle, path, &stat, false)
    }

    fn judge(handle: OwnedFd, path: PathBuf, stat: &Stat, is_in_shared: bool) -> Result<Self, String> {
        let others_write = stat.st_mode & OTHERS_WRITE != 0;
        if !is_trusted(stat.st_uid, others_write || is_in_shared) {
            return Err(format!("{} belongs to another user", path.display()));
        }
        if others_write && stat.st_mode & libc::S_ISVTX == 0 {
            return Err(format!("other users can write {}", path.display()));
        }
        Ok(Self { handle, path, is_shared: others_write })
    }

    fn above(&self) -> PathBuf {
        self.path.parent().unwrap_or(&self.path).to_owned()
    }

    /// The directory of this name within; it is made if need be, and must be the user's, and nobody else's to write.
    pub(super) fn own(&self, name: &OsStr, mode: u32) -> Result<Self, String> {
        let path = self.path.join(name);
        match mkdirat(&self.handle, name, Mode::from_raw_mode(mode)) {
            // The umask may have taken bits away.
            Ok(()) => chmodat(&self.handle, name, Mode::from_raw_mode(mode), AtFlags::empty()),
            Err(Errno::EXIST) => Ok(()),
            failed => failed,
        }
        .map_err(|error| error.to_string())?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = openat(&self.handle, name, flags, Mode::empty()).map_err(|error| error.to_string())?;
        let stat = fstat(&handle).map_err(|error| error.to_string())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(format!("{} is not a directory", path.display()));
        }
        if stat.st_uid != geteuid().as_raw() {
            return Err(format!("{} belongs to another user", path.display()));
        }
        if stat.st_mode & OTHERS_WRITE != 0 {
            return Err(format!("other users can write {}", path.display()));
        }
        Ok(Self { handle, path, is_shared: false })
    }

    /// Is it mounted so that nothing in it can be executed?
    pub(super) fn forbids_execution(&self) -> bool {
        fstatvfs(&self.handle).is_ok_and(|at| at.f_flag.contains(StatVfsMountFlags::NOEXEC))
    }

    /// Is this file in it, whole, and nobody else's to write?
    ///
    /// # Errors
    /// When something else has the name.
    pub(super) fn has_file(&self, name: &OsStr, content: &[u8]) -> Result<bool, String> {
        let is_not_ours = || format!("{} is not our file", self.path.join(name).display());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.handle, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(false),
            Err(Errno::LOOP | Errno::ACCESS | Errno::NXIO) => return Err(is_not_ours()),
            opened => opened.map_err(|error| error.to_string())?,
        };
        let stat = fstat(&file).map_err(|error| error.to_string())?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !is_file || stat.st_uid != geteuid().as_raw() {
            return Err(is_not_ours());
        }
        if stat.st_mode & OTHERS_WRITE != 0 || u64::try_from(stat.st_size) != Ok(content.len() as u64) {
            return Ok(false);
        }
        let mut found = Vec::with_capacity(content.len());
        let most = content.len() as u64 + 1;
        Ok(File::from(file).take(most).read_to_end(&mut found).is_ok() && found == content)
    }

    /// Puts a file of the user's in it; a program that starts meanwhile finds the old one or this one, whole.
    pub(super) fn put_file(&self, name: &OsStr, content: &[u8], mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        self.put(name, |beside| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(&self.handle, beside, flags, mode)?);
            file.write_all(content)?;
            fchmod(&file, mode).map_err(io::Error::from)
        })
    }

    /// Is this link in it?
    pub(super) fn has_link(&self, name: &OsStr, target: &Path) -> bool {
        let found = readlinkat(&self.handle, name, Vec::new());
        found.is_ok_and(|found| found.as_bytes() == target.as_os_str().as_bytes())
    }

    /// Puts a link in it, as [`Directory::put_file`] does a file.
    pub(super) fn put_link(&self, name: &OsStr, target: &Path) -> io::Result<()> {
        self.put(name, |beside| symlinkat(target, &self.handle, beside).map_err(io::Error::from))
    }

    fn put(&self, name: &OsStr, make: impl Fn(&OsStr) -> io::Result<()>) -> io::Result<()> {
        // Not by the process number alone: processes of several containers, which share a home, have the same.
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let mut beside = name.to_owned();
        beside.push(format!(".{:016x}.new", u64::from_ne_bytes(random)));
        let done = make(&beside).and_then(|()| Ok(renameat(&self.handle, &beside, &self.handle, name)?));
        if done.is_err() {
            // It may not be there; and why it was not made is what the user wants to know.
            let _ = unlinkat(&self.handle, &beside, AtFlags::empty());
        }
        done
    }
}

/// Where a link leads. Others can change one of theirs; and one of /proc leads another process elsewhere.
fn target(link: &OwnedFd, stat: &Stat, path: &Path, is_in_shared: bool) -> Result<PathBuf, String> {
    if !is_trusted(stat.st_uid, is_in_shared) {
        return Err(format!("{} is a link of another user's", path.display()));
    }
    if fstatfs(link).map_err(of(path))?.f_type == PROC_SUPER_MAGIC {
        return Err(format!("{} leads every process elsewhere", path.display()));
    }
    let target = readlinkat(link, c"", Vec::new()).map_err(of(path))?;
    Ok(OsString::from_vec(target.into_bytes()).into())
}

/// Is this owner the user or root?
///
/// In a user namespace (user_namespaces(7)) root seldom has a number, and looks like all others that have none. What nobody else could have
/// made or could write (`is_shared`) is root's in all likelihood: without this presocks could not be used in a sandbox.
fn is_trusted(owner: u32, is_shared: bool) -> bool {
    owner == 0 || owner == geteuid().as_raw() || !is_shared && is_unmapped(owner)
}

/// Has this owner no number in our user namespace?
fn is_unmapped(owner: u32) -> bool {
    procfs::user_map().is_some_and(|map| !maps(&map, owner))
}

/// Does a user namespace with this map (its numbers, the outer one's, how many) have this number?
fn maps(map: &str, number: u32) -> bool {
    map.lines().any(|line| {
        let mut words = line.split_ascii_whitespace().map(|word| word.parse::<u32>().ok());
        let (Some(Some(first)), Some(Some(count))) = (words.next(), words.nth(1)) else { return true };
        number.checked_sub(first).is_some_and(|offset| offset < count)
    })
}

/// The components of a path, the last one first.
fn components(path: &Path) -> Vec<OsString> {
    let all = path.components().filter(|component| *component != Component::CurDir);
    let mut all: Vec<_> = all.map(|component| component.as_os_str().to_owned()).collect();
    all.reverse();
    all
}

/// What is wrong with this path.
fn of(path: &Path) -> impl Fn(Errno) -> String {
    move |error| format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests;
