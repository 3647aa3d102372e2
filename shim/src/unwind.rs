//! Keeps libgcc_s out of the wrapped program.
//!
//! std refers to the unwinder for its backtraces, and that would make every wrapped program load libgcc_s at start
//! (some 100 µs, and a library the program may not ship). Nothing in the shim unwinds (`panic = "abort"`), so the
//! references end here, in hidden symbols that no other object can see. A thread that is cancelled inside a hook is
//! still unwound by the program's own libgcc_s, which needs only our unwind tables.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
macro_rules! jump {
    () => {
        "jmp {0}"
    };
}

#[cfg(target_arch = "aarch64")]
macro_rules! jump {
    () => {
        "b {0}"
    };
}

macro_rules! end_here {
    ($($symbol:literal),* $(,)?) => {
        $(
            core::arch::global_asm!(
                concat!(".globl ", $symbol),
                concat!(".hidden ", $symbol),
                concat!($symbol, ":"),
                jump!(),
                sym nothing_to_unwind
            );
        )*
    };
}

end_here!(
    "_Unwind_Backtrace",
    "_Unwind_DeleteException",
    "_Unwind_FindEnclosingFunction",
    "_Unwind_GetCFA",
    "_Unwind_GetDataRelBase",
    "_Unwind_GetIP",
    "_Unwind_GetIPInfo",
    "_Unwind_GetLanguageSpecificData",
    "_Unwind_GetRegionStart",
    "_Unwind_GetTextRelBase",
    "_Unwind_RaiseException",
    "_Unwind_Resume",
    "_Unwind_SetGR",
    "_Unwind_SetIP",
);

/// Every entry answers 0: no frame, no handler.
extern "C" fn nothing_to_unwind() -> usize {
    0
}
