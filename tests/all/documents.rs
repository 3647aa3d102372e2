//! The command lines of the documents: presocks takes each of them. (What their commands do, the other tests show; those of the recipes are run whole.)

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use presocks_tests::{Lab, binary, missing};

const DOCUMENTS: [&str; 5] =
    ["README.md", "SECURITY.md", "docs/configuration.md", "docs/errors.md", "docs/limits.md"];

/// In the place of `presocks`: says where its command would connect to. What runs without a command, or takes proxychains' flags, is another test's.
const EXPLAIN: &str = r#"
set -o pipefail
exec 3>&1
presocks() {
    case " $* " in *" --serve "* | *" --demo "* | *" --proxychains "* | *" --print-config "* | *" --explain "*) return 0 ;; esac
    "$PRESOCKS" --explain www.example:443 "$@" > /dev/null || { echo "refused: presocks $*" >&2; exit 9; }
    echo explained >&3
}
"#;

/// The lines of code blocks that run presocks; and the first block of TOML.
fn read(document: &str) -> (Vec<String>, Option<String>) {
    let text = fs::read_to_string(binary::workspace().join(document)).unwrap();
    let mut blocks = text.split("\n```").skip(1).step_by(2);
    let runs = |line: &&str| line.split_whitespace().find(|word| !word.contains('=')) == Some("presocks");
    let lines = text.split("\n```").skip(1).step_by(2).flat_map(str::lines).filter(runs);
    let configuration = blocks.find_map(|block| block.strip_prefix("toml\n"));
    (lines.map(str::to_owned).collect(), configuration.map(str::to_owned))
}

#[test]
fn presocks_takes_every_command_line_of_the_documents() {
    if missing(&["bash"]) {
        return;
    }
    let lab = Lab::new();
    let home = lab.directory().join("home");
    fs::create_dir_all(home.join(".config/presocks")).unwrap();
    fs::write(home.join(".proxy"), "socks5://user:p%40ss@proxy.example:1080\n").unwrap();
    fs::set_permissions(home.join(".proxy"), fs::Permissions::from_mode(0o600)).unwrap();
    // What the documents name in /etc is here.
    let etc = home.join("etc");
    fs::create_dir_all(etc.join("tor")).unwrap();
    fs::write(etc.join("proxychains4.conf"), "[ProxyList]\nsocks5 127.0.0.1 1080\n").unwrap();
    fs::write(etc.join("tor/torsocks.conf"), "TorAddress 127.0.0.1\nTorPort 9050\n").unwrap();
    let mut explained = 0;
    for document in DOCUMENTS {
        let (lines, configuration) = read(document);
        let file = home.join(".config/presocks/config.toml");
        fs::write(&file, configuration.unwrap_or_default()).unwrap();
        for line in lines {
            // Of a pipe, and of several commands, the first.
            let line = line.replace(" /etc/", &format!(" {}/", etc.display()));
            let script = format!("{EXPLAIN}{line}\n");
            let mut command = Command::new("bash");
            command.args(["-c", &script]).env("HOME", &home).env("PRESOCKS", binary::presocks());
            let output = lab.client.spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
            let output = output.wait_with_output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{document}: {line}\n{told}");
            explained +=
                String::from_utf8_lossy(&output.stdout).lines().filter(|line| *line == "explained").count();
        }
    }
    assert!(explained >= 12, "the documents have {explained} command lines only: are they still found?");
}
