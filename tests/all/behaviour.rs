//! Programs of `tests/programs` behave under presocks as they do on a bare machine: the same lines, the same status.
//!
//! Each prints a line per check. Run bare next to the origin it proves that what it expects is the kernel's doing; run
//! wrapped it must print the very same, and nothing may leave the client but for the proxy.

pub(crate) mod program;
pub(crate) mod stage;

use presocks_tests::proxy::Upstream;

use stage::Stage;

/// Runs `tests/programs/NAME` bare and wrapped.
pub(crate) fn same_bare_and_wrapped(name: &str) {
    let Some(stage) = Stage::set() else { return };
    same_on(&stage, name, &[]);
}

/// The same on a stage that is set already, with more arguments.
pub(crate) fn same_on(stage: &Stage, name: &str, more: &[&str]) {
    same_through(stage, name, &stage.proxy.url(), more);
}

/// The same with a proxy that is reached over IPv6, which IPv4 sockets cannot do by themselves.
fn same_through_ipv6_proxy(name: &str) {
    let Some(stage) = Stage::set() else { return };
    same_through(&stage, name, &stage.proxy.url6(), &[]);
}

fn same_through(stage: &Stage, name: &str, proxy: &str, more: &[&str]) {
    let bare = bare_passes(stage, name, more);
    same_as(&bare, stage, name, proxy, more);
    stage.lab.assert_no_leak();
}

/// Runs `tests/programs/NAME` wrapped: it passes, and prints what it has printed bare.
#[track_caller]
pub(crate) fn same_as(bare: &str, stage: &Stage, name: &str, proxy: &str, more: &[&str]) {
    let wrapped = stage.wrapped(name, proxy, more).run();
    assert!(
        wrapped.status.success() && wrapped.stdout() == bare,
        "not as on a bare machine:\n{}\n{}",
        differences(bare, &wrapped.stdout()),
        wrapped.report()
    );
}

/// Runs `tests/programs/NAME` wrapped only: what it expects is presocks' own doing.
pub(crate) fn passes_wrapped(name: &str) {
    let Some(stage) = Stage::set() else { return };
    stage.wrapped(name, &stage.proxy.url(), &["proxied=1"]).run().success();
    stage.lab.assert_no_leak();
}

/// Runs `tests/programs/NAME` wrapped, whatever becomes of it.
fn leaks_nothing(name: &str) {
    let Some(stage) = Stage::set() else { return };
    bare_passes(&stage, name, &[]);
    let _ = stage.wrapped(name, &stage.proxy.url(), &[]).run();
    stage.lab.assert_no_leak();
}

pub(crate) fn bare_passes(stage: &Stage, name: &str, more: &[&str]) -> String {
    let bare = stage.run_bare(name, more);
    let text = String::from_utf8_lossy(&bare.stdout).into_owned();
    assert!(
        bare.status.success(),
        "the program fails on a bare machine ({}):\n{text}{}",
        bare.status,
        String::from_utf8_lossy(&bare.stderr)
    );
    text
}

/// The lines of `wrapped` that `bare` does not have, and the first that is missing.
fn differences(bare: &str, wrapped: &str) -> String {
    let mut lines: Vec<String> = wrapped
        .lines()
        .filter(|line| !bare.lines().any(|other| other == *line))
        .map(|line| format!("> {line}"))
        .collect();
    let missing = bare.lines().find(|line| !wrapped.lines().any(|other| other == *line));
    lines.extend(missing.map(|line| format!("< {line}")));
    lines.join("\n")
}

macro_rules! programs {
    ($run:ident; $($test:ident: $program:literal,)*) => {
        $(
            #[test]
            fn $test() {
                $run($program);
            }
        )*
    };
}

programs! { same_bare_and_wrapped;
    a_blocking_connect_succeeds_and_fails_as_the_kernels_does: "blocking",
    wrong_arguments_and_local_destinations_are_the_kernels_business: "arguments",
    an_interrupted_connect_goes_on_in_the_background: "interrupted",
    a_pending_connect_answers_every_question_as_the_kernel_does: "pending",
    poll_does_not_show_a_pending_socket_as_writable: "polling",
    select_does_not_show_a_pending_socket_as_writable: "selecting",
    epoll_reports_a_connect_as_the_program_registered_it: "epolling",
    threads_asleep_in_epoll_wait_see_connects_of_others: "sleepers",
    a_pending_socket_survives_dup_close_and_fork: "moved",
    nothing_is_read_or_written_through_a_copy_of_a_pending_socket: "copied",
    threads_small_stacks_cancellation_and_signal_handlers_connect: "threads",
    forks_spawns_and_daemons_connect: "processes",
    descriptors_are_neither_taken_nor_lost: "descriptors",
    many_hands_on_a_pending_socket_do_not_hang_or_confuse: "contention",
    signals_and_masks_work_while_a_connect_is_pending: "masks",
    a_thousand_connects_are_pending_at_once: "crowd",
    readers_sleep_through_the_connect_to_the_data: "readers",
    pythons_event_loops_never_stall: "loops.py",
    fast_open_and_mptcp_are_connects: "fastopen",
    what_is_read_or_written_before_a_connect_is_done_waits_for_it: "early",
    receiving_and_messages_are_the_kernels_and_can_be_cancelled: "receiving",
    connects_without_a_descriptor_to_spare_are_left_to_the_backstop: "exhausted",
    a_call_leaves_nothing_behind_that_passes_the_filter: "leftovers",
    counts_and_lengths_beyond_what_is_there_are_cut_or_refused_as_the_kernel_does: "lenient",
    pending_sockets_whose_copies_others_close_connect: "closers",
    a_pending_socket_is_pending_in_every_table_of_descriptors: "tables",
    a_pending_socket_that_another_program_goes_on_with_is_pending_there: "handed",
    a_signal_tells_of_the_end_of_a_connect_and_of_nothing_before: "signalled",
    a_socket_that_is_dissolved_tells_those_that_wait_for_its_connect: "dissolving",
}

programs! { same_through_ipv6_proxy;
    blocking_connects_go_through_an_ipv6_proxy: "blocking",
    pending_connects_go_through_an_ipv6_proxy: "pending",
    interrupted_connects_go_through_an_ipv6_proxy: "interrupted",
    epoll_works_through_an_ipv6_proxy: "epolling",
    moved_sockets_go_through_an_ipv6_proxy: "moved",
    threads_go_through_an_ipv6_proxy: "threads",
    fast_open_goes_through_an_ipv6_proxy: "fastopen",
}

/// What presocks does not do as the kernel does it (docs/limits.md): the program may fail, but nothing leaks.
#[test]
fn a_pending_socket_that_outlives_its_number_leaks_nothing() {
    leaks_nothing("orphaned");
}

#[test]
fn a_pointer_to_nowhere_leaks_nothing() {
    leaks_nothing("wild");
}

#[test]
fn a_pending_socket_goes_on_in_another_program_before_the_broker_has_heard_of_it() {
    passes_wrapped("hasty");
}
