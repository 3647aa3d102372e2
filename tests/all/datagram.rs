//! Datagrams, raw sockets and other transports: loopback works, nothing leaves.

use crate::behaviour::{passes_wrapped, same_bare_and_wrapped};

#[test]
fn datagrams_on_loopback_and_the_source_address_of_a_connected_socket_are_the_kernels() {
    same_bare_and_wrapped("datagrams");
}

#[test]
fn datagrams_elsewhere_raw_sockets_and_other_transports_are_refused() {
    passes_wrapped("datagrams_closed");
}

#[test]
fn a_thread_that_writes_while_another_connects_leaks_nothing() {
    passes_wrapped("datagrams_racing");
}

#[test]
fn addresses_of_any_length_groups_devices_and_source_routes_lead_nothing_past_the_proxy() {
    passes_wrapped("detours");
}
