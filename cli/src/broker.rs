//! The broker: all policy and protocol of a session, in one process with one thread.
//!
//! It answers tickets (see `presocks_proto::frame`), each in a task of its own, until the last descendant of the command is gone. It
//! holds a program's socket only while that socket is being connected: a copy held longer would hold back the FIN.

mod admission;
mod bind;
mod children;
mod connect;
mod connecting;
mod datagram;
mod device;
mod dns;
mod holders;
mod memory;
mod notified;
mod other_proxy;
mod peer_names;
mod peers;
mod program;
mod report;
mod resolver;
mod ticket;
mod watchdog;

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use presocks_proto::name::Name;
use presocks_proto::session::{Queue, Session};
use tokio::runtime;
use tokio::task::{LocalSet, spawn_local};
use tokio_seqpacket::UnixSeqpacketListener;

use crate::descriptors::Descriptors;
use crate::message::Front;
use crate::policy::{self, Policy};
use crate::process::Pid;
use crate::proxy::Proxy;
use crate::seccomp::listener::Listener;
use crate::settings::Settings;
use crate::upstream::chain::Chains;
use crate::upstream::dialer::Dialer;
use crate::upstream::failure::Failure;
use crate::upstream::limits::Timeouts;
use crate::upstream::relay::Relays;
use bind::Bindings;
use connect::Connector;
use connecting::Connecting;
use datagram::Datagrams;
use datagram::sink::Sinks;
use device::Devices;
use dns::NameServer;
use dns::upstream::Upstreams;
use holders::Holders;
use notified::{Attempts, Supervisor};
use other_proxy::OtherProxies;
use peer_names::PeerNames;
use peers::Peers;
use report::Report;
pub(crate) use ticket::BACKLOG;
use ticket::{Arrivals, Tickets};

/// What a session's broker is made of. Nothing takes it as a whole: each service has those that it needs.
struct Broker {
    tickets: Rc<Tickets>,
    supervisor: Rc<Supervisor>,
    connecting: Rc<Connecting>,
    datagrams: Rc<Datagrams>,
    relays: Rc<Relays>,
    report: Rc<Report>,
}

impl Broker {
    /// # Errors
    /// When the kernel has no randomness, or the loopback sinks cannot be had.
    fn new(settings: Settings, session: Session, arrivals: Arrivals) -> io::Result<Self> {
        let Settings { routes, proxy_addresses, isolation, dns, udp, bind, talk, taken, .. } = settings;
        let timeouts = Timeouts {
            connect: settings.connect_timeout,
            handshake: settings.handshake_timeout,
            whole: settings.timeout,
        };
        let report = Rc::new(Report::new(talk));
        let chains = Chains::new(&routes, &proxy_addresses);
        let here = |name: &Name| policy::local(&routes, name);
        let other_proxies = OtherProxies::new(&routes, &proxy_addresses, &taken, here, Rc::clone(&report));
        let policy = Rc::new(Policy::new(routes));
        // What is open from here on counts against the limit: so what is always open comes first.
        let sinks = Sinks::reserve()?;
        let descriptors = Rc::new(Descriptors::new());
        let relays = Rc::new(Relays::new(Rc::clone(&descriptors), timeouts.connect));
        let told = Rc::clone(&report);
        let passed_over = move |proxy: &Proxy, failure: &Failure| told.passed_over(proxy, failure);
        let dialer = Rc::new(Dialer::new(chains, timeouts, isolation, Rc::clone(&relays), passed_over)?);
        let upstreams =
            Upstreams::new(dns, timeouts, Rc::clone(&policy), Rc::clone(&dialer), Rc::clone(&report));
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
            sinks,
            Rc::clone(&report),
        ));
        let devices = Rc::new(Devices::new(Rc::clone(&connecting), Rc::clone(&datagrams)));
        let peer_names =
            Rc::new(PeerNames::new(Rc::clone(&peers), Rc::clone(&bindings), Rc::clone(&datagrams)));
        let connector = Rc::new(Connector {
            limit: timeouts.connect,
            policy: Rc::clone(&policy),
            dialer,
            relays: Rc::clone(&relays),
            name_server,
            bindings: Rc::clone(&bindings),
            peers,
            other_proxies,
            holders: Holders::default(),
            report: Rc::clone(&report),
        });
        let supervisor = Rc::new(Supervisor {
            connector: Rc::clone(&connector),
            connecting: Rc::clone(&connecting),
            datagrams: Rc::clone(&datagrams),
            devices: Rc::clone(&devices),
            bindings: Rc::clone(&bindings),
            peer_names: Rc::clone(&peer_names),
            descriptors: Rc::clone(&descriptors),
            attempts: Attempts::default(),
            report: Rc::clone(&report),
        });
        let tickets = Rc::new(Tickets {
            session,
            policy,
            connector,
            connecting: Rc::clone(&connecting),
            datagrams: Rc::clone(&datagrams),
            devices,
            bindings,
            peer_names,
            descriptors,
            arrivals,
            report: Rc::clone(&report),
        });
        Ok(Self { tickets, supervisor, connecting, datagrams, relays, report })
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
    let Broker { tickets, supervisor, connecting, datagrams, relays, report } =
        Broker::new(settings, session, Arrivals::new(&rendezvous)?)?;
    let has_backstop = backstop.is_some();
    let outcome = LocalSet::new().block_on(&runtime, async {
        // Without it there is only less to be told of a fault.
        spawn_local(watchdog::attend(watchdog::INTERVAL, 2));
        spawn_local(memory::attend(async move || connecting.burst_ended().await));
        for (queue, listener) in rendezvous {
            let listener = UnixSeqpacketListener::try_from(listener)?;
            spawn_local(Rc::clone(&tickets).accept(queue, listener));
        }
        if let Some(listener) = backstop {
            spawn_local(supervisor.attend(listener));
        }
        children::attend(&report, front, command, has_backstop).await?;
        datagrams.finish().await;
        relays.finish().await;
        Ok(())
    });
    // A look-up that hangs is waited for by nobody.
    runtime.shutdown_background();
    outcome
}
