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
mod proxy_variables;
mod routes;
mod text;
mod value;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub(crate) use environment::VARIABLES;
use environment::{Environment, PROFILE};
pub(crate) use place::{Place, Said};
pub(crate) use print::print;
pub(crate) use profile::{Isolate, Order, Profile, Rule};
pub(crate) use proxy_variables::Taken;
pub(crate) use routes::routes;
use text::{Format, Text};
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
    /// Those of them that are set, name proxies for programs, and have not configured presocks.
    pub(crate) taken: Vec<Taken>,
    /// The variable that `-p env` would take the proxy from.
    offered: Option<&'static str>,
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
    let mut loaded = Loaded {
        profile: Profile::default(),
        listed: None,
        notes: Vec::new(),
        withheld: VARIABLES.to_vec(),
        taken: Vec::new(),
        offered: proxy_variables::chosen(&environment),
    };
    let file = file(wanted, &environment, &mut loaded)?;
    let merged = flags.beside(environment.profile()?).over(file);
    let (mut profile, used) = with_variables(merged, &environment, &mut loaded)?;
    let (withheld, taken) = set_aside(profile.keep_proxy_env.as_ref(), &environment, &used);
    loaded.withheld.extend(withheld);
    loaded.taken = taken;
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

/// The profile with the proxy of the environment, where it asks for that or leaves its proxy open; and the variables that have said something.
fn with_variables(
    mut profile: Profile,
    environment: &Environment<'_>,
    loaded: &mut Loaded,
) -> Result<(Profile, Vec<&'static str>), String> {
    let mut used = Vec::new();
    let is_word = |said: &Said<String>| said.value == proxy_variables::WORD;
    let is_declared = profile.proxies.contains_key(proxy_variables::WORD);
    let is_default = profile.proxy.as_ref().is_some_and(|list| list.items.iter().any(is_word));
    for said in profile.urls_mut().filter(|said| is_word(said) && !is_declared) {
        let name = loaded.offered.ok_or_else(|| said.fault(proxy_variables::NONE))?;
        *said = proxy_variables::url(environment, name)?;
        used.push(name);
    }
    let mut weakest = Profile::default();
    if let Some(name) = proxy_variables::all_proxy(environment).filter(|_| profile.leaves_proxy_open()) {
        let url = proxy_variables::url(environment, name)?;
        let place = url.place.clone();
        weakest.proxy = Some(List { items: vec![url], place });
        used.push(name);
    } else if !is_default || used.is_empty() {
        return Ok((profile, used));
    }
    // They are that proxy's exceptions.
    used.extend(environment::NO_PROXY);
    if profile.leaves_exceptions_open() {
        weakest.rules = Some(environment.no_proxy(&mut loaded.notes)?).filter(|rules| !rules.is_empty());
    }
    Ok((profile.over(weakest), used))
}

/// The variables that are not the command's to see, as they name proxies; and those of them that are set and have not configured presocks. Where the
/// user keeps them, those that have.
fn set_aside(
    keeps: Option<&Said<bool>>,
    environment: &Environment<'_>,
    used: &[&'static str],
) -> (Vec<&'static str>, Vec<Taken>) {
    match keeps {
        Some(Said { value: true, .. }) => (used.to_vec(), Vec::new()),
        Some(_) | None => (proxy_variables::TAKEN.to_vec(), proxy_variables::taken(environment, used)),
    }
}

/// As [`load`] has it of the command's variables, within another session, which has a configuration of its own.
///
/// # Errors
/// A variable is wrong.
pub(crate) fn set_aside_within(
    flags: &Profile,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<(Vec<&'static str>, Vec<Taken>), String> {
    let environment = Environment(environment);
    let keeps = flags.keep_proxy_env.clone().or(environment.keep_proxy_env()?);
    let (set_aside, taken) = set_aside(keeps.as_ref(), &environment, &[]);
    Ok((VARIABLES.into_iter().chain(set_aside).collect(), taken))
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
    let is_ours = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    if let Some(why) = foreign::unread::why(&text.name, &text.content).filter(|_| !is_ours) {
        return Err(why);
    }
    let top = document::profile(&text);
    let mut top = top.map_err(|why| if is_ours { why } else { foreign::unread::or_another(&why) })?;
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
