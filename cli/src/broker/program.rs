//! The program on whose behalf something happens, and what it is called.

use std::fmt;

use tokio_seqpacket::UnixSeqpacket;

use crate::procfs;
use crate::seccomp::target::process_of;

/// The program on whose behalf something happens.
pub(super) enum Program<'a> {
    /// Who opened this ticket.
    Behind(&'a UnixSeqpacket),
    /// The thread whose call was caught.
    Thread(i32),
}

impl Program<'_> {
    /// Its process.
    pub(super) fn process(&self) -> Option<i32> {
        match self {
            Self::Behind(ticket) => ticket.peer_cred().ok().and_then(|who| who.pid()),
            Self::Thread(thread) => process_of(*thread).ok(),
        }
    }

    /// What rules may call it: the name of its file, and of its process (proc(5): exe, comm), which for a script is the script's. The
    /// kernel keeps 15 bytes of that, and the command line the rest.
    pub(super) fn names(&self) -> Vec<String> {
        let Some(pid) = self.process() else { return Vec::new() };
        let file = std::fs::read_link(procfs::executable(pid)).ok();
        let file = file.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        // So the kernel calls one that has been replaced since it was started.
        let file = file.map(|file| file.strip_suffix(" (deleted)").unwrap_or(&file).to_owned());
        let process = procfs::name(pid);
        let whole = process.as_ref().and_then(|name| whole_name(pid, name));
        file.into_iter().chain(process).chain(whole).collect()
    }
}

fn whole_name(pid: i32, process: &str) -> Option<String> {
    const MOST: usize = 15;
    if process.len() < MOST {
        return None;
    }
    let words = procfs::command_line(pid)?;
    let file = |word: String| word.rsplit('/').next().unwrap_or_default().to_owned();
    // An interpreter comes first, perhaps with an option, and then the script.
    words.into_iter().take(3).map(file).find(|name| name.starts_with(process))
}

impl fmt::Display for Program<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pid) = self.process() else { return f.write_str("?") };
        match procfs::name(pid) {
            Some(name) => write!(f, "{}[{pid}]", name.escape_debug()),
            None => write!(f, "[{pid}]"),
        }
    }
}
