//! Who else can read a file with a password in it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::place::{Format, Text};

/// Adds a note when the file holds a password and somebody beside its owner can read it, or its owner is neither we nor root.
pub(super) fn check(text: &Text, path: &Path, notes: &mut Vec<String>) {
    let Ok(status) = fs::metadata(path) else {
        return;
    };
    // A pipe is read once, and by us; what stands behind /dev/fd has no name to change.
    if !status.is_file() || !holds_password(text) {
        return;
    }
    let own = rustix::process::geteuid().as_raw();
    if status.mode() & 0o044 != 0 {
        notes.push(format!("{0} holds a password, and other users can read it: chmod 600 {0}", text.name));
    } else if status.uid() != own && status.uid() != 0 {
        notes.push(format!("{} holds a password, and belongs to another user: chown it", text.name));
    }
}

fn holds_password(text: &Text) -> bool {
    let lines = text.content.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let has_url = |line: &str| {
        let credentials = line.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
        credentials.is_some_and(|(credentials, _)| credentials.contains(':'))
    };
    let mut lines = lines.filter(|line| {
        has_url(line)
            || match text.format {
                Format::Proxychains => {
                    let mut words = line.split_whitespace();
                    matches!(words.next(), Some("socks4" | "socks5" | "http")) && words.count() > 3
                }
                Format::Torsocks => line.starts_with("SOCKS5Password"),
                Format::Toml | Format::Proxies | Format::Dante => false,
            }
    });
    lines.next().is_some()
}
