//! Running a client on the lab's client host, wrapped or bare, and looking at what came of it.
//!
//! A run ends when the command has ended *and* its output has been closed by everyone who held it: whatever keeps the
//! pipe open after the command's end hangs `$(presocks …)` too, and fails the test here.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::binary;
use crate::lab::{Lab, USER_ID};
use crate::patience;
use crate::proxy::Upstream;
use crate::requirement::PATH;

/// A command that is being put together.
#[derive(Debug)]
pub struct Invocation<'lab> {
    lab: &'lab Lab,
    wrapper: Option<PathBuf>,
    options: Vec<OsString>,
    command: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: PathBuf,
    stdin: Vec<u8>,
    ordinary_user: bool,
    limit: Duration,
}

impl Lab {
    /// A command to run on the client under presocks; the words are the command and its arguments.
    pub fn presocks<W: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = W>) -> Invocation<'_> {
        Invocation::wrapped(self, binary::presocks(), command)
    }

    /// A command to run on the client as it is, for comparison.
    pub fn bare<W: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = W>) -> Invocation<'_> {
        Invocation::bare(self, command)
    }
}

impl<'lab> Invocation<'lab> {
    fn wrapped<W: AsRef<OsStr>>(
        lab: &'lab Lab,
        wrapper: &Path,
        command: impl IntoIterator<Item = W>,
    ) -> Self {
        Self { wrapper: Some(wrapper.to_owned()), ..Self::bare(lab, command) }
    }

    fn bare<W: AsRef<OsStr>>(lab: &'lab Lab, command: impl IntoIterator<Item = W>) -> Self {
        Self {
            lab,
            wrapper: None,
            options: Vec::new(),
            command: command.into_iter().map(|word| word.as_ref().to_owned()).collect(),
            environment: Vec::new(),
            directory: lab.directory().to_owned(),
            stdin: Vec::new(),
            ordinary_user: false,
            limit: patience::LIMIT,
        }
    }

    /// Names the proxy on the command line (`-p URL`).
    #[must_use]
    pub fn proxy(self, upstream: &(impl Upstream + ?Sized)) -> Self {
        let url = upstream.url();
        self.options(["-p", &url])
    }

    /// Adds options of presocks, before the command.
    #[must_use]
    pub fn options<W: AsRef<OsStr>>(mut self, options: impl IntoIterator<Item = W>) -> Self {
        self.options.extend(options.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Sets a variable. Without this the environment has PATH, HOME, LANG and TERM only.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// What the command reads from its standard input; nothing by default.
    #[must_use]
    pub fn stdin(mut self, content: impl AsRef<[u8]>) -> Self {
        self.stdin = content.as_ref().to_owned();
        self
    }

    /// The working directory; the lab's own by default.
    #[must_use]
    pub fn directory(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = directory.as_ref().to_owned();
        self
    }

    /// Runs as an ordinary user ([`crate::lab::USER`]) instead of root.
    #[must_use]
    pub fn ordinary_user(mut self) -> Self {
        self.ordinary_user = true;
        self
    }

    /// How long the command may take before the test fails; a minute by default.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs the command to its end.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        let input = std::mem::take(&mut self.stdin);
        let mut running = self.start();
        let mut stdin = running.stdin.take().expect("a pipe");
        thread::scope(|scope| {
            // A command that does not read its input closes the pipe: no error of the test's.
            scope.spawn(move || drop(stdin.write_all(&input)));
            running.finish()
        })
    }

    /// Starts the command and returns while it runs, its standard input open.
    #[must_use]
    pub fn start(self) -> Running {
        let words = self.words();
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::new(words, self.lab.client.spawn(&mut command), self.limit)
    }

    /// The command as a [`Command`] with the lab's environment, its descriptors not yet chosen.
    #[must_use]
    pub fn command(&self) -> Command {
        let words = self.words();
        let mut command = Command::new(&words[0]);
        let home = self.lab.directory().join(if self.ordinary_user { "user-home" } else { "root-home" });
        command.args(&words[1..]).current_dir(&self.directory).env_clear();
        command.env("PATH", PATH).env("HOME", home).env("LANG", "C.UTF-8").env("TERM", "dumb");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The whole command line.
    #[must_use]
    pub fn words(&self) -> Vec<OsString> {
        let mut words = Vec::new();
        if self.ordinary_user {
            let (user, group) = (format!("--reuid={USER_ID}"), format!("--regid={USER_ID}"));
            words.extend(["setpriv", &user, &group, "--clear-groups", "--"].map(OsString::from));
        }
        words.extend(self.wrapper.iter().map(|wrapper| wrapper.as_os_str().to_owned()));
        words.extend(self.options.iter().cloned());
        words.extend(self.command.iter().cloned());
        words
    }
}

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    words: Vec<OsString>,
    process: Child,
    /// Its standard input; taking and dropping it closes it.
    pub stdin: Option<ChildStdin>,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    seen_stdout: Vec<u8>,
    deadline: Instant,
}

impl Running {
    fn new(words: Vec<OsString>, mut process: Child, limit: Duration) -> Self {
        let stdout = lines_of(process.stdout.take().expect("a pipe"));
        let stderr = lines_of(process.stderr.take().expect("a pipe"));
        let (stdin, deadline) = (process.stdin.take(), Instant::now() + limit);
        Self { words, process, stdin, stdout, stderr, seen_stdout: Vec::new(), deadline }
    }

