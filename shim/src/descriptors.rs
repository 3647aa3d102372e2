//! The descriptors of the calling thread: the names in /proc/thread-self/fd (proc(5)). Read with system calls into a small buffer, without
//! allocation.

use libc::c_int;

use crate::sys;

/// Where a directory entry has its length and its name (`struct linux_dirent64`, getdents(2)).
const LENGTH: core::ops::Range<usize> = 16..18;
const NAME: usize = 19;

/// Calls `each` with every number that is open, in ascending order, but for one of our own; how many there were. `None` when not all could be seen.
pub(crate) fn for_each(mut each: impl FnMut(c_int)) -> Option<usize> {
    let directory = sys::open(c"/proc/thread-self/fd").ok()?;
    let mut count = 0;
    let mut has_itself = false;
    let is_whole = read(directory, |number| {
        if number == directory {
            has_itself = true;
        } else {
            count += 1;
            each(number);
        }
    });
    sys::close(directory);
    // A directory that does not show itself is not what it should be.
    (is_whole && has_itself).then_some(count)
}

/// Calls `each` with every name that is a number. False when the directory could not be read to its end.
fn read(directory: c_int, mut each: impl FnMut(c_int)) -> bool {
    let mut buffer = [0_u8; 1024];
    loop {
        let mut entries = match sys::read_directory(directory, &mut buffer) {
            Ok(0) => return true,
            Ok(len) => buffer.get(..len).unwrap_or(&[]),
            Err(libc::EINTR) => continue,
            Err(_) => return false,
        };
        while let Some((entry, rest)) = split(entries) {
            if let Some(number) = entry.get(NAME..).and_then(number) {
                each(number);
            }
            entries = rest;
        }
    }
}

/// The first entry, and those behind it.
fn split(entries: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = entries.get(LENGTH)?.first_chunk().map(|len| u16::from_ne_bytes(*len))?;
    if usize::from(len) < NAME { None } else { entries.split_at_checked(len.into()) }
}

/// The number that a name is, which a NUL ends.
fn number(name: &[u8]) -> Option<c_int> {
    let digits = name.split(|byte| *byte == 0).next()?;
    core::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd as _;

    #[test]
    fn every_descriptor_is_seen_once_however_many_there_are() {
        let files: Vec<_> = (0..300).map(|_| File::open("/dev/null").unwrap()).collect();
        let mut seen = Vec::new();
        let count = super::for_each(|number| seen.push(number)).unwrap();
        assert_eq!(count, seen.len());
        assert!(seen.is_sorted_by(|a, b| a < b));
        assert!(files.iter().all(|file| seen.contains(&file.as_raw_fd())));
    }
}
