//! Short text files of this machine, line by line: with system calls, into a small buffer.

use core::ffi::CStr;

use crate::errno::Errno;
use crate::sys;

/// A line is shorter.
pub(crate) const BUFFER: usize = 1024;

/// A file has no more than so many times [`BUFFER`].
pub(crate) const MOST_READS: usize = 16;

/// Has all lines taken. `None` when `take` says so, or the file, or a line, is too long, or it cannot be read to its end.
///
/// # Errors
/// Those of open(2).
pub(crate) fn read(path: &CStr, take: impl FnMut(&[u8]) -> Option<()>) -> Result<Option<()>, Errno> {
    let file = sys::open(path)?;
    let is_read = each(file, take);
    sys::close(file);
    Ok(is_read)
}

fn each(file: i32, mut take: impl FnMut(&[u8]) -> Option<()>) -> Option<()> {
    let mut buffer = [0_u8; BUFFER];
    // Of a line whose end is not read yet.
    let mut kept = 0;
    for _ in 0..MOST_READS {
        let room = buffer.get_mut(kept..).filter(|room| !room.is_empty())?;
        let len = sys::read(file, room).ok()?;
        let filled = buffer.get(..kept + len)?;
        if len == 0 {
            return take(filled);
        }
        kept += len;
        if let Some(end) = filled.iter().rposition(|byte| *byte == b'\n') {
            filled.get(..end)?.split(|byte| *byte == b'\n').try_for_each(&mut take)?;
            buffer.copy_within(end + 1..kept, 0);
            kept -= end + 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::fs;

    use super::*;

    fn lines(content: &[u8]) -> Option<Vec<Vec<u8>>> {
        let path = std::env::temp_dir().join(format!(
            "presocks-lines-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        fs::write(&path, content).unwrap();
        let mut lines = Vec::new();
        let is_read = read(&CString::new(path.to_str().unwrap()).unwrap(), |line| {
            lines.push(line.to_vec());
            Some(())
        });
        fs::remove_file(&path).unwrap();
        is_read.unwrap().map(|()| lines)
    }

    #[test]
    fn lines_are_whole_wherever_the_buffer_ends_and_too_long_ones_are_told() {
        for len in BUFFER - 20..BUFFER + 20 {
            let content = [vec![b'#'; len], b"\n\na b\nlast".to_vec()].concat();
            let whole = content.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            // A line is known to be whole by the byte that follows it.
            assert_eq!(lines(&content), (len < BUFFER).then_some(whole), "{len}");
        }
        assert_eq!(lines(b""), Some(vec![Vec::new()]));
        assert_eq!(lines(&b"0123456789\n".repeat(BUFFER * MOST_READS / 11)), None);
        assert_eq!(read(c"/nonexistent/file", |_| Some(())), Err(libc::ENOENT));
    }
}
