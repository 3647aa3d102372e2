//! The table itself: slots, which of them are taken, and where a cookie's slot is.

use core::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};

use libc::c_int;

use super::slot::Slot;
use super::{Pending, SLOTS};

/// A cookie's place is among this many after the one that its hash names.
const WINDOW: usize = 32;

static TABLE: [Slot; SLOTS] = [const { Slot::new() }; SLOTS];
/// A bit for each slot that is taken. The lowest free one is next, so that a process touches little of the table.
static TAKEN: [AtomicU64; SLOTS / 64] = [const { AtomicU64::new(0) }; SLOTS / 64];
/// Where a cookie's slot is: the cookie, and in the lowest bits the slot's number; 0 for nothing.
static PLACES: [AtomicU64; 2 * SLOTS] = [const { AtomicU64::new(0) }; 2 * SLOTS];
const NUMBER_BITS: u32 = SLOTS.ilog2();
/// Slots that are not free: the one load that every hook pays.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// How many of them were begun under numbers with these lowest bits, and whether there are copies ([`COPY`]): reading and writing looks no further where this is 0.
static NUMBERS: [AtomicU16; 1024] = [const { AtomicU16::new(0) }; 1024];

/// A descriptor with such a number was copied, or is a copy: what is under way there may have been begun under any number. It stays set: who closes a number may
/// have our memory and other descriptors (vfork(2)).
const COPY: u16 = 1 << 15;
// So many slots are counted below it.
const _: () = assert!(SLOTS < COPY as usize);

/// Is any connect under way? One relaxed load.
pub(crate) fn any() -> bool {
    COUNT.load(Ordering::Relaxed) != 0
}

/// May a connect on this descriptor be under way? Two relaxed loads at most.
pub(crate) fn may_be(fd: c_int) -> bool {
    any() && begun_under(fd).is_some_and(|count| count.load(Ordering::Relaxed) != 0)
}

/// The same, of one that was begun under this very number.
pub(super) fn may_be_begun_as(fd: c_int) -> bool {
    any() && begun_under(fd).is_some_and(|count| count.load(Ordering::Relaxed) & !COPY != 0)
}

/// This descriptor is a copy, or there is one of it. One relaxed load when that is known.
pub(crate) fn note_copy(fd: c_int) {
    if let Some(count) = begun_under(fd)
        && count.load(Ordering::Relaxed) & COPY == 0
    {
        count.fetch_or(COPY, Ordering::Relaxed);
    }
}

fn begun_under(fd: c_int) -> Option<&'static AtomicU16> {
    NUMBERS.get(fd as usize % NUMBERS.len())
}

/// Counts a slot whose connect was made under this number, before it is entered.
pub(super) fn count(fd: c_int) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    if let Some(count) = begun_under(fd) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Undoes [`count`].
pub(super) fn discount(fd: c_int) {
    if let Some(count) = begun_under(fd) {
        count.fetch_sub(1, Ordering::Relaxed);
    }
    COUNT.fetch_sub(1, Ordering::Relaxed);
}

/// Has a slot be found by its cookie. False when there is no room.
pub(super) fn enter(slot: &Slot, cookie: u64) -> bool {
    places(cookie).any(|place| swap(place, 0, entry(slot, cookie)))
}

/// Undoes [`enter`].
pub(super) fn leave(slot: &Slot, cookie: u64) {
    places(cookie).any(|place| swap(place, entry(slot, cookie), 0));
}

pub(super) fn find(cookie: u64) -> Option<Pending> {
    places(cookie).find_map(|place| {
        let entry = place.load(Ordering::Acquire);
        if entry == 0 || entry >> NUMBER_BITS != (cookie << NUMBER_BITS) >> NUMBER_BITS {
            return None;
        }
        let slot = slot(entry as usize % SLOTS)?;
        let turn = slot.claim.current()?;
        (slot.cookie() == cookie).then_some(Pending { slot, turn })
    })
}

fn entry(slot: &Slot, cookie: u64) -> u64 {
    cookie << NUMBER_BITS | number(slot) as u64
}

/// The places where a cookie can be. Cookies are counted up, so they are spread first.
fn places(cookie: u64) -> impl Iterator<Item = &'static AtomicU64> {
    let bits = u64::BITS - PLACES.len().ilog2();
    let first = (cookie.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> bits) as usize;
    (first..first + WINDOW).filter_map(|place| PLACES.get(place % PLACES.len()))
}

fn swap(place: &AtomicU64, from: u64, to: u64) -> bool {
    place.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// The slot with this number.
pub(super) fn slot(number: usize) -> Option<&'static Slot> {
    TABLE.get(number)
}

/// This slot's place in the table.
pub(super) fn number(slot: &Slot) -> usize {
    (core::ptr::from_ref(slot).addr() - TABLE.as_ptr().addr()) / size_of::<Slot>()
}

/// Takes a free slot.
pub(super) fn take() -> Option<&'static Slot> {
    TAKEN.iter().enumerate().find_map(|(index, word)| {
        loop {
            let bits = word.load(Ordering::Relaxed);
            let bit = bits.trailing_ones();
            if bit == u64::BITS {
                return None;
            }
            if swap(word, bits, bits | 1 << bit) {
                return slot(index * 64 + bit as usize);
            }
        }
    })
}

/// When a slot is free: the next connect may have it.
pub(super) fn give_back(slot: &Slot) {
    let number = number(slot);
    if let Some(word) = TAKEN.get(number / 64) {
        word.fetch_and(!(1 << (number % 64)), Ordering::Release);
    }
}

/// The connects that have a slot.
pub(super) fn all() -> impl Iterator<Item = Pending> {
    TAKEN.iter().enumerate().flat_map(|(index, word)| {
        let mut bits = word.load(Ordering::Relaxed);
        core::iter::from_fn(move || {
            let bit = bits.trailing_zeros() as usize;
            bits &= bits.checked_sub(1)?;
            Some(slot(index * 64 + bit).and_then(|slot| Some(Pending { slot, turn: slot.claim.current()? })))
        })
        .flatten()
    })
}
