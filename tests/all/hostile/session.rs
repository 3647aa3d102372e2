//! The shim with a session that is missing, garbled or someone else's: it connects nothing and resolves no name. What it leaves to the
//! seccomp filter is still proxied.

use std::path::PathBuf;

use presocks_tests::lab::{ORIGIN, USER_ID};
use presocks_tests::origin::Service;
use presocks_tests::proxy::Microsocks;
use presocks_tests::{Lab, Outcome, missing};

use crate::behaviour::program::compile;

/// The probe after `change` has been done to the session variable: nothing connects, and the destination sees nothing.
fn after(change: &str) {
    if let Some(connections) = connections_after(change, &[]) {
        assert_eq!(connections, 0);
    }
}

/// Runs the probe, to an address and to a name; how many connections the destination saw.
fn connections_after(change: &str, options: &[&str]) -> Option<usize> {
    if missing(&["cc", "microsocks"]) {
        return None;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    let origin = Service::echo(&lab, 7000);
    let probe = compile(&lab, "probe");
    let probe = probe.to_str().unwrap();
    let with = |to: &str| -> Outcome {
        let script = format!("{change}\nexec {probe} to={to}:7000 times=2");
        lab.presocks(["bash", "-e", "-c", &script]).proxy(&proxy).options(options).run()
    };
    let by_address = with(&ORIGIN.to_string());
    assert!(by_address.stdout() == "connect: ENETUNREACH\nunusable\n".repeat(2), "{}", by_address.report());
    let by_name = with("origin.test");
    assert!(
        ["connect: EAI_AGAIN\n", "connect: EAI_FAIL\n"].contains(&by_name.stdout().as_str()),
        "{}",
        by_name.report()
    );
    lab.assert_no_leak();
    Some(origin.connections())
}

/// Bash that changes the hexadecimal digit at `place` of the session's text: `30:`, 32 digits of name, 32 of token, 32
/// of proof.
fn flip(place: usize) -> String {
    format!(
        "digit=${{PRESOCKS_SESSION:{place}:1}}
         [ \"$digit\" = 0 ] && digit=1 || digit=0
         PRESOCKS_SESSION=${{PRESOCKS_SESSION:0:{place}}}$digit${{PRESOCKS_SESSION:{place}+1}}"
    )
}

#[test]
fn a_shim_without_a_session_connects_nothing() {
    after("unset PRESOCKS_SESSION");
}

#[test]
fn an_empty_session_connects_nothing() {
    after("PRESOCKS_SESSION=");
}

#[test]
fn a_garbled_session_connects_nothing() {
    after("PRESOCKS_SESSION=nonsense");
}

#[test]
fn a_session_cut_short_connects_nothing() {
    after("PRESOCKS_SESSION=${PRESOCKS_SESSION%?}");
}

#[test]
fn a_session_of_another_name_connects_nothing() {
    if let Some(connections) = connections_after(&flip(3 + 7), &["--backstop=off"]) {
        assert_eq!(connections, 0);
    }
}

#[test]
fn without_its_rendezvous_the_shim_leaves_a_connect_to_the_backstop() {
    let Some((lab, proxy, probe)) = scene() else {
        return;
    };
    let _origin = Service::echo(&lab, 7000);
    let script = format!("{}\nexec {} to={ORIGIN}:7000 times=2", flip(3 + 7), probe.display());
    let run = lab.presocks(["bash", "-e", "-c", &script]).proxy(&proxy).options(["--backstop=require"]).run();
    run.stdout_is("connect: ok\npeer: the one asked for\n".repeat(2));
    lab.assert_no_leak();
}

#[test]
fn a_wrong_token_connects_nothing() {
    after(&flip(3 + 32 + 7));
}

#[test]
fn a_broker_without_the_proof_is_not_believed() {
    // It is the true broker here and does as it is told, by way of the proxy; the shim must not let the program have that.
    let _ = connections_after(&flip(3 + 64 + 7), &[]);
}

#[test]
fn another_network_namespace_cannot_reach_the_broker_and_connects_nothing() {
    let Some((lab, proxy, probe)) = scene() else {
        return;
    };
    let to = format!("to={ORIGIN}:7000");
    let words = ["unshare", "--net", probe.to_str().unwrap(), &to];
    lab.presocks(words).proxy(&proxy).run().stdout_is("connect: ENETUNREACH\nunusable\n");
    lab.assert_no_leak();
}

#[test]
fn a_program_that_becomes_another_user_still_connects() {
    let Some((lab, proxy, probe)) = scene() else {
        return;
    };
    let _origin = Service::echo(&lab, 7000);
    let to = format!("to={ORIGIN}:7000");
    let user = format!("--reuid={USER_ID}");
    let words = ["setpriv", &user, "--clear-groups", probe.to_str().unwrap(), &to];
    lab.presocks(words).proxy(&proxy).run().stdout_is("connect: ok\npeer: the one asked for\n");
    lab.assert_no_leak();
}

fn scene() -> Option<(Lab, Microsocks, PathBuf)> {
    if missing(&["cc", "microsocks"]) {
        return None;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    let probe = compile(&lab, "probe");
    Some((lab, proxy, probe))
}
