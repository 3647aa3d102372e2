//! Hooks for what libc does with sockets of its own, which no hook sees: the real function is never called.

/// Defines such hooks. What `$refusal` gives, after it has set errno or h_errno, is what each of them returns.
macro_rules! refuse {
    ($refusal:expr => $result:ty; $($name:ident => $hook:ident ( $($argument:ident : $kind:ty),* $(,)? );)*) => {
        $(
            redhook::hook! {
                unsafe fn $name($($argument: $kind),*) -> $result => $hook {
                    $( let _ = $argument; )*
                    $refusal
                }
            }
        )*
    };
}

pub(crate) use refuse;
