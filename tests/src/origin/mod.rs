//! The servers that clients want to reach, all on the origin host, on IPv4 and IPv6.

pub mod caller;
pub mod cvs;
pub mod datagrams;
pub mod dns;
pub mod ftp;
pub mod git;
pub mod http;
pub mod https;
pub mod inetd;
pub mod irc;
pub mod news;
pub mod rsync;
pub mod service;
pub mod ssh;
pub mod stun;
pub mod subversion;
pub mod tftp;
pub mod xmpp;

pub use cvs::CvsServer;
pub use datagrams::Datagrams;
pub use dns::DnsServer;
pub use ftp::FtpServer;
pub use git::{GitServer, Repository};
pub use http::HttpServer;
pub use https::HttpsServer;
pub use inetd::Inetd;
pub use irc::IrcServer;
pub use news::NewsServer;
pub use rsync::RsyncServer;
pub use service::Service;
pub use ssh::SshServer;
pub use stun::StunServer;
pub use subversion::SubversionServer;
pub use tftp::TftpServer;
pub use xmpp::XmppServer;
