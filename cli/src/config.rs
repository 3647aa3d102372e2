//! Configuration: what was typed, what stands in the environment and in files, as one [`Profile`].
//!
//! Strongest first: options, `PRESOCKS_` variables, the profile that was chosen in the file, the file's top, `ALL_PROXY`. The file is
//! presocks' own, or that of another program (`foreign`), which says the same things in its own words. An error says where: file,
//! line and a caret, or the option's or the variable's name; never does it show a password (`excerpt`).

mod document;
mod environment;
mod excerpt;
mod foreign;
mod location;
mod path;
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
use environment::{EXCEPTIONS, Environment, PROFILE};
use place::{Format, Text};
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
    let file = file(wanted, &environment, &mut loaded)?;
    let merged = flags.beside(environment.profile()?).over(file);
    let all_proxy = if merged.leaves_proxy_open() { environment.all_proxy()? } else { None };
    let mut profile = match all_proxy {
        Some(mut weakest) => {
            loaded.withheld.extend(EXCEPTIONS);
            if merged.leaves_exceptions_open() {
                weakest.rules =
                    Some(environment.no_proxy(&mut loaded.notes)?).filter(|rules| !rules.is_empty());
            }
            merged.over(weakest)
        }
        None => merged,
    };
    profile.settle();
    loaded.notes.extend(passed_by(&profile));
    let paths = environment.paths();
    for path in [&mut profile.proxy_file, &mut profile.ca_file].into_iter().flatten() {
        paths.expand(path)?;
    }
    if let Some(path) = &profile.proxy_file {
        if profile.proxy.is_some() {
            return Err(path.fault("proxy and proxy-file exclude each other"));
        }
        loaded.listed = Some(proxy_file(&path.value, &mut loaded.notes)?);
    }
    for path in [&mut profile.proxy_file, &mut profile.ca_file].into_iter().flatten() {
        path.value = path::absolute(&path.value).map_err(|why| path.fault(why))?;
    }
    let listed = loaded.listed.iter_mut().flat_map(|list| &mut list.items);
    for url in profile.urls_mut().chain(listed) {
        paths.resolve_url(url)?;
    }
    loaded.profile = profile;
    Ok(loaded)
}

/// A note, where a proxy is named on the spot, and a file has it that only what rules say goes by it.
fn passed_by(profile: &Profile) -> Option<String> {
    let proxy = profile.proxy.as_ref().map(|list| &list.place);
    let named = proxy.or(profile.proxy_file.as_ref().map(|said| &said.place))?;
    let default = profile.default.as_ref().filter(|said| said.value == "direct").map(|said| &said.place);
    let all_else = default.or(profile.only.as_ref().map(|list| &list.place))?;
    let is_odd = matches!((named, all_else), (Place::Named(_), Place::Part(..)));
    is_odd.then(|| format!("{named} names a proxy, but by {all_else} what no rule sends there is direct"))
}

/// What the configuration file says, its profile laid over its top.
fn file(wanted: &Wanted, environment: &Environment<'_>, loaded: &mut Loaded) -> Result<Profile, String> {
    let typed = wanted.profile.as_ref().map(|name| Said::named(name.clone(), "--profile"));
    let Some(path) = location::find(wanted, environment, &mut loaded.notes)? else {
        let chosen = if wanted.no_file { typed } else { typed.or(chosen(environment)?) };
        return without_file(chosen.as_ref());
    };
    let text = document::read(&path, |content| {
        if wanted.is_proxychains { Format::Proxychains } else { foreign::recognise(&path, content) }
    })?;
    if text.format != Format::Toml {
        return match typed {
            Some(typed) => Err(typed.fault(format!("there are no profiles in {}", text.name))),
            None => foreign(wanted, &text, &path, environment, loaded),
        };
    }
    let mut top = document::profile(&text)?;
    permission::check(&text, &path, permission::urls(&top), &mut loaded.notes);
    let mut profiles = std::mem::take(&mut top.profiles);
    let Some(chosen) = typed.or(chosen(environment)?) else {
        return Ok(top);
    };
    match profiles.remove(&chosen.value) {
        Some(profile) => {
            // As for every other key; those of options and variables come on top of either.
            if profile.value.rules.is_some() {
                top.rules = None;
            }
            Ok(profile.value.over(top))
        }
        None => {
            let known: Vec<_> = profiles.keys().map(|name| name.escape_debug().to_string()).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            let name = chosen.value.escape_debug();
            Err(chosen.fault(format!("there is no profile \"{name}\" in {}; it has {known}", text.name)))
        }
    }
}

fn chosen(environment: &Environment<'_>) -> Result<Option<Said<String>>, String> {
    Ok(environment.value(PROFILE)?.map(|name| Said::named(name, PROFILE)))
}

/// What another program's file says; its variables are not the command's to see, either.
fn foreign(
    wanted: &Wanted,
    text: &Rc<Text>,
    path: &Path,
    environment: &Environment<'_>,
    loaded: &mut Loaded,
) -> Result<Profile, String> {
    let mut profile = match text.format {
        Format::Torsocks => foreign::torsocks::profile(text, &mut loaded.notes)?,
        Format::Dante => {
            loaded.withheld.extend(foreign::dante::USERS.iter().chain(&foreign::dante::PASSWORDS));
            foreign::dante::profile(text, environment, &mut loaded.notes)?
        }
        _ => foreign::proxychains::profile(text, &mut loaded.notes)?,
    };
    if text.format != Format::Dante {
        permission::check(text, path, permission::urls(&profile), &mut loaded.notes);
    }
    if wanted.is_proxychains {
        loaded.withheld.extend(location::PROXYCHAINS);
        let is_quiet =
            environment.value(location::PROXYCHAINS_QUIET)?.is_some_and(|value| value.starts_with('1'));
        profile.quiet = is_quiet.then(|| Said::named(true, location::PROXYCHAINS_QUIET)).or(profile.quiet);
    }
    Ok(profile)
}

fn without_file(chosen: Option<&Said<String>>) -> Result<Profile, String> {
    match chosen {
        Some(chosen) => Err(chosen.fault("profiles stand in a configuration file, and none is read")),
        None => Ok(Profile::default()),
    }
}

/// Reads a list of proxies, one URL a line.
///
/// # Errors
/// It cannot be read, or there is no URL in it.
fn proxy_file(path: &Path, notes: &mut Vec<String>) -> Result<List, String> {
    let text = document::read(path, |_| Format::Proxies)?;
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
    permission::check(&text, path, &items, notes);
    let place = Place::Part(Rc::clone(&text), 0..0);
    Ok(List { items, place })
}

#[cfg(test)]
mod tests;
