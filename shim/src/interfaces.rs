//! getifaddrs and if_nameindex: the lists are made here, as libc makes them, of what the kernel says to us (`netlink`).
//!
//! Only where the seccomp filter stands, to which libc's own questions are calls that the broker has to look at. freeifaddrs(3) and
//! if_freenameindex(3) are libc's: a list of addresses is one piece of memory, a name index one and one for each name. Both functions allocate, as the real
//! ones do.
#![allow(unsafe_code)]

use core::ptr::{null_mut, slice_from_raw_parts_mut};

use libc::{c_char, c_int, c_uint, ifaddrs, sockaddr};

use crate::errno::{self, Errno, fail};
use crate::netlink::{
    ADDRESS, Dump, IFA_ADDRESS, IFA_BROADCAST, IFA_LABEL, IFA_LOCAL, IFLA_ADDRESS, IFLA_BROADCAST,
    IFLA_IFNAME, IFLA_STATS, LINK, Message, attributes, half, put, word,
};
use crate::{netlink, pass};

redhook::hook! {
    // getifaddrs(3). Changes: nothing but who asks. Errors: those of netlink(7), `ENOMEM`. Not safe in a signal handler, as the real one. No
    // cancellation point.
    unsafe fn getifaddrs(list: *mut *mut ifaddrs) -> c_int => hooked_getifaddrs {
        if !pass::filter_stands() {
            // SAFETY: the caller's own argument.
            return unsafe { redhook::real!(getifaddrs)(list) };
        }
        let (first, result) = match addresses() {
            Ok(first) => (first, 0),
            Err(error) => (null_mut(), fail(error)),
        };
        // SAFETY: getifaddrs(3) demands a place for a pointer.
        unsafe { list.write(first) };
        result
    }
}

redhook::hook! {
    // if_nameindex(3). As above; `ENOBUFS` without memory.
    unsafe fn if_nameindex() -> *mut libc::if_nameindex => hooked_if_nameindex {
        if !pass::filter_stands() {
            // SAFETY: it has no arguments.
            return unsafe { redhook::real!(if_nameindex)() };
        }
        names().unwrap_or_else(|error| {
            errno::set(error);
            null_mut()
        })
    }
}

/// Finds the real functions.
pub(crate) fn resolve() {
    let _ = redhook::real!(getifaddrs);
    let _ = redhook::real!(if_nameindex);
}

/// An entry of the list, and what it points to: `struct ifaddrs` begins the memory that free(3) gets.
#[repr(C)]
struct Entry {
    entry: ifaddrs,
    /// A link's; none for an address.
    index: c_uint,
    own: Place,
    mask: Place,
    /// The broadcast address, or the other end.
    other: Place,
    name: [u8; NAME],
}

/// Where a socket address is put. The longest is `struct sockaddr_ll` with an address of `MAX_ADDR_LEN` (32) bytes.
#[repr(C, align(8))]
struct Place([u8; 48]);

/// `IF_NAMESIZE`, and a NUL.
const NAME: usize = 17;

/// The list; null when there are no links.
fn addresses() -> Result<*mut ifaddrs, Errno> {
    loop {
        match list(&netlink::ask(&[libc::RTM_GETLINK, libc::RTM_GETADDR])?) {
            // Links have come between the two answers.
            Err(libc::EAGAIN) => {}
            result => return result,
        }
    }
}

