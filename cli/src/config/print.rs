//! `--print-config`: the merged configuration, as config.toml would have it, without passwords.

use super::Profile;

/// Instead of a password. What has it in it cannot be read back, and says so.
const MASK: &str = "***";

/// The configuration as TOML.
///
/// # Errors
/// It holds a path that is not UTF-8.
pub(crate) fn print(mut profile: Profile) -> Result<String, String> {
    for url in profile.urls_mut() {
        url.value = masked(&url.value);
    }
    toml::to_string(&profile).map_err(|error| error.to_string())
}

/// A URL with [`MASK`] for its password.
fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((credentials, host)) => match credentials.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:{MASK}@{host}"),
            None => url.to_owned(),
        },
        None => url.to_owned(),
    }
}
