//! presocks' own options.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Parser as _};

use super::{Mode, Typed};
use crate::config::{Isolate, List, Order, Place, Profile, Rule, Said, Seconds, Wanted};
use crate::exit::Exit;
use crate::options::{Backstop, Bind, Udp};
use crate::policy::route::explain::Question;
use crate::policy::route::rule;

const ABOUT: &str = "Run COMMAND so that its connections go through a SOCKS or HTTP proxy and its names are resolved on the far \
side. What cannot be proxied fails.";

const AFTER: &str = "\
A proxy is
  socks5://[USER[:PASSWORD]@]HOST[:PORT]   (socks5h:// means the same; names always go to the proxy)
  socks4a://[USER@]HOST[:PORT]             (without IPv6 destinations; socks4:// without names, too)
  http://[USER[:PASSWORD]@]HOST[:PORT]     (CONNECT; the port is 80 if there is none)
  socks5+gssapi://HOST[:PORT]              (by Kerberos)
  https://…, socks5+tls://…                (any of them over TLS)
  socks5+unix:///run/tor/socks             (any of them at a Unix socket)

What can be configured comes from options, PRESOCKS_ variables (PRESOCKS_PROXY, PRESOCKS_TIMEOUT, …), the profile, the
configuration file, and all_proxy or ALL_PROXY with no_proxy, in this order. -p env takes the proxy from https_proxy or
http_proxy as well.

Exit status: COMMAND's own; 125 when presocks fails, 126 when COMMAND cannot be executed, 127 when it is not found.

Examples:
  presocks -p socks5://127.0.0.1:1080 curl https://example.com
  presocks -p socks5://first.example -p http://second.example git pull
  ALL_PROXY=socks5h://127.0.0.1:9050 presocks ssh host";

const USAGE: &str = "presocks [OPTIONS] COMMAND [ARGUMENT]...\n       \
presocks --proxychains [-q] [-f FILE] COMMAND [ARGUMENT]...\n       \
presocks [OPTIONS] --print-config\n       \
presocks [OPTIONS] --explain HOST:PORT[/udp] [COMMAND]\n       \
presocks --serve ADDRESS:PORT\n       \
presocks --demo";

#[derive(clap::Parser)]
#[command(name = "presocks", version, about = ABOUT, after_help = AFTER, override_usage = USAGE)]
struct Line {
    /// The proxy, its name in the configuration, or env for that of all_proxy, https_proxy or http_proxy; once more for each that is behind it, a chain. A password here is seen by every
    /// user of this machine (ps)
    #[arg(short, long, value_name = "URL", help_heading = "Proxies")]
    proxy: Vec<String>,

    /// Read the proxies from this file, a URL on each line
    #[arg(long, value_name = "FILE", conflicts_with = "proxy", help_heading = "Proxies")]
    proxy_file: Option<PathBuf>,

    /// Which of the proxies a connection goes through [default: strict]
    #[arg(long, value_name = "ORDER", help_heading = "Proxies")]
    order: Option<Order>,

    /// How many of the proxies random and round-robin take [default: 1]
    #[arg(long, value_name = "N", help_heading = "Proxies")]
    length: Option<usize>,

    /// How many of the proxies stay at the head of a random chain [default: 0]
    #[arg(long, value_name = "N", help_heading = "Proxies")]
    fixed: Option<usize>,

    /// Pass over a proxy also when it answers a request with a failure, and not only a dead one; not with strict
    #[arg(long, help_heading = "Proxies")]
    failover_on_refusal: bool,

    /// Where some connections go: 'name=.example.org,*.corp address=10.0.0.0/8 port=22,6660-6669 protocol=tcp program=ssh
    /// via=direct'. VIA is proxy, direct, deny, or a name of the configuration. The first rule that matches decides
    #[arg(long, value_name = "RULE", help_heading = "Where connections go")]
    rule: Vec<String>,

    /// Where all others go: proxy, direct, deny, or a name of the configuration [default: proxy]
    #[arg(long, value_name = "VIA", conflicts_with = "only", help_heading = "Where connections go")]
    default: Option<String>,

    /// Names and networks that go through the proxy; all others are direct
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Where connections go")]
    only: Vec<String>,

    /// Networks and names to connect to without the proxy, beside loopback: 10.0.0.0/8,.corp.example
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Where connections go")]
    direct: Vec<String>,

    /// Connect to another destination in one's stead: old.example:80=new.example:8080
    #[arg(long, value_name = "FROM=TO", help_heading = "Where connections go")]
    rewrite: Vec<String>,