    /// The process number as seen from outside the lab.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.process.id()
    }

    /// Writes to the command's standard input.
    pub fn write(&mut self, content: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin.write_all(content.as_ref()).and_then(|()| stdin.flush()).expect("write to the command");
    }

    /// The next line (or last part of one) that the command prints, without its end.
    pub fn line(&mut self) -> String {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.stdout.recv_timeout(left) {
            Ok(line) => {
                self.seen_stdout.extend(&line);
                String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned()
            }
            Err(RecvTimeoutError::Disconnected) => self.fail("its output ended where a line was expected"),
            Err(RecvTimeoutError::Timeout) => self.fail("no line came"),
        }
    }

    /// Sends a signal to the process that was started (presocks itself when wrapped).
    pub fn signal(&self, signal: Signal) {
        let number = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).expect("a process number");
        kill_process(number, signal).expect("send a signal");
    }

    /// True when the process has ended (it may still have descendants).
    pub fn ended(&mut self) -> bool {
        self.process.try_wait().expect("look at the process").is_some()
    }

    /// Waits for the end of the command and of its output.
    #[must_use]
    pub fn finish(mut self) -> Outcome {
        drop(self.stdin.take());
        let status = loop {
            match self.process.try_wait().expect("wait for the command") {
                Some(status) => break status,
                None if Instant::now() > self.deadline => self.fail("it did not end"),
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        let mut stdout = std::mem::take(&mut self.seen_stdout);
        let mut stderr = Vec::new();
        if !gather(&self.stdout, &mut stdout, self.deadline)
            || !gather(&self.stderr, &mut stderr, self.deadline)
        {
            self.seen_stdout = stdout;
            self.fail(&format!("it ended ({status}), but something still holds its output open"));
        }
        Outcome { words: std::mem::take(&mut self.words), status, stdout, stderr }
    }

    /// Kills the command and fails the test with all that it printed.
    fn fail(&mut self, why: &str) -> ! {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let (mut stdout, mut stderr) = (std::mem::take(&mut self.seen_stdout), Vec::new());
        let soon = Instant::now() + Duration::from_millis(200);
        gather(&self.stdout, &mut stdout, soon);
        gather(&self.stderr, &mut stderr, soon);
        panic!("{why}\n{}", report(&self.words, "killed by the test", &stdout, &stderr));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What came of a command. The assertions return the outcome, so that they chain.
#[derive(Clone, Debug)]
pub struct Outcome {
    words: Vec<OsString>,
    /// How it ended.
    pub status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Outcome {
    /// Standard output as bytes.
    #[must_use]
    pub fn stdout_bytes(&self) -> &[u8] {
        &self.stdout
    }

    /// Standard output as text.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The command ended with status 0.
    #[track_caller]
    pub fn success(&self) -> &Self {
        self.code(0)
    }

    /// The command ended with this status.
    #[track_caller]
    pub fn code(&self, code: i32) -> &Self {
        assert!(self.status.code() == Some(code), "expected exit status {code}\n{}", self.report());
        self
    }

    /// The command ended by this signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) -> &Self {
        assert!(self.status.signal() == Some(signal.as_raw()), "expected {signal:?}\n{}", self.report());
        self
    }

    /// The command printed exactly this.
    #[track_caller]
    pub fn stdout_is(&self, expected: impl AsRef<[u8]>) -> &Self {
        let expected = expected.as_ref();
        assert!(
            self.stdout == expected,
            "expected this on stdout ({} bytes):\n{}\n{}",
            expected.len(),
            shown(expected),
            self.report()
        );
        self
    }

    /// The command printed this somewhere.
    #[track_caller]
    pub fn stdout_has(&self, expected: &str) -> &Self {
        assert!(self.stdout().contains(expected), "expected on stdout: {expected}\n{}", self.report());
        self
    }

    /// The command printed exactly this on standard error.
    #[track_caller]
    pub fn stderr_is(&self, expected: &str) -> &Self {
        assert!(self.stderr() == expected, "expected this on stderr:\n{expected}\n{}", self.report());
        self
    }

    /// The command printed this somewhere on standard error.
    #[track_caller]
    pub fn stderr_has(&self, expected: &str) -> &Self {
        assert!(self.stderr().contains(expected), "expected on stderr: {expected}\n{}", self.report());
        self
    }

    /// All that is known, for a message.
    #[must_use]
    pub fn report(&self) -> String {
        report(&self.words, &self.status.to_string(), &self.stdout, &self.stderr)
    }
}

/// Reads in the background, line by line, until the last holder of the pipe has closed it.
fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        loop {
            let mut line = Vec::new();
            match pipe.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => drop(sender.send(line)),
            }
        }
    });
    receiver
}

/// Collects until the end of the output; false when the deadline comes first.
fn gather(lines: &Receiver<Vec<u8>>, into: &mut Vec<u8>, deadline: Instant) -> bool {
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => into.extend(line),
            Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) => return false,
        }
    }
}

fn report(words: &[OsString], status: &str, stdout: &[u8], stderr: &[u8]) -> String {
    let line: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    format!("$ {}\n{status}\n--- stdout:\n{}\n--- stderr:\n{}", line.join(" "), shown(stdout), shown(stderr))
}

/// Text for a message, cut where nobody would read on.
fn shown(bytes: &[u8]) -> String {
    const ENOUGH: usize = 8_000;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(ENOUGH)]).into_owned();
    if bytes.len() > ENOUGH { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}
