//! The constructor: everything that a hook will need is found before the program runs.
//!
//! dlsym(3) may allocate and take the loader's lock; after this no hook calls it. A hook that runs earlier, from another library's
//! constructor, finds its symbol itself. And what another program has begun is taken over, before this one can look at it.
#![allow(unsafe_code)]

use crate::session;

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = start;

extern "C" fn start() {
    let _ = session::current();
    crate::close::resolve();
    crate::datagram::resolve();
    crate::dup::resolve();
    crate::epoll::resolve();
    crate::fcntl::resolve();
    crate::getaddrinfo::resolve();
    crate::getaddrinfo_a::resolve();
    crate::getnameinfo::resolve();
    crate::interfaces::resolve();
    crate::listen::resolve();
    crate::pass::resolve();
    crate::poll::resolve();
    crate::receive::resolve();
    crate::resolver::resolve();
    crate::rpc::resolve();
    crate::select::resolve();
    crate::setsockopt::resolve();
    crate::socket::resolve();
    crate::status::resolve();
    crate::transfer::resolve();
    crate::pending::adopt_inherited();
}
