//! The shim as a file: what it offers to the programs that it is loaded into, and what it drags along.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use presocks_tests::binary::{cargo, target_directory, workspace};
use presocks_tests::requirement::installed;

/// Builds the shim as the command line tool's build script does.
fn shim() -> PathBuf {
    cargo(&["build", "--quiet", "--package", "presocks-shim", "--profile", "shim"]);
    target_directory().join("shim/libpresocks.so")
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// True, with a word about it, when binutils are missing (they come with every compiler).
fn no_binutils() -> bool {
    let missing = ["nm", "readelf"].iter().any(|program| !installed(program));
    if missing {
        assert!(!std::env::var("CI").is_ok_and(|value| value == "true"), "binutils are missing");
        let _ = writeln!(std::io::stderr(), "skipped: binutils are missing");
    }
    missing
}

#[test]
fn the_shim_exports_exactly_the_listed_symbols() {
    if no_binutils() {
        return;
    }
    let listing = output("nm", &["--dynamic", "--defined-only", "--format=posix", &shim().to_string_lossy()]);
    let exported: BTreeSet<_> = listing.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let list = std::fs::read_to_string(workspace().join("shim/exports.txt")).unwrap();
    let listed: BTreeSet<_> =
        list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let (surplus, lacking): (Vec<_>, Vec<_>) =
        (exported.difference(&listed).collect(), listed.difference(&exported).collect());
    assert!(
        surplus.is_empty() && lacking.is_empty(),
        "exported but not listed: {surplus:?}; listed but not exported: {lacking:?}"
    );
}

#[test]
fn the_shim_needs_libc_and_nothing_else() {
    if no_binutils() {
        return;
    }
    let listing = output("readelf", &["--dynamic", "--wide", &shim().to_string_lossy()]);
    let needed = listing
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split(['[', ']']).nth(1));
    let surplus: Vec<_> = needed
        .filter(|name| !["libc.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"].contains(name))
        .collect();
    assert!(surplus.is_empty(), "the shim needs {surplus:?}");
    assert!(listing.contains("libc.so.6"), "{listing}");
}
