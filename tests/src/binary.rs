//! Where the program under test is: `PRESOCKS_BIN`, else the workspace's release build, made once per process.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of the `presocks` binary.
///
/// The harness is a crate of its own, so Cargo does not hand it the binary's path; and `cargo test` must not depend
/// on what happens to lie in the target directory, hence the build.
pub fn presocks() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("PRESOCKS_BIN") {
        Some(given) => {
            std::fs::canonicalize(&given).unwrap_or_else(|error| panic!("PRESOCKS_BIN {given:?}: {error}"))
        }
        None => build(),
    })
}

/// The workspace's root directory.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// The workspace's target directory, `CARGO_TARGET_DIR` respected.
#[must_use]
pub fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), |given| workspace().join(given))
}

/// Runs Cargo in the workspace; panics when it fails.
pub fn cargo(arguments: &[&str]) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let status = Command::new(cargo).args(arguments).current_dir(workspace()).status().expect("run cargo");
    assert!(status.success(), "cargo {arguments:?}: {status}");
}

fn build() -> PathBuf {
    cargo(&["build", "--quiet", "--release", "--package", "presocks", "--bin", "presocks"]);
    target_directory().join("release/presocks")
}
