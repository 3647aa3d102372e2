//! Who else can read a file with a password in it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Profile;
use super::place::Said;
use super::text::Text;
use crate::proxy::Proxy;

/// Group and others.
const OTHERS_READ: u32 = 0o044;

/// Adds a note when somebody can read this file's passwords beside us and root. `urls` are those in it.
pub(super) fn check<'a>(
    text: &Text,
    path: &Path,
    urls: impl IntoIterator<Item = &'a Said<String>>,
    notes: &mut Vec<String>,
) {
    let has_password = |url: &Said<String>| Proxy::parse(&url.value).is_ok_and(|proxy| proxy.has_password());
    let status = fs::metadata(path).ok().filter(fs::Metadata::is_file);
    let (Some(status), true) = (status, urls.into_iter().any(has_password)) else {
        return;
    };
    let (name, owner) = (&text.name, status.uid());
    if status.mode() & OTHERS_READ != 0 {
        notes.push(format!("{name} holds a password, and other users can read it: chmod 600 {name}"));
    } else if owner != rustix::process::geteuid().as_raw() && owner != 0 {
        notes.push(format!(
            "{name} holds a password, and belongs to another user: chown it to the one who uses it"
        ));
    }
}

/// All URLs of a file, those of its profiles, too.
pub(super) fn urls(profile: &Profile) -> Vec<&Said<String>> {
    let chains = profile.chains.values().filter_map(|chain| chain.value.proxies.as_ref());
    let listed = profile.proxy.iter().chain(chains).flat_map(|list| &list.items);
    let inner = profile.profiles.values().flat_map(|profile| urls(&profile.value));
    listed.chain(profile.proxies.values()).chain(inner).collect()
}
