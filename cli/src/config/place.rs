//! Where something was said: in a part of a file, in an option, in a variable.
//!
//! What is said carries its place with it, through all merging, so that whatever turns out to be wrong with it later is
//! reported there. serde hands no context to the types that it fills: the file that is being read lies in a thread-local for as
//! long as it is read.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Spanned;

use super::excerpt;
use super::text::{Format, Text};

/// Something, and where it was said. It may be a password: what is shown is the place.
#[derive(Clone)]
pub(crate) struct Said<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// Where something was said.
#[derive(Clone)]
pub(crate) enum Place {
    /// In these bytes of a file.
    Part(Rc<Text>, Range<usize>),
    /// In an option or a variable of this name.
    Named(Rc<str>),
}

impl<T> Said<T> {
    pub(crate) fn new(value: T, place: &Place) -> Self {
        Self { value, place: place.clone() }
    }

    /// Said by the option or variable of this name.
    pub(crate) fn named(value: T, name: &str) -> Self {
        Self { value, place: Place::Named(name.into()) }
    }

    /// A message about it.
    pub(crate) fn fault(&self, why: impl fmt::Display) -> String {
        self.place.fault(why)
    }
}

impl Place {
    /// A message about what was said here: with file, line, column, the line itself and a caret, or with the name.
    pub(crate) fn fault(&self, why: impl fmt::Display) -> String {
        let why = excerpt::mask_quoted(&why.to_string());
        match self {
            Self::Part(text, span) => excerpt::render(text, span, &why),
            Self::Named(name) => format!("{name}: {why}"),
        }
    }

    /// What relative paths that were said here start from.
    pub(crate) fn directory(&self) -> Option<&std::path::Path> {
        match self {
            Self::Part(text, _) => Some(&text.directory),
            Self::Named(_) => None,
        }
    }

    /// Is it in a list of URLs alone?
    pub(crate) fn is_list_of_proxies(&self) -> bool {
        matches!(self, Self::Part(text, _) if text.format == Format::Proxies)
    }

    /// `FILE:LINE`, or the name.
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part(text, span) => write!(f, "{}:{}", text.name, excerpt::line_number(text, span.start)),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl<T> fmt::Debug for Said<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Said({})", self.place)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

thread_local! {
    static READING: RefCell<Option<Rc<Text>>> = const { RefCell::new(None) };
}

/// Whatever `read` makes serde fill is said in `text`.
pub(super) fn reading<R>(text: &Rc<Text>, read: impl FnOnce() -> R) -> R {
    READING.set(Some(Rc::clone(text)));
    let done = read();
    READING.set(None);
    done
}

/// A part of the file that is being read.
pub(super) fn part<E: serde::de::Error>(span: Range<usize>) -> Result<Place, E> {
    let text = READING.with_borrow(Clone::clone);
    text.map(|text| Place::Part(text, span)).ok_or_else(|| E::custom("no file is being read"))
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Said<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        let place = part(spanned.span()).map_err(D::Error::custom::<D::Error>)?;
        Ok(Self { value: spanned.into_inner(), place })
    }
}

impl<T: Serialize> Serialize for Said<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}
