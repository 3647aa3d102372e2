//! Where the configuration file is.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::Wanted;
use super::environment::{self, CONFIG, Environment, NO_CONFIG};

/// Variables of proxychains.
pub(super) const PROXYCHAINS: [&str; 2] = [PROXYCHAINS_FILE, PROXYCHAINS_QUIET];
const PROXYCHAINS_FILE: &str = "PROXYCHAINS_CONF_FILE";
pub(super) const PROXYCHAINS_QUIET: &str = "PROXYCHAINS_QUIET_MODE";

/// The file to read. One that is named must be there; the usual one may be missing.
///
/// # Errors
/// There must be one, and there is none; or it is not to be trusted.
pub(super) fn find(
    wanted: &Wanted,
    environment: &Environment<'_>,
    notes: &mut Vec<String>,
) -> Result<Option<PathBuf>, String> {
    let named = |path: &Path, by: &str| {
        let path = environment.paths().at_home(path);
        path.map(Some).map_err(|why| format!("{by}: {why}"))
    };
    if let Some(path) = &wanted.file {
        return named(path, if wanted.is_proxychains { "-f" } else { "--config" });
    }
    if wanted.is_proxychains {
        return proxychains(environment, notes).map(Some);
    }
    let truth = |text: String| environment::truth(&text).map_err(|why| format!("{NO_CONFIG}: {why}"));
    if wanted.no_file || environment.value(NO_CONFIG)?.map(truth).transpose()? == Some(true) {
        return Ok(None);
    }
    if let Some(path) = environment.path(CONFIG) {
        return named(Path::new(&path), CONFIG);
    }
    // XDG Base Directory Specification: a path that is not absolute is ignored.
    let absolute = |name| environment.path(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    Ok(base.map(|base| base.join("presocks/config.toml")).filter(|path| is_there(path)))
}

/// proxychains' search: its variable, the working directory, the home directory, /etc. What is there and cannot be read is an error, where
/// proxychains would go on to the next.
fn proxychains(environment: &Environment<'_>, notes: &mut Vec<String>) -> Result<PathBuf, String> {
    const HERE: &str = "./proxychains.conf";
    if let Some(path) = environment.path(PROXYCHAINS_FILE) {
        let path = environment.paths().at_home(Path::new(&path));
        return path.map_err(|why| format!("{PROXYCHAINS_FILE}: {why}"));
    }
    let here = Path::new(HERE);
    if is_there(here) {
        trust(here)?;
        notes.push(format!("{HERE}, in the working directory, is the configuration"));
        return Ok(here.to_owned());
    }
    let home = environment.path("HOME").map(|home| Path::new(&home).join(".proxychains/proxychains.conf"));
    let etc = ["/etc/proxychains.conf", "/etc/proxychains4.conf"].map(PathBuf::from);
    let mut candidates = home.into_iter().chain(etc);
    candidates.find(|path| is_there(path)).ok_or_else(|| {
        format!(
            "there is no configuration of proxychains: name one by -f FILE or {PROXYCHAINS_FILE}, or write {HERE}, \
             ~/.proxychains/proxychains.conf, /etc/proxychains.conf or /etc/proxychains4.conf"
        )
    })
}

/// In a directory where others can write, such as /tmp, a file that nobody named may be a stranger's, and would send everything by a
/// stranger's proxy.
fn trust(path: &Path) -> Result<(), String> {
    const OTHERS_WRITE: u32 = 0o002;
    let shown = path.display();
    let status = fs::metadata(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let own = rustix::process::geteuid().as_raw();
    let is_ours = status.uid() == own || status.uid() == 0;
    if is_ours && status.mode() & OTHERS_WRITE == 0 {
        return Ok(());
    }
    Err(format!(
        "{shown} can be written by other users, and nobody named it; if it is to be used, name it: -f {shown}"
    ))
}

/// Or may be there: what we may not look at could be what keeps a connection from being made.
fn is_there(path: &Path) -> bool {
    const MISSING: [io::ErrorKind; 2] = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    !path.symlink_metadata().is_err_and(|error| MISSING.contains(&error.kind()))
}
