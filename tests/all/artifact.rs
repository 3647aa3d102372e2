//! The shim as a file: what it offers to the programs that it is loaded into, and what it drags along.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use presocks_tests::binary::{cargo, target_directory, workspace};
use presocks_tests::requirement::missing_programs;

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

#[test]
fn the_shim_exports_exactly_the_listed_symbols() {
    if missing_programs(&["nm", "readelf"]) {
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
    if missing_programs(&["nm", "readelf"]) {
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
