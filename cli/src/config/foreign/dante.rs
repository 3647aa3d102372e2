//! The socks.conf of Dante's client, socksify: `route { from: … to: … via: … }` blocks, and globals before them.
//!
//! A route by a proxy becomes a rule, one to everywhere the default; direct routes come first, as Dante prefers them. What no route is about
//! is denied, as Dante does. User and password come from Dante's variables.

mod route;
mod token;

use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::environment::Environment;
use super::super::place::{Place, Said};
use super::super::profile::{Profile, Rule};
use super::super::text::Text;
use super::super::value::{List, Seconds};
use route::{Route, Via};
use token::{Statement, Token};

pub(crate) const USERS: [&str; 3] = ["SOCKS_USERNAME", "SOCKS_USER", "SOCKS5_USER"];
pub(crate) const PASSWORDS: [&str; 3] = ["SOCKS_PASSWORD", "SOCKS_PASSWD", "SOCKS5_PASSWD"];

/// Reads it.
///
/// # Errors
/// What Dante would not start with, and what cannot be had here, at its place.
pub(crate) fn profile(
    text: &Rc<Text>,
    environment: &Environment<'_>,
    notes: &mut Vec<String>,
) -> Result<Profile, String> {
    let mut profile = Profile::default();
    let mut routes = Vec::new();
    let mut tokens = token::all(text).into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            Token::Word(word) if word.value == "route" => {
                routes.extend(Route::read(&word.place, token::block(&word.place, &mut tokens)?, notes)?);
            }
            Token::Key(key) => global(&mut profile, token::statement(key, &mut tokens), notes)?,
            Token::Word(word) => {
                return Err(word.place.fault(
                    "this is no route and no global of a client; the configuration of a server (sockd.conf) is not possible here",
                ));
            }
            Token::Open(place) | Token::Close(place) => return Err(place.fault("this brace is too much")),
        }
    }
    notes.push(format!(
        "{}: networks of this machine's interfaces go by the routes here, too; add --direct CIDR for those that are to be direct",
        text.name
    ));
    let login = login(environment)?;
    let (direct, by_proxy): (Vec<_>, Vec<_>) =
        routes.into_iter().partition(|route| matches!(route.via, Via::Direct));
    let rule = |route: &Route, via: &str| Said::new(route.rule(via), &route.place);
    let mut rules: Vec<_> = direct.iter().map(|route| rule(route, "direct")).collect();
    let mut has_default = false;
    for route in &by_proxy {
        let (name, url) = route.proxy(login.as_ref(), notes)?;
        let name = own_name(&profile.proxies, &name, &url);
        if !has_default && route.is_default() {
            profile.proxy = Some(List::new([name.clone()], &route.place));
            has_default = true;
        } else if has_default {
            notes.push(format!(
                "{}: this route is never taken: one to everywhere stands before it",
                route.place
            ));
        } else {
            let unnamed: Said<Rule> = rule(route, &name);
            rules.push(unnamed);
        }
        profile.proxies.insert(name, Said::new(url, &route.place));
    }
    profile.rules = Some(rules).filter(|rules| !rules.is_empty());
    let whole = Place::Part(Rc::clone(text), 0..0);
    if profile.proxies.is_empty() {
        return Err(format!("{}: there is no route by a proxy in it", text.name));
    }
    if !has_default {
        profile.default = Some(Said::new("deny".to_owned(), &whole));
    }
    Ok(profile)
}

/// A name that no proxy with another URL has: routes to one server may differ in user or protection.
fn own_name(proxies: &BTreeMap<String, Said<String>>, name: &str, url: &str) -> String {
    let is_free = |name: &String| proxies.get(name).is_none_or(|other| other.value == url);
    let others = (2..).map(|number: usize| format!("{name} ({number})"));
    std::iter::once(name.to_owned()).chain(others).find(is_free).unwrap_or_else(|| name.to_owned())
}

fn global(profile: &mut Profile, statement: Statement, notes: &mut Vec<String>) -> Result<(), String> {
    let Statement { key, values } = statement;
    let value = values.first().map(|value| value.value.as_str()).unwrap_or_default();
    match key.value.as_str() {
        "resolveprotocol" if value == "fake" => {}
        "resolveprotocol" => notes
            .push(format!("{}: resolveprotocol {value:?} is not used: the proxy resolves names", key.place)),
        "timeout.connect" if value == "0" => {}
        "timeout.connect" => {
            let time = Seconds::parse(value).map_err(|why| key.place.fault(why))?;
            profile.connect_timeout = Some(Said::new(time, &key.place));
        }
        other => notes.push(format!("{}: {other} is not carried over", key.place)),
    }
    Ok(())
}

/// User and password of the environment.
fn login(environment: &Environment<'_>) -> Result<Option<(String, String)>, String> {
    let first = |names: &[&str]| {
        let found = names.iter().map(|name| environment.value(name)).find(|value| !matches!(value, Ok(None)));
        found.unwrap_or(Ok(None))
    };
    Ok(first(&USERS)?.zip(Some(first(&PASSWORDS)?.unwrap_or_default())))
}
