//! Reading a file: its text, and what config.toml makes of it.

use std::fs;
use std::path::Path;
use std::rc::Rc;

use zeroize::Zeroizing;

use super::excerpt;
use super::place::{self, Place};
use super::profile::Profile;
use super::text::{Format, Text};

/// Reads a file.
///
/// # Errors
/// Why it cannot be read; that it is not UTF-8.
pub(super) fn read(path: &Path, format: impl Fn(&str) -> Format) -> Result<Rc<Text>, String> {
    let name = path.display().to_string().escape_debug().to_string();
    let bytes =
        fs::read(path).map_err(|error| format!("cannot read {}: {error}", excerpt::mask_urls(&name)))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let bytes = Zeroizing::new(error.into_bytes());
        let line = bytes.iter().take(valid).filter(|byte| **byte == b'\n').count() + 1;
        format!("{name}:{line}: this line is not UTF-8")
    })?;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let directory = absolute.parent().unwrap_or(Path::new("/")).to_owned();
    Ok(Rc::new(Text { name, directory, format: format(&text), content: Zeroizing::new(text) }))
}

/// Reads config.toml.
///
/// # Errors
/// What is wrong with it, with the line and a caret.
pub(super) fn profile(text: &Rc<Text>) -> Result<Profile, String> {
    let profile: Profile =
        place::reading(text, || toml::from_str(&text.content)).map_err(|error| fault(text, &error))?;
    for inner in profile.profiles.values() {
        if let Some((name, deeper)) = inner.value.profiles.first_key_value() {
            let name = name.escape_debug();
            return Err(deeper.fault(format!(
                "the profile \"{name}\" is inside another one; profiles stand side by side"
            )));
        }
    }
    Ok(profile)
}

fn fault(text: &Rc<Text>, error: &toml::de::Error) -> String {
    let why = excerpt::mask_urls(error.message()).replace("unknown field", "unknown key");
    match error.span() {
        Some(span) => Place::Part(Rc::clone(text), span).fault(why),
        None => format!("{}: {why}", text.name),
    }
}
