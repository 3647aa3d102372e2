//! The command line: what was typed, not yet what it means.
//!
//! All options are flags and come before the command; from the first word that is no flag on, everything is the command's.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser as _, ValueEnum};
use ipnet::IpNet;
use presocks_proto::name::Name;
use presocks_proto::socks5::{Host, Target};

use crate::exit::Exit;

/// What presocks was started to do.
pub(crate) struct Args {
    pub(crate) mode: Mode,
}

/// The ways to run.
pub(crate) enum Mode {
    /// Run a command.
    Run(Box<Typed>),
    /// Serve SOCKS5 on this address.
    Serve(String),
    /// Show the product at work.
    Demo,
    /// Fetch a page plainly, for a demo without curl.
    DemoClient(String),
}

/// The options of a run.
pub(crate) struct Typed {
    pub(crate) proxy: Option<String>,
    pub(crate) proxy_file: Option<PathBuf>,
    pub(crate) direct: Vec<IpNet>,
    pub(crate) dns: Option<Target>,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
    pub(crate) udp: Udp,
    pub(crate) backstop: Backstop,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    /// Never empty.
    pub(crate) command: Vec<OsString>,
}

/// Whether calls that LD_PRELOAD does not see are caught by a seccomp filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backstop {
    /// Where the kernel permits it; else say so, and run only what LD_PRELOAD reaches
    Auto,
    /// Or do not run COMMAND
    Require,
    /// Never: programs that LD_PRELOAD does not reach connect directly
    Off,
}

/// What becomes of UDP datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Udp {
    /// Through the proxy; refused when it does not serve UDP
    Proxy,
    /// Refused always
    Deny,
}

const ABOUT: &str = "Run COMMAND so that its connections go through a SOCKS or HTTP proxy and its names are resolved on the far \
side. What cannot be proxied fails.";

const AFTER: &str = "\
The proxy comes from -p, --proxy-file, PRESOCKS_PROXY, ALL_PROXY or all_proxy, in this order:
  socks5://[USER[:PASSWORD]@]HOST[:PORT]   (socks5h:// means the same; names always go to the proxy)
  socks4a://[USER@]HOST[:PORT]             (without IPv6 destinations; socks4:// without names, too)
  http://[USER[:PASSWORD]@]HOST[:PORT]     (CONNECT; the port is 80 if there is none)

Exit status: COMMAND's own; 125 when presocks fails, 126 when COMMAND cannot be executed, 127 when it is not found.

Examples:
  presocks -p socks5://127.0.0.1:1080 curl https://example.com
  ALL_PROXY=socks5h://127.0.0.1:9050 presocks ssh host";

#[derive(clap::Parser)]
#[command(name = "presocks", version, about = ABOUT, after_help = AFTER, override_usage =
    "presocks [OPTIONS] COMMAND [ARGUMENT]...\n       presocks --serve ADDRESS:PORT\n       presocks --demo")]
struct Line {
    /// The proxy; a password here is seen by every user of this machine (ps)
    #[arg(short, long, value_name = "URL")]
    proxy: Option<String>,

    /// Read the proxy's URL from this file's first line
    #[arg(long, value_name = "FILE", conflicts_with = "proxy")]
    proxy_file: Option<PathBuf>,

    /// Networks to connect to without the proxy, beside loopback: 10.0.0.0/8,fd00::/8
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', value_parser = network)]
    direct: Vec<IpNet>,

    /// The name server to ask, through the proxy, for records other than addresses (MX, TXT, …) [default: the one that
    /// the program asks if its address is public, else 9.9.9.9]
    #[arg(long, value_name = "SERVER", value_parser = name_server)]
    dns: Option<Target>,

    /// How long to wait for the proxy to accept a connection
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    connect_timeout: Duration,

    /// How long to wait for the proxy to connect to the destination
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    timeout: Duration,

    /// What to do with UDP datagrams; questions to name servers are answered in any case
    #[arg(long, value_name = "WHAT", default_value = "proxy")]
    udp: Udp,

    /// Catch what LD_PRELOAD does not reach (static programs, Go, musl, a cleared environment) by a seccomp filter
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    backstop: Backstop,

    /// Print nothing but COMMAND's own output, and that the backstop cannot be had
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,

    /// Print a line for every connection: program, destination, outcome, time
    #[arg(short, long)]
    verbose: bool,

    /// Run a SOCKS5 server without access control
    #[arg(long, value_name = "ADDRESS:PORT", exclusive = true)]
    serve: Option<String>,

    /// Show presocks at work, on loopback only
    #[arg(long, exclusive = true)]
    demo: bool,

    #[arg(long, value_name = "URL", hide = true, exclusive = true)]
    demo_client: Option<String>,

    /// The program to run, and its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Args {
    /// Reads the process's own command line.
    ///
    /// # Errors
    /// How to exit: 0 after `--help` and `--version`, 125 after a mistake; what there is to say has been said.
    pub(crate) fn from_command_line() -> Result<Self, Exit> {
        let line = Line::try_parse().map_err(|error| {
            // Help that cannot be printed has no reader.
            let _ = error.print();
            if error.use_stderr() { Exit::ours_already_said() } else { Exit::SUCCESS }
        })?;
        Self::from_line(line)
    }

