//! The variables that tell the library of files, in a process that leaves the directory in which the user has said so.
#![allow(unsafe_code, reason = "a variable is set")]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, absolute};

/// What a variable's value is.
#[derive(Clone, Copy)]
enum Form {
    /// Paths, with colons between them.
    Paths,
    /// A path, with its kind and a colon before it, or without. Other kinds have no path.
    Kinds(&'static [&'static str]),
}

const VARIABLES: [(&str, Form); 3] = [
    ("KRB5_CONFIG", Form::Paths),
    ("KRB5CCNAME", Form::Kinds(&["FILE:", "DIR::", "DIR:"])),
    ("KRB5_CLIENT_KTNAME", Form::Kinds(&["FILE:"])),
];

/// Makes the paths in these variables whole. Only while the process has a single thread.
pub(crate) fn make_absolute() {
    for (name, form) in VARIABLES {
        let Some(value) = std::env::var_os(name) else { continue };
        let whole = form.whole(&value, |path| absolute(path).unwrap_or_else(|_| path.to_owned()).into());
        if whole != value {
            // SAFETY: no other thread reads the environment meanwhile.
            unsafe { std::env::set_var(name, whole) };
        }
    }
}

impl Form {
    /// A value with what `absolute` makes of each path in it.
    fn whole(self, value: &OsStr, absolute: impl Fn(&Path) -> OsString) -> OsString {
        let bytes = value.as_bytes();
        let absolute = |path: &[u8]| match path {
            [] => Vec::new(),
            path => absolute(Path::new(OsStr::from_bytes(path))).into_vec(),
        };
        let whole = match self {
            Self::Paths => bytes.split(|byte| *byte == b':').map(absolute).collect::<Vec<_>>().join(&b':'),
            Self::Kinds(kinds) => {
                let found = kinds.iter().find_map(|kind| {
                    let path = bytes.strip_prefix(kind.as_bytes())?;
                    Some([kind.as_bytes(), &absolute(path)].concat())
                });
                match found {
                    Some(whole) => whole,
                    None if bytes.contains(&b':') => bytes.to_vec(),
                    None => absolute(bytes),
                }
            }
        };
        OsString::from_vec(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_whole_and_what_is_none_stays() {
        let here = |path: &Path| Path::new("/here").join(path).into_os_string();
        for (name, value, whole) in [
            ("KRB5_CONFIG", "krb5.conf", "/here/krb5.conf"),
            ("KRB5_CONFIG", "/etc/krb5.conf:a/b::c", "/etc/krb5.conf:/here/a/b::/here/c"),
            ("KRB5_CONFIG", "", ""),
            ("KRB5CCNAME", "tickets", "/here/tickets"),
            ("KRB5CCNAME", "FILE:tickets", "FILE:/here/tickets"),
            ("KRB5CCNAME", "FILE:/tmp/tickets", "FILE:/tmp/tickets"),
            ("KRB5CCNAME", "DIR:tickets", "DIR:/here/tickets"),
            ("KRB5CCNAME", "DIR::tickets/tkt", "DIR::/here/tickets/tkt"),
            ("KRB5CCNAME", "KEYRING:persistent:0", "KEYRING:persistent:0"),
            ("KRB5CCNAME", "KCM:", "KCM:"),
            ("KRB5CCNAME", "", ""),
            ("KRB5_CLIENT_KTNAME", "FILE:keys", "FILE:/here/keys"),
        ] {
            let (_, form) = VARIABLES.into_iter().find(|(known, _)| *known == name).unwrap();
            assert_eq!(form.whole(OsStr::new(value), here), whole, "{name}={value}");
        }
    }
}
