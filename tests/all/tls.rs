//! Proxies behind TLS: what goes through, and what is said when the handshake fails. stunnel in front of Dante, `ssh -D` and
//! tinyproxy; squid by itself.

mod peers;
