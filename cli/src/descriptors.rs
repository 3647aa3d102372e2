//! The broker's descriptors, when there may be fewer than all programs together want: who has some next.
//!
//! One that is missing is noticed too late: a socket for which there is no room is lost with its message (recvmsg(2), `MSG_CTRUNC`), and a connect fails
//! half-way for want of a pipe. So whatever keeps descriptors for as long as a proxy takes has a *place* first, and waits for it holding a ticket at
//! most; what has none waits where it costs nothing, in the kernel's queue of the rendezvous, or in its own caught call.
//!
//! Programs have their turns one after the other, and each its connects in their order. No program has all places. Tickets that are
//! received and wait are in one queue, though: a program with many connects to a proxy that does not answer can hold up others until they fail. Relays come first, and connects leave room for one: a connect keeps its own place while it waits for a
//! relay. What is answered at once has descriptors of its own, and so it is answered whatever else goes on.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::sync::oneshot::{self, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::procfs;

/// A connect: the ticket or the thread, and the socket.
const CONNECT: usize = 2;

/// A relay: its listener, its two sides, and a pipe for each direction.
const RELAY: usize = 7;

/// A question: the ticket, and the socket that it is about.
const QUESTION: usize = 2;

/// A program has at most so many times as many connects under way as others could still begin.
const SHARE: usize = 3;

/// What is open in a broker that does nothing, where /proc does not tell.
const AT_REST: usize = 24;

/// How long to wait when none can be had, whatever was asked for.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// How the descriptors are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shares {
    /// Descriptors for connects and relays.
    places: usize,
    /// Tickets that wait for a place.
    tickets: usize,
    /// Questions that are answered at the same time.
    questions: usize,
}

impl Shares {
    /// An eighth is for questions; as much again is left alone, for all that is opened for a moment only, and for datagrams. However few there are, something of
    /// everything goes on: who finds none left then tries again.
    fn of(limit: usize, in_use: usize) -> Self {
        let free = limit.saturating_sub(in_use);
        let questions = (free / 8 / QUESTION).clamp(2, 64);
        let spare = (free / 8).clamp(6, 256);
        let rest = free.saturating_sub(questions * QUESTION + spare);
        let tickets = (rest / 4).clamp(2, 1024);
        Self { places: rest.saturating_sub(tickets).max(CONNECT + RELAY), tickets, questions }
    }
}

/// All places.
pub(crate) struct Descriptors {
    places: Rc<Places>,
    tickets: Arc<Semaphore>,
    questions: Arc<Semaphore>,
    holds_back: Cell<bool>,
    limit: u64,
}

/// A permit to hold descriptors, for as long as it lives.
pub(crate) type Permit = OwnedSemaphorePermit;

impl Descriptors {
    /// Of this process, which has opened by now what it always has open.
    pub(crate) fn new() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let in_use = procfs::own_descriptors().map_or(AT_REST, |numbers| numbers.len());
        Self::with(limit, Shares::of(usize::try_from(limit).unwrap_or(usize::MAX), in_use))
    }

    fn with(limit: u64, shares: Shares) -> Self {
        let semaphore = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Self {
            places: Rc::new(Places::new(shares.places)),
            tickets: semaphore(shares.tickets),
            questions: semaphore(shares.questions),
            holds_back: Cell::new(false),
            limit,
        }
    }

    /// How many files the broker may have open.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// To take in a question.
    pub(crate) async fn question(&self) -> Option<Permit> {
        Arc::clone(&self.questions).acquire_owned().await.ok()
    }

    /// To take in a ticket that will wait for a place.
    pub(crate) async fn ticket(&self) -> Option<Permit> {
        if let Ok(permit) = Arc::clone(&self.tickets).try_acquire_owned() {
            return Some(permit);
        }
        self.holds_back.set(true);
        let permit = Arc::clone(&self.tickets).acquire_owned().await.ok();
        self.holds_back.set(false);
        permit
    }

    /// Are there tickets that could not be taken in yet, as far as is known?
    pub(crate) fn holds_back(&self) -> bool {
        self.holds_back.get()
    }

    /// Other users' tickets that may wait for their request: half of those that there is room for.
    pub(crate) fn unadmitted(&self) -> (usize, usize) {
        (self.questions.available_permits() / 2, self.tickets.available_permits() / 2)
    }

    /// For a connect of this program, in its turn.
    pub(crate) async fn connect(&self, program: Option<i32>) -> Option<Place> {
        self.places.wait(Claim::Connect(program)).await
    }

    /// The same if nobody is to wait for it. The program is asked for only when there are few left.
    pub(crate) fn connect_now(&self, program: impl FnOnce() -> Option<i32>) -> Option<Place> {
        let claim = Claim::Connect(if self.places.are_plenty() { None } else { program() });
        self.places.has_room_now(claim).then(|| self.places.give(claim))
    }

    /// For a question that may have to wait for a proxy: a connect's place, if there is one to be had, so that others can ask meanwhile.
    pub(crate) fn at_leisure(&self, permit: Permit, program: impl FnOnce() -> Option<i32>) -> Held {
        self.connect_now(program).map_or(Held::Permit(permit), Held::Place)
    }

    /// For a relay.
    pub(crate) async fn relay(&self) -> Option<Place> {
        self.places.wait(Claim::Relay).await
    }
}

