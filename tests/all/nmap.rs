//! nmap -sT: many non-blocking connects whose errors are the very result.

use presocks_tests::origin::Service;
use presocks_tests::proxy::scripted::Script;
use presocks_tests::proxy::{Dante, EACH_NEEDS, Microsocks, SshDynamic, Upstream};
use presocks_tests::{Lab, missing, patience};

#[test]
fn nmap_tells_open_ports_from_closed_ones_by_address() {
    if missing(&["nmap"]) || missing(&EACH_NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _open = [Service::echo(&lab, 7), Service::echo(&lab, 8000)];
    let (dante, microsocks, ssh) = (Dante::open(&lab), Microsocks::open(&lab), SshDynamic::open(&lab));
    for proxy in [&dante as &dyn Upstream, &microsocks, &ssh] {
        let scan =
            ["nmap", "-sT", "-Pn", "-n", "--unprivileged", "-oG", "-", "-p", "4,7,8,8000", "10.88.0.2"];
        let outcome = lab.presocks(scan).proxy(proxy).options(["-q"]).run();
        outcome.success();
        for port in ["4/closed/tcp", "7/open/tcp", "8/closed/tcp", "8000/open/tcp"] {
            outcome.stdout_has(port);
        }
    }
    lab.assert_no_leak();
}

#[test]
fn nmap_scans_a_name_that_only_the_proxy_knows() {
    if missing(&["nmap", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let _open = Service::echo(&lab, 7);
    let proxy = Dante::with_password(&lab);
    let scan = ["nmap", "-sT", "-Pn", "-n", "--unprivileged", "-oG", "-", "-p", "4,7", "origin.test"];
    let outcome = lab.presocks(scan).proxy(&proxy).options(["-q"]).run();
    outcome.success().stdout_has("4/closed/tcp").stdout_has("7/open/tcp");
    lab.assert_no_leak();
}

/// Ports of which nothing is heard, more than there are descriptors: nmap closes its sockets when it has waited long enough.
#[test]
fn nmap_waits_for_many_silent_ports_in_vain_and_keeps_nothing_of_them() {
    const DESCRIPTORS: usize = 256;
    if missing(&["nmap"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Script::until_request().read_all().start(&lab);
    let scan = format!(
        "ulimit -n {DESCRIPTORS}
         exec nmap -sT -Pn -n --unprivileged -T4 --min-rate 100 --max-retries 0 -oG - -p 1001-1600 10.88.0.2"
    );
    let outcome = lab.presocks(["sh", "-c", &scan]).proxy(&proxy).options(["-q"]).run();
    outcome.success().stdout_has("Ignored State: filtered (600)");
    assert!(proxy.connections().len() > DESCRIPTORS, "they have not come so far");
    patience::wait_until("all connections to end", || proxy.connections().iter().all(|one| one.over));
    lab.assert_no_leak();
}
