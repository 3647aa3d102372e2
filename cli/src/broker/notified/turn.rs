//! A caught connect() for which there is no place waits for its turn, and holds no descriptor meanwhile: neither its socket nor its thread.
//!
//! Whatever was read and taken is read and taken anew when the turn has come.

use std::rc::Rc;

use tokio::task::spawn_local;

use super::wait::{Manner, Waited};
use super::{Asked, Caller, Taken, judge_connect};
use crate::seccomp::listener::Answer;

/// Lets go of what was taken, and goes on when there is a place. `taken` tells how the call waits.
pub(super) fn wait(caller: Rc<Caller>, taken: Taken, asked: Asked) {
    let manner = Manner::of(&taken.fd);
    drop(taken);
    spawn_local(async move {
        let place = caller.supervisor.descriptors.connect(caller.program().process());
        match manner.wait(&caller, place).await {
            Waited::Done(Some(place)) => {
                let judged = judge_connect(&caller, asked, Some(place));
                caller.conclude(judged);
            }
            Waited::Late => caller.answer(Answer::Errno(libc::EINPROGRESS)),
            // Nobody gives places any more.
            Waited::Done(None) => caller.answer(Answer::Errno(libc::ENETUNREACH)),
            Waited::Over => {}
        }
    });
}
