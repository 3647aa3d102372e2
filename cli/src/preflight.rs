//! Can the shim get into a program? The command is looked at before it runs; a process that has got a pending socket, when it has.
//!
//! LD_PRELOAD reaches dynamically linked glibc programs of this machine's kind that run with no other privileges than their caller's. Any
//! other command needs the backstop. This judges the command alone; what the command starts in its turn is not looked at.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use goblin::container::{Container, Ctx};
use goblin::elf::Elf;
use goblin::elf::header::{self, EI_CLASS, ELFCLASS64, ELFMAG};
use goblin::elf::program_header::{PT_INTERP, ProgramHeader};
use rustix::fs::{Access, access};
use rustix::process::{getegid, geteuid};

use crate::library::SHIM_PREFIX;
use crate::procfs;

/// Program headers and the loader's name are within this much of a file's beginning, whatever linker made it.
const HEAD: u64 = 64 * 1024;
/// What execvp(3) searches without PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// The kernel follows this many interpreters of interpreters (execve(2)).
const MOST_INTERPRETERS: usize = 5;

#[cfg(target_arch = "x86_64")]
const THIS: (u16, &str) = (header::EM_X86_64, "ld-linux-x86-64.so.2");
#[cfg(target_arch = "aarch64")]
const THIS: (u16, &str) = (header::EM_AARCH64, "ld-linux-aarch64.so.1");

/// What keeps the shim out of a command.
pub(crate) struct Obstacle {
    program: PathBuf,
    kind: Kind,
}

enum Kind {
    Static,
    Foreign,
    /// The name of its loader.
    OtherLibrary(Vec<u8>),
    Privileged,
}

impl Obstacle {
    /// Are its privileges for sockets that presocks refuses to everybody, to root as well? So are those of ping, and of others that send ICMP or
    /// packets.
    pub(crate) fn is_for_packets(&self) -> bool {
        const PROGRAMS: [&str; 8] =
            ["ping", "ping4", "ping6", "fping", "arping", "traceroute6.iputils", "mtr-packet", "clockdiff"];
        let name = self.program.file_name().and_then(OsStr::to_str).unwrap_or_default();
        self.is_privileged() && (PROGRAMS.contains(&name) || has_packets_alone(&self.program))
    }

    /// setuid, setgid or capabilities: will it miss them, behind a filter that forbids to gain any?
    pub(crate) fn is_privileged(&self) -> bool {
        matches!(self.kind, Kind::Privileged)
    }
}

/// A sentence without its end: the program, and what is the matter with it.
impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.program.display().to_string().escape_debug())?;
        match &self.kind {
            Kind::Static => f.write_str("is statically linked and loads no library of ours"),
            Kind::Foreign => f.write_str("is a program for another kind of machine"),
            Kind::OtherLibrary(loader) => {
                write!(f, "is made for another C library ({}) and does not load ours", loader.escape_ascii())
            }
            Kind::Privileged => {
                f.write_str("gains privileges when it starts (setuid, setgid or capabilities)")
            }
        }
    }
}

/// `None` if nothing keeps the shim out; or if the command cannot be found or read, which is exec's to say.
pub(crate) fn look(command: &OsStr) -> Option<Obstacle> {
    let mut program = find(command)?;
    for _ in 0..MOST_INTERPRETERS {
        let head = head(&program)?;
        match head.strip_prefix(b"#!").and_then(interpreter) {
            Some(interpreter) => program = interpreter,
            None => return obstacle(&program, &head).map(|kind| Obstacle { program, kind }),
        }
    }
    None
}

/// Is the shim in the program that this process runs, or about to be loaded? `None` if the process cannot be looked at.
pub(crate) fn has_the_shim(process: i32) -> Option<bool> {
    let names_it = |text: &[u8]| text.windows(SHIM_PREFIX.len()).any(|word| word == SHIM_PREFIX);
    if names_it(&procfs::memory_map(process)?) {
        return Some(true);
    }
    // Just executed: the loader loads what the environment says, unless it does not get into the program.
    let environment = procfs::environment(process)?;
    let mut entries = environment.split(|byte| *byte == 0);
    if !entries.any(|entry| entry.starts_with(b"LD_PRELOAD=") && names_it(entry)) {
        return Some(false);
    }
    let program = procfs::executable(process);
    let head = head(&program)?;
    let name = std::fs::read_link(&program).ok()?;
    let is_loader = name.file_name() == Some(OsStr::new(THIS.1));
    Some(is_loader || obstacle(&program, &head).is_none())
}

