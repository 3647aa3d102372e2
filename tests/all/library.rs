//! Where the shim library is put: only where nobody else can put another in its place, and where LD_PRELOAD can name it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use presocks_tests::lab::USER_ID;
use presocks_tests::{Lab, Outcome, binary, missing};

/// A user of the machine who is neither root nor the one that runs presocks.
const OTHER: u32 = USER_ID + 1;

/// Prints where the library is, and that it is loaded from there.
const PRINT: [&str; 3] = ["sh", "-c", "echo \"$LD_PRELOAD\"; grep -q 'libpresocks.*so' /proc/self/maps"];

fn directory(path: &Path, owner: u32, mode: u32) {
    fs::create_dir(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
}

/// `LD_PRELOAD` begins with the directory `used`.
#[track_caller]
fn is_in(outcome: &Outcome, used: &Path) {
    let used = used.to_str().unwrap();
    assert!(outcome.success().stdout().starts_with(&format!("{used}/")), "{used}\n{}", outcome.report());
}

#[test]
fn a_directory_that_others_could_replace_or_that_ld_preload_cannot_name_is_passed_over() {
    if missing(&["sh"]) {
        return;
    }
    let lab = Lab::new();
    let within = |name: &str| lab.directory().join(name);
    for (name, owner, mode) in [
        ("user-home/.cache", USER_ID, 0o700),
        ("good", USER_ID, 0o700),
        ("dollar$LIB", USER_ID, 0o700),
        ("open", USER_ID, 0o777),
        ("open/own", USER_ID, 0o700),
        ("group", USER_ID, 0o775),
        ("group/own", USER_ID, 0o700),
        ("sticky", USER_ID, 0o1777),
        ("sticky/own", USER_ID, 0o700),
        ("others", OTHER, 0o755),
        ("others/own", USER_ID, 0o700),
        ("others/open", OTHER, 0o777),
        ("others-sticky", OTHER, 0o1777),
        ("others-sticky/own", USER_ID, 0o700),
        ("roots-sticky", 0, 0o1777),
        ("roots-sticky/own", USER_ID, 0o700),
    ] {
        directory(&within(name), owner, mode);
    }
    for (name, owner, target) in [
        ("link", 0, within("good")),
        ("relative", USER_ID, "roots-sticky/../good".into()),
        ("others/link", OTHER, within("good")),
        ("roots-sticky/others-link", OTHER, within("good")),
        ("link-to-others", USER_ID, "others-sticky/own".into()),
        ("link-by-others", USER_ID, "others/../good".into()),
        ("loop", USER_ID, "loop".into()),
    ] {
        symlink(&target, within(name)).unwrap();
        lchown(within(name), Some(owner), Some(owner)).unwrap();
    }
    let passed_over = "user-home/.cache";
    for (offered, used) in [
        ("good", "good"),
        ("sticky/own", "sticky/own"),
        ("roots-sticky/own", "roots-sticky/own"),
        ("link", "link"),
        ("relative", "relative"),
        ("open/own", passed_over),
        ("group/own", passed_over),
        ("others/own", passed_over),
        ("others/open", passed_over),
        ("others-sticky", passed_over),
        ("others-sticky/own", passed_over),
        ("others/link", passed_over),
        ("roots-sticky/others-link", passed_over),
        ("link-to-others", passed_over),
        ("link-by-others", passed_over),
        ("loop", passed_over),
        ("dollar$LIB", passed_over),
    ] {
        let print = lab.presocks(PRINT).proxy("socks5://127.0.0.1:1");
        let outcome = print.env("XDG_RUNTIME_DIR", within(offered)).ordinary_user().run();
        is_in(&outcome, &within(used).join("presocks"));
    }
}

/// Runs presocks as root in mounts of its own, prepared by `script`, with an ordinary user's home.
fn as_root_with_anothers_home(lab: &Lab, script: &str, limited: &str) -> Outcome {
    let script = format!("{script}\n{limited} exec \"$@\"");
    let presocks = binary::presocks().to_str().unwrap();
    let within = ["unshare", "--mount", "sh", "-ec", &script, "sh", presocks, "-p", "socks5://127.0.0.1:1"];
    let run = lab.bare(within.into_iter().chain(PRINT));
    run.env("HOME", lab.directory().join("user-home"))
        .env("XDG_CACHE_HOME", lab.directory().join("others"))
        .run()
}

#[test]
fn root_never_loads_a_library_from_a_directory_of_another_users() {
    if missing(&["sh", "unshare", "mount", "chown"]) {
        return;
    }
    let lab = Lab::new();
    let within = |name: &str| lab.directory().join(name);
    directory(&within("user-home/.cache"), USER_ID, 0o755);
    directory(&within("others"), OTHER, 0o1777);
    let read_only = "mount -o remount,bind,ro /run";
    let in_tmp: PathBuf = "/tmp/presocks-0".into();
    is_in(&as_root_with_anothers_home(&lab, read_only, ""), &in_tmp);
    is_in(&as_root_with_anothers_home(&lab, read_only, "unset XDG_CACHE_HOME;"), &in_tmp);
    let taken = format!(
        "{read_only}\nmkdir {0}; chown {OTHER} {0}; mount --bind {0} /tmp/presocks-0",
        within("taken").display()
    );
    let refused = as_root_with_anothers_home(&lab, &taken, "");
    refused.code(125).stdout_is("").stderr_has("there is no directory for the shim library");
    for (tried, why) in [
        ("/run/presocks", "Read-only file system".to_owned()),
        (
            within("others/presocks").to_str().unwrap(),
            format!("{} belongs to another user", within("others").display()),
        ),
        ("/tmp/presocks-0", "/tmp/presocks-0 belongs to another user".to_owned()),
    ] {
        let line = format!("  {tried}: {why}");
        assert!(refused.stderr().contains(&line), "{line}\n{}", refused.report());
    }
    for planted in ["user-home/.cache", "others"] {
        assert_eq!(fs::read_dir(within(planted)).unwrap().count(), 0, "something is in {planted}");
    }
}

#[test]
fn a_directory_from_which_nothing_runs_is_passed_over() {
    if missing(&["sh", "unshare", "mount"]) {
        return;
    }
    let lab = Lab::new();
    directory(&lab.directory().join("root-home/.cache"), 0, 0o700);
    let presocks = binary::presocks().to_str().unwrap();
    let script = "mount -t tmpfs -o noexec,mode=755 tmpfs /run; exec \"$@\"";
    let within = ["unshare", "--mount", "sh", "-ec", script, "sh", presocks, "-p", "socks5://127.0.0.1:1"];
    let outcome = lab.bare(within.into_iter().chain(PRINT)).run();
    is_in(&outcome, &lab.directory().join("root-home/.cache/presocks"));
}

#[test]
fn a_home_is_used_where_root_has_no_number_in_the_user_namespace() {
    if missing(&["sh", "unshare", "chown"]) {
        return;
    }
    let lab = Lab::new();
    let prepare = format!("mkdir -p /run/home/.cache && chown -R {USER_ID} /run/home");
    lab.bare(["sh", "-c", &prepare]).run().success();
    let presocks = binary::presocks().to_str().unwrap();
    let within = ["unshare", "--map-root-user", presocks, "-p", "socks5://127.0.0.1:1"];
    let run = lab.bare(within.into_iter().chain(PRINT)).ordinary_user();
    is_in(&run.env("HOME", "/run/home").run(), Path::new("/run/home/.cache/presocks"));
}