/// What a question holds while it is answered.
#[expect(dead_code, reason = "they are held")]
pub(crate) enum Held {
    Permit(Permit),
    Place(Place),
}

/// What a place is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Connect(Option<i32>),
    Relay,
}

impl Claim {
    fn size(self) -> usize {
        match self {
            Self::Connect(_) => CONNECT,
            Self::Relay => RELAY,
        }
    }
}

/// Descriptors that may be open while this lives.
pub(crate) struct Place {
    places: Rc<Places>,
    claim: Claim,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.take_back(self.claim);
    }
}

struct Places {
    all: usize,
    state: RefCell<State>,
}

struct State {
    free: usize,
    relays: VecDeque<Sender<Place>>,
    programs: HashMap<Option<i32>, Program>,
    /// Those of which connects wait, in the order of their turns.
    turns: VecDeque<Option<i32>>,
}

#[derive(Default)]
struct Program {
    held: usize,
    waiting: VecDeque<Sender<Place>>,
}

impl Places {
    fn new(all: usize) -> Self {
        let state =
            State { free: all, relays: VecDeque::new(), programs: HashMap::new(), turns: VecDeque::new() };
        Self { all, state: RefCell::new(state) }
    }

    async fn wait(self: &Rc<Self>, claim: Claim) -> Option<Place> {
        if self.has_room_now(claim) {
            return Some(self.give(claim));
        }
        let (sender, receiver) = oneshot::channel();
        self.state.borrow_mut().enqueue(claim, sender);
        receiver.await.ok()
    }

    fn are_plenty(&self) -> bool {
        self.state.borrow().free >= self.all / 2
    }

    fn has_room_now(&self, claim: Claim) -> bool {
        self.state.borrow().has_room_now(claim)
    }

    fn give(self: &Rc<Self>, claim: Claim) -> Place {
        self.state.borrow_mut().debit(claim);
        Place { places: Rc::clone(self), claim }
    }

    fn take_back(self: &Rc<Self>, claim: Claim) {
        self.state.borrow_mut().credit(claim);
        loop {
            let next = self.state.borrow_mut().next();
            let Some((claim, waiter)) = next else { return };
            // It waits: that was looked at just now.
            let _ = waiter.send(self.give(claim));
        }
    }
}

impl State {
    fn has_room(&self, claim: Claim) -> bool {
        match claim {
            Claim::Relay => self.free >= RELAY,
            Claim::Connect(program) => {
                let left = self.free.saturating_sub(RELAY) / CONNECT;
                let held = self.programs.get(&program).map_or(0, |program| program.held);
                left > 0 && held < SHARE * left
            }
        }
    }

    /// The same, without going before anybody.
    fn has_room_now(&self, claim: Claim) -> bool {
        let is_first = match claim {
            Claim::Relay => self.relays.is_empty(),
            Claim::Connect(program) => {
                self.relays.is_empty()
                    && self.programs.get(&program).is_none_or(|program| program.waiting.is_empty())
            }
        };
        is_first && self.has_room(claim)
    }

    fn debit(&mut self, claim: Claim) {
        self.free = self.free.saturating_sub(claim.size());
        if let Claim::Connect(program) = claim {
            self.programs.entry(program).or_default().held += 1;
        }
    }

    fn credit(&mut self, claim: Claim) {
        self.free += claim.size();
        if let Claim::Connect(program) = claim
            && let Some(of) = self.programs.get_mut(&program)
        {
            of.held = of.held.saturating_sub(1);
            if of.held == 0 && of.waiting.is_empty() {
                self.programs.remove(&program);
            }
        }
    }

    fn enqueue(&mut self, claim: Claim, waiter: Sender<Place>) {
        match claim {
            Claim::Relay => self.relays.push_back(waiter),
            Claim::Connect(program) => {
                let of = self.programs.entry(program).or_default();
                if of.waiting.is_empty() {
                    self.turns.push_back(program);
                }
                of.waiting.push_back(waiter);
            }
        }
    }