fn obstacle(program: &Path, head: &[u8]) -> Option<Kind> {
    let (machine, loader) = match shape(head)? {
        Shape::Static if program.file_name() == Some(OsStr::new(THIS.1)) => return None,
        Shape::Static => return Some(Kind::Static),
        Shape::Dynamic { machine, loader } => (machine, loader),
        Shape::Other => return Some(Kind::Foreign),
    };
    if machine != THIS.0 {
        return Some(Kind::Foreign);
    }
    if Path::new(OsStr::from_bytes(&loader)).file_name() != Some(OsStr::new(THIS.1)) {
        return Some(Kind::OtherLibrary(loader));
    }
    gains_privilege(program).then_some(Kind::Privileged)
}

enum Shape {
    Static,
    Dynamic {
        machine: u16,
        loader: Vec<u8>,
    },
    /// 32-bit, or of the other byte order.
    Other,
}

/// `None` for what is no ELF file.
fn shape(head: &[u8]) -> Option<Shape> {
    if !head.starts_with(ELFMAG) {
        return None;
    }
    let native = if cfg!(target_endian = "little") { 1 } else { 2 };
    if head.get(EI_CLASS) != Some(&ELFCLASS64) || head.get(EI_CLASS + 1) != Some(&native) {
        return Some(Shape::Other);
    }
    let header = Elf::parse_header(head).ok()?;
    let context = Ctx::new(Container::Big, goblin::container::Endian::default());
    let offset = usize::try_from(header.e_phoff).ok()?;
    let segments = ProgramHeader::parse(head, offset, usize::from(header.e_phnum), context).ok()?;
    let Some(interpreter) = segments.iter().find(|segment| segment.p_type == PT_INTERP) else {
        return Some(Shape::Static);
    };
    let loader = head.get(interpreter.file_range())?;
    let loader = loader.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    Some(Shape::Dynamic { machine: header.e_machine, loader })
}

/// ld.so(8), secure-execution mode.
fn gains_privilege(program: &Path) -> bool {
    let Ok(found) = std::fs::metadata(program) else { return false };
    let becomes_other = found.mode() & libc::S_ISUID != 0 && found.uid() != geteuid().as_raw()
        || found.mode() & libc::S_ISGID != 0 && found.gid() != getegid().as_raw();
    let has_capabilities = || {
        let mut value = [0_u8; 64];
        rustix::fs::getxattr(program, c"security.capability", &mut value[..]).is_ok_and(|len| len > 0)
    };
    becomes_other || !geteuid().is_root() && has_capabilities()
}

/// Are its capabilities those for raw and packet sockets, and no others? (capabilities(7): `vfs_cap_data`; a magic number, then pairs of permitted and
/// inheritable, of 32 bits each.)
fn has_packets_alone(program: &Path) -> bool {
    const RAW_OR_ADMIN: u32 = 1 << 12 | 1 << 13;
    let mut value = [0_u8; 64];
    let Ok(len) = rustix::fs::getxattr(program, c"security.capability", &mut value[..]) else { return false };
    let words = value.get(..len).unwrap_or(&[]).chunks_exact(4);
    let words: Vec<_> = words.map(|word| word.try_into().map_or(0, u32::from_le_bytes)).collect();
    match words[..] {
        [_, low, _] | [_, low, _, 0, ..] => low != 0 && low & !RAW_OR_ADMIN == 0,
        _ => false,
    }
}

/// The file that execvp(3) would execute.
fn find(command: &OsStr) -> Option<PathBuf> {
    if command.as_bytes().contains(&b'/') {
        return Some(command.into());
    }
    let path = env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    env::split_paths(&path)
        .map(|directory| directory.join(command))
        .find(|file| file.is_file() && access(file, Access::EXEC_OK).is_ok())
}

fn head(program: &Path) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    File::open(program).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    Some(head)
}

/// The first word of a script's first line.
fn interpreter(line: &[u8]) -> Option<PathBuf> {
    let line = line.split(|byte| *byte == b'\n').next()?.trim_ascii_start();
    let word = line.split(|byte| matches!(byte, b' ' | b'\t' | b'\r')).next()?;
    (!word.is_empty()).then(|| OsStr::from_bytes(word).into())
}
