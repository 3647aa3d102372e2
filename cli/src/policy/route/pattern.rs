//! What a rule calls names: of hosts, and of programs.
//!
//! A name, or one with `*` (any characters, dots too) and `?` (one character). A host's name may also begin with a dot: itself, and all
//! that is below it. Letters count alike in either case for hosts, whose final dot does not count at all; programs' count as they are.

use std::fmt;

use presocks_proto::name;
use wildmatch::WildMatch;

/// Names that a rule is about.
#[derive(Clone, PartialEq)]
pub(crate) enum Pattern {
    /// This one.
    Exact(String),
    /// This host and all below it.
    Below(String),
    /// All that look like this.
    Glob(WildMatch),
}

impl Pattern {
    /// Reads a pattern for names of hosts.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let shown = text.escape_debug();
        if !text.is_ascii() {
            return Err(format!("\"{shown}\" is not in ASCII; write the name as the DNS has it (xn--…)"));
        }
        let text = folded(text);
        let (is_below, rest) = text.strip_prefix('.').map_or((false, text.as_str()), |rest| (true, rest));
        let is_glob = is_glob(rest);
        if rest.is_empty() || rest.split('.').any(str::is_empty) || rest.len() > name::MAX {
            return Err(format!(
                "\"{shown}\" is not a name: a label between its dots is missing, or it is too long"
            ));
        }
        if looks_like_an_address(rest) {
            return Err(format!("\"{shown}\" is an address and not a name; write a network, as 10.0.0.0/8"));
        }
        let fits =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*' | b'?');
        if let Some(bad) = rest.chars().find(|letter| !letter.is_ascii() || !fits(*letter as u8)) {
            return Err(format!("{bad:?} in \"{shown}\" is in no host's name"));
        }
        match (is_below, is_glob) {
            (true, true) => {
                Err(format!("\"{shown}\" has both a dot in front and * or ?; write \"*{shown}\""))
            }
            (true, false) => Ok(Self::Below(rest.to_owned())),
            (false, true) => Ok(Self::Glob(WildMatch::new(rest))),
            (false, false) => Ok(Self::Exact(rest.to_owned())),
        }
    }

    /// Reads a pattern for names of programs.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead.
    pub(crate) fn program(text: &str) -> Result<Self, String> {
        let shown = text.escape_debug();
        // It is shown as it is.
        if text.is_empty() || text.contains(char::is_control) {
            return Err(format!("\"{shown}\" is not a program's name"));
        }
        if text.contains('/') {
            return Err(format!("\"{shown}\" is a path; write the program's name without its directory"));
        }
        Ok(if is_glob(text) { Self::Glob(WildMatch::new(text)) } else { Self::Exact(text.to_owned()) })
    }

    /// Is this host's name one of them?
    pub(crate) fn matches(&self, host: &[u8]) -> bool {
        let host = folded(&String::from_utf8_lossy(host));
        match self {
            Self::Exact(name) => *name == host,
            Self::Below(name) => {
                let above = host.strip_suffix(name.as_str());
                above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
            Self::Glob(glob) => glob.matches(&host),
        }
    }

    /// Is this program's name one of them?
    pub(crate) fn matches_program(&self, program: &str) -> bool {
        match self {
            Self::Exact(name) | Self::Below(name) => name == program,
            Self::Glob(glob) => glob.matches(program),
        }
    }
}

/// As it was written.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, ".{name}"),
            Self::Glob(glob) => glob.fmt(f),
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({self})")
    }
}

