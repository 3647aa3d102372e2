//! A shell on a pseudo-terminal on the client: for what only a terminal does, Ctrl-C, Ctrl-Z, fg.
//!
//! The test types and waits for what must appear; it never sleeps. The shell's prompt is a fixed word, so that "the
//! command has ended and the shell is back" is something to wait for.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::lab::Lab;
use crate::patience;

/// The shell's prompt.
pub const PROMPT: &str = "lab-prompt> ";

/// Ctrl-C as typed.
pub const CTRL_C: &str = "\x03";
/// Ctrl-Z as typed.
pub const CTRL_Z: &str = "\x1a";
/// Ctrl-\ as typed.
pub const CTRL_BACKSLASH: &str = "\x1c";

/// An interactive bash on a terminal of its own.
#[derive(Debug)]
pub struct Terminal {
    shell: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    shown: String,
    unread: String,
}

impl Terminal {
    /// Starts the shell, with the environment of `lab.bare`, and waits for its first prompt.
    #[must_use]
    pub fn open(lab: &Lab) -> Self {
        let (controller, device) = pair();
        let mut command: Command =
            lab.bare(["bash", "--norc", "--noprofile", "--noediting", "-i"]).env("PS1", PROMPT).command();
        let side = || Stdio::from(device.try_clone().expect("share the terminal"));
        command.stdin(side()).stdout(side()).stderr(side());
        let shell = lab.client.spawn_on_terminal(&mut command);
        drop((command, device));
        let keyboard = File::from(controller);
        let screen = watch(keyboard.try_clone().expect("share the terminal"));
        let mut terminal = Self { shell, keyboard, screen, shown: String::new(), unread: String::new() };
        terminal.wait_for(PROMPT);
        terminal
    }

    /// Types keys as they are.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("type on the terminal");
    }

    /// Types a line and Return, and waits until the terminal has echoed it: what comes later is output.
    pub fn enter(&mut self, line: &str) {
        self.press(&format!("{line}\n"));
        self.wait_for(&format!("{line}\r\n"));
    }

    /// Waits until `text` appears after all that was waited for before; returns what stood before it.
    pub fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + patience::LIMIT;
        loop {
            if let Some(position) = self.unread.find(text) {
                let rest = self.unread.split_off(position + text.len());
                let mut before = std::mem::replace(&mut self.unread, rest);
                before.truncate(position);
                return before;
            }
            let left: Duration = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(piece) => {
                    let piece = String::from_utf8_lossy(&piece);
                    self.shown.push_str(&piece);
                    self.unread.push_str(&piece);
                }
                Err(_) => panic!("{text:?} never appeared on the terminal, which showed:\n{}", self.shown),
            }
        }
    }

    /// Enters a command line and waits for the prompt after it; returns what it printed.
    pub fn command(&mut self, line: &str) -> String {
        self.enter(line);
        self.wait_for(PROMPT).replace("\r\n", "\n")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// The two ends of a new pseudo-terminal: the test's and the shell's.
fn pair() -> (OwnedFd, OwnedFd) {
    let controller =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("open a terminal");
    grantpt(controller.as_fd()).expect("grant the terminal");
    unlockpt(controller.as_fd()).expect("unlock the terminal");
    let name = ptsname(controller.as_fd(), Vec::new()).expect("name the terminal");
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let device = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty())
        .expect("open the terminal's device");
    (controller, device)
}

/// Reads what the terminal shows, in the background, until nobody has it open any more.
fn watch(mut controller: File) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = controller.read(&mut piece) {
            if sender.send(piece[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}
