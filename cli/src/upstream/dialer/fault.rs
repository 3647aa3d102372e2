//! What fails on a path, and whom it tells against.

use std::rc::Rc;

use rustix::io::Errno;

use crate::upstream::chain::Blame;
use crate::upstream::failure::{At, Failure};
use crate::upstream::hop::Hop;
use crate::upstream::negotiate::Broken;

/// A failure on a path, and whom it tells against.
pub(super) struct Fault {
    pub(super) failure: Failure,
    pub(super) blame: Blame,
    /// The proxy by whose pipelining it may have come.
    pub(super) doubted: Option<Rc<Hop>>,
}

impl Fault {
    /// At the proxy with this place on the path.
    pub(super) fn at(place: usize, hops: &[Rc<Hop>], failure: Failure, blame: Blame) -> Self {
        Self { failure: named(place, hops, None, failure), blame, doubted: None }
    }

    /// The first proxy is dead: nobody stands between it and us.
    pub(super) fn of_first(hops: &[Rc<Hop>], failure: Failure) -> Self {
        Self::at(0, hops, failure, Blame::Dead(0))
    }

    /// The proxy at this place does not reach the next one.
    pub(super) fn of_next(place: usize, hops: &[Rc<Hop>], failure: Failure) -> Self {
        let failure = named(place + 1, hops, Some(place), failure);
        Self { failure, blame: Blame::NextOf(place), doubted: None }
    }

    /// The program's socket is bound to an address that cannot have this path: another may do.
    pub(super) fn of_the_source(hops: &[Rc<Hop>], failure: Failure) -> Self {
        Self::at(0, hops, failure, Blame::Unlucky(0))
    }

    pub(super) fn nobodys(failure: Failure) -> Self {
        Self { failure, blame: Blame::Nobody, doubted: None }
    }

    /// A negotiation with the proxy at this place has failed.
    pub(super) fn of_negotiation(place: usize, hops: &[Rc<Hop>], broken: Broken) -> Self {
        let Broken { failure, has_asked, has_heard } = broken;
        let has_next = place + 1 < hops.len();
        if has_next && failure.is_about_the_target(has_asked) {
            return Self::of_next(place, hops, failure);
        }
        let blame = if failure.is_an_answer() {
            Blame::Refusal(place)
        } else if has_asked && has_next {
            Blame::NextOf(place)
        } else if has_asked && has_heard {
            // It lives: it is the destination that is slow, or one that will not be spoken to from there.
            Blame::Unlucky(place)
        } else if has_asked || place > 0 {
            Blame::Suspect(place)
        } else {
            Blame::Dead(place)
        };
        Self::at(place, hops, failure, blame)
    }

    /// There is no GSSAPI with the proxy at this place.
    pub(super) fn of_gssapi(place: usize, hops: &[Rc<Hop>], failure: Failure) -> Self {
        let blame = match &failure {
            Failure::Gssapi(trouble) if trouble.is_ours() => Blame::Unlucky(place),
            Failure::Gssapi(trouble) if trouble.is_an_answer() => Blame::Refusal(place),
            _ if place == 0 => Blame::Dead(0),
            _ => Blame::Suspect(place),
        };
        Self::at(place, hops, failure, blame)
    }

    /// It may have come by the pipelining with this proxy.
    pub(super) fn doubting(self, hop: Option<&Rc<Hop>>) -> Self {
        Self { doubted: hop.cloned(), ..self }
    }

    pub(super) fn is_of_one_address(&self) -> bool {
        matches!(self.blame, Blame::Dead(0) | Blame::Unlucky(0)) && self.failure.is_of_one_address()
    }

    /// The kernel knows a connection with the very addresses and ports.
    pub(super) fn is_of_the_port(&self) -> bool {
        self.blame == Blame::Nobody && matches!(self.failure.errno(), libc::EADDRNOTAVAIL | libc::EADDRINUSE)
    }

    /// The program has dissolved its socket meanwhile.
    pub(super) fn dissolved() -> Self {
        Self::nobodys(Failure::Socket(Errno::CONNABORTED.into()))
    }

    /// See [`Failure::is_for_the_socket_to_stay`].
    pub(super) fn is_of_the_socket(&self) -> bool {
        self.blame == Blame::Nobody && self.failure.is_for_the_socket_to_stay()
    }
}

/// The failure with the name of the proxy that it is about, where there are several.
fn named(index: usize, hops: &[Rc<Hop>], by: Option<usize>, failure: Failure) -> Failure {
    let name = |index: usize| hops.get(index).map(|hop| hop.proxy.to_string()).unwrap_or_default();
    if hops.len() < 2 {
        return failure;
    }
    Failure::At(Box::new(At {
        proxy: name(index),
        number: index + 1,
        of: hops.len(),
        by: by.map(name),
        failure,
    }))
}
