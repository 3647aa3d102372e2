//! A line of a file, with a caret below what is wrong in it, and without any secret.
//!
//! What might be one is hidden: between `://` and the last `@` of the line (in a line without `://`, everything before that `@`), what
//! stands in a port's place and is no number, and what follows the words of other formats that introduce a password. Rather
//! too much is hidden than too little.

use std::ops::Range;

use super::text::{Format, Text};

const HIDDEN: &str = "***";

/// Longer lines are cut.
const WIDTH: usize = 200;

/// `FILE:LINE:COLUMN: WHY`, the line, and a caret.
pub(super) fn render(text: &Text, span: &Range<usize>, why: &str) -> String {
    let (start, line) = line_at(&text.content, span.start);
    let number = line_number(text, start);
    let within = |position: usize| position.saturating_sub(start).min(line.len());
    let (from, to) = (within(span.start), within(span.end.max(span.start)));
    let column = line.get(..from).map_or(from, |before| before.chars().count()) + 1;
    let hidden = secrets(text.format, line, why.starts_with("unknown key"));
    let before = show(line, &hidden, 0..from).chars().count();
    let marked = show(line, &hidden, from..to).chars().count().max(1);
    let mut shown: String = show(line, &hidden, 0..line.len()).trim_end().into();
    let marked = marked.min(shown.chars().count().saturating_sub(before).max(1));
    let mut caret =
        format!("\n{:width$} | {:before$}{:^<marked$}", "", "", "", width = number.to_string().len());
    if shown.chars().count() > WIDTH {
        shown = shown.chars().take(WIDTH).chain(['…']).collect();
        caret = caret.chars().take(WIDTH + 8).collect();
    }
    format!("{}:{number}:{column}: {why}\n{number} | {shown}{caret}", text.name)
}

