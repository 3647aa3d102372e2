//! The words of a socks.conf, with their places: `KEY:`, braces, and all else; a comment goes from `#` to the end of its line.

use std::iter::Peekable;
use std::rc::Rc;
use std::vec::IntoIter;

use super::super::super::place::{Place, Said};
use super::super::super::text::Text;

pub(super) enum Token {
    /// A word with a colon behind it.
    Key(Said<String>),
    Word(Said<String>),
    Open(Place),
    Close(Place),
}

/// A key and what stands behind it.
pub(super) struct Statement {
    pub(super) key: Said<String>,
    pub(super) values: Vec<Said<String>>,
}

/// All words of a file.
pub(super) fn all(text: &Rc<Text>) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut position = 0;
    for line in text.content.split_inclusive('\n') {
        let code = line.split('#').next().unwrap_or_default();
        let mut from = 0;
        // A colon ends a word only where a key can be: an address may have colons, too.
        let part = |from: usize, to: usize| Place::Part(Rc::clone(text), position + from..position + to);
        while let Some(rest) = code.get(from..).filter(|rest| !rest.trim_start().is_empty()) {
            from += rest.len() - rest.trim_start().len();
            let rest = rest.trim_start();
            let brace = rest.starts_with(['{', '}']);
            let end = rest.find(|letter: char| letter.is_whitespace() || matches!(letter, '{' | '}'));
            let word = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            let key = word.split_once(':').map(|(key, _)| key).filter(|key| is_key(key));
            let length = match key {
                _ if brace => 1,
                Some(key) => key.len() + 1,
                None => word.len(),
            };
            let place = part(from, from + length);
            match (key, word) {
                _ if rest.starts_with('{') => tokens.push(Token::Open(place)),
                _ if rest.starts_with('}') => tokens.push(Token::Close(place)),
                (Some(key), _) => {
                    tokens.push(Token::Key(Said::new(key.to_owned(), &part(from, from + key.len()))))
                }
                // `to : ADDRESS`
                (None, ":") => match tokens.pop() {
                    Some(Token::Word(word)) => tokens.push(Token::Key(word)),
                    other => tokens.extend(other),
                },
                (None, word) => tokens.push(Token::Word(Said::new(word.to_owned(), &place))),
            }
            from += length;
        }
        position += line.len();
    }
    tokens
}

/// Begins a word like `from:`? Keys are letters with a dot at most; an IPv6 address begins otherwise, or with hexadecimal digits alone.
fn is_key(word: &str) -> bool {
    let is_word = word.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'-'));
    is_word && word.bytes().any(|byte| !byte.is_ascii_hexdigit())
}

/// What stands behind a key.
pub(super) fn statement(key: Said<String>, tokens: &mut Peekable<IntoIter<Token>>) -> Statement {
    let mut values = Vec::new();
    while let Some(Token::Word(word)) =
        tokens.next_if(|token| matches!(token, Token::Word(word) if word.value != "route"))
    {
        values.push(word);
    }
    Statement { key, values }
}

/// The statements between two braces.
pub(super) fn block(place: &Place, tokens: &mut Peekable<IntoIter<Token>>) -> Result<Vec<Statement>, String> {
    if !matches!(tokens.next(), Some(Token::Open(_))) {
        return Err(place.fault("behind this must come {"));
    }
    let mut statements = Vec::new();
    loop {
        match tokens.next() {
            Some(Token::Key(key)) => statements.push(statement(key, tokens)),
            Some(Token::Close(_)) => return Ok(statements),
            Some(Token::Word(word)) => return Err(word.fault("a key with a colon is expected here")),
            Some(Token::Open(brace)) => return Err(brace.fault("this brace is too much")),
            None => return Err(place.fault("this block has no end")),
        }
    }
}
