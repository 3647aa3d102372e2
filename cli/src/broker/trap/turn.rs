//! A caught connect() for which there is no place waits for its turn, and holds no descriptor meanwhile: neither its socket nor its thread.
//!
//! Whatever was read and taken is read and taken anew when the turn has come.

use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until};

use super::connect::PATIENCE;
use super::wait::manner;
use super::{Asked, Caller, TICK, Taken, interrupted, judge_connect};
use crate::backstop::listener::Answer;
use crate::backstop::target::Pending;
use crate::broker::descriptors::Place;

/// Lets go of what was taken, and goes on when there is a place. `taken` tells how the call waits.
pub(super) fn wait(caller: Rc<Caller>, taken: Taken, asked: Asked) {
    let (is_blocking, limit) = manner(&taken.fd);
    drop(taken);
    spawn_local(async move {
        let Some(place) = turn(&caller, is_blocking, limit.filter(|_| is_blocking)).await else { return };
        let judged = judge_connect(&caller, asked, Some(place));
        caller.conclude(judged);
    });
}

/// `None` when the call was answered, or is gone.
async fn turn(caller: &Caller, is_blocking: bool, limit: Option<Duration>) -> Option<Place> {
    let started = Instant::now();
    let mut place = std::pin::pin!(caller.broker.descriptors.connect(caller.program().process()));
    loop {
        let timed_out = async {
            match limit {
                Some(limit) => sleep_until(started + limit).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            place = &mut place => return place,
            () = timed_out => {
                caller.answer(Answer::Errno(libc::EINPROGRESS));
                return None;
            }
            () = sleep(TICK) => {}
        }
        if !caller.waits() {
            return None;
        }
        let signals = Pending::of(caller.thread());
        let may_handle = is_blocking || started.elapsed() >= PATIENCE;
        if signals.unhandled || signals.handled && may_handle {
            caller.answer(interrupted(limit));
            return None;
        }
    }
}
