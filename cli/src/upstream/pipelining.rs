//! Whether a SOCKS5 proxy takes greeting and request in one flight, which saves a round trip of every connect.
//!
//! Most servers do; some lose the request and never answer, so it is not guessed on a program's connection. A session that has made a few
//! connects asks once, in the background, on a connection of its own: the proxy is to connect to itself, and any reply at all proves
//! that it read the request. Where it does not, or where a password is needed, the handshake takes its turns.
//!
//! OpenSSH closes the connection where others reply that they cannot connect, and `ssh -D` often cannot connect to itself: its far side is another host. So
//! a close after a good greeting promises something, and the next connect tries it. A pipelined connect that ends in a close which may be about the
//! pipelining is made again in turns, and what comes of that decides.

pub(crate) mod question;

use std::cell::Cell;

use super::failure::Failure;

/// What is known of the proxy.
#[derive(Default)]
pub(crate) struct Pipelining {
    state: Cell<State>,
    connects: Cell<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing, or that it takes none.
    #[default]
    Unknown,
    /// It has let a pipelined question in, and closed the connection: so it answers failures, or so it takes the pipelining.
    Promising,
    /// It has answered one.
    Proven,
}

/// A pipelined connect that came to an end which may be about the pipelining, while the connect is made again.
pub(crate) struct Doubt<'a> {
    pipelining: &'a Pipelining,
    before: State,
}

impl Pipelining {
    /// May a handshake be pipelined?
    pub(crate) fn may_serve(&self) -> bool {
        self.state.get() != State::Unknown
    }

    /// A pipelined handshake got an answer.
    pub(crate) fn prove(&self) {
        self.state.set(State::Proven);
    }

    /// A pipelined handshake got no answer: not again.
    pub(crate) fn disprove(&self) {
        self.state.set(State::Unknown);
    }

    /// Is it in doubt whether this, with which a pipelined handshake has ended, is about the destination?
    pub(crate) fn doubts(&self, failure: &Failure) -> bool {
        match failure {
            Failure::NoReply => self.state.get() != State::Proven,
            Failure::ProxyClosed(_) | Failure::ClosedUnheard(_) => true,
            _ => false,
        }
    }

    /// The connect is made again, in turns.
    pub(crate) fn doubt(&self) -> Doubt<'_> {
        Doubt { pipelining: self, before: self.state.replace(State::Unknown) }
    }
}

impl Doubt<'_> {
    /// It has ended alike: so it was about the destination.
    pub(crate) fn dispel(self) {
        self.pipelining.state.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn known(state: State) -> Pipelining {
        Pipelining { state: Cell::new(state), ..Pipelining::default() }
    }

    #[test]
    fn a_close_after_a_good_greeting_is_the_destinations_where_the_proxy_has_answered_before() {
        assert!(known(State::Promising).doubts(&Failure::NoReply));
        assert!(!known(State::Proven).doubts(&Failure::NoReply));
        assert!(known(State::Proven).doubts(&Failure::ProxyClosed(None)));
        assert!(!known(State::Promising).doubts(&Failure::ProxyTimeout(Duration::from_secs(2))));
    }

    #[test]
    fn a_doubt_that_is_dispelled_leaves_what_was_known() {
        let pipelining = known(State::Promising);
        let doubt = pipelining.doubt();
        assert!(!pipelining.may_serve());
        doubt.dispel();
        assert!(pipelining.may_serve());
        let _stays = pipelining.doubt();
        assert!(!pipelining.may_serve());
    }
}
