//! Where the shim library is put: only where nobody else can put another in its place, and where LD_PRELOAD can name it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use presocks_tests::lab::USER_ID;
use presocks_tests::{Lab, missing};

/// Makes a directory of the ordinary user's.
fn own(path: &Path, mode: u32) {
    fs::create_dir(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    chown(path, Some(USER_ID), Some(USER_ID)).unwrap();
}

#[test]
fn a_directory_that_others_could_replace_or_that_ld_preload_cannot_name_is_passed_over() {
    if missing(&["sh"]) {
        return;
    }
    let lab = Lab::new();
    let within = |name: &str| lab.directory().join(name);
    own(&within("user-home/.cache"), 0o700);
    own(&within("good"), 0o700);
    own(&within("dollar$LIB"), 0o700);
    own(&within("open"), 0o777);
    own(&within("open/own"), 0o700);
    own(&within("sticky"), 0o1777);
    own(&within("sticky/own"), 0o700);
    let table = [
        ("good", "good"),
        ("sticky/own", "sticky/own"),
        ("open/own", "user-home/.cache"),
        ("dollar$LIB", "user-home/.cache"),
    ];
    for (offered, used) in table {
        let print = lab.presocks(["sh", "-c", "echo \"$LD_PRELOAD\""]).proxy("socks5://127.0.0.1:1");
        let outcome = print.env("XDG_RUNTIME_DIR", within(offered)).ordinary_user().run();
        let used = within(used).join("presocks").to_str().unwrap().to_owned();
        assert!(outcome.success().stdout().starts_with(&used), "{offered}\n{}", outcome.report());
    }
}
