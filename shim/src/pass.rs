//! System calls that carry the session's pass (`presocks_abi::pass`): the seccomp filter lets them go at once.
//!
//! Whoever makes a call in this way has judged it. The pass is nowhere but in memory and, during such a call, in its registers: the
//! kernel keeps registers, so one that was left behind would let a later call of libc's own pass the filter, unjudged. That
//! is why the instructions stand here, and not a call of syscall(3). Where they are not written for a machine, nothing
//! carries the pass, and the filter brings every call before the broker.
//!
//! Calls by [`wait`] are cancellation points as in glibc before 2.41: while a process has several threads, the call is made with
//! asynchronous cancellation.
#![allow(unsafe_code)]

use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, Ordering};

use libc::{c_int, c_long, ssize_t};
use presocks_abi::pass::{KNOCK_ERRNO, NO_FILTER_ERRNO, Pass, Placement};

use crate::errno::{Errno, fail};
use crate::{session, ticket};

/// What is put into the argument registers of a call, beside its arguments.
struct Words([AtomicU64; 6]);

static SIXTH: Words = Words::nothing();
static HALVES: Words = Words::nothing();
static KNOCK: Words = Words::nothing();
static NOTHING: Words = Words::nothing();

impl Words {
    const fn nothing() -> Self {
        Self([const { AtomicU64::new(0) }; 6])
    }

    fn store(&self, words: [u64; 6]) {
        for (place, word) in self.0.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
    }

    /// Those by which a call carries the pass; nothing while there is no session.
    fn of(call: c_long) -> &'static Self {
        let is_there = session::is_there();
        match Placement::of(call) {
            Some(Placement::Sixth) if is_there => &SIXTH,
            Some(Placement::Halves) if is_there => &HALVES,
            _ => &NOTHING,
        }
    }
}

/// Takes the pass of the session that has just been read.
pub(crate) fn take(pass: Pass) {
    SIXTH.store(pass.words(Placement::Sixth));
    HALVES.store(pass.words(Placement::Halves));
    KNOCK.store(pass.knock());
}

/// Finds what libc tells of threads: glibc has it since 2.32.
pub(crate) fn resolve() {
    // SAFETY: the name ends with a NUL; dlsym(3) knows RTLD_DEFAULT.
    let flag = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__libc_single_threaded".as_ptr()) };
    IS_SINGLE_THREADED.store(flag.cast(), Ordering::Relaxed);
}

/// An argument of type `int` or `unsigned`, with zeros in the half that the kernel ignores.
pub(crate) fn int(value: c_int) -> usize {
    value.cast_unsigned() as usize
}

/// An argument that is a pointer.
pub(crate) fn at<T>(pointer: *const T) -> usize {
    pointer.expose_provenance()
}

/// What a libc call returns that ends like this one.
pub(crate) fn returned(result: Result<usize, Errno>) -> ssize_t {
    match result {
        Ok(value) => value.cast_signed(),
        Err(error) => fail(error) as ssize_t,
    }
}

/// Makes a call that has been judged, with the pass. No cancellation point; errno is left alone.
///
/// # Safety
/// The arguments are such as the call demands.
pub(crate) unsafe fn call(number: c_long, arguments: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    unsafe { enter(number, arguments, Words::of(number)) }
}

/// As [`call`], and a cancellation point.
///
/// # Safety
/// As for [`call`].
pub(crate) unsafe fn wait(number: c_long, arguments: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    cancellable(|| unsafe { enter(number, arguments, Words::of(number)) })
}

/// Makes a call that nobody has judged, without the pass: only where [`filter_stands`], which brings it before the broker. No cancellation
/// point. `ENOSYS`: the broker is gone.
///
/// # Safety
/// As for [`call`].
pub(crate) unsafe fn call_unjudged(number: c_long, arguments: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    unsafe { enter(number, arguments, &NOTHING) }
}

/// As [`call_unjudged`], and a cancellation point. `ENETUNREACH` when the broker is gone, which is said.
///
/// # Safety
/// As for [`call`].
pub(crate) unsafe fn wait_unjudged(number: c_long, arguments: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    let result = cancellable(|| unsafe { enter(number, arguments, &NOTHING) });
    result.map_err(|error| if error == libc::ENOSYS { ticket::report_gone() } else { error })
}

/// Does the filter of this very session stand before this process? Asked of the kernel once: a filter is there before the program, and
/// stays.
pub(crate) fn filter_stands() -> bool {
    const YES: u8 = 1;
    const NO: u8 = 2;
    static KNOWN: AtomicU8 = AtomicU8::new(0);
    match KNOWN.load(Ordering::Relaxed) {
        YES => return true,
        NO => return false,
        _ => {}
    }
    if !CARRIES || !session::is_there() {
        return false;
    }
    // SAFETY: connect(2) with nothing: its arguments are the knock's words.
    let answer = match unsafe { enter(libc::SYS_connect, [0; 6], &KNOCK) } {
        Err(KNOCK_ERRNO) => YES,
        Err(NO_FILTER_ERRNO) => NO,
        // A filter of the program's own: it may answer otherwise next time.
        _ => return false,
    };
    KNOWN.store(answer, Ordering::Relaxed);
    answer == YES
}

