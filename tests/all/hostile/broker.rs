//! The broker dies: what stands keeps working, what is pending fails, nothing new begins, nothing leaks.

use presocks_tests::proxy::Upstream;

use crate::behaviour::stage::Stage;

#[test]
fn a_killed_broker_fails_pending_and_new_connects_and_spares_standing_ones() {
    let Some(stage) = Stage::set() else { return };
    let outcome = stage.wrapped("brokerless", &stage.proxy.url(), &[]).run();
    assert!(!outcome.stdout().is_empty() && !outcome.stdout().contains("FAILED"), "{}", outcome.report());
    stage.lab.assert_no_leak();
}
