//! What /proc says (proc(5)). All of it is read here: as lines and fields, of which each caller takes what it needs.
//!
//! `None` or an error means that the process is gone, or may not be looked at. (The procfs crate reads every field of a file into a structure, and fails
//! where a kernel does not have a line. Most of this is read for each caught call, and one field is wanted.)

use std::collections::HashSet;
use std::fs::{read, read_dir, read_link, read_to_string};
use std::io;
use std::path::{Path, PathBuf};

/// `/proc/PID/stat` after the program's name, which is in parentheses and may hold anything.
pub(crate) struct Stat(String);

impl Stat {
    pub(crate) fn of(process: i32) -> Option<Self> {
        let text = String::from_utf8_lossy(&read(format!("/proc/{process}/stat")).ok()?).into_owned();
        Some(Self(text.rsplit_once(')')?.1.to_owned()))
    }

    /// Field 3: `T` when it is stopped.
    pub(crate) fn state(&self) -> Option<char> {
        self.field(3)?.chars().next()
    }

    /// Field 4.
    pub(crate) fn parent(&self) -> Option<i32> {
        self.field(4)?.parse().ok()
    }

    /// Field 22, when it was started, in clock ticks since the machine was: with it, a number means one process only.
    pub(crate) fn start_time(&self) -> Option<&str> {
        self.field(22)
    }

    /// A field by its number in proc(5), from 3 on.
    fn field(&self, number: usize) -> Option<&str> {
        self.0.split_ascii_whitespace().nth(number.checked_sub(3)?)
    }
}

/// `/proc/TID/status`.
pub(crate) struct Status(String);

impl Status {
    pub(crate) fn of(thread: i32) -> Option<Self> {
        read_to_string(format!("/proc/{thread}/status")).ok().map(Self)
    }

    /// This process's own.
    pub(crate) fn own() -> Option<Self> {
        read_to_string("/proc/self/status").ok().map(Self)
    }

    /// What the line with this name says.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// A set of signals or capabilities.
    pub(crate) fn set(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(self.field(name)?, 16).ok()
    }

    /// The process of the thread.
    pub(crate) fn process(&self) -> Option<i32> {
        self.field("Tgid")?.parse().ok()
    }

    /// Is it stopped by a signal?
    pub(crate) fn is_stopped(&self) -> bool {
        self.field("State").is_some_and(|state| state.starts_with('T'))
    }
}

/// Does /proc show the processes of our own process namespace? Else its numbers are others' (pid_namespaces(7)).
pub(crate) fn is_of_own_namespace() -> bool {
    let shown = read_link("/proc/self").ok();
    shown.is_some_and(|number| number.as_os_str() == std::process::id().to_string().as_str())
}

