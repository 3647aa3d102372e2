//! What a path means that was written somewhere: `~` is the home directory, and what is relative starts from the directory of the file
//! that it stands in, or, in an option or a variable, from the working directory.
//!
//! All paths of a configuration end up absolute: printed, they mean the same wherever they are read back.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::place::{Place, Said};
use crate::proxy::Proxy;

/// How paths are resolved.
pub(super) struct Paths {
    /// What `HOME` says.
    pub(super) home: Option<OsString>,
}

impl Paths {
    /// Resolves a path; one that was typed and is relative stays so, as it is to be shown.
    ///
    /// # Errors
    /// It is in the home directory, and nobody says where that is.
    pub(super) fn expand(&self, said: &mut Said<PathBuf>) -> Result<(), String> {
        said.value = self.expanded(&said.value, &said.place).map_err(|why| said.fault(why))?;
        Ok(())
    }

    /// Resolves the paths in a proxy's URL.
    ///
    /// # Errors
    /// As of [`Paths::expand`].
    pub(super) fn resolve_url(&self, url: &mut Said<String>) -> Result<(), String> {
        let resolved = |path: &Path| absolute(&self.expanded(path, &url.place)?);
        url.value = Proxy::with_paths(&url.value, resolved).map_err(|why| url.fault(why))?;
        Ok(())
    }

    fn expanded(&self, path: &Path, place: &Place) -> Result<PathBuf, String> {
        Ok(match place.directory() {
            Some(directory) => directory.join(self.at_home(path)?),
            None => self.at_home(path)?,
        })
    }

    /// The path, with the home directory for `~`.
    ///
    /// # Errors
    /// Nobody says where that is.
    pub(super) fn at_home(&self, path: &Path) -> Result<PathBuf, String> {
        match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => Ok(Path::new(home).join(rest)),
            (Ok(_), None) => Err("~ is the home directory, and HOME does not say where that is".into()),
            (Err(_), _) => Ok(path.to_owned()),
        }
    }
}

/// The path from the root directory on.
///
/// # Errors
/// There is no working directory.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("the working directory is not known: {error}"))
}
