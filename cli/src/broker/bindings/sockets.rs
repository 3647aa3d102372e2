//! Which sockets are still open: nobody tells the broker that one was closed, and a copy of a socket would keep its port.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::fstat;
use tokio::task::spawn_local;

use crate::broker::Broker;
use crate::broker::socket::{Socket, protocol};

/// How often to look which listeners programs have closed. One that is missed twice is closed.
const SWEEP: Duration = Duration::from_secs(1);

/// Which socket it is, in the tables of the kernel.
pub(super) struct Identity {
    inode: u64,
    /// Who has it, as long as no table does.
    process: Option<i32>,
    /// A socket of MPTCP has others within it, of which the tables tell.
    is_hidden: bool,
}

impl Identity {
    pub(super) fn new(socket: &Socket, process: Option<i32>) -> Self {
        let inode = fstat(socket.as_fd()).map_or(0, |stat| stat.st_ino);
        let is_hidden = protocol(socket.as_fd()).is_ok_and(|protocol| protocol == libc::IPPROTO_MPTCP);
        Self { inode, process, is_hidden }
    }

    /// Has its process a descriptor for it? Where that cannot be told: yes.
    fn is_held(&self) -> bool {
        let Some(process) = self.process else { return true };
        let descriptors = match std::fs::read_dir(format!("/proc/{process}/fd")) {
            Ok(descriptors) => descriptors,
            Err(error) => return error.kind() != io::ErrorKind::NotFound,
        };
        descriptors
            .filter_map(Result::ok)
            .filter_map(|entry| std::fs::metadata(entry.path()).ok())
            .any(|file| file.ino() == self.inode)
    }
}

/// The sockets of this network namespace that listen or are connected; `None` where there is no telling.
pub(super) struct Open(Option<HashSet<u64>>);

impl Open {
    /// As they are now.
    pub(super) fn now() -> Self {
        Self(inodes().ok())
    }

    /// Is it among them? Where that cannot be told: yes.
    pub(super) fn has(&self, identity: &Identity) -> bool {
        if identity.is_hidden {
            return identity.is_held();
        }
        self.0.as_ref().is_none_or(|inodes| inodes.contains(&identity.inode))
    }
}

/// Looks from now on which listeners are closed, until none is left.
pub(super) fn keep_swept(broker: &Rc<Broker>) {
    if broker.bindings.is_swept.replace(true) {
        return;
    }
    let broker = Rc::clone(broker);
    spawn_local(async move {
        let bindings = &broker.bindings;
        while !bindings.listeners.borrow().is_empty() {
            tokio::time::sleep(SWEEP).await;
            let open = Open::now();
            bindings.listeners.borrow_mut().retain(|_, binding| {
                let is_there = match binding.listener() {
                    Some(_) => open.has(&binding.identity),
                    None => binding.identity.is_held(),
                };
                let was_missing = binding.is_missing.replace(!is_there);
                if !is_there && was_missing {
                    binding.abandon();
                }
                is_there || !was_missing
            });
        }
        bindings.is_swept.set(false);
    });
}

/// The inodes in the tables of TCP sockets (proc(5)).
fn inodes() -> io::Result<HashSet<u64>> {
    const INODE: usize = 9;
    let mut inodes = HashSet::new();
    for (table, is_needed) in [("/proc/net/tcp", true), ("/proc/net/tcp6", false)] {
        let text = match std::fs::read_to_string(table) {
            Ok(text) => text,
            Err(error) if is_needed => return Err(error),
            // A kernel without IPv6.
            Err(_) => continue,
        };
        let inode = |line: &str| line.split_ascii_whitespace().nth(INODE)?.parse::<u64>().ok();
        inodes.extend(text.lines().filter_map(inode));
    }
    Ok(inodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_listener_is_open_until_it_is_closed_and_one_that_does_not_listen_is_held() {
        let own = i32::try_from(std::process::id()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = Socket::new(listener.try_clone().unwrap().into()).unwrap();
        let identity = Identity::new(&taken, Some(own));
        drop(taken);
        assert!(Open::now().has(&identity) && identity.is_held());
        drop(listener);
        assert!(!Open::now().has(&identity) && !identity.is_held());
        let of_nobody = Identity { process: Some(i32::MAX), ..identity };
        assert!(!of_nobody.is_held());
    }
}
