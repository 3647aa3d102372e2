//! A file that has been read.

use std::path::PathBuf;

use zeroize::Zeroizing;

/// A file that has been read.
pub(crate) struct Text {
    /// Its path, as it is to be shown.
    pub(crate) name: String,
    /// What relative paths in it start from.
    pub(crate) directory: PathBuf,
    pub(crate) content: Zeroizing<String>,
    pub(crate) format: Format,
}

/// What a file holds: it decides what may be shown of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Toml,
    /// A URL per line.
    Proxies,
    Proxychains,
    Torsocks,
    Dante,
}