    /// Give each of these SOCKS5 credentials of its own, by which Tor keeps streams apart
    #[arg(long, value_name = "WHAT", help_heading = "Proxies")]
    isolate: Option<Isolate>,

    /// Check the certificates of TLS proxies by the authorities in this file (PEM), and not by this machine's
    #[arg(long, value_name = "FILE", help_heading = "Proxies")]
    ca_file: Option<PathBuf>,

    /// The name server to ask, through the proxy, for records other than addresses (MX, TXT, …) [default: the one that
    /// the program asks if its address is public, else 9.9.9.9]
    #[arg(long, value_name = "SERVER", help_heading = "Where connections go")]
    dns: Option<String>,

    /// How long to wait for the first proxy to accept a connection [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = Seconds::parse, help_heading = "Limits")]
    connect_timeout: Option<Seconds>,

    /// How long to wait for each of: TLS with a proxy, its greeting, the answer of one that is not the last [default: 20]
    #[arg(long, value_name = "SECONDS", value_parser = Seconds::parse, help_heading = "Limits")]
    handshake_timeout: Option<Seconds>,

    /// How long to wait for the whole, until the destination is connected [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = Seconds::parse, help_heading = "Limits")]
    timeout: Option<Seconds>,

    /// What to do with UDP datagrams; questions to name servers are answered in any case [default: proxy]
    #[arg(long, value_name = "WHAT", help_heading = "Where connections go")]
    udp: Option<Udp>,

    /// Have the proxy listen for programs that do, beside a connection through it (BIND): for that connection's peer (active
    /// FTP), or for anybody (DCC of IRC) [default: off; without WHOM: peer]
    #[arg(long, value_name = "WHOM", num_args = 0..=1, require_equals = true, default_missing_value = "peer")]
    #[arg(help_heading = "Where connections go")]
    bind: Option<Bind>,

    /// Leave the variables by which programs are told of a proxy (https_proxy, …) in COMMAND's environment: programs that follow them
    /// connect to that proxy
    #[arg(long, help_heading = "Where connections go")]
    keep_proxy_env: bool,

    /// Catch what LD_PRELOAD does not reach (static programs, Go, musl, a cleared environment) by a seccomp filter
    /// [default: auto]
    #[arg(long, value_name = "WHEN")]
    backstop: Option<Backstop>,

    /// Print nothing but COMMAND's own output, and what must not be missed: that less is caught than was asked for, or
    /// that the broker hangs
    #[arg(short, long, conflicts_with = "verbose", action = ArgAction::Count)]
    quiet: u8,

    /// Print a line for every connection: program, destination, outcome, time
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,

    /// Read this configuration: presocks' own (.toml), or one of proxychains, torsocks or Dante [default:
    /// ~/.config/presocks/config.toml]
    #[arg(long, value_name = "FILE", conflicts_with = "no_config", help_heading = "Configuration")]
    config: Option<PathBuf>,

    /// The profile of the configuration to use
    #[arg(short = 'P', long, value_name = "NAME", help_heading = "Configuration")]
    profile: Option<String>,

    /// Read no configuration file
    #[arg(long, help_heading = "Configuration")]
    no_config: bool,

    /// Print what is configured, from all sources, as a configuration file without passwords
    #[arg(long, conflicts_with_all = ["explain", "command"])]
    print_config: bool,

    /// Say where a connection would go, and by which rule, without making it
    #[arg(long, value_name = "HOST:PORT[/udp]", value_parser = Question::parse)]
    explain: Option<Question>,

