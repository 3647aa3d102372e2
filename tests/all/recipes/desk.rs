//! What a user has on the client: files in the home directory, a terminal, a command line with presocks.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use presocks_tests::proxy::Upstream;
use presocks_tests::terminal::Terminal;
use presocks_tests::{Lab, binary};

/// Writes a file that only its owner may read into root's home on the client.
pub(super) fn dot_file(lab: &Lab, name: &str, content: &str) {
    let file = lab.directory().join("root-home").join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, content).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The command line for a shell on the client that runs `command` by way of the proxy; short enough for a line of the terminal.
pub(super) fn line(lab: &Lab, proxy: &impl Upstream, command: &str) -> String {
    let link = lab.directory().join("presocks");
    if !link.exists() {
        symlink(binary::presocks(), &link).unwrap();
    }
    format!("./presocks -p {} {command}", proxy.url())
}

/// A shell on the client on a terminal that programs can draw on.
pub(super) fn screen(lab: &Lab) -> Terminal {
    let mut terminal = Terminal::open(lab);
    terminal.command("export TERM=vt100; stty rows 24 columns 80");
    terminal
}

/// Waits for each text on the terminal, and then presses its keys.
pub(super) fn converse(terminal: &mut Terminal, dialogue: &[(&str, &str)]) {
    for (text, keys) in dialogue {
        terminal.wait_for(text);
        terminal.press(keys);
    }
}