/// libc's flag, once it is found.
static IS_SINGLE_THREADED: AtomicPtr<AtomicU8> = AtomicPtr::new(null_mut());

unsafe extern "C" {
    fn pthread_setcanceltype(new: c_int, old: *mut c_int) -> c_int;
}

/// Runs a system call so that a cancelled thread ends in it (pthreads(7)). Nothing else may happen in `wait`: the thread can end
/// between any two of its instructions.
fn cancellable<T>(wait: impl FnOnce() -> T) -> T {
    const PTHREAD_CANCEL_ASYNCHRONOUS: c_int = 1;
    let flag = IS_SINGLE_THREADED.load(Ordering::Relaxed);
    // SAFETY: libc's flag is a byte that is always there; or null, while it is not found.
    if unsafe { flag.as_ref() }.is_some_and(|flag| flag.load(Ordering::Relaxed) != 0) {
        return wait();
    }
    let mut kept: c_int = 0;
    // SAFETY: the pointer is that of a live local.
    unsafe { pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &raw mut kept) };
    let result = wait();
    // SAFETY: libc's own value; null for what it replaces is allowed since ever.
    unsafe { pthread_setcanceltype(kept, null_mut()) };
    result
}

/// Can this machine's calls carry the pass?
const CARRIES: bool =
    cfg!(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_pointer_width = "64"));

/// The system call with `words` put into its arguments, which nothing holds afterwards.
///
/// # Safety
/// As for [`call`].
#[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
unsafe fn enter(number: c_long, arguments: [usize; 6], words: &Words) -> Result<usize, Errno> {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    let result: isize;
    // SAFETY: the kernel keeps all registers but rax, rcx and r11 (syscall(2)); what it reads and writes by the arguments is the
    // caller's promise.
    unsafe {
        core::arch::asm!(
            "or rdi, [{words}]",
            "or rsi, [{words} + 8]",
            "or rdx, [{words} + 16]",
            "or r10, [{words} + 24]",
            "or r8, [{words} + 32]",
            "or r9, [{words} + 40]",
            "syscall",
            "xor edi, edi",
            "xor esi, esi",
            "xor edx, edx",
            "xor r10d, r10d",
            "xor r8d, r8d",
            "xor r9d, r9d",
            words = in(reg) words.0.as_ptr(),
            inlateout("rax") number as isize => result,
            inout("rdi") first => _,
            inout("rsi") second => _,
            inout("rdx") third => _,
            inout("r10") fourth => _,
            inout("r8") fifth => _,
            inout("r9") sixth => _,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    outcome(result)
}

/// The system call with `words` put into its arguments, which nothing holds afterwards.
///
/// # Safety
/// As for [`call`].
#[cfg(all(target_arch = "aarch64", target_pointer_width = "64"))]
unsafe fn enter(number: c_long, arguments: [usize; 6], words: &Words) -> Result<usize, Errno> {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    let result: isize;
    // SAFETY: the kernel keeps all registers but x0 (syscall(2)); what it reads and writes by the arguments is the caller's promise.
    unsafe {
        core::arch::asm!(
            "ldp x9, x10, [{words}]",
            "orr x0, x0, x9",
            "orr x1, x1, x10",
            "ldp x9, x10, [{words}, #16]",
            "orr x2, x2, x9",
            "orr x3, x3, x10",
            "ldp x9, x10, [{words}, #32]",
            "orr x4, x4, x9",
            "orr x5, x5, x10",
            "mov x9, xzr",
            "mov x10, xzr",
            "svc #0",
            "mov x1, xzr",
            "mov x2, xzr",
            "mov x3, xzr",
            "mov x4, xzr",
            "mov x5, xzr",
            words = in(reg) words.0.as_ptr(),
            in("x8") number,
            inout("x0") first => result,
            inout("x1") second => _,
            inout("x2") third => _,
            inout("x3") fourth => _,
            inout("x4") fifth => _,
            inout("x5") sixth => _,
            out("x9") _,
            out("x10") _,
            options(nostack),
        );
    }
    outcome(result)
}

/// The system call alone.
///
/// # Safety
/// As for [`call`].
#[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_pointer_width = "64")))]
unsafe fn enter(number: c_long, arguments: [usize; 6], _words: &Words) -> Result<usize, Errno> {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    let kept = crate::errno::current();
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(number, first, second, third, fourth, fifth, sixth) };
    if result == -1 {
        let error = crate::errno::current();
        crate::errno::set(kept);
        return Err(error);
    }
    Ok(result as usize)
}

/// The kernel's result: an errno, negated, or a value.
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_pointer_width = "64"))]
fn outcome(result: isize) -> Result<usize, Errno> {
    const LARGEST_ERRNO: isize = 4095;
    if (-LARGEST_ERRNO..0).contains(&result) {
        return Err(-result as Errno);
    }
    Ok(result.cast_unsigned())
}
