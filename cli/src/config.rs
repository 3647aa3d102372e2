//! Configuration: what was typed, what stands in the environment and in files, as one [`Profile`].
//!
//! Strongest first: options, `PRESOCKS_` variables, the profile that was chosen in the file, the file's top, `ALL_PROXY`. The file is
//! presocks' own, or that of another program (`foreign`), which says the same things in its own words. An error says where: file,
//! line and a caret, or the option's or the variable's name; never does it show a password (`excerpt`).

mod document;
mod environment;
mod excerpt;
mod permission;
mod place;
mod print;
mod profile;
mod routes;
mod value;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub(crate) use environment::VARIABLES;
use environment::{CONFIG, EXCEPTIONS, Environment, NO_CONFIG, PROFILE};
use place::Format;
pub(crate) use place::{Place, Said};
pub(crate) use print::print;
pub(crate) use profile::{Isolate, Order, Profile, Rule};
pub(crate) use routes::routes;
pub(crate) use value::{List, Seconds, name_server};

/// What the command line says of where the configuration is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
    /// `--no-config`.
    pub(crate) no_file: bool,
    /// proxychains' own search for a file.
    pub(crate) is_proxychains: bool,
    /// `--profile`.
    pub(crate) profile: Option<String>,
}

/// The configuration, merged.
pub(crate) struct Loaded {
    pub(crate) profile: Profile,
    /// The proxies of the profile's `proxy-file`.
    listed: Option<List>,
    /// What the user should know, a line each.
    pub(crate) notes: Vec<String>,
    /// Variables that are not the command's to see.
    pub(crate) withheld: Vec<&'static str>,
}

/// Reads and merges all sources; `flags` are the strongest.
///
/// # Errors
/// What is wrong, and where.
pub(crate) fn load(
    flags: Profile,
    wanted: &Wanted,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Loaded, String> {
    let environment = Environment(environment);
    let mut loaded =
        Loaded { profile: Profile::default(), listed: None, notes: Vec::new(), withheld: VARIABLES.to_vec() };
    let file = file(wanted, &environment, &mut loaded.notes)?;
    let merged = flags.beside(environment.profile()?).over(file);
    let names_proxy = merged.proxy.is_some() || merged.proxy_file.is_some();
    let all_proxy = if names_proxy { None } else { environment.all_proxy(&mut loaded.notes)? };
    let mut profile = match all_proxy {
        Some(weakest) => {
            loaded.withheld.extend(EXCEPTIONS);
            merged.over(weakest)
        }
        None => merged,
    };
    for path in [&mut profile.proxy_file, &mut profile.ca_file].into_iter().flatten() {
        resolve(path, environment.path("HOME"));
    }
    if let Some(path) = &profile.proxy_file {
        if profile.proxy.is_some() {
            return Err(path.fault("proxy and proxy-file exclude each other"));
        }
        loaded.listed = Some(proxy_file(&path.value, &mut loaded.notes)?);
    }
    loaded.profile = profile;
    Ok(loaded)
}

/// What the configuration file says, its profile laid over its top.
fn file(wanted: &Wanted, environment: &Environment<'_>, notes: &mut Vec<String>) -> Result<Profile, String> {
    let chosen = match &wanted.profile {
        Some(name) => Some(Said::named(name.clone(), "--profile")),
        None => environment.value(PROFILE)?.map(|name| Said::named(name, PROFILE)),
    };
    let path = match path(wanted, environment)? {
        Some(path) => path,
        None => return without_file(chosen.as_ref()),
    };
    let text = document::read(&path, |_| Format::Toml)?;
    let mut top = document::profile(&text)?;
    permission::check(&text, &path, notes);
    let mut profiles = std::mem::take(&mut top.profiles);
    let Some(chosen) = chosen else {
        return Ok(top);
    };
    match profiles.remove(&chosen.value) {
        Some(profile) => Ok(profile.value.over(top)),
        None => {
            let known: Vec<_> = profiles.keys().map(|name| name.escape_debug().to_string()).collect();
            let known = if known.is_empty() {
                "no profile at all".into()
            } else {
                format!("only {}", known.join(", "))
            };
            let name = chosen.value.escape_debug();
            Err(chosen.fault(format!("there is no profile \"{name}\" in {}: it has {known}", text.name)))
        }
    }
}

fn without_file(chosen: Option<&Said<String>>) -> Result<Profile, String> {
    match chosen {
        Some(chosen) => Err(chosen.fault("profiles stand in a configuration file, and none is read")),
        None => Ok(Profile::default()),
    }
}

/// The file to read. One that is named must be there; the usual one may be missing.
fn path(wanted: &Wanted, environment: &Environment<'_>) -> Result<Option<PathBuf>, String> {
    if let Some(path) = &wanted.file {
        return Ok(Some(path.clone()));
    }
    let truth = |text: String| environment::truth(&text).map_err(|why| format!("{NO_CONFIG}: {why}"));
    if wanted.no_file || environment.value(NO_CONFIG)?.map(truth).transpose()? == Some(true) {
        return Ok(None);
    }
    if let Some(path) = environment.path(CONFIG) {
        return Ok(Some(path.into()));
    }
    // XDG Base Directory Specification: a path that is not absolute is ignored.
    let absolute = |name| environment.path(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    let usual = base.map(|base| base.join("presocks/config.toml"));
    // What is there and cannot be read is an error: its rules may be what keeps a connection from being made.
    Ok(usual.filter(|path| path.symlink_metadata().is_ok()))
}

/// A path that was written somewhere: `~/` is the home directory, and what is relative starts from the directory of the file that it was
/// written in.
fn resolve(said: &mut Said<PathBuf>, home: Option<OsString>) {
    said.value = match (said.value.strip_prefix("~"), home, said.place.directory()) {
        (Ok(rest), Some(home), _) => Path::new(&home).join(rest),
        (_, _, Some(directory)) => directory.join(&said.value),
        (_, _, None) => return,
    };
}

/// Reads a list of proxies, one URL a line.
///
/// # Errors
/// It cannot be read, or there is no URL in it.
fn proxy_file(path: &Path, notes: &mut Vec<String>) -> Result<List, String> {
    let text = document::read(path, |_| Format::Proxies)?;
    permission::check(&text, path, notes);
    let mut items = Vec::new();
    let mut start = 0;
    for line in text.content.split_inclusive('\n') {
        let url = line.trim();
        if !url.is_empty() && !url.starts_with('#') {
            let from = start + (line.len() - line.trim_start().len());
            let place = Place::Part(Rc::clone(&text), from..from + url.len());
            items.push(Said::new(url.to_owned(), &place));
        }
        start += line.len();
    }
    if items.is_empty() {
        return Err(format!("{}: there is no proxy in it; write a URL on each line", text.name));
    }
    let place = Place::Part(Rc::clone(&text), 0..0);
    Ok(List { items, place })
}

#[cfg(test)]
mod tests;
