//! Which proxies of a chain a connection goes through, and what the whole session has learnt of that.
//!
//! The turn of a round robin and the knowledge of who is dead are the broker's, so they are the same for all processes of a session.

use std::cell::Cell;
use std::rc::Rc;

use rustix::rand::{GetRandomFlags, getrandom};

use super::hop::Hop;
use crate::policy::route::{Chain, Order, Routes};
use crate::proxy::Proxy;

/// All chains, by their indices in [`Routes::chains`].
pub(crate) struct Chains(Vec<Rc<ChainState>>);

/// A chain in use, and what the session has learnt of it.
pub(crate) struct ChainState {
    hops: Vec<Rc<Hop>>,
    order: Order,
    passes_over_refusals: bool,
    /// Where a round robin goes on.
    next: Cell<usize>,
}

/// What one attempt has tried of a chain.
#[derive(Default)]
pub(crate) struct Tried {
    start: usize,
    /// Proxies that this attempt goes on without.
    failed: Vec<usize>,
    /// Those of them who may have been the fault's victims.
    suspects: Vec<usize>,
    /// Who did not connect us to whom.
    unreached: Vec<(usize, usize)>,
}

/// What a failure says of the proxies on its path, by their places on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// It is none of their fault.
    Nobody,
    /// This one is no use to anybody.
    Dead(usize),
    /// This one, or the destination, or one before it.
    Suspect(usize),
    /// None of them, or for this attempt only: this one does not get there.
    Unlucky(usize),
    /// This one has not connected us to the next: it, or the next.
    NextOf(usize),
    /// This one has answered, and says no.
    Refusal(usize),
}

impl Chains {
    /// Those of the user. `resolved`: the addresses of the default chain's first proxy.
    pub(crate) fn new(routes: &Routes, resolved: &[std::net::SocketAddr]) -> Self {
        let states = routes.chains.iter().enumerate().map(|(index, chain)| {
            let known = (index == 0 && !resolved.is_empty()).then_some(resolved);
            Rc::new(ChainState::new(chain, known))
        });
        Self(states.collect())
    }

    /// The chain with this index.
    pub(crate) fn get(&self, index: usize) -> Option<&Rc<ChainState>> {
        self.0.get(index)
    }
}

impl Tried {
    /// Is there another whom this one has not reached?
    fn has_failed_others(&self, by: usize) -> bool {
        self.unreached.iter().any(|(other, _)| *other == by)
    }

    /// Those whom this one has not reached may not be to blame for it.
    fn give_back(&mut self, by: usize) {
        let (its, others) = self.unreached.drain(..).partition(|(other, _)| *other == by);
        self.unreached = others;
        let its: Vec<(usize, usize)> = its;
        self.failed.retain(|failed| !its.iter().any(|(_, next)| next == failed));
    }
}

impl ChainState {
    fn new(chain: &Chain, resolved: Option<&[std::net::SocketAddr]>) -> Self {
        let hop = |(index, proxy): (usize, &Proxy)| {
            Rc::new(Hop::new(proxy.clone(), resolved.filter(|_| index == 0)))
        };
        Self {
            hops: chain.proxies.iter().enumerate().map(hop).collect(),
            order: chain.order,
            passes_over_refusals: chain.passes_over_refusals,
            next: Cell::new(0),
        }
    }

    /// The proxy at this place of the user's list.
    pub(crate) fn hop(&self, place: usize) -> Option<&Rc<Hop>> {
        self.hops.get(place)
    }

    /// Has an attempt other ways when one fails?
    pub(crate) fn has_choice(&self) -> bool {
        self.order != Order::Strict && self.hops.len() > 1
    }

    /// Begins an attempt.
    pub(crate) fn begin(&self) -> Tried {
        Tried { start: self.next.get(), ..Tried::default() }
    }

