use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use rustix::fs::{CWD, mknodat};
use tempfile::TempDir;

use super::*;

const NAME: &str = "library.so";

/// A directory of the user's, and those of these names in it, with their modes.
fn directories(modes: &[(&str, u32)]) -> TempDir {
    let all = tempfile::tempdir().unwrap();
    for (name, mode) in modes {
        fs::create_dir(all.path().join(name)).unwrap();
        fs::set_permissions(all.path().join(name), Permissions::from_mode(*mode)).unwrap();
    }
    all
}

/// Why a path is not reached.
fn refusal(path: &Path) -> String {
    Directory::reach(path).err().unwrap_or_else(|| panic!("{} is reached", path.display()))
}

fn names(directory: &Path) -> Vec<OsString> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

fn has_file(directory: &Directory) -> Result<bool, String> {
    directory.has_file(NAME.as_ref(), b"whole")
}

#[test]
fn what_is_put_in_the_place_of_a_directory_after_it_was_judged_gets_nothing() {
    let all = directories(&[("ours", 0o700), ("planted", 0o700)]);
    let (ours, moved) = (all.path().join("ours"), all.path().join("moved"));
    let directory = Directory::reach(&ours).unwrap();
    let own = directory.own("presocks".as_ref(), 0o700).unwrap();
    fs::rename(&ours, &moved).unwrap();
    symlink("planted", &ours).unwrap();
    own.put_file(NAME.as_ref(), b"whole", 0o700).unwrap();
    own.put_link("link".as_ref(), Path::new(NAME)).unwrap();
    directory.own("another".as_ref(), 0o700).unwrap();
    assert_eq!(names(&all.path().join("planted")), [] as [&str; 0]);
    assert_eq!(fs::read(moved.join("presocks/link")).unwrap(), b"whole");
    assert!(moved.join("another").is_dir());
}

#[test]
fn a_directory_that_others_can_write_is_refused_unless_it_is_sticky() {
    let modes = [("open", 0o777), ("group", 0o770), ("others", 0o702), ("sticky", 0o1777), ("closed", 0o700)];
    let all = directories(&modes);
    for (name, mode) in modes {
        let within = all.path().join(name).join("within");
        fs::create_dir(&within).unwrap();
        if mode & OTHERS_WRITE == 0 || mode & libc::S_ISVTX != 0 {
            assert!(Directory::reach(&within).is_ok(), "{name}");
        } else {
            let why = format!("other users can write {}", all.path().join(name).display());
            assert_eq!(refusal(&within), why);
            assert_eq!(refusal(&all.path().join(name)), why);
        }
    }
}

#[test]
fn links_are_followed_and_what_they_lead_through_is_judged() {
    let all = directories(&[("good", 0o700), ("good/inner", 0o700), ("open", 0o777), ("open/inner", 0o700)]);
    let link = |name: &str, target: &Path| symlink(target, all.path().join(name)).unwrap();
    link("relative", Path::new("good/./inner/.."));
    link("absolute", &all.path().join("good"));
    link("twice", Path::new("relative/inner"));
    link("through", Path::new("open/../good"));
    link("into", &all.path().join("open/inner"));
    link("round", Path::new("round"));
    link("nowhere", Path::new("nothing"));
    fs::write(all.path().join("file"), "").unwrap();
    for name in ["relative", "absolute", "twice", "twice/..", "good/../absolute/inner"] {
        let at = Directory::reach(&all.path().join(name)).unwrap();
        assert!(at.path.starts_with(all.path().canonicalize().unwrap().join("good")), "{name}");
    }
    for name in ["through", "into"] {
        assert!(refusal(&all.path().join(name)).starts_with("other users can write"), "{name}");
    }
    for (name, why) in [("round", "symbolic link"), ("nowhere", "No such file"), ("file", "Not a directory")]
    {
        assert!(refusal(&all.path().join(name)).contains(why), "{name}: {}", refusal(&all.path().join(name)));
    }
    assert!(refusal(Path::new("/proc/self/cwd")).contains("leads every process elsewhere"));
}

#[test]
fn a_directory_of_ours_has_the_mode_that_is_meant_and_is_refused_when_something_else_has_its_name() {
    let all = directories(&[("open", 0o777), ("made", 0o700)]);
    symlink("made", all.path().join("link")).unwrap();
    fs::write(all.path().join("file"), "").unwrap();
    let directory = Directory::reach(all.path()).unwrap();
    let own = |name: &str| directory.own(name.as_ref(), 0o755).map(drop);
    assert_eq!(own("new"), Ok(()));
    assert_eq!(own("new"), Ok(()));
    assert_eq!(fs::metadata(all.path().join("new")).unwrap().permissions().mode() & 0o7777, 0o755);
    for (name, why) in
        [("link", "is not a directory"), ("file", "is not a directory"), ("open", "other users can write")]
    {
        assert!(own(name).unwrap_err().contains(why), "{name}");
    }
}

#[test]
fn a_file_counts_only_when_it_is_ours_alone_and_whole() {
    let all = directories(&[(NAME, 0o700)]);
    let directory = Directory::reach(all.path()).unwrap();
    let path = all.path().join(NAME);
    assert!(has_file(&directory).unwrap_err().contains("is not our file"));
    fs::remove_dir(&path).unwrap();
    assert_eq!(has_file(&directory), Ok(false));
    for content in ["", "whol", "wholE", "whole\0"] {
        fs::write(&path, content).unwrap();
        assert_eq!(has_file(&directory), Ok(false), "{content:?}");
    }
    directory.put_file(NAME.as_ref(), b"whole", 0o700).unwrap();
    assert_eq!(has_file(&directory), Ok(true));
    fs::set_permissions(&path, Permissions::from_mode(0o720)).unwrap();
    assert_eq!(has_file(&directory), Ok(false));
    fs::rename(&path, all.path().join("elsewhere")).unwrap();
    symlink("elsewhere", &path).unwrap();
    assert!(has_file(&directory).unwrap_err().contains("is not our file"));
    fs::remove_file(&path).unwrap();
    // To open it for reading must not wait for a writer.
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o700), 0).unwrap();
    assert!(has_file(&directory).unwrap_err().contains("is not our file"));
}

#[test]
fn what_cannot_be_put_in_place_leaves_nothing_behind() {
    let all = directories(&[("taken", 0o700)]);
    fs::write(all.path().join("taken/file"), "").unwrap();
    let directory = Directory::reach(all.path()).unwrap();
    assert!(directory.put_file("taken".as_ref(), b"whole", 0o700).is_err());
    assert!(directory.put_link("taken".as_ref(), Path::new("target")).is_err());
    assert_eq!(names(all.path()), ["taken"]);
}

#[test]
fn the_users_of_a_user_namespace_are_told_from_those_without_a_number() {
    let outermost = "         0          0 4294967295\n";
    for owner in [0, 1000, 65_534, u32::MAX - 1] {
        assert!(maps(outermost, owner), "{owner}");
    }
    let two = "         0       1000          1\n         5     100000      65536\n";
    for (owner, is_mapped) in [(0, true), (1, false), (4, false), (5, true), (65_540, true), (65_541, false)]
    {
        assert_eq!(maps(two, owner), is_mapped, "{owner}");
    }
    assert!(maps("not a map", 1000));
    assert!(!maps("", 1000));
}
