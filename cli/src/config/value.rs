//! The types of single values: lists that may be one value, times, and what is parsed out of a text.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use presocks_proto::name::Name;
use presocks_proto::socks5::{Host, Target};
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use toml::Spanned;

use super::place::{self, Place, Said};

/// One value or a list of them, as texts; numbers will do.
#[derive(Clone, Debug)]
pub(crate) struct List {
    pub(crate) items: Vec<Said<String>>,
    /// Of the whole.
    pub(crate) place: Place,
}

impl List {
    /// The items, all said at the same place.
    pub(crate) fn new(items: impl IntoIterator<Item = impl Into<String>>, place: &Place) -> Self {
        let items = items.into_iter().map(|item| Said::new(item.into(), place)).collect();
        Self { items, place: place.clone() }
    }

    /// Reads each.
    ///
    /// # Errors
    /// What is wrong with the first that cannot be read, at its place; and that there are none.
    pub(crate) fn parse<T>(&self, mut read: impl FnMut(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
        if self.items.is_empty() {
            return Err(self.place.fault("the list is empty"));
        }
        self.items.iter().map(|item| read(&item.value).map_err(|why| item.fault(why))).collect()
    }
}

/// What a [`List`] is before it is known where it stands.
enum Raw {
    One(String),
    Many(Vec<Said<Text>>),
}

/// A text, or a number for it.
struct Text(String);

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, or a list of them")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::One(text.to_owned()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::One(number.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Raw::Many(items))
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Raw::deserialize(deserializer)? {
            Raw::One(text) => Ok(Self(text)),
            Raw::Many(_) => Err(D::Error::custom("a text or a number is expected here, not a list")),
        }
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Raw>::deserialize(deserializer)?;
        let place = place::part(spanned.span())?;
        let items = match spanned.into_inner() {
            Raw::One(text) => vec![Said::new(text, &place)],
            Raw::Many(items) => {
                items.into_iter().map(|item| Said { value: item.value.0, place: item.place }).collect()
            }
        };
        Ok(Self { items, place })
    }
}

impl Serialize for List {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.items.as_slice() {
            [item] => item.serialize(serializer),
            items => items.serialize(serializer),
        }
    }
}

/// A time above 0, and short enough to be added to any point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seconds(pub(crate) Duration);

impl Seconds {
    /// Ten years.
    const MOST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
    const NO_TIME: &str =
        "not a time: write seconds above 0, as 5 or 0.5, or a unit behind them: 500ms, 5s, 2m, 1h";
    const TOO_LONG: &str = "too long a time: ten years, 315360000 seconds, are the most";

    /// This time.
    ///
    /// # Errors
    /// It is 0, or more than ten years.
    pub(crate) fn new(time: Duration) -> Result<Self, &'static str> {
        match time {
            Duration::ZERO => Err(Self::NO_TIME),
            time if time > Self::MOST => Err(Self::TOO_LONG),
            time => Ok(Self(time)),
        }
    }

    /// Reads `5` or `0.5`, seconds; or a number with its unit, `5s`, `500ms`, `2m`, `1h`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const UNITS: [(&str, f64); 4] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let in_unit = |(unit, seconds)| Some((text.strip_suffix(unit)?.trim_end(), seconds));
        let (number, seconds) = UNITS.into_iter().find_map(in_unit).unwrap_or((text, 1.0));
        let number: f64 = number.parse().unwrap_or(f64::NAN);
        Self::from_float(number * seconds).map_err(str::to_owned)
    }

    fn from_float(seconds: f64) -> Result<Self, &'static str> {
        match Duration::try_from_secs_f64(seconds) {
            Ok(time) => Self::new(time),
            Err(_) if seconds > 0.0 => Err(Self::TOO_LONG),
            Err(_) => Err(Self::NO_TIME),
        }
    }

    fn from_integer<T: TryInto<u64> + PartialOrd + Default>(seconds: T) -> Result<Self, &'static str> {
        if seconds < T::default() {
            return Err(Self::NO_TIME);
        }
        Self::new(seconds.try_into().map_or(Duration::MAX, Duration::from_secs))
    }
}

struct SecondsVisitor;

impl Visitor<'_> for SecondsVisitor {
    type Value = Seconds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("seconds, as 5 or 0.5, or a time with its unit, as \"500ms\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Seconds, E> {
        Seconds::parse(text).map_err(E::custom)
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Seconds, E> {
        Seconds::from_float(seconds).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Seconds, E> {
        Seconds::from_integer(seconds).map_err(E::custom)
    }

    // TOML's integers may have more than 64 bits.
    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Seconds, E> {
        Seconds::from_integer(seconds).map_err(E::custom)
    }

    fn visit_i128<E: Error>(self, seconds: i128) -> Result<Seconds, E> {
        Seconds::from_integer(seconds).map_err(E::custom)
    }

    fn visit_u128<E: Error>(self, seconds: u128) -> Result<Seconds, E> {
        Seconds::from_integer(seconds).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecondsVisitor)
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match i64::try_from(self.0.as_secs()) {
            Ok(whole) if self.0.subsec_nanos() == 0 => serializer.serialize_i64(whole),
            _ => serializer.serialize_f64(self.0.as_secs_f64()),
        }
    }
}

/// ADDRESS, ADDRESS:PORT, \[IPV6\]:PORT, NAME or NAME:PORT.
pub(crate) fn name_server(text: &str) -> Result<Target, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_positive_seconds() {
        assert_eq!(Seconds::parse("0.5"), Ok(Seconds(Duration::from_millis(500))));
        for (text, time) in
            [("5s", 5_000), ("0.5 s", 500), ("250ms", 250), ("2m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(Seconds::parse(text), Ok(Seconds(Duration::from_millis(time))), "{text}");
        }
        for wrong in ["0", "-1", "", "x", "-inf", "NaN", "1e-300", "s", "0ms", "5sec", "5d", "s5"] {
            assert_eq!(Seconds::parse(wrong), Err(Seconds::NO_TIME.to_owned()), "{wrong}");
        }
    }

    #[test]
    fn a_time_can_be_added_to_any_moment() {
        let now = std::time::Instant::now();
        assert!(now.checked_add(Seconds::parse("315360000").unwrap().0).is_some());
        for long in ["315360000.5", "1e19", "1e300", "inf"] {
            assert_eq!(Seconds::parse(long), Err(Seconds::TOO_LONG.to_owned()), "{long}");
        }
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
}
