//! Which processes of the session have a copy of a socket: the kernel tells nobody when one is closed, or is handed to another program.
//!
//! All descriptors of all descendants are looked through (proc(5), `/proc/PID/fd`), for all who ask meanwhile at once, and not more than some of the
//! time. This takes a thread of the runtime's: /proc may be slow.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::fstat;
use tokio::sync::{Mutex, OnceCell};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use crate::preflight::has_the_shim;
use crate::procfs::{children, sockets};

/// How often to look again, while somebody may yet wait for an attempt.
pub(super) const INTERVAL: Duration = Duration::from_millis(50);

/// After a look nothing is looked at for so many times as long as it has taken.
const REST: u32 = 4;

/// Who has a copy of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    /// Nobody, as far as is known.
    Nobody,
    /// Perhaps a process that cannot be looked at: no other, or one that is just being executed (execve(2)).
    Unknown,
    /// A program that the shim is in, or is about to be.
    WithShim,
    /// A program without the shim.
    WithoutShim,
}

/// Looks for all.
#[derive(Default)]
pub(super) struct Holders {
    /// The look that is not yet begun: who comes now may share it.
    next: RefCell<Rc<OnceCell<Found>>>,
    /// When there may be another one; locked while one is made.
    due: Mutex<Option<Instant>>,
}

/// What a look has found.
#[derive(Default)]
struct Found {
    /// By the inodes of sockets, who has them.
    sockets: HashMap<u64, Vec<i32>>,
    /// Was there a process that could not be looked at?
    is_partial: bool,
}

impl Holders {
    /// Who has a copy of the socket, but for the broker.
    pub(super) async fn look(&self, socket: BorrowedFd<'_>) -> Holder {
        let look = Rc::clone(&self.next.borrow());
        let found = look.get_or_init(|| async {
            let mut due = self.due.lock().await;
            if let Some(due) = *due {
                sleep_until(due).await;
            }
            self.next.take();
            let begun = Instant::now();
            let found = spawn_blocking(Found::now).await.unwrap_or_default();
            *due = Some(Instant::now() + begun.elapsed() * REST);
            found
        });
        found.await.held(inode(socket))
    }
}

impl Found {
    fn now() -> Self {
        let mut found = Self::default();
        let Ok(own) = i32::try_from(std::process::id()) else { return found };
        let mut waiting = children(own);
        while let Some(process) = waiting.pop() {
            match sockets(process) {
                Ok(inodes) => {
                    inodes
                        .into_iter()
                        .for_each(|inode| found.sockets.entry(inode).or_default().push(process));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => found.is_partial = true,
            }
            waiting.extend(children(process));
        }
        found
    }

    fn held(&self, inode: u64) -> Holder {
        let by = |process: &i32| match has_the_shim(*process) {
            Some(true) => Holder::WithShim,
            Some(false) => Holder::WithoutShim,
            None => Holder::Unknown,
        };
        let held = self.sockets.get(&inode).into_iter().flatten().map(by).max();
        held.unwrap_or(if self.is_partial { Holder::Unknown } else { Holder::Nobody })
    }
}

/// A socket's number in /proc; 0 for none.
pub(super) fn inode(socket: BorrowedFd<'_>) -> u64 {
    fstat(socket).map_or(0, |file| file.st_ino)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::{AsFd as _, OwnedFd};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::readiness::tests::run;

    fn look(holders: &Holders, socket: &TcpListener) -> Holder {
        run(holders.look(socket.as_fd()))
    }

    #[test]
    fn a_child_has_what_it_was_given_until_it_ends() {
        let holders = Holders::default();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(look(&holders, &socket), Holder::Nobody);
        for (preload, held) in [("/nowhere/libpresocks.so", Holder::WithShim), ("", Holder::WithoutShim)] {
            let given = Stdio::from(OwnedFd::from(socket.try_clone().unwrap()));
            let mut cat = Command::new("/bin/cat");
            cat.stdin(Stdio::piped()).stdout(given).stderr(Stdio::null()).env("LD_PRELOAD", preload);
            let mut child = cat.spawn().unwrap();
            while look(&holders, &socket) == Holder::Unknown {}
            assert_eq!(look(&holders, &socket), held, "{preload}");
            drop(child.stdin.take());
            child.wait().unwrap();
            assert_eq!(look(&holders, &socket), Holder::Nobody);
        }
    }
}