    /// The proxies to go through, first to last; `None` when there are not enough left.
    pub(crate) fn plan(&self, tried: &Tried) -> Option<Vec<Rc<Hop>>> {
        let left = |index: &usize| !tried.failed.contains(index);
        let alive =
            |index: &usize| left(index) && self.hops.get(*index).is_some_and(|hop| !hop.is_cooling_down());
        // A proxy in its cooldown may work again, and is better than none.
        let chosen = self.choose(tried.start, &alive).or_else(|| self.choose(tried.start, &left))?;
        if let (Order::RoundRobin { .. }, Some(last)) = (self.order, chosen.last()) {
            self.next.set((last + 1) % self.hops.len());
        }
        Some(chosen.into_iter().filter_map(|index| self.hops.get(index).cloned()).collect())
    }

    /// The proxy of the path that this attempt skips from now on; `None` when it ends.
    ///
    /// If hop *n* cannot reach hop *n+1*, *n+1* is skipped; if *n* then fails to reach another hop too, *n* is skipped instead, and the others are used
    /// again.
    pub(crate) fn pass_over(&self, tried: &mut Tried, path: &[Rc<Hop>], blame: Blame) -> Option<Rc<Hop>> {
        let at = |place: usize| {
            let hop = path.get(place)?;
            self.hops.iter().position(|other| Rc::ptr_eq(other, hop))
        };
        if self.order == Order::Strict {
            return None;
        }
        let (failed, is_settled) = match blame {
            Blame::Refusal(place) if self.passes_over_refusals => (at(place)?, true),
            // What one says of the destination who has not reached the next one either is in doubt.
            Blame::Refusal(place) if tried.has_failed_others(at(place)?) => (at(place)?, false),
            Blame::Nobody | Blame::Refusal(_) => return None,
            Blame::Dead(place) => {
                path.get(place)?.cool_down();
                (at(place)?, true)
            }
            Blame::Unlucky(place) => (at(place)?, true),
            Blame::Suspect(place) => (at(place)?, false),
            Blame::NextOf(place) => {
                let (by, next) = (at(place)?, at(place + 1)?);
                let is_common = tried.unreached.iter().any(|(other, whom)| *other == by && *whom != next);
                tried.unreached.push((by, next));
                (if is_common { by } else { next }, false)
            }
        };
        tried.give_back(failed);
        tried.failed.push(failed);
        if !is_settled {
            tried.suspects.push(failed);
        }
        self.hops.get(failed).cloned()
    }

    /// The attempt has come through on this path, so the proxies that it has gone on without have failed it. If hop *n* did not reach hop *n+1*, only
    /// a path with *n* on it tells which of the two has.
    pub(crate) fn succeed(&self, tried: &Tried, path: &[Rc<Hop>]) {
        let works = |index: &usize| {
            self.hops.get(*index).is_some_and(|hop| path.iter().any(|other| Rc::ptr_eq(other, hop)))
        };
        let has_failed = |suspect: &&usize| {
            let mut not_reached_by = tried.unreached.iter().filter(|(_, next)| next == *suspect).peekable();
            tried.failed.contains(suspect)
                && (not_reached_by.peek().is_none() || not_reached_by.any(|(by, _)| works(by)))
        };
        let failed = tried.suspects.iter().filter(has_failed);
        failed.filter_map(|index| self.hops.get(*index)).for_each(|hop| hop.cool_down());
    }

    fn choose(&self, start: usize, may: &impl Fn(&usize) -> bool) -> Option<Vec<usize>> {
        let all = 0..self.hops.len();
        let chosen: Vec<usize> = match self.order {
            Order::Strict => return all.clone().all(|index| may(&index)).then(|| all.collect()),
            Order::Dynamic => all.filter(may).collect(),
            Order::Failover => all.filter(may).take(1).collect(),
            Order::RoundRobin { length } => {
                let around = all.clone().cycle().skip(start).take(all.len());
                let chosen: Vec<_> = around.filter(may).take(length).collect();
                return (chosen.len() == length).then_some(chosen);
            }
            Order::Random { length, fixed } => {
                let (mut chosen, mut rest): (Vec<_>, Vec<_>) = all.partition(|index| *index < fixed);
                if !chosen.iter().all(may) {
                    return None;
                }
                rest.retain(may);
                while chosen.len() < length {
                    let picked = random_below(rest.len())?;
                    chosen.push(rest.swap_remove(picked));
                }
                chosen
            }
        };
        (!chosen.is_empty()).then_some(chosen)
    }
}