/// As names are compared: in lower case, and without the dot at the end.
pub(super) fn folded(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// No top-level domain is a number.
fn looks_like_an_address(text: &str) -> bool {
    text.contains(|letter: char| letter.is_ascii_digit())
        && text.chars().all(|letter| letter.is_ascii_digit() || matches!(letter, '.' | '*' | '?'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, host: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(host.as_bytes())
    }

    #[test]
    fn a_name_is_itself_in_any_case_and_with_a_dot_at_its_end() {
        assert!(matches("Example.ORG", "example.org") && matches("example.org.", "EXAMPLE.org."));
        assert!(!matches("example.org", "www.example.org") && !matches("example.org", "example.or"));
        assert!(matches("localhost", "localhost") && matches("_dmarc.a-b", "_dmarc.a-b"));
    }

    #[test]
    fn a_dot_in_front_means_the_name_and_all_below_it_and_no_neighbour() {
        for host in ["example.org", "www.example.org", "a.b.Example.org."] {
            assert!(matches(".example.org", host), "{host}");
        }
        for host in ["badexample.org", "org", "example.org.evil", ""] {
            assert!(!matches(".example.org", host), "{host}");
        }
    }

    #[test]
    fn a_star_is_any_characters_and_a_question_mark_one() {
        assert!(matches("*.corp", "a.corp") && matches("*.CORP", "a.b.corp.") && matches("*", "anything"));
        assert!(!matches("*.corp", "corp") && !matches("*.corp", "a.corp.org"));
        assert!(matches("h?st.example", "host.example") && !matches("h?st.example", "hst.example"));
    }

    #[test]
    fn names_that_are_no_text_match_what_is_any() {
        assert!(Pattern::parse("*.corp").unwrap().matches(b"\xff\xfe.corp"));
        assert!(!Pattern::parse("a.corp").unwrap().matches(b"\xff.corp"));
    }

    #[test]
    fn programs_are_called_as_they_are() {
        let matches = |pattern: &str, program| Pattern::program(pattern).unwrap().matches_program(program);
        assert!(matches("ssh", "ssh") && matches("python*", "python3.13") && matches(".hidden", ".hidden"));
        assert!(!matches("ssh", "SSH") && !matches("ssh", "sshd") && !matches(".hidden", "a.hidden"));
        assert!(matches("Web Content", "Web Content"));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_write() {
        for (pattern, word) in [
            ("", "missing"),
            (".", "missing"),
            ("a..b", "missing"),
            ("..a", "missing"),
            ("bücher.example", "xn--"),
            ("10.0.0.1", "network"),
            ("192.168.*", "network"),
            (".*.corp", "*.*.corp"),
            ("a:80", "':'"),
            ("2001:db8::1", "':'"),
            ("a/b", "'/'"),
            ("a b", "' '"),
            ("a\u{1b}b", "\\u{1b}"),
        ] {
            let error = Pattern::parse(pattern).expect_err(pattern);
            assert!(error.contains(word) && !error.contains('\u{1b}'), "{pattern:?}: {error}");
        }
        assert!(Pattern::parse(&"a".repeat(256)).is_err());
        for (pattern, word) in [("", "name"), ("/usr/bin/ssh", "directory"), ("a\u{1b}", "name")] {
            assert!(Pattern::program(pattern).expect_err(pattern).contains(word), "{pattern:?}");
        }
    }

    /// By all ways in which a star could be taken.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|taken| naive(rest, &text[taken..])),
            Some((b'?', rest)) => !text.is_empty() && naive(rest, &text[1..]),
            Some((letter, rest)) => text.first() == Some(letter) && naive(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String, host: Vec<u8>) {
            for pattern in [Pattern::parse(&text), Pattern::program(&text)].into_iter().flatten() {
                let _ = (pattern.matches(&host), pattern.matches_program(&text), pattern.to_string());
            }
        }

        #[test]
        fn it_matches_as_a_naive_reader_would(pattern in "[.]?[ab.*?]{1,7}", host in "[abAB.]{0,8}") {
            if let Ok(parsed) = Pattern::parse(&pattern) {
                let (pattern, given, host) = (folded(&pattern), host.as_bytes(), folded(&host));
                let expected = match pattern.strip_prefix('.') {
                    Some(name) => host == name || host.ends_with(&pattern),
                    None => naive(pattern.as_bytes(), host.as_bytes()),
                };
                prop_assert_eq!(parsed.matches(given), expected);
            }
        }

        #[test]
        fn what_is_shown_reads_as_the_same(pattern in "[.]?[a-c.*?-]{1,9}") {
            if let Ok(parsed) = Pattern::parse(&pattern) {
                prop_assert_eq!(Pattern::parse(&parsed.to_string()), Ok(parsed));
            }
        }
    }
}