/// The number of the line, from 1 on, in which this byte is.
pub(super) fn line_number(text: &Text, position: usize) -> usize {
    let before = text.content.as_bytes().get(..position).unwrap_or(text.content.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

/// A message of a parser, which may quote what it has read.
pub(super) fn mask_urls(message: &str) -> String {
    show(message, &urls(message), 0..message.len())
}

/// A message of ours, in which what was read stands between quotation marks, and advice outside.
pub(super) fn mask_quoted(message: &str) -> String {
    let quoted = message.find('"').zip(message.rfind('"')).filter(|(first, last)| first < last);
    let Some((first, last)) = quoted else {
        return message.to_owned();
    };
    let (before, rest) = message.split_at(first + 1);
    let (inside, after) = rest.split_at(last - first - 1);
    format!("{before}{}{after}", mask_urls(inside))
}

/// The line in which this byte is, and where it starts.
fn line_at(content: &str, position: usize) -> (usize, &str) {
    let mut position = position.min(content.len());
    while !content.is_char_boundary(position) {
        position -= 1;
    }
    let (before, after) = content.split_at(position);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let end = position + after.find('\n').unwrap_or(after.len());
    (start, content.get(start..end).unwrap_or_default())
}

/// What of a line is not to be seen, in order.
fn secrets(format: Format, line: &str, hides_value: bool) -> Vec<Range<usize>> {
    let rest = |start: usize| one(start, line.trim_end().len());
    match format {
        Format::Toml => match line.find('=').map(|equals| line.split_at(equals + 1)) {
            Some((key, value)) if hides_value || is_telling(key) => {
                rest(key.len() + (value.len() - value.trim_start().len()))
            }
            _ => Some(urls(line)).filter(|found| !found.is_empty()).unwrap_or_else(|| odd_strings(line)),
        },
        Format::Proxies => match urls(line) {
            found if found.is_empty() && !line.contains("://") => rest(0),
            found => found,
        },
        // TYPE HOST PORT, then user and password; or a URL, and nothing behind it.
        Format::Proxychains => {
            let is_url = line.split_whitespace().next().is_some_and(|word| word.contains("://"));
            let is_port = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
            let has_port = line.split_whitespace().nth(2).is_some_and(is_port);
            let login = word(line, if is_url { 1 } else { 2 + usize::from(has_port) });
            urls(line).into_iter().chain(login.into_iter().flat_map(rest)).collect()
        }
        Format::Torsocks => {
            let key = line.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
            let is_harmless = ["tor", "onion", "allow", "isolate"].iter().any(|start| key.starts_with(start));
            match word(line, 1) {
                Some(second) if !is_harmless => rest(second),
                _ => urls(line),
            }
        }
        Format::Dante => urls(line),
    }
}

/// Strings that might be a proxy with its password in some other shape: `HOST:PORT:USER:PASSWORD`, words, a query.
fn odd_strings(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for (number, part) in line.split(['"', '\'']).enumerate() {
        if number % 2 == 1 && is_odd(part) {
            found.push(start..start + part.len());
        }
        start += part.len() + 1;
    }
    found
}

fn is_odd(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let rest = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(rest, |(_, rest)| rest);
    let is_of_address = |letter: char| letter.is_ascii_hexdigit() || ":./[]".contains(letter);
    let has_fields = rest.matches(':').count() > 1 && !rest.chars().all(is_of_address);
    let lower = rest.to_ascii_lowercase();
    has_fields || rest.contains(char::is_whitespace) || lower.contains("%40") || lower.contains("pass")
}

fn one(start: usize, end: usize) -> Vec<Range<usize>> {
    std::iter::once(start..end).collect()
}

fn is_telling(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["pass", "secret", "token", "credential"].iter().any(|word| key.contains(word))
}

/// Where the word of this number starts, counted from 0.
fn word(line: &str, number: usize) -> Option<usize> {
    let mut was_space = true;
    let starts = line.char_indices().filter(move |(_, character)| {
        let starts = was_space && !character.is_whitespace();
        was_space = character.is_whitespace();
        starts
    });
    starts.map(|(position, _)| position).nth(number)
}

/// What may be credentials in the URLs of a text.
fn urls(text: &str) -> Vec<Range<usize>> {
    const MARK: &str = "://";
    let first = text.find(MARK).map(|at| at + MARK.len());
    match (first, text.rfind('@')) {
        (Some(start), Some(end)) if start < end => one(start, end),
        (None, Some(end)) => {
            let before = text.get(..end).unwrap_or_default();
            let quote = before.find(['"', '\'']).or_else(|| before.find('='));
            let start = quote.map_or(0, |at| at + 1);
            one(start, end)
        }
        // `scheme://user:password`, for want of a host: what is in the port's place is no number.
        (Some(_), _) => {
            text.match_indices(MARK).filter_map(|(at, _)| odd_port(text, at + MARK.len())).collect()
        }
        (None, None) => Vec::new(),
    }
}

fn odd_port(text: &str, start: usize) -> Option<Range<usize>> {
    let rest = text.get(start..)?;
    let end =
        rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';')).unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    let from = if authority.starts_with('[') { authority.find(']')? } else { 0 };
    let colon = from + authority.get(from..)?.find(':')? + 1;
    let port = authority.get(colon..)?;
    let digits = port.find(|c: char| !c.is_ascii_digit()).unwrap_or(port.len());
    let is_port =
        digits > 0 && port.get(digits..).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    (!is_port && !port.is_empty()).then(|| start + colon..start + end)
}