/// A random number; `None` when there is none below.
fn random_below(end: usize) -> Option<usize> {
    let mut bytes = [0; 8];
    // Fails only before the kernel has any randomness; then the first will do.
    let _ = getrandom(&mut bytes, GetRandomFlags::NONBLOCK);
    let number = u64::from_ne_bytes(bytes).checked_rem(end as u64)?;
    usize::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(order: Order) -> ChainState {
        let proxies = ["a", "b", "c", "d"].map(|host| Proxy::parse(&format!("socks5://{host}:1")).unwrap());
        let name = "proxy".into();
        ChainState::new(&Chain { name, proxies: proxies.to_vec(), order, passes_over_refusals: false }, None)
    }

    /// The hosts' letters.
    fn shown(plan: Option<Vec<Rc<Hop>>>) -> String {
        let letter = |hop: &Rc<Hop>| hop.proxy.to_string().chars().nth("socks5://".len());
        plan.map_or("none".into(), |hops| hops.iter().filter_map(letter).collect())
    }

    fn failing(chain: &ChainState, failed: &[usize]) -> String {
        shown(chain.plan(&Tried { failed: failed.to_vec(), ..Tried::default() }))
    }

    #[test]
    fn a_strict_chain_is_whole_or_nothing() {
        let chain = state(Order::Strict);
        assert_eq!(failing(&chain, &[]), "abcd");
        assert_eq!(failing(&chain, &[2]), "none");
    }

    #[test]
    fn a_dynamic_chain_goes_on_without_those_who_failed() {
        let chain = state(Order::Dynamic);
        assert_eq!(failing(&chain, &[0, 2]), "bd");
        assert_eq!(failing(&chain, &[0, 1, 2, 3]), "none");
    }

    #[test]
    fn a_proxy_in_its_cooldown_is_used_when_no_other_is_left() {
        let chain = state(Order::Failover);
        chain.hops[0].cool_down();
        assert_eq!(failing(&chain, &[]), "b");
        assert_eq!(failing(&chain, &[1, 2, 3]), "a");
        assert_eq!(failing(&chain, &[0, 1, 2, 3]), "none");
    }

    #[test]
    fn a_round_robin_goes_on_where_the_last_attempt_ended() {
        let chain = state(Order::RoundRobin { length: 3 });
        let plans: Vec<_> = (0..3).map(|_| shown(chain.plan(&chain.begin()))).collect();
        assert_eq!(plans, ["abc", "dab", "cda"]);
        let mut tried = chain.begin();
        assert_eq!(shown(chain.plan(&tried)), "bcd");
        let path = chain.plan(&Tried { start: tried.start, ..Tried::default() }).unwrap();
        chain.pass_over(&mut tried, &path, Blame::Suspect(1));
        assert_eq!(shown(chain.plan(&tried)), "bda");
        assert_eq!(shown(chain.plan(&chain.begin())), "bcd");
    }

    #[test]
    fn a_random_chain_has_its_length_its_fixed_head_and_nobody_twice() {
        let chain = state(Order::Random { length: 3, fixed: 1 });
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let plan = failing(&chain, &[]);
            assert!(plan.len() == 3 && plan.starts_with('a'), "{plan}");
            seen.insert(plan);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["abc", "abd", "acb", "acd", "adb", "adc"]);
        assert_eq!(failing(&chain, &[0]), "none");
        assert_eq!(failing(&chain, &[1, 2]), "none");
    }

    /// Plans and blames until a path is good, or none is left; the paths.
    fn attempt(chain: &ChainState, blame: impl Fn(&str) -> Option<Blame>) -> Vec<String> {
        let (mut tried, mut paths) = (chain.begin(), Vec::new());
        while let Some(path) = chain.plan(&tried) {
            paths.push(shown(Some(path.clone())));
            let Some(blame) = blame(paths.last().unwrap()) else {
                chain.succeed(&tried, &path);
                break;
            };
            if chain.pass_over(&mut tried, &path, blame).is_none() {
                break;
            }
        }
        paths
    }

    fn cooling_down(chain: &ChainState) -> Vec<usize> {
        (0..chain.hops.len()).filter(|index| chain.hops[*index].is_cooling_down()).collect()
    }

    #[test]
    fn one_who_connects_to_nobody_costs_nobody_else_a_place() {
        let chain = state(Order::RoundRobin { length: 2 });
        let broken = |path: &str| path.starts_with('a').then_some(Blame::NextOf(0));
        assert_eq!(attempt(&chain, broken), ["ab", "ac", "bc"]);
        assert_eq!(cooling_down(&chain), [0]);
    }

    #[test]
    fn a_path_without_both_tells_nothing_of_either() {
        let chain = state(Order::Random { length: 2, fixed: 0 });
        let broken = |path: &str| match path.find('a') {
            Some(0) => Some(Blame::NextOf(0)),
            at => at.map(Blame::Refusal),
        };
        for _ in 0..200 {
            attempt(&chain, broken);
            assert!(cooling_down(&chain).iter().all(|index| *index == 0), "{:?}", cooling_down(&chain));
        }
    }

    #[test]
    fn one_who_reaches_neither_the_next_nor_the_destination_is_found_in_any_place() {
        let chain = state(Order::Dynamic);
        let broken = |path: &str| match path.find('c') {
            Some(at) if path.ends_with('c') => Some(Blame::Refusal(at)),
            at => at.map(Blame::NextOf),
        };
        assert_eq!(attempt(&chain, broken), ["abcd", "abc", "abd"]);
        assert_eq!(cooling_down(&chain), [2]);
    }

    #[test]
    fn one_whom_nobody_reaches_is_left_out() {
        let chain = state(Order::Dynamic);
        let broken = |path: &str| path.find('c').map(|at| Blame::NextOf(at - 1));
        assert_eq!(attempt(&chain, broken), ["abcd", "abd"]);
        assert_eq!(cooling_down(&chain), [2]);
    }

    #[test]
    fn one_that_hangs_at_the_head_of_a_dynamic_chain_is_found() {
        let chain = state(Order::Dynamic);
        let hangs = |path: &str| match path {
            "a" => Some(Blame::Suspect(0)),
            path => path.starts_with('a').then_some(Blame::NextOf(0)),
        };
        assert_eq!(attempt(&chain, hangs), ["abcd", "acd", "bcd"]);
        assert_eq!(cooling_down(&chain), [0]);
    }

    #[test]
    fn a_destination_that_no_proxy_reaches_costs_none_a_cooldown() {
        let chain = state(Order::Failover);
        assert_eq!(attempt(&chain, |_| Some(Blame::Suspect(0))), ["a", "b", "c", "d"]);
        assert_eq!(cooling_down(&chain), [0; 0]);
        assert_eq!(attempt(&chain, |_| Some(Blame::Refusal(0))), ["a"]);
    }

    #[test]
    fn a_proxy_that_answers_and_does_not_get_there_has_no_cooldown() {
        let chain = state(Order::Failover);
        assert_eq!(attempt(&chain, |path| (path == "a").then_some(Blame::Unlucky(0))), ["a", "b"]);
        assert_eq!(cooling_down(&chain), [0; 0]);
    }

    #[test]
    fn a_dead_proxy_has_its_cooldown_at_once() {
        let chain = state(Order::Failover);
        assert_eq!(attempt(&chain, |path| (path != "c").then_some(Blame::Dead(0))), ["a", "b", "c"]);
        assert_eq!(cooling_down(&chain), [0, 1]);
    }
}
