//! Programs of `tests/programs` in the builds that `LD_PRELOAD` does nothing for: static, musl, 32-bit, Go.
//!
//! Each is built once per process, in the target directory, and copied into the lab that wants it, where an ordinary
//! user can run it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use crate::binary::{target_directory, workspace};
use crate::lab::Lab;
use crate::requirement::PATH;

/// How a program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Build {
    /// C with glibc, as most programs are.
    Shared,
    /// C as a module for `dlopen`.
    Module,
    /// C with glibc, static.
    Static,
    /// C with glibc, static and position-independent.
    StaticPie,
    /// C with musl, static.
    StaticMusl,
    /// C with musl's loader.
    SharedMusl,
    /// C with glibc for i386, static.
    Narrow,
    /// Go without cgo: static, with Go's own resolver.
    Go,
    /// Go with cgo: glibc is there, for names.
    GoWithCgo,
}

/// A program's place once it is built; to wait for one holds up no other.
type Once = Arc<OnceLock<PathBuf>>;

impl Build {
    /// The tools that it needs, for [`crate::missing`].
    #[must_use]
    pub fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Shared | Self::Module | Self::Static | Self::StaticPie => &["cc"],
            Self::StaticMusl | Self::SharedMusl => &["musl-gcc"],
            Self::Narrow => &["cc", "/usr/lib32/libc.a"],
            Self::Go => &["go"],
            Self::GoWithCgo => &["go", "cc"],
        }
    }

    fn compiler(self) -> &'static [&'static str] {
        match self {
            Self::Shared => &["cc"],
            Self::Module => &["cc", "-shared", "-fPIC"],
            Self::Static => &["cc", "-static"],
            Self::StaticPie => &["cc", "-static-pie"],
            Self::StaticMusl => &["musl-gcc", "-static"],
            Self::SharedMusl => &["musl-gcc"],
            Self::Narrow => &["cc", "-m32", "-static"],
            Self::Go | Self::GoWithCgo => &["go", "build"],
        }
    }

    /// The program `name` of `tests/programs`, in `lab`, linked with these libraries (`-lfoo`).
    #[must_use]
    pub fn of(self, lab: &Lab, name: &'static str, libraries: &[&str]) -> PathBuf {
        let built = self.built(name, libraries);
        let copy = lab.directory().join(built.file_name().expect("a program has a name"));
        // Not fs::copy: a child that another test starts meanwhile would hold the copy open for writing (ETXTBSY).
        run(Command::new("cp").args([&built, &copy]));
        copy
    }

    fn built(self, name: &'static str, libraries: &[&str]) -> PathBuf {
        static BUILT: Mutex<BTreeMap<(Build, &str), Once>> = Mutex::new(BTreeMap::new());
        let once = Arc::clone(BUILT.lock().expect("no panic").entry((self, name)).or_default());
        once.get_or_init(|| self.build(name, libraries)).clone()
    }

    fn build(self, name: &str, libraries: &[&str]) -> PathBuf {
        let directory = target_directory().join("test-programs");
        fs::create_dir_all(&directory).expect("make a directory for programs");
        let program = directory.join(format!("{name}-{self:?}").to_lowercase());
        // Another test process may build the same.
        let unfinished = program.with_extension(std::process::id().to_string());
        let mut command = Command::new(self.compiler()[0]);
        command.args(&self.compiler()[1..]);
        if matches!(self, Self::Go | Self::GoWithCgo) {
            go(&mut command, &directory, self == Self::GoWithCgo);
            command.arg("-o").arg(&unfinished).arg(source(name, "go"));
        } else {
            command.args(["-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"]).arg(&unfinished);
            command.arg(source(name, "c")).args(libraries);
        }
        run(&mut command);
        fs::rename(&unfinished, &program).expect("name a program");
        program
    }
}

/// Go as it comes: no network, nothing in the user's home.
fn go(command: &mut Command, directory: &Path, cgo: bool) {
    command.env_clear().env("PATH", PATH).env("HOME", directory).env("GOCACHE", directory.join("go-cache"));
    command.env("GOFLAGS", "-mod=mod").env("GOTOOLCHAIN", "local").env("GO111MODULE", "off");
    command.env("CGO_ENABLED", if cgo { "1" } else { "0" });
}

fn source(name: &str, language: &str) -> PathBuf {
    workspace().join(format!("tests/programs/{name}.{language}"))
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}