/// # Errors
/// `EAGAIN` for an address of a link that is not there; `ENOMEM`.
fn list(dump: &Dump) -> Result<*mut ifaddrs, Errno> {
    let of_kind = |wanted| dump.messages().filter(move |message| message.kind == wanted);
    let links = of_kind(libc::RTM_NEWLINK).count();
    let count = links + of_kind(libc::RTM_NEWADDR).count();
    if count == 0 {
        return Ok(null_mut());
    }
    let statistics =
        of_kind(libc::RTM_NEWLINK).map(|link| statistics_of(&link).len().next_multiple_of(8)).sum::<usize>();
    // SAFETY: calloc(3) demands nothing.
    let memory = unsafe { libc::calloc(1, count * size_of::<Entry>() + statistics) };
    if memory.is_null() {
        return Err(libc::ENOMEM);
    }
    // SAFETY: the memory has room for `count` entries, and as many bytes of statistics; all-zero entries are valid: null pointers and bytes.
    let entries = unsafe { &mut *slice_from_raw_parts_mut(memory.cast::<Entry>(), count) };
    // SAFETY: what is behind the entries belongs to the same piece.
    let mut data = unsafe { memory.cast::<Entry>().add(count) }.cast::<u8>();
    let (of_links, of_addresses) = entries.split_at_mut(links);
    for (entry, link) in of_links.iter_mut().zip(of_kind(libc::RTM_NEWLINK)) {
        entry.take_link(&link);
        let statistics = statistics_of(&link);
        if !statistics.is_empty() {
            entry.entry.ifa_data = data.cast();
            // SAFETY: there is room for the statistics of all links, which are the dump's, that is elsewhere.
            unsafe { core::ptr::copy_nonoverlapping(statistics.as_ptr(), data, statistics.len()) };
            // SAFETY: at most the end of the memory.
            data = unsafe { data.add(statistics.len().next_multiple_of(8)) };
        }
    }
    for (entry, address) in of_addresses.iter_mut().zip(of_kind(libc::RTM_NEWADDR)) {
        let index = word(address.body, 4);
        let Some(link) = of_links.iter_mut().find(|link| link.index == index) else {
            // SAFETY: the memory is from calloc(3), and nobody has it yet.
            unsafe { libc::free(memory) };
            return Err(libc::EAGAIN);
        };
        entry.take_address(&address, link);
    }
    let mut next = null_mut();
    for entry in entries.iter_mut().rev() {
        entry.entry.ifa_next = next;
        next = &raw mut entry.entry;
    }
    Ok(memory.cast())
}

/// `struct rtnl_link_stats`.
fn statistics_of<'dump>(link: &Message<'dump>) -> &'dump [u8] {
    attributes(link.body, LINK).find(|(kind, _)| *kind == IFLA_STATS).map_or(&[], |(_, value)| value)
}

impl Entry {
    fn take_link(&mut self, link: &Message) {
        let (kind, index) = (half(link.body, 2), word(link.body, 4));
        self.index = index;
        self.entry.ifa_flags = word(link.body, 8);
        for (attribute, value) in attributes(link.body, LINK) {
            match attribute {
                IFLA_ADDRESS => self.entry.ifa_addr = self.own.set_link(kind, index, value),
                IFLA_BROADCAST => self.entry.ifa_ifu = self.other.set_link(kind, index, value),
                IFLA_IFNAME => self.set_name(value),
                _ => {}
            }
        }
    }

    fn take_address(&mut self, address: &Message, link: &mut Self) {
        let (family, prefix) =
            (address.body.first().copied().unwrap_or(0), address.body.get(1).copied().unwrap_or(0));
        let family = c_int::from(family);
        let find = |wanted| attributes(address.body, ADDRESS).find(|(kind, _)| *kind == wanted);
        let (own, end, broadcast) = (find(IFA_LOCAL), find(IFA_ADDRESS), find(IFA_BROADCAST));
        let set = |place: &mut Place, value| place.set(family, link.index, value);
        // IFA_ADDRESS is the other end if there is an address of our own beside it.
        if let Some((_, own)) = own.or(end) {
            self.entry.ifa_addr = set(&mut self.own, own);
        }
        if let Some((_, other)) = broadcast.or(own.and(end)) {
            self.entry.ifa_ifu = set(&mut self.other, other);
        }
        self.entry.ifa_flags = link.entry.ifa_flags;
        match find(IFA_LABEL) {
            Some((_, label)) => self.set_name(label),
            None => self.entry.ifa_name = link.entry.ifa_name,
        }
        if !self.entry.ifa_addr.is_null() {
            self.entry.ifa_netmask = self.mask.set_mask(family, usize::from(prefix));
        }
    }