    fn from_line(line: Line) -> Result<Self, Exit> {
        let mode = match line {
            Line { serve: Some(address), .. } => Mode::Serve(address),
            Line { demo: true, .. } => Mode::Demo,
            Line { demo_client: Some(url), .. } => Mode::DemoClient(url),
            Line { command, .. } if command.is_empty() => {
                return Err(Exit::ours(format_args!("no command to run; see presocks --help")));
            }
            line => Mode::Run(Box::new(Typed {
                proxy: line.proxy,
                proxy_file: line.proxy_file,
                direct: line.direct,
                dns: line.dns,
                connect_timeout: line.connect_timeout,
                timeout: line.timeout,
                udp: line.udp,
                backstop: line.backstop,
                quiet: line.quiet,
                verbose: line.verbose,
                command: line.command,
            })),
        };
        Ok(Self { mode })
    }
}

/// A network, or an address, which is the network of that address alone.
fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| address()).map_err(|_| {
        "not a network: write an address and a prefix length, as 192.168.0.0/16 or fd00::/8".to_owned()
    })
}

/// ADDRESS, ADDRESS:PORT, \[IPV6\]:PORT, NAME or NAME:PORT.
fn name_server(text: &str) -> Result<Target, String> {
    let wrong = || {
        "not a name server: write an address or a name, and a port if it is not 53, as 192.0.2.1, [2001:db8::1]:5353 or \
         dns.example"
            .to_owned()
    };
    let bare =
        text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|inner| inner.contains(':'));
    if let Ok(address) = bare.unwrap_or(text).parse() {
        return Ok(Target { host: Host::Address(address), port: 53 });
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "53"));
    let port = port.parse().ok().filter(|number| *number > 0 && !port.starts_with('+')).ok_or_else(wrong)?;
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Target { host: Host::Address(address.ip()), port });
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    // A name that ends in a number is an address with a slip in it.
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_name = host.bytes().all(is_of_name) && !last.bytes().all(|byte| byte.is_ascii_digit());
    let name = Name::new(host.as_bytes()).filter(|_| is_name).ok_or_else(wrong)?;
    Ok(Target { host: Host::Name(name), port })
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "not a time: write seconds above 0, as 5 or 0.5".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> Line {
        Line::try_parse_from([&["presocks"], words].concat()).unwrap()
    }

    #[test]
    fn every_word_after_the_flags_is_the_commands() {
        let line = line(&["-q", "-p", "socks5://h", "check", "-v", "--help", "-p"]);
        assert_eq!(line.command, ["check", "-v", "--help", "-p"]);
        assert!(line.quiet && !line.verbose);
    }

    #[test]
    fn networks_may_be_addresses_and_come_in_lists() {
        let line = line(&["--direct", "10.0.0.0/8,192.0.2.1,fd00::/8", "true"]);
        let networks: Vec<_> = line.direct.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.0.0.0/8", "192.0.2.1/32", "fd00::/8"]);
    }

    #[test]
    fn a_name_server_is_an_address_or_a_name_with_or_without_a_port() {
        let shown = |text: &str| name_server(text).map(|server| server.to_string());
        for (text, server) in [
            ("9.9.9.9", "9.9.9.9:53"),
            ("192.0.2.1:5353", "192.0.2.1:5353"),
            ("2620:fe::fe", "[2620:fe::fe]:53"),
            ("[2620:fe::fe]", "[2620:fe::fe]:53"),
            ("[2620:fe::fe]:5353", "[2620:fe::fe]:5353"),
            ("dns.example", "dns.example:53"),
            ("Dns_1.example.:54", "dns_1.example:54"),
        ] {
            assert_eq!(shown(text), Ok(server.to_owned()), "{text}");
        }
        let long = "a".repeat(256);
        for wrong in [
            "",
            ":53",
            "h:",
            "h:0",
            "h:+53",
            "h:65536",
            "h:53:53",
            "::1:53:",
            "[::1",
            "[::1]53",
            "[9.9.9.9]",
            "[h]:53",
            "9.9.9",
            "9.9.9.999",
            "1",
            "tls://h",
            "h h",
            "h/53",
            "h,i",
            ".",
            &long,
        ] {
            assert!(name_server(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_positive_seconds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "", "x", "inf", "NaN", "1e300"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_option_is_not_a_command() {
        assert!(Line::try_parse_from(["presocks", "--quite", "true"]).is_err());
        assert_eq!(line(&["--", "--odd", "-q"]).command, ["--odd", "-q"]);
    }

    #[test]
    fn modes_exclude_a_command() {
        assert!(Line::try_parse_from(["presocks", "--demo", "true"]).is_err());
        assert!(Line::try_parse_from(["presocks", "-q", "-v", "true"]).is_err());
    }
}