    /// Whose turn it is, if there is room for what is waited for.
    fn next(&mut self) -> Option<(Claim, Sender<Place>)> {
        drop_gone(&mut self.relays);
        if !self.relays.is_empty() {
            let waiter = if self.has_room(Claim::Relay) { self.relays.pop_front() } else { None };
            return waiter.map(|waiter| (Claim::Relay, waiter));
        }
        for _ in 0..self.turns.len() {
            let program = self.turns.pop_front()?;
            let claim = Claim::Connect(program);
            let has_room = self.has_room(claim);
            let Some(of) = self.programs.get_mut(&program) else { continue };
            drop_gone(&mut of.waiting);
            let waiter = if has_room { of.waiting.pop_front() } else { None };
            if !of.waiting.is_empty() {
                self.turns.push_back(program);
            } else if of.held == 0 && waiter.is_none() {
                self.programs.remove(&program);
            }
            if let Some(waiter) = waiter {
                return Some((claim, waiter));
            }
        }
        None
    }
}

/// Those at the front that wait no more.
fn drop_gone(waiting: &mut VecDeque<Sender<Place>>) {
    while waiting.front().is_some_and(Sender::is_closed) {
        waiting.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Room for so many connects, and a relay.
    fn descriptors(connects: usize) -> Descriptors {
        let places = connects * CONNECT + RELAY;
        Descriptors::with(0, Shares { places, tickets: 2, questions: 2 })
    }

    fn now<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn taken(descriptors: &Descriptors, program: i32) -> Vec<Place> {
        std::iter::from_fn(|| now(pin!(descriptors.connect(Some(program)))).flatten()).collect()
    }

    #[test]
    fn all_shares_together_are_no_more_than_there_is() {
        for limit in (64..2000).chain([1 << 20, usize::MAX]) {
            let Shares { places, tickets, questions } = Shares::of(limit, 20);
            let all = places + tickets + questions * QUESTION + 6;
            assert!(all + 20 <= limit, "{limit}");
        }
        for limit in 0..64 {
            let Shares { places, tickets, questions } = Shares::of(limit, 20);
            assert!(places >= CONNECT + RELAY && tickets >= 2 && questions >= 2);
        }
    }

    #[test]
    fn one_program_leaves_room_for_others() {
        let descriptors = descriptors(16);
        let first = taken(&descriptors, 1);
        assert_eq!(first.len(), 12);
        assert_eq!(taken(&descriptors, 2).len(), 3);
        drop(first);
    }

    #[test]
    fn programs_have_their_turns_and_each_its_connects_in_order() {
        let descriptors = descriptors(1);
        let held = taken(&descriptors, 1);
        assert_eq!(held.len(), 1);
        let mut waiting: Vec<_> =
            [1, 1, 2, 2, 3].map(|program| Box::pin(descriptors.connect(Some(program)))).into();
        assert!(waiting.iter_mut().all(|wait| now(wait.as_mut()).is_none()));
        drop(held);
        let mut order = Vec::new();
        while order.len() < waiting.len() {
            let (which, place) = waiting
                .iter_mut()
                .enumerate()
                .filter(|(which, _)| !order.contains(which))
                .find_map(|(which, wait)| Some((which, now(wait.as_mut())?)))
                .unwrap();
            order.push(which);
            drop(place);
        }
        assert_eq!(order, [0, 2, 4, 1, 3]);
    }

    #[test]
    fn a_relay_comes_first_and_is_left_room_for() {
        let descriptors = descriptors(2);
        let mut connects = vec![now(pin!(descriptors.connect(Some(1)))).flatten().unwrap()];
        connects.push(now(pin!(descriptors.connect(Some(2)))).flatten().unwrap());
        assert!(descriptors.connect_now(|| Some(3)).is_none());
        let relay = now(pin!(descriptors.relay())).flatten().unwrap();
        let (mut connect, mut second) = (pin!(descriptors.connect(Some(3))), pin!(descriptors.relay()));
        assert!(now(connect.as_mut()).is_none() && now(second.as_mut()).is_none());
        drop(connects.pop());
        assert!(now(connect.as_mut()).is_none() && now(second.as_mut()).is_none());
        drop(relay);
        assert!(now(second.as_mut()).is_some_and(|place| place.is_some()));
        assert!(now(connect.as_mut()).is_some_and(|place| place.is_some()));
    }

    #[test]
    fn who_waits_no_more_is_passed_over_and_what_was_given_in_vain_comes_back() {
        let descriptors = descriptors(1);
        let held = taken(&descriptors, 1);
        let mut gone = Box::pin(descriptors.connect(Some(1)));
        let mut unaware = Box::pin(descriptors.connect(Some(2)));
        let mut last = pin!(descriptors.connect(Some(3)));
        assert!(
            now(gone.as_mut()).is_none() && now(unaware.as_mut()).is_none() && now(last.as_mut()).is_none()
        );
        drop(gone);
        drop(held);
        assert!(now(last.as_mut()).is_none());
        drop(unaware);
        assert!(now(last.as_mut()).is_some());
        assert_eq!(taken(&descriptors, 1).len(), 1);
        assert!(descriptors.places.state.borrow().programs.is_empty());
    }
}
