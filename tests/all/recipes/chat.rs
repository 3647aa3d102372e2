//! Instant messaging: IRC and XMPP.
