//! What all rows share: the programs that take part, a network of our own, how much work is done.

use std::cell::RefCell;
use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, system};

/// Where the far ends are: an address of this machine that is not loopback's (TEST-NET-1, RFC 5737).
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// What all rows share.
pub(crate) struct Stage {
    is_quick: bool,
    presocks: PathBuf,
    this: PathBuf,
    proxychains: Option<PathBuf>,
    /// For files of this run.
    directory: PathBuf,
    /// Why there is no network of our own.
    no_network: Option<String>,
    notes: RefCell<Vec<String>>,
}

/// How a contestant is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrapping {
    Bare,
    /// With this proxy.
    Presocks(SocketAddr),
    /// With this proxy, and no filter.
    WithoutBackstop(SocketAddr),
    /// With this proxy.
    Proxychains(SocketAddr),
    /// With these, one after the other.
    PresocksChain([SocketAddr; HOPS]),
    /// With these, one after the other.
    ProxychainsChain([SocketAddr; HOPS]),
}

/// The proxies of a chain.
pub(crate) const HOPS: usize = 3;

impl Stage {
    /// Prepares everything; to be called while there is one thread.
    ///
    /// # Errors
    /// When presocks cannot be built or found.
    pub(crate) fn set(is_quick: bool) -> Outcome<Self> {
        let this = env::current_exe()?;
        let presocks = match env::var_os("PRESOCKS_BIN") {
            Some(path) => fs::canonicalize(path)?,
            None => build(&this)?,
        };
        let no_network = own_network().err().map(|error| {
            format!(
                "no network namespace of our own ({error}); it takes root or unprivileged user namespaces"
            )
        });
        system::adopt_orphans()?;
        let directory = env::temp_dir().join(format!("presocks-bench-{}", std::process::id()));
        fs::create_dir(&directory)?;
        let stage = Self {
            is_quick,
            presocks,
            this,
            proxychains: find("proxychains4"),
            directory,
            no_network,
            notes: RefCell::default(),
        };
        if stage.proxychains.is_none() {
            stage.note("no proxychains4 here");
        }
        if is_quick {
            stage.note("quick: less work, so the ratios are rough");
        }
        Ok(stage)
    }

    /// How much to do: `full`, or `quick` in quick mode.
    pub(crate) fn amount<T>(&self, full: T, quick: T) -> T {
        if self.is_quick { quick } else { full }
    }

    /// The presocks executable.
    pub(crate) fn presocks(&self) -> &Path {
        &self.presocks
    }

    /// This executable.
    pub(crate) fn this(&self) -> &Path {
        &self.this
    }

    /// Is there a proxychains-ng?
    pub(crate) fn has_proxychains(&self) -> bool {
        self.proxychains.is_some()
    }

    /// Needed by rows whose far ends are at [`FAR`].
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn network(&self) -> Outcome<()> {
        match &self.no_network {
            None => Ok(()),
            Some(why) => Err(why.clone().into()),
        }
    }

    /// Says something below the table, once.
    pub(crate) fn note(&self, note: &str) {
        let mut notes = self.notes.borrow_mut();
        if !notes.iter().any(|said| said == note) {
            notes.push(note.to_owned());
        }
    }

    /// What there is to say below the table.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }

    /// For files of this run.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn proxychains(&self, proxies: &[SocketAddr], program: &Path) -> Outcome<Command> {
        let path = self.proxychains.as_ref().ok_or("no proxychains4 here")?;
        let configuration = self.directory.join("proxychains.conf");
        let list: String =
            proxies.iter().map(|proxy| format!("socks5 {} {}\n", proxy.ip(), proxy.port())).collect();
        fs::write(&configuration, format!("strict_chain\nproxy_dns\n[ProxyList]\n{list}"))?;
        let mut command = Command::new(path);
        command.arg("-q").arg("-f").arg(configuration).arg(program);
        Ok(command)
    }

    /// `program`, wrapped; its arguments can be added.
    ///
    /// # Errors
    /// When proxychains-ng is missing or cannot be configured.
    pub(crate) fn command(&self, wrapping: Wrapping, program: &Path) -> Outcome<Command> {
        let mut command = match wrapping {
            Wrapping::Bare => Command::new(program),
            Wrapping::Presocks(proxy) | Wrapping::WithoutBackstop(proxy) => {
                let mut command = Command::new(&self.presocks);
                command.args(["--no-config", "-p", &format!("socks5://{proxy}")]);
                if matches!(wrapping, Wrapping::WithoutBackstop(_)) {
                    command.args(["-q", "--backstop=off"]);
                }
                command.arg(program);
                command
            }
            Wrapping::PresocksChain(proxies) => {
                let mut command = Command::new(&self.presocks);
                for proxy in proxies {
                    command.args(["-p", &format!("socks5://{proxy}")]);
                }
                command.arg(program);
                command
            }
            Wrapping::Proxychains(proxy) => self.proxychains(&[proxy], program)?,
            Wrapping::ProxychainsChain(proxies) => self.proxychains(&proxies, program)?,
        };
        for variable in ["LD_PRELOAD", "PRESOCKS_PROXY", "ALL_PROXY", "all_proxy", "http_proxy"] {
            command.env_remove(variable);
        }
        Ok(command)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Nobody needs it, and it is in the directory for such files.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// presocks as it is now, beside this executable.
fn build(this: &Path) -> Outcome<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace")?;
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", "presocks"])
        .current_dir(workspace)
        .status()?;
    let presocks = this.with_file_name("presocks");
    if !status.success() || !presocks.exists() {
        return Err(format!("cannot build {} (or set PRESOCKS_BIN)", presocks.display()).into());
    }
    Ok(presocks)
}

/// Enters a network namespace with nothing but loopback and [`FAR`]. Without root, a user namespace gives the right to.
fn own_network() -> std::io::Result<()> {
    let (user, group) = system::identity();
    if system::unshare(libc::CLONE_NEWNET).is_err() {
        system::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)?;
        fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    }
    system::start_loopback(FAR)
}

/// A program on the search path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}