    fn set_name(&mut self, name: &[u8]) {
        if name.len() < NAME {
            put(&mut self.name, 0, name);
            self.entry.ifa_name = self.name.as_mut_ptr().cast();
        }
    }
}

impl Place {
    /// `struct sockaddr_ll` (packet(7)).
    fn set_link(&mut self, kind: u16, index: c_uint, address: &[u8]) -> *mut sockaddr {
        put(&mut self.0, 0, &(libc::AF_PACKET as u16).to_ne_bytes());
        put(&mut self.0, 4, &index.to_ne_bytes());
        put(&mut self.0, 8, &kind.to_ne_bytes());
        put(&mut self.0, 11, &[address.len() as u8]);
        put(&mut self.0, 12, address);
        self.0.as_mut_ptr().cast()
    }

    /// `struct sockaddr_in`, `struct sockaddr_in6` (with its link where it means something), or any other.
    fn set(&mut self, family: c_int, index: c_uint, address: &[u8]) -> *mut sockaddr {
        put(&mut self.0, 0, &(family as u16).to_ne_bytes());
        put(&mut self.0, offset(family), address);
        let is_of_link = matches!(*address, [0xfe, 0x80..=0xbf, ..])
            || matches!(*address, [0xff, scope, ..] if scope & 0xf == 2);
        if family == libc::AF_INET6 && is_of_link {
            put(&mut self.0, 24, &index.to_ne_bytes());
        }
        self.0.as_mut_ptr().cast()
    }

    fn set_mask(&mut self, family: c_int, prefix: usize) -> *mut sockaddr {
        put(&mut self.0, 0, &(family as u16).to_ne_bytes());
        let octets = match family {
            libc::AF_INET => 4,
            libc::AF_INET6 => 16,
            _ => 0,
        };
        for octet in 0..octets {
            let ones = prefix.saturating_sub(8 * octet).min(8);
            put(&mut self.0, offset(family) + octet, &[!(0xff_u8.checked_shr(ones as u32).unwrap_or(0))]);
        }
        self.0.as_mut_ptr().cast()
    }
}

/// Where the address begins.
fn offset(family: c_int) -> usize {
    match family {
        libc::AF_INET => 4,
        libc::AF_INET6 => 8,
        _ => 2,
    }
}

fn names() -> Result<*mut libc::if_nameindex, Errno> {
    let dump = netlink::ask(&[libc::RTM_GETLINK])?;
    let links = || dump.messages().filter(|message| message.kind == libc::RTM_NEWLINK);
    let count = links().count();
    // SAFETY: calloc(3) demands nothing.
    let index =
        unsafe { libc::calloc(count + 1, size_of::<libc::if_nameindex>()) }.cast::<libc::if_nameindex>();
    if index.is_null() {
        return Err(libc::ENOBUFS);
    }
    // SAFETY: the memory has room for so many, and zeros are valid ones.
    let entries = unsafe { &mut *slice_from_raw_parts_mut(index, count) };
    for (entry, link) in entries.iter_mut().zip(links()) {
        let name = attributes(link.body, LINK).find(|(kind, _)| *kind == IFLA_IFNAME);
        entry.if_index = word(link.body, 4);
        let Some((_, name)) = name else { continue };
        // SAFETY: the name has so many bytes.
        entry.if_name = unsafe { libc::strndup(name.as_ptr().cast::<c_char>(), name.len()) };
        if entry.if_name.is_null() {
            entry.if_index = 0;
            // SAFETY: the index was made as libc makes one, and ends here.
            unsafe { libc::if_freenameindex(index) };
            return Err(libc::ENOBUFS);
        }
    }
    Ok(index)
}