    /// Read the words that follow as proxychains does
    #[arg(long, exclusive = true, help_heading = "Configuration")]
    proxychains: bool,

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

/// Reads words, the first of which is our own name.
pub(super) fn read(words: &[OsString]) -> Result<Mode, Exit> {
    let line = Line::try_parse_from(words).map_err(|error| {
        // Help that cannot be printed has no reader.
        let _ = error.print();
        if error.use_stderr() { Exit::ours_already_said() } else { Exit::SUCCESS }
    })?;
    let (prints, explained) = (line.print_config, line.explain.clone());
    match line {
        Line { serve: Some(address), .. } => return Ok(Mode::Serve(address)),
        Line { demo: true, .. } => return Ok(Mode::Demo),
        Line { demo_client: Some(url), .. } => return Ok(Mode::DemoClient(url)),
        _ => {}
    }
    let typed = Box::new(line.typed().map_err(|why| Exit::ours(format_args!("{why}")))?);
    match explained {
        Some(question) => Ok(Mode::Explain(typed, Box::new(question))),
        None if prints => Ok(Mode::PrintConfig(typed)),
        None if typed.command.is_empty() => {
            Err(Exit::ours(format_args!("no command to run; see presocks --help")))
        }
        None => Ok(Mode::Run(typed)),
    }
}

impl Line {
    fn typed(self) -> Result<Typed, String> {
        let rules: Vec<_> = self.rule.iter().map(|text| read_rule(text)).collect::<Result<_, _>>()?;
        let mut rewrite = std::collections::BTreeMap::new();
        for text in &self.rewrite {
            let (from, to) =
                text.split_once('=').ok_or("--rewrite: write FROM=TO, as old.example=new.example:8080")?;
            if rewrite.insert(from.to_owned(), Said::named(to.to_owned(), "--rewrite")).is_some() {
                return Err(format!("--rewrite: \"{}\" is rewritten twice", from.escape_debug()));
            }
        }
        let flags = Profile {
            proxy: list(self.proxy, "-p"),
            proxy_file: said(self.proxy_file, "--proxy-file"),
            order: said(self.order, "--order"),
            length: said(self.length, "--length"),
            fixed: said(self.fixed, "--fixed"),
            failover_on_refusal: flag(self.failover_on_refusal, "--failover-on-refusal"),
            rules: Some(rules).filter(|rules| !rules.is_empty()),
            default: said(self.default, "--default"),
            only: list(self.only, "--only"),
            direct: list(self.direct, "--direct"),
            rewrite,
            isolate: said(self.isolate, "--isolate"),
            ca_file: said(self.ca_file, "--ca-file"),
            dns: said(self.dns, "--dns"),
            connect_timeout: said(self.connect_timeout, "--connect-timeout"),
            handshake_timeout: said(self.handshake_timeout, "--handshake-timeout"),
            timeout: said(self.timeout, "--timeout"),
            udp: said(self.udp, "--udp"),
            bind: said(self.bind, "--bind"),
            backstop: said(self.backstop, "--backstop"),
            quiet: flag(self.quiet > 0, "--quiet"),
            verbose: flag(self.verbose > 0, "--verbose"),
            keep_proxy_env: flag(self.keep_proxy_env, "--keep-proxy-env"),
            ..Profile::default()
        };
        let wanted =
            Wanted { file: self.config, no_file: self.no_config, profile: self.profile, ..Wanted::default() };
        Ok(Typed { flags, wanted, command: self.command })
    }
}

fn said<T>(value: Option<T>, name: &str) -> Option<Said<T>> {
    value.map(|value| Said::named(value, name))
}

/// A flag that is not there says nothing.
fn flag(is_there: bool, name: &str) -> Option<Said<bool>> {
    is_there.then(|| Said::named(true, name))
}

fn list(items: Vec<String>, name: &str) -> Option<List> {
    (!items.is_empty()).then(|| List::new(items, &Place::Named(name.into())))
}

fn read_rule(text: &str) -> Result<Said<Rule>, String> {
    let place = Place::Named("--rule".into());
    let rule::Written { criteria, via } = rule::Written::parse(text).map_err(|why| place.fault(why))?;
    Ok(Said::new(Rule::new(&criteria, &via, &place), &place))
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
        assert_eq!((line.quiet, line.verbose), (1, 0));
    }

    #[test]
    fn lists_are_split_and_proxies_are_repeated() {
        let line = line(&["--direct", "10.0.0.0/8,192.0.2.1", "-p", "a", "--proxy", "b", "true"]);
        assert_eq!(line.direct, ["10.0.0.0/8", "192.0.2.1"]);
        assert_eq!(line.proxy, ["a", "b"]);
    }

    #[test]
    fn an_unknown_option_is_not_a_command() {
        assert!(Line::try_parse_from(["presocks", "--quite", "true"]).is_err());
        assert_eq!(line(&["--", "--odd", "-q"]).command, ["--odd", "-q"]);
    }

    #[test]
    fn modes_exclude_a_command_and_each_other() {
        for words in [
            &["--demo", "true"][..],
            &["-q", "-v", "true"],
            &["--print-config", "true"],
            &["--print-config", "--explain", "h:1"],
            &["--config", "f", "--no-config", "true"],
            &["-q", "--proxychains", "true"],
        ] {
            assert!(Line::try_parse_from([&["presocks"], words].concat()).is_err(), "{words:?}");
        }
    }
}