/// The children of a process; none where the kernel does not tell (`CONFIG_PROC_CHILDREN`).
pub(crate) fn children(process: i32) -> Vec<i32> {
    let threads = read_dir(format!("/proc/{process}/task")).into_iter().flatten().filter_map(Result::ok);
    let lists = threads.filter_map(|thread| read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The inodes of the sockets that a process has descriptors for.
///
/// # Errors
/// The process may not be looked at, or is gone.
pub(crate) fn sockets(process: i32) -> io::Result<Vec<u64>> {
    let descriptors = read_dir(format!("/proc/{process}/fd"))?;
    Ok(descriptors.filter_map(|entry| socket(&entry.ok()?.path())).collect())
}

/// `socket:[INODE]`. A link that is followed might lead to a file system that does not answer.
fn socket(link: &Path) -> Option<u64> {
    let file = read_link(link).ok()?;
    file.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The numbers of this process's descriptors, with the one by which they are read.
///
/// # Errors
/// There is no /proc, or no descriptor left to read it by.
pub(crate) fn own_descriptors() -> io::Result<Vec<u32>> {
    let entries = read_dir("/proc/self/fd")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// The link to the program that a process runs, to be read as a file or as a link.
pub(crate) fn executable(process: i32) -> PathBuf {
    format!("/proc/{process}/exe").into()
}

/// The first 15 bytes of a process's name.
pub(crate) fn name(process: i32) -> Option<String> {
    let name = read(format!("/proc/{process}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_owned())
}

/// The words of a process's command line.
pub(crate) fn command_line(process: i32) -> Option<Vec<String>> {
    let line = read(format!("/proc/{process}/cmdline")).ok()?;
    Some(line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

/// A process's environment as it was executed, each entry with a zero byte behind it.
pub(crate) fn environment(process: i32) -> Option<Vec<u8>> {
    read(format!("/proc/{process}/environ")).ok()
}

/// What is mapped into a process's memory, a file on each line.
pub(crate) fn memory_map(process: i32) -> Option<Vec<u8>> {
    read(format!("/proc/{process}/maps")).ok()
}

/// A thread's memory.
pub(crate) fn memory(thread: i32) -> PathBuf {
    format!("/proc/{thread}/mem").into()
}

/// Are a thread and this process in the same user namespace?
pub(crate) fn is_in_own_user_namespace(thread: i32) -> bool {
    let theirs = read_link(format!("/proc/{thread}/ns/user"));
    let ours = read_link("/proc/self/ns/user");
    matches!((theirs, ours), (Ok(theirs), Ok(ours)) if theirs == ours)
}

/// The numbers that users have in our user namespace (user_namespaces(7)): on each line a first one, the outer one for it, and how many.
pub(crate) fn user_map() -> Option<String> {
    read_to_string("/proc/self/uid_map").ok()
}

/// The inodes of all UDP sockets of this network namespace.
///
/// # Errors
/// There is no table of those of IPv4.
pub(crate) fn udp_sockets() -> io::Result<HashSet<u64>> {
    const INODE: usize = 9;
    let mut open = HashSet::new();
    for (table, is_needed) in [("/proc/net/udp", true), ("/proc/net/udp6", false)] {
        let text = match read_to_string(table) {
            Ok(text) => text,
            Err(error) if is_needed => return Err(error),
            // A kernel without IPv6.
            Err(_) => continue,
        };
        let inode = |line: &str| line.split_ascii_whitespace().nth(INODE)?.parse::<u64>().ok();
        open.extend(text.lines().filter_map(inode));
    }
    Ok(open)
}

/// Does a device other than lo send IPv4 packets from loopback addresses (`route_localnet`, Linux's ip-sysctl.rst)? What cannot be told is taken
/// for the worse.
pub(crate) fn routes_loopback() -> bool {
    let Ok(devices) = read_dir("/proc/sys/net/ipv4/conf") else { return true };
    devices
        .filter_map(Result::ok)
        .filter(|device| device.file_name() != "lo")
        .any(|device| read(device.path().join("route_localnet")).is_ok_and(|value| !value.starts_with(b"0")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> i32 {
        std::process::id().try_into().unwrap()
    }

    #[test]
    fn a_name_may_hold_parentheses_and_blanks() {
        let stat = Stat(" T 17 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0".into());
        let of_stat = (stat.state(), stat.parent(), stat.start_time());
        assert_eq!(of_stat, (Some('T'), Some(17), Some("4711")));
        assert_eq!(
            Stat::of(own()).unwrap().parent(),
            Some(std::os::unix::process::parent_id().cast_signed())
        );
        assert!(Stat::of(i32::MAX).is_none());
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status =
            Status("Name:\tTgid: x\nNStgid:\t1\t2\nTgid:\t42\nState:\tT (stopped)\nSigBlk:\tff\n".into());
        let of_status =
            (status.field("NStgid"), status.process(), status.set("SigBlk"), status.set("SigCgt"));
        assert_eq!(of_status, (Some("1\t2"), Some(42), Some(0xff), None));
        assert!(status.is_stopped() && !Status::own().unwrap().is_stopped());
    }

    #[test]
    fn the_sockets_of_a_process_are_among_its_descriptors() {
        use std::os::linux::fs::MetadataExt as _;
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let file = std::fs::File::from(std::os::fd::OwnedFd::from(socket.try_clone().unwrap()));
        let inode = file.metadata().unwrap().st_ino();
        assert!(sockets(own()).unwrap().contains(&inode) && udp_sockets().unwrap().contains(&inode));
        assert!(sockets(i32::MAX).is_err());
    }
}
