//! Remote shells and small look-ups: telnet, rlogin, finger, whois.
