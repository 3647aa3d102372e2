//! What the environment says: `PRESOCKS_` variables, and `NO_PROXY`. [`super::proxy_variables`] has those that name proxies.
//!
//! None of these variables reaches the command ([`VARIABLES`]): they name proxies and hold passwords.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ValueEnum;

use super::path::Paths;
use super::place::{Place, Said};
use super::profile::{Profile, Rule};
use super::value::{List, Seconds};
use crate::policy::route::{Criteria, rule};

/// How a variable is looked up; one that is empty counts as none.
pub(super) struct Environment<'a>(pub(super) &'a dyn Fn(&str) -> Option<OsString>);

/// All that can configure presocks.
pub(crate) const VARIABLES: [&str; 24] = [
    CONFIG,
    PROFILE,
    "PRESOCKS_PROXY",
    "PRESOCKS_PROXY_FILE",
    "PRESOCKS_ORDER",
    "PRESOCKS_LENGTH",
    "PRESOCKS_FIXED",
    "PRESOCKS_FAILOVER_ON_REFUSAL",
    "PRESOCKS_DEFAULT",
    "PRESOCKS_ONLY",
    "PRESOCKS_DIRECT",
    "PRESOCKS_ISOLATE",
    "PRESOCKS_CA_FILE",
    "PRESOCKS_CONNECT_TIMEOUT",
    "PRESOCKS_HANDSHAKE_TIMEOUT",
    "PRESOCKS_TIMEOUT",
    "PRESOCKS_DNS",
    "PRESOCKS_UDP",
    "PRESOCKS_BIND",
    "PRESOCKS_BACKSTOP",
    "PRESOCKS_QUIET",
    "PRESOCKS_VERBOSE",
    KEEP_PROXY_ENV,
    NO_CONFIG,
];

pub(super) const CONFIG: &str = "PRESOCKS_CONFIG";
pub(super) const PROFILE: &str = "PRESOCKS_PROFILE";
pub(super) const NO_CONFIG: &str = "PRESOCKS_NO_CONFIG";
pub(super) const KEEP_PROXY_ENV: &str = "PRESOCKS_KEEP_PROXY_ENV";

/// The variables of exceptions, the first that is set counts.
pub(super) const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];

impl Environment<'_> {
    /// The value of a variable.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub(super) fn value(&self, name: &str) -> Result<Option<String>, String> {
        let value =
            self.path(name).map(|value| value.into_string().map_err(|_| format!("{name}: it is not UTF-8")));
        value.transpose()
    }

    /// The value of a variable, which may be any bytes.
    pub(super) fn path(&self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// How paths are resolved.
    pub(super) fn paths(&self) -> Paths {
        Paths { home: self.path("HOME") }
    }

    /// What the `PRESOCKS_` variables say.
    ///
    /// # Errors
    /// What is wrong with which.
    pub(super) fn profile(&self) -> Result<Profile, String> {
        Ok(Profile {
            proxy: self.list("PRESOCKS_PROXY", char::is_whitespace)?,
            proxy_file: self.file("PRESOCKS_PROXY_FILE"),
            order: self.one_of("PRESOCKS_ORDER")?,
            length: self.parsed("PRESOCKS_LENGTH", number)?,
            fixed: self.parsed("PRESOCKS_FIXED", number)?,
            failover_on_refusal: self.parsed("PRESOCKS_FAILOVER_ON_REFUSAL", truth)?,
            default: self.text("PRESOCKS_DEFAULT")?,
            only: self.list("PRESOCKS_ONLY", |letter| letter == ',')?,
            direct: self.list("PRESOCKS_DIRECT", |letter| letter == ',')?,
            isolate: self.one_of("PRESOCKS_ISOLATE")?,
            ca_file: self.file("PRESOCKS_CA_FILE"),
            connect_timeout: self.parsed("PRESOCKS_CONNECT_TIMEOUT", Seconds::parse)?,
            handshake_timeout: self.parsed("PRESOCKS_HANDSHAKE_TIMEOUT", Seconds::parse)?,
            timeout: self.parsed("PRESOCKS_TIMEOUT", Seconds::parse)?,
            dns: self.text("PRESOCKS_DNS")?,
            udp: self.one_of("PRESOCKS_UDP")?,
            bind: self.one_of("PRESOCKS_BIND")?,
            backstop: self.one_of("PRESOCKS_BACKSTOP")?,
            quiet: self.parsed("PRESOCKS_QUIET", truth)?,
            verbose: self.parsed("PRESOCKS_VERBOSE", truth)?,
            keep_proxy_env: self.keep_proxy_env()?,
            ..Profile::default()
        })
    }

    /// Whether the command keeps the variables that name proxies.
    ///
    /// # Errors
    /// It is neither 1 nor 0.
    pub(super) fn keep_proxy_env(&self) -> Result<Option<Said<bool>>, String> {
        self.parsed(KEEP_PROXY_ENV, truth)
    }

    /// What `NO_PROXY` excepts. Entries that mean nothing here are left out, with a note: they are written for other programs.
    ///
    /// # Errors
    /// The variable is not UTF-8.
    pub(super) fn no_proxy(&self, notes: &mut Vec<String>) -> Result<Vec<Said<Rule>>, String> {
        let Some(name) = NO_PROXY.into_iter().find(|name| self.path(name).is_some()) else {
            return Ok(Vec::new());
        };
        let value = self.value(name)?.unwrap_or_default();
        let place = Place::Named(name.into());
        let direct = |criteria: &Criteria| Said::new(Rule::new(criteria, "direct", &place), &place);
        if value == "*" {
            return Ok(vec![direct(&Criteria::default())]);
        }
        let mut rules = Vec::new();
        for entry in value.split([',', ' ', '\t']) {
            match rule::no_proxy(entry) {
                Ok(criteria) => rules.extend(criteria.as_ref().map(direct)),
                Err(why) => notes.push(place.fault(format!("{why}; this entry is ignored"))),
            }
        }
        Ok(rules)
    }

    fn text(&self, name: &str) -> Result<Option<Said<String>>, String> {
        self.parsed(name, |text| Ok(text.to_owned()))
    }

    fn file(&self, name: &str) -> Option<Said<PathBuf>> {
        self.path(name).map(|path| Said::named(path.into(), name))
    }

    fn list(&self, name: &str, separates: impl Fn(char) -> bool) -> Result<Option<List>, String> {
        let items = |text: String| {
            let items = text.split(separates).map(str::trim).filter(|item| !item.is_empty());
            List::new(items.map(str::to_owned), &Place::Named(name.into()))
        };
        Ok(self.value(name)?.map(items))
    }

    fn one_of<T: ValueEnum>(&self, name: &str) -> Result<Option<Said<T>>, String> {
        self.parsed(name, |text| {
            T::from_str(text, false).map_err(|_| {
                let values = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
                let names: Vec<_> = values.map(|value| value.get_name().to_owned()).collect();
                format!("\"{}\" is none of {}", text.escape_debug(), names.join(", "))
            })
        })
    }

    fn parsed<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<Said<T>>, String> {
        let Some(text) = self.value(name)? else {
            return Ok(None);
        };
        let place = Place::Named(name.into());
        parse(&text).map(|value| Some(Said::new(value, &place))).map_err(|why| place.fault(why))
    }
}

pub(super) fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("write 1 or 0".into()),
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "not a number".to_owned())
}
