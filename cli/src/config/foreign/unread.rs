//! Files that presocks does not read: whose they are, if that can be told, and what to write instead.

use ipnet::Ipv4Net;

/// The formats that there are.
const FORMATS: &str = "presocks reads its own configuration (TOML), proxychains.conf (it has a line [ProxyList]), torsocks.conf (TorAddress, \
TorPort), the socks.conf of Dante's client (route { … }), and by --proxy-file a list of URLs";

/// Why this file, which is none that is read, is not; `None` if it may be presocks' own.
pub(crate) fn why(name: &str, content: &str) -> Option<String> {
    let mut lines = content.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    if lines.clone().any(is_of_dantes_server) {
        return Some(format!(
            "{name} is the file of Dante's server; what a client needs of it is where that listens (internal): -p socks5://ADDRESS:PORT"
        ));
    }
    if lines.clone().any(is_of_tsocks) {
        return Some(format!(
            "{name} is a file of tsocks, which presocks does not read; write instead: {}",
            options(lines)
        ));
    }
    let may_be_toml = lines.next().is_none_or(|line| line.starts_with('[') || line.contains('='));
    (!may_be_toml).then(|| format!("{name} is in no format that presocks knows: {FORMATS}"))
}

/// An error in a file that was taken for presocks' own, by nothing but that it is no other's.
pub(crate) fn or_another(error: &str) -> String {
    format!("{error}\nIf this is to be another program's file: {FORMATS}")
}

fn is_of_dantes_server(line: &str) -> bool {
    const KEYS: [&str; 7] = [
        "internal",
        "external",
        "clientmethod",
        "socksmethod",
        "user.privileged",
        "user.unprivileged",
        "logoutput",
    ];
    const BLOCKS: [&str; 4] = ["client pass", "client block", "socks pass", "socks block"];
    let is_key = line.split_once(':').is_some_and(|(key, _)| KEYS.contains(&key.trim()));
    is_key || BLOCKS.iter().any(|block| line.starts_with(block))
}

fn is_of_tsocks(line: &str) -> bool {
    const KEYS: [&str; 7] =
        ["server", "server_type", "server_port", "local", "reaches", "default_user", "default_pass"];
    let is_key = line.split_once('=').is_some_and(|(key, value)| {
        // In TOML a text stands between quotation marks.
        KEYS.contains(&key.trim()) && !value.trim().starts_with(['"', '\'', '['])
    });
    is_key || line.starts_with("path {")
}

/// What it says of its default server, as options; a password is not shown.
fn options<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let (mut host, mut port, mut kind, mut direct) = ("HOST", "1080", "socks4a", Vec::new());
    let mut is_in_path = false;
    for line in lines {
        is_in_path = (is_in_path || line.starts_with("path")) && line != "}";
        let Some((key, value)) = line.split_once('=').filter(|_| !is_in_path) else { continue };
        let value = value.trim();
        match key.trim() {
            "server" => host = value,
            "server_port" => port = value,
            "server_type" if value == "5" => kind = "socks5",
            "local" => direct.extend(network(value)),
            _ => {}
        }
    }
    let direct = if direct.is_empty() { String::new() } else { format!(" --direct {}", direct.join(",")) };
    format!("-p {kind}://{}:{}{direct}", host.escape_debug(), port.escape_debug())
}

/// `10.0.0.0/255.0.0.0`; loopback is direct in any case.
fn network(text: &str) -> Option<String> {
    let (address, mask) = text.split_once('/')?;
    let network = Ipv4Net::with_netmask(address.parse().ok()?, mask.parse().ok()?).ok()?;
    (!network.addr().is_loopback()).then(|| network.trunc().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_file_it_is_is_said_with_what_to_write_instead() {
        let tsocks = "# tsocks\nlocal = 192.168.0.0/255.255.255.0\nlocal = 127.0.0.0/255.0.0.0\npath {\n\treaches = 10.0.0.0/255.0.0.0\n\
                      \tserver = 10.1.7.25\n}\nserver = 192.168.0.1\nserver_type = 5\nserver_port = 1081\ndefault_pass = secret\n";
        let told = why("tsocks.conf", tsocks).unwrap();
        assert!(told.ends_with("-p socks5://192.168.0.1:1081 --direct 192.168.0.0/24"), "{told}");
        let server = "logoutput: stderr\ninternal: eth0 port = 1080\nclient pass {\n from: 0/0 to: 0/0\n}\n";
        assert!(why("danted.conf", server).unwrap().contains("Dante's server"));
        let told = why("polipo.conf", "listen here\nsomething else\n").unwrap();
        assert!(told.contains("[ProxyList]") && told.contains("--proxy-file"), "{told}");
        for own in [
            "proxy = \"socks5://h\"\n",
            "",
            "[proxies]\na = \"b\"",
            "# nothing\ntimeout = 5\n",
            "server = \"x\"",
        ] {
            assert!(why("config", own).is_none(), "{own}");
        }
    }
}
