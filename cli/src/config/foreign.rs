//! Configuration files of other programs, read as those programs read them.
//!
//! What such a program would pass over in silence, and what cannot be carried over, becomes a note with file and line. What it would stop
//! at is an error here, too, and so is what would send connections another way than it says.

pub(super) mod dante;
pub(super) mod proxychains;
pub(super) mod torsocks;
pub(super) mod unread;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::place::{Place, Said};
use super::text::{Format, Text};

/// What a file is, by its name and by what stands in it.
pub(super) fn recognise(path: &Path, content: &str) -> Format {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    if name.ends_with(".toml") {
        return Format::Toml;
    }
    let lines = || content.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let starts = |words: &[&str]| {
        let is_start = |line: &str| words.iter().any(|word| line.starts_with(word));
        lines().any(is_start)
    };
    if starts(&["[ProxyList]"]) {
        Format::Proxychains
    } else if starts(&["route {", "route{"]) || lines().any(|line| line == "route") {
        Format::Dante
    } else if starts(&[
        "TorAddress",
        "TorPort",
        "OnionAddrRange",
        "SOCKS5Username",
        "AllowInbound",
        "IsolatePID",
    ]) || starts(&["AllowOutboundLocalhost", "SOCKS5Password"])
    {
        Format::Torsocks
    } else if name.contains("proxychains") {
        Format::Proxychains
    } else if name.contains("torsocks") {
        Format::Torsocks
    } else if matches!(&*name, "socks.conf" | "dante.conf") {
        Format::Dante
    } else {
        Format::Toml
    }
}

/// A line, and where it stands.
struct Line<'a> {
    text: &'a Rc<Text>,
    start: usize,
    /// Without white space around it.
    content: &'a str,
}

impl<'a> Line<'a> {
    /// The lines of a file, those that are empty left out.
    fn all(text: &'a Rc<Text>) -> impl Iterator<Item = Line<'a>> {
        let mut position = 0;
        text.content.split_inclusive('\n').filter_map(move |line| {
            let start = position + (line.len() - line.trim_start().len());
            position += line.len();
            let content = line.trim();
            (!content.is_empty()).then_some(Line { text, start, content })
        })
    }

    /// Its words, each with the place where it stands.
    fn words(&self) -> Vec<Said<&'a str>> {
        let position = |word: &str| word.as_ptr() as usize - self.content.as_ptr() as usize;
        let said = |word: &'a str| {
            let from = position(word);
            Said { value: word, place: self.part(from..from + word.len()) }
        };
        self.content.split_whitespace().map(said).collect()
    }

    fn part(&self, part: Range<usize>) -> Place {
        Place::Part(Rc::clone(self.text), self.start + part.start..self.start + part.end)
    }

    fn place(&self) -> Place {
        self.part(0..self.content.len())
    }

    fn fault(&self, why: impl fmt::Display) -> String {
        self.place().fault(why)
    }

    /// A note about it.
    fn note(&self, what: impl fmt::Display) -> String {
        format!("{}: {what}", self.place())
    }
}

/// A URL of parts that are not encoded.
fn url(kind: &str, host: &str, port: &str, credentials: Option<(&str, &str)>) -> String {
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let credentials = match credentials {
        // SOCKS4 has a user alone.
        Some((user, "")) => format!("{}@", encoded(user)),
        Some((user, password)) => format!("{}:{}@", encoded(user), encoded(password)),
        None => String::new(),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let host = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
    format!("{kind}://{credentials}{host}:{port}")
}

#[cfg(test)]
mod tests;
