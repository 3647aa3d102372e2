//! Builds the shim and hands its file to the crate: one binary installs the product.
//!
//! The shim is a separate cargo run because it needs its own profile (`panic = "abort"`, whole-program optimisation) whatever
//! profile the tool is built with, and its own target directory because cargo holds a lock on the outer one.

use std::env;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("cannot build the shim: {why}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target = variable("TARGET")?;
    let root = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("..");
    for input in
        ["Cargo.toml", "Cargo.lock", "shim", "abi/Cargo.toml", "abi/src", "proto/Cargo.toml", "proto/src"]
    {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let directory = out.join("shim");
    let status = Command::new(variable("CARGO")?)
        .args(["build", "--quiet", "--package", "presocks-shim", "--profile", "shim", "--target", &target])
        .arg("--manifest-path")
        .arg(root.join("shim/Cargo.toml"))
        .arg("--target-dir")
        .arg(&directory)
        // What is meant for the tool (a linter, sanitizers, coverage) must not reach into other people's processes.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .map_err(|error| format!("cargo does not start: {error}"))?;
    if !status.success() {
        return Err(format!("cargo ended with {status}"));
    }
    let built = directory.join(target).join("shim/libpresocks.so");
    let shim = std::fs::read(&built).map_err(|error| format!("{}: {error}", built.display()))?;
    std::fs::write(out.join("libpresocks.so"), &shim).map_err(|error| format!("libpresocks.so: {error}"))?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&shim);
    println!("cargo::rustc-env=SHIM_NAME=libpresocks-{:016x}.so", hasher.finish());
    Ok(())
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}
