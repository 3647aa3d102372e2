//! The broker: all policy and protocol of a session, in one process with one thread.
//!
//! It answers tickets (see `presocks_proto::frame`), each in a task of its own, until the last descendant of the command is gone. It
//! holds a program's socket only while that socket is being connected: a copy held longer would hold back the FIN.

mod bindings;
mod chain;
mod children;
mod connect;
mod connecting;
mod datagram;
mod descriptors;
mod device;
mod dial;
mod dialer;
mod dns;
mod failure;
mod gssapi;
mod holders;
mod hop;
mod isolation;
mod limits;
mod memory;
mod negotiate;
mod other_proxy;
mod peers;
mod pipelining;
mod plain;
mod program;
mod readiness;
mod relay;
mod report;
mod resolver;
mod socket;
mod strangers;
mod stream;
mod ticket;
mod tls;
mod trap;
mod watchdog;

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use presocks_proto::name::Name;
use presocks_proto::session::{Queue, Session};
use presocks_proto::target::Target;
use tokio::runtime;
use tokio::task::{LocalSet, spawn_local};
use tokio_seqpacket::UnixSeqpacketListener;

use crate::backstop::listener::Listener;
use crate::launch::message::Front;
use crate::launch::process::Pid;
use crate::policy::{self, Policy};
use crate::proxy::Proxy;
use crate::settings::Settings;
use bindings::Bindings;
use chain::Chains;
use connecting::Connecting;
use datagram::Datagrams;
use descriptors::Descriptors;
use device::Devices;
use dialer::Dialer;
use dns::NameServer;
use dns::upstream::Upstreams;
use failure::Failure;
use holders::Holders;
use limits::Timeouts;
use other_proxy::OtherProxies;
use peers::Peers;
use program::Program;
use relay::Relays;
use report::Report;
use trap::Attempts;

/// What all tickets share.
struct Broker {
    timeouts: Timeouts,
    dialer: Rc<Dialer>,
    session: Session,
    policy: Rc<Policy>,
    peers: Rc<Peers>,
    bindings: Rc<Bindings>,
    other_proxies: OtherProxies,
    connecting: Rc<Connecting>,
    descriptors: Rc<Descriptors>,
    holders: Holders,
    relays: Rc<Relays>,
    datagrams: Rc<Datagrams>,
    devices: Devices,
    name_server: Rc<NameServer>,
    attempts: Attempts,
    report: Rc<Report>,
}

impl Broker {
    /// A hint, if the program connects to a proxy as if it had been told to use that.
    fn tell_of_proxy(&self, program: &Program<'_>, target: &Target) {
        if let Some(whose) = self.other_proxies.at(target) {
            self.report.connects_to_a_proxy(program, target, whose);
        }
    }
}

/// Serves until the last descendant is gone, and its last bytes.
///
/// # Errors
/// When the runtime or the loopback sinks cannot be had; the command runs on, without a network.
pub(crate) fn run(
    settings: Settings,
    session: Session,
    rendezvous: [(Queue, OwnedFd); 2],
    backstop: Option<Listener>,
    front: &Front,
    command: Pid,
) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let Settings { routes, proxy_addresses, isolation, dns, udp, bind, talk, taken, .. } = settings;
    let timeouts = Timeouts {
        connect: settings.connect_timeout,
        handshake: settings.handshake_timeout,
        whole: settings.timeout,
    };
    let report = Rc::new(Report::new(talk));
    let chains = Chains::new(&routes, &proxy_addresses);
    let here = |name: &Name| policy::local(&routes, name);
    let other_proxies = OtherProxies::new(&routes, &proxy_addresses, &taken, here);
    let descriptors = Rc::new(Descriptors::new());
    let relays = Rc::new(Relays::new(Rc::clone(&descriptors), timeouts.connect));
    let told = Rc::clone(&report);
    let passed_over = move |proxy: &Proxy, failure: &Failure| told.passed_over(proxy, failure);
    let dialer = Dialer::new(chains, timeouts, isolation, Rc::clone(&relays), passed_over)?;
    let dialer = Rc::new(dialer);
    let policy = Rc::new(Policy::new(routes));
    let upstreams = Upstreams::new(dns, timeouts, Rc::clone(&policy), Rc::clone(&dialer), Rc::clone(&report));
    let name_server = Rc::new(NameServer::new(Rc::clone(&policy), upstreams));
    let peers = Rc::<Peers>::default();
    let connecting = Rc::<Connecting>::default();
    let bindings = Rc::new(Bindings::new(
        (bind, timeouts.connect),
        Rc::clone(&peers),
        Rc::clone(&connecting),
        Rc::clone(&dialer),
        Rc::clone(&relays),
        Rc::clone(&report),
    ));
    let datagrams = Rc::new(Datagrams::new(
        udp,
        Rc::clone(&policy),
        Rc::clone(&dialer),
        Rc::clone(&peers),
        Rc::clone(&name_server),
        Rc::clone(&report),
    )?);
    let broker = Rc::new(Broker {
        timeouts,
        dialer,
        session,
        policy,
        peers,
        bindings,
        other_proxies,
        connecting: Rc::clone(&connecting),
        holders: Holders::default(),
        relays,
        descriptors,
        devices: Devices::new(Rc::clone(&connecting), Rc::clone(&datagrams)),
        datagrams,
        name_server,
        attempts: Attempts::default(),
        report,
    });
    let has_backstop = backstop.is_some();
    let outcome = LocalSet::new().block_on(&runtime, async {
        // Without it there is only less to be told of a fault.
        spawn_local(watchdog::attend(watchdog::INTERVAL, 2));
        let connects = Rc::clone(&broker);
        spawn_local(memory::attend(async move || connects.connecting.burst_ended().await));
        for (queue, listener) in rendezvous {
            let listener = UnixSeqpacketListener::try_from(listener)?;
            spawn_local(ticket::accept(Rc::clone(&broker), queue, listener));
        }
        if let Some(listener) = backstop {
            spawn_local(trap::attend(Rc::clone(&broker), listener));
        }
        children::attend(&broker.report, front, command, has_backstop).await?;
        broker.datagrams.finish().await;
        broker.relays.finish().await;
        Ok(())
    });
    // A look-up that hangs is waited for by nobody.
    runtime.shutdown_background();
    outcome
}
