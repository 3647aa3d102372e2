//! Programs of `tests/programs` that send datagrams: the same lines and status under presocks as on a bare machine.

use presocks_tests::proxy::Upstream as _;

use super::scene::{Scene, same_bare_and_wrapped};
use crate::behaviour::program::compile;

#[test]
fn every_call_sends_receives_and_knows_the_sender() {
    same_bare_and_wrapped("udp_calls");
}

#[test]
fn a_connected_socket_has_its_peer_until_it_has_another_or_none() {
    same_bare_and_wrapped("udp_connected");
}

#[test]
fn a_socket_serves_in_many_hands_and_every_wait_sees_its_datagrams() {
    same_bare_and_wrapped("udp_shared");
}

#[test]
fn bound_sockets_and_options_are_the_kernels() {
    same_bare_and_wrapped("udp_options");
}

#[test]
fn datagrams_of_all_sizes_go_there_and_back() {
    same_bare_and_wrapped("udp_sizes");
}

#[test]
fn counts_and_lengths_of_messages_are_cut_or_refused_as_the_kernel_does() {
    same_bare_and_wrapped("lenient");
}

#[test]
fn four_thousand_destinations_on_one_socket_answer_each_for_itself() {
    same_bare_and_wrapped("udp_many");
}

/// Not through Dante, which does not relay them.
#[test]
fn answers_from_another_port_come_to_who_takes_from_anybody() {
    let Some(scene) = Scene::set() else { return };
    let program = compile(&scene.lab, "udp_elsewhere");
    scene.same_bare_and_wrapped(&[&program], &[&scene.embedded]);
}

#[test]
fn what_does_not_fit_behind_a_header_is_refused_and_not_lost() {
    let Some(scene) = Scene::set() else { return };
    let program = compile(&scene.lab, "udp_limits");
    for proxy in [scene.dante.url(), scene.embedded.url()] {
        scene.wrapped(&[&program], &proxy).run().success();
    }
    scene.lab.assert_no_leak();
}
