//! Thousands of pending connects take little memory, and none once they have ended.

use std::fs;

use presocks_tests::lab::ORIGIN;
use presocks_tests::proxy::url;
use presocks_tests::{Build, Lab, binary, missing, patience};

/// A port of the proxy host that swallows every packet.
const SILENT: u16 = 1099;
/// Programs, and the connects of each.
const PROGRAMS: usize = 2;
const EACH: usize = 3000;
const ALL: usize = PROGRAMS * EACH;
/// Files that the broker may have open.
const FILES: usize = 20_000;

/// Kilobytes that a pending connect may take, the allocator's and the runtime's own included.
const FOR_EACH: f64 = 9.5;
/// Kilobytes that may be left of all of them.
const LEFT: usize = 10 * 1024;

/// The broker of a session, by the number of its front.
fn broker(front: u32) -> Option<String> {
    let children = fs::read_to_string(format!("/proc/{front}/task/{front}/children")).ok()?;
    let broker = children.split_whitespace().next()?.to_owned();
    let name = fs::read_to_string(format!("/proc/{broker}/comm")).ok()?;
    name.starts_with("presocks-broker").then_some(broker)
}

/// What it occupies, in kilobytes.
fn resident(broker: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{broker}/status")).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn descriptors(broker: &str) -> usize {
    fs::read_dir(format!("/proc/{broker}/fd")).expect("its descriptors").count()
}

#[test]
fn thousands_of_pending_connects_take_little_memory_and_give_it_back() {
    if missing(&["cc", "nft"]) {
        return;
    }
    let lab = Lab::new();
    lab.permit_proxy_port(SILENT);
    let drop = format!(
        "table inet silence {{ chain input {{ type filter hook input priority 0; tcp dport {SILENT} drop; }}; }}\n"
    );
    lab.proxy.setup(&["nft", "-f", "-"], &drop);
    let script = format!(
        "ulimit -n {FILES}; exec {} -p {} {} to={ORIGIN}:7 processes={PROGRAMS} connects={EACH} dissolve=1 wait=1",
        binary::presocks().display(),
        url(None, SILENT),
        Build::Shared.of(&lab, "rush", &[]).display()
    );
    let mut running = lab.bare(["sh", "-c", &script]).start();
    let broker = patience::wait_for("the broker", || broker(running.number()));
    let before = resident(&broker);
    assert_eq!(running.line(), "all have begun");
    patience::wait_until("all to be under way", || descriptors(&broker) > 2 * ALL);
    let each = resident(&broker).saturating_sub(before) as f64 / ALL as f64;
    assert!(each < FOR_EACH, "{each:.2} kB for each pending connect");
    running.write("dissolve\n");
    assert_eq!(running.line(), "sockets that are dissolved: ok");
    patience::wait_until("the memory to be given back", || resident(&broker) < before + LEFT);
    println!("{each:.2} kB for each pending connect; {before} kB before, {} after", resident(&broker));
    running.write("end\n");
    running.finish().success();
    lab.assert_no_leak();
}