/// A part of a text, with what is hidden replaced, on one line, fit for a terminal.
fn show(text: &str, hidden: &[Range<usize>], part: Range<usize>) -> String {
    let mut shown = String::new();
    for (position, character) in text.char_indices().filter(|(position, _)| part.contains(position)) {
        match hidden.iter().find(|range| range.contains(&position)) {
            Some(range) if range.start == position => shown.push_str(HIDDEN),
            Some(_) => {}
            None if character == '\t' => shown.push(' '),
            None if character.is_control() => shown.extend(character.escape_debug()),
            None => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(format: Format, content: &str, wanted: &str) -> String {
        let start = content.find(wanted).unwrap();
        let text =
            Text { name: "file".into(), directory: "/".into(), content: content.to_owned().into(), format };
        render(&text, &(start..start + wanted.len()), "it is wrong")
    }

    #[test]
    fn a_caret_stands_below_what_is_wrong() {
        let shown = rendered(Format::Toml, "a = 1\n\torder = \"ö\" # é\n", "\"ö\"");
        assert_eq!(shown, "file:2:10: it is wrong\n2 |  order = \"ö\" # é\n  |          ^^^");
    }

    #[test]
    fn a_caret_stands_where_it_should_behind_what_is_hidden() {
        let shown = rendered(Format::Toml, "proxy = [\"socks5://u:secret@h:x\", 5]", "5]");
        assert_eq!(
            shown,
            "file:1:35: it is wrong\n1 | proxy = [\"socks5://***@h:x\", 5]\n  |                              ^^"
        );
        let shown = rendered(Format::Toml, "proxy = \"socks5://u:secret@h:x\"", "\"socks5://u:secret@h:x\"");
        assert!(
            shown.ends_with("\n1 | proxy = \"socks5://***@h:x\"\n  |         ^^^^^^^^^^^^^^^^^^"),
            "{shown}"
        );
    }

    #[test]
    fn no_secret_is_ever_shown() {
        for (format, line) in [
            (Format::Toml, "proxy = \"socks5://user:secret@h:1\""),
            (Format::Toml, "proxy = [\"socks5://user:sec:ret://@secret@h:1\", \"http://u:secret@h\"]"),
            (Format::Toml, "proxy = \"user:secret@h:1\""),
            (Format::Toml, "proxy = 'user:secret@h:1'"),
            (Format::Toml, "proxy = \"socks5://user:secret\""),
            (Format::Toml, "proxy = \"socks5://[::1]:5secret\""),
            (Format::Toml, "password = \"secret\""),
            (Format::Toml, "socks-pass=secret"),
            (Format::Proxies, "user:secret@h:1080"),
            (Format::Proxies, "secret"),
            (Format::Proxies, "socks5://u:secret@h"),
            (Format::Proxychains, "socks5 10.0.0.1 1080 user secret"),
            (Format::Proxychains, "socks5 10.0.0.1 secret"),
            (Format::Proxychains, "socks5 10.0.0.1 1080 user pa://secret"),
            (Format::Proxychains, "socks5 user:secret@10.0.0.1:1080"),
            (Format::Proxychains, "socks5://user:secret@10.0.0.1:1080"),
            (Format::Proxychains, "socks5://10.0.0.1:1080 user secret"),
            (Format::Torsocks, "SOCKS5Password secret"),
            (Format::Torsocks, "Socks5Pasword secret"),
        ] {
            for part in line.split_whitespace().chain([line]) {
                let shown = rendered(format, line, part);
                assert!(!shown.contains("secret") && shown.contains("***"), "{line}: {shown}");
            }
        }
    }

    #[test]
    fn what_a_message_quotes_is_masked_and_its_advice_is_not() {
        for (message, masked) in [
            ("no chain is \"socks5://u:secret@h\" (none)", "no chain is \"socks5://***@h\" (none)"),
            ("\"u:secret@h\" is no name", "\"***@h\" is no name"),
            ("write socks5://USER:PASSWORD@HOST:PORT", "write socks5://USER:PASSWORD@HOST:PORT"),
        ] {
            assert_eq!(mask_quoted(message), masked);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_shown(content in ".*\n.*", start in 0_usize..60, length in 0_usize..60) {
            let formats =
                [Format::Toml, Format::Proxies, Format::Proxychains, Format::Torsocks, Format::Dante];
            for format in formats {
                let content = content.clone().into();
                let text = Text { name: "file".into(), directory: "/".into(), content, format };
                let shown = render(&text, &(start..start + length), "it is wrong");
                assert_eq!(shown.lines().count(), 3, "{shown}");
            }
        }
    }
}
