//! How much of its arguments the kernel reads: less than a program may say. What hooks read is cut in the same way, or they would read memory that is
//! not the program's to describe.
#![allow(unsafe_code)]

use libc::{c_int, nfds_t};

use crate::sys;

/// The most parts of a message, and messages of a call (`UIO_MAXIOV`, linux/uio.h): of more parts the kernel takes none, of more messages so many.
pub(crate) const MOST_PARTS: usize = 1024;

/// More control messages than the kernel takes, whatever `net.core.optmem_max` says: its default is 128 KiB at most.
pub(crate) const MOST_CONTROL: usize = 1 << 20;

/// Descriptors that every process's table has room for (`NR_OPEN_DEFAULT` in the kernel: those of one word).
const FIRST_TABLE: c_int = u64::BITS as c_int;

/// The count that select(2) means: the kernel cuts it to the size of the table of descriptors before it reads a set. So `getdtablesize()` with an ordinary
/// `fd_set` is what old programs say.
pub(crate) fn cut_to_table(count: c_int) -> c_int {
    // Within the table is within what is open.
    if count <= FIRST_TABLE || sys::is_open(count - 1) {
        return count;
    }
    count.min(table_size().unwrap_or(c_int::MAX).max(FIRST_TABLE))
}

/// The size of this thread's table of descriptors (proc(5), `FDSize`). `None` without /proc.
fn table_size() -> Option<c_int> {
    // The name before it may have 64 characters, the numbers between are few.
    let mut status = [0_u8; 512];
    let file = sys::open(c"/proc/thread-self/status").ok()?;
    let len = sys::read(file, &mut status);
    sys::close(file);
    size_in(status.get(..len.ok()?)?)
}

fn size_in(status: &[u8]) -> Option<c_int> {
    const FIELD: &[u8] = b"\nFDSize:";
    let at = status.windows(FIELD.len()).position(|window| window == FIELD)?;
    let mut digits = status.get(at + FIELD.len()..)?.iter().skip_while(|byte| byte.is_ascii_whitespace());
    let number = |size: c_int, digit: &u8| {
        digit.is_ascii_digit().then(|| size.saturating_mul(10).saturating_add(c_int::from(digit - b'0')))
    };
    let mut size = number(0, digits.next()?)?;
    for digit in digits {
        match number(size, digit) {
            Some(longer) => size = longer,
            None => return Some(size),
        }
    }
    // Cut off in the middle of it.
    None
}

/// Does poll(2) refuse so many entries (`EINVAL`), before it reads one?
pub(crate) fn is_too_many(count: nfds_t) -> bool {
    count > sys::descriptor_limit().unwrap_or(u64::MAX)
}

/// How many of these the kernel can read, up to `count`; the first is there. It reads one after the other, and often none after the first few:
/// a program may say that there are more than there are.
pub(crate) fn readable<T>(first: *const T, count: usize) -> usize {
    const PAGE: usize = 4096;
    let mut page = first.addr() / PAGE;
    for place in 1..count {
        let last = first.wrapping_add(place + 1).addr().wrapping_sub(1);
        if last / PAGE != page {
            page = last / PAGE;
            if !sys::is_readable(core::ptr::without_provenance(page * PAGE)) {
                return place;
            }
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_the_table_is_read_from_a_status_that_may_be_cut() {
        let status = b"Name:\tFDSize:\nUmask:\t0022\nFDSize:\t256\nGroups:\t0\n";
        assert_eq!(size_in(status), Some(256));
        assert_eq!(size_in(&status[..status.len() - 12]), None);
        assert_eq!(size_in(b"Name:\tx\n"), None);
        assert_eq!(size_in(b"\nFDSize:\tmany\n"), None);
    }

    #[test]
    fn this_threads_table_has_room_for_what_is_open() {
        assert!(table_size().is_some_and(|size| size >= FIRST_TABLE));
        assert_eq!(cut_to_table(3), 3);
        assert!((FIRST_TABLE..1 << 30).contains(&cut_to_table(c_int::MAX)));
    }

    #[test]
    fn what_is_there_is_readable_to_its_end() {
        let there = [0_u64; 4096];
        assert_eq!(readable(there.as_ptr(), there.len()), there.len());
        assert_eq!(readable(core::ptr::without_provenance::<u64>(4096 - 8), 5), 1);
    }
}
