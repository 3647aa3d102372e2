//! The command line: what was typed, not yet what it means.
//!
//! All options are flags and come before the command; from the first word that is no flag on, everything is the command's.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser as _, ValueEnum};
use ipnet::IpNet;

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

const ABOUT: &str = "Run COMMAND so that its connections go through a SOCKS proxy and its names are resolved on the far \
side. What cannot be proxied fails.";

const AFTER: &str = "\
The proxy comes from -p, --proxy-file, PRESOCKS_PROXY, ALL_PROXY or all_proxy, in this order:
  socks5://[USER[:PASSWORD]@]HOST[:PORT]   (socks5h:// means the same; names always go to the proxy)

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
