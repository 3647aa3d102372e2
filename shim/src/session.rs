//! The broker's rendezvous and the session's secrets, read once from the environment.
//!
//! Kept as plain atomics: the program may rewrite its environment later, a hook may come before our constructor, and two
//! threads may read at once; all store the same words.
#![allow(unsafe_code)]

use core::ffi::CStr;
use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use once_cell::race::OnceNonZeroUsize;
use presocks_abi::pass::Pass;
use presocks_proto::session::{Localhost, SECRET_LEN, Secret, Session};

use crate::pass;

const VARIABLE: &CStr = c"PRESOCKS_SESSION";
const WORDS: usize = 3 * SECRET_LEN / 8;

static STATE: OnceNonZeroUsize = OnceNonZeroUsize::new();
static WORDS_OF_SESSION: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];

static UID: AtomicU32 = AtomicU32::new(0);

const ABSENT: NonZeroUsize = NonZeroUsize::MIN;
/// With it, bits for what is the case.
const THERE: usize = 1 << 1;
const QUIET: usize = 1 << 2;
const BIND: usize = 1 << 3;
const LOOPBACK: usize = 1 << 4;
/// Where the two bits of [`Localhost`] begin.
const LOCALHOST: u32 = 5;

/// The session of this process; `None` when the environment names none, or names it wrongly.
pub(crate) fn current() -> Option<Session> {
    if !is_there() {
        return None;
    }
    let mut secrets = [[0_u8; SECRET_LEN]; 3];
    for (bytes, word) in secrets.as_flattened_mut().chunks_exact_mut(8).zip(&WORDS_OF_SESSION) {
        bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
    }
    let [id, token, proof] = secrets;
    let uid = UID.load(Ordering::Relaxed);
    let (token, proof) = (Secret(token), Secret(proof));
    Some(Session {
        id,
        token,
        proof,
        uid,
        quiet: has(QUIET),
        bind: binds(),
        loopback: judges_loopback(),
        localhost: localhost(),
    })
}

fn has(bit: usize) -> bool {
    STATE.get_or_init(load).get() & bit != 0
}

/// Is listening the broker's business (`--bind`)? One load.
pub(crate) fn binds() -> bool {
    has(BIND)
}

/// Are connections to loopback the broker's business? One load.
pub(crate) fn judges_loopback() -> bool {
    has(LOOPBACK)
}

/// What `localhost` means here, if nobody need be asked. One load.
pub(crate) fn localhost() -> Localhost {
    let number = STATE.get_or_init(load).get() >> LOCALHOST;
    Localhost::ALL.get(number).copied().unwrap_or(Localhost::Unknown)
}

/// Is there a session, and has its pass been taken? One load.
pub(crate) fn is_there() -> bool {
    has(THERE)
}

fn load() -> NonZeroUsize {
    // SAFETY: the name ends with a NUL; nobody changes the environment while a program starts.
    let text = unsafe { libc::getenv(VARIABLE.as_ptr()) };
    if text.is_null() {
        return ABSENT;
    }
    // SAFETY: getenv gave a string that ends with a NUL.
    let text = unsafe { CStr::from_ptr(text) };
    let Some(session) = Session::from_text(text.to_bytes()) else {
        return ABSENT;
    };
    let secrets = [session.id, session.token.0, session.proof.0];
    for (word, bytes) in WORDS_OF_SESSION.iter().zip(secrets.as_flattened().chunks_exact(8)) {
        word.store(bytes.try_into().map_or(0, u64::from_ne_bytes), Ordering::Relaxed);
    }
    UID.store(session.uid, Ordering::Relaxed);
    pass::take(Pass::new(session.pass()));
    let bits = [(session.quiet, QUIET), (session.bind, BIND), (session.loopback, LOOPBACK)];
    let localhost = (session.localhost as usize) << LOCALHOST;
    let bits = bits.iter().fold(THERE | localhost, |bits, (is, bit)| if *is { bits | bit } else { bits });
    NonZeroUsize::new(bits).unwrap_or(ABSENT)
}
