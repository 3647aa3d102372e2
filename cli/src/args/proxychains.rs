//! The command line of proxychains: `[-q] [-f FILE] COMMAND [ARGUMENT]...`.

use std::ffi::OsString;

use super::{Mode, Typed};
use crate::config::{Profile, Said, Wanted};
use crate::exit::Exit;

const USAGE: &str = "Usage: presocks --proxychains [-q] [-f FILE] COMMAND [ARGUMENT]...";

/// Reads the words behind the program's name, or behind `--proxychains`.
pub(super) fn read(words: &[OsString]) -> Result<Mode, Exit> {
    if let [only] = words
        && only == "--help"
    {
        use std::io::Write as _;
        // Help that cannot be printed has no reader.
        let _ = writeln!(std::io::stdout(), "{USAGE}");
        return Err(Exit::SUCCESS);
    }
    typed(words)
        .map(|typed| Mode::Run(Box::new(typed)))
        .map_err(|why| Exit::ours(format_args!("{why}\n{USAGE}")))
}

fn typed(mut words: &[OsString]) -> Result<Typed, String> {
    let (mut file, mut is_quiet) = (None, false);
    loop {
        words = match words {
            [flag, rest @ ..] if flag == "-q" => {
                is_quiet = true;
                rest
            }
            [flag, path, rest @ ..] if flag == "-f" => {
                file = Some(path.into());
                rest
            }
            [flag] if flag == "-f" => return Err("-f needs a file".into()),
            [flag, ..] if flag.as_encoded_bytes().starts_with(b"-") => {
                let flag = flag.to_string_lossy();
                return Err(format!("proxychains has no option {}", flag.escape_debug()));
            }
            [] => return Err("no command to run".into()),
            command => {
                let quiet = is_quiet.then(|| Said::named(true, "-q"));
                let flags = Profile { quiet, ..Profile::default() };
                let wanted = Wanted { file, is_proxychains: true, ..Wanted::default() };
                return Ok(Typed { flags, wanted, command: command.to_vec() });
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Typed, String> {
        typed(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn its_flags_come_in_any_order_and_the_rest_is_the_commands() {
        for words in [&["-q", "-f", "conf", "curl", "-q"][..], &["-f", "conf", "-q", "curl", "-q"]] {
            let typed = read(words).unwrap();
            assert_eq!(typed.command, ["curl", "-q"]);
            assert_eq!(typed.wanted.file.unwrap().to_str(), Some("conf"));
            assert!(typed.flags.quiet.is_some());
        }
        let typed = read(&["curl"]).unwrap();
        assert!(typed.wanted.file.is_none() && typed.flags.quiet.is_none() && typed.wanted.is_proxychains);
    }

    #[test]
    fn what_it_does_not_know_is_refused() {
        for words in [&[][..], &["-q"], &["-f"], &["-x", "curl"], &["-q", "-p", "h", "curl"]] {
            assert!(read(words).is_err(), "{words:?}");
        }
    }
}
