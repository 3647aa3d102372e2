//! torsocks.conf, as torsocks 2.4 reads it: `KEY VALUE` lines, and comments from `#` on.
//!
//! Without keys it means Tor at 127.0.0.1:9050. Datagrams are refused, as torsocks does: Tor carries none.

use std::net::IpAddr;
use std::rc::Rc;

use super::super::place::{Place, Said};
use super::super::profile::{Isolate, Profile};
use super::super::text::Text;
use super::super::value::List;
use super::{Line, url};
use crate::options::Udp;

/// torsocks' own default.
const ONIONS: &str = "127.42.42.0/24";

/// Reads it.
///
/// # Errors
/// What torsocks would not start with, at its place.
pub(crate) fn profile(text: &Rc<Text>, notes: &mut Vec<String>) -> Result<Profile, String> {
    let whole = Place::Part(Rc::clone(text), 0..0);
    let said = |value: &str| Said::new(value.to_owned(), &whole);
    let (mut address, mut port) = (said("127.0.0.1"), said("9050"));
    let (mut user, mut password) = (None, None);
    let mut profile = Profile { udp: Some(Said::new(Udp::Deny, &whole)), ..Profile::default() };
    for mut line in Line::all(text) {
        line.content = line.content.split('#').next().unwrap_or_default().trim_end();
        let words = line.words();
        let [key, rest @ ..] = &words[..] else { continue };
        let value = || {
            let value = rest.first().ok_or_else(|| key.fault("a value is missing"))?;
            Ok::<_, String>(Said::new(value.value.to_owned(), &value.place))
        };
        let one_of = |values: &[&str]| {
            let value = value()?;
            let is_one = values.contains(&value.value.as_str());
            if is_one {
                Ok(value.value)
            } else {
                Err(value.fault(format!("write one of {}", values.join(", "))))
            }
        };
        match key.value {
            "TorAddress" => {
                address = value()?;
                address
                    .value
                    .parse::<IpAddr>()
                    .map_err(|_| address.fault("not an address; a name is not possible"))?;
            }
            "TorPort" => {
                port = value()?;
                let number = port.value.parse::<u16>().ok().filter(|port| *port > 0);
                number.ok_or_else(|| port.fault("not a port from 1 to 65535"))?;
            }
            "SOCKS5Username" => user = Some(value()?),
            "SOCKS5Password" => password = Some(value()?),
            // The shipped file has it.
            "OnionAddrRange" if rest.first().is_some_and(|range| range.value == ONIONS) => {}
            "OnionAddrRange" => {
                notes.push(
                    line.note("OnionAddrRange has no meaning here: names have addresses of 198.18.0.0/15"),
                );
            }
            "AllowInbound" => {
                if one_of(&["0", "1"])? == "0" {
                    notes.push(
                        line.note("AllowInbound 0 is not carried over: programs may listen and accept"),
                    );
                }
            }
            "AllowOutboundLocalhost" => {
                if one_of(&["0", "1", "2"])? != "2" {
                    notes.push(line.note(
                        "AllowOutboundLocalhost is not carried over: loopback is always reached directly",
                    ));
                }
            }
            "IsolatePID" => {
                profile.isolate = match one_of(&["0", "1"])?.as_str() {
                    "1" => Some(Said::new(Isolate::Process, &line.place())),
                    _ => None,
                }
            }
            other if other.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                notes.push(line.note(format!("\"{other}\" is ignored: torsocks has no such key")));
            }
            _ => notes.push(line.note("this line is ignored: torsocks has no such key")),
        }
    }
    let credentials = match (&user, &password) {
        (Some(user), Some(password)) => Some((user.value.as_str(), password.value.as_str())),
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => {
            return Err(one.fault("SOCKS5Username and SOCKS5Password go together"));
        }
    };
    if let (Some(isolate), Some(_)) = (&profile.isolate, credentials) {
        return Err(isolate.fault("IsolatePID makes up a user and a password, so there can be no others"));
    }
    let url = url("socks5", &address.value, &port.value, credentials);
    profile.proxy = Some(List { items: vec![Said::new(url, &address.place)], place: address.place });
    Ok(profile)
}
