//! What libc asks the kernel about links and addresses, where no hook sees it: the shim asks itself, and the broker is not woken.

use std::fmt::Write as _;
use std::path::Path;

use presocks_tests::Build;
use presocks_tests::host::Host;

use super::{same_bare_and_wrapped, stage_for};

/// Links of several kinds, and addresses of all forms: more than one answer of the kernel's holds.
fn furnish(host: &Host) {
    let mut batch = String::from(
        "tuntap add dev tunnel0 mode tun\naddress add 10.201.0.1 peer 10.201.0.2/32 dev tunnel0\n",
    );
    batch.push_str("address add fd01::1 peer fd01::2/128 dev tunnel0 nodad\n");
    for number in 0..110 {
        let _ = write!(
            batch,
            "link add link{number} type bridge
             address add 10.200.{number}.1/24 broadcast + dev link{number} label link{number}:name
             address add fd00:{number}::1/{} dev link{number} nodad
            ",
            64 + number % 60,
        );
    }
    host.setup(&["ip", "-batch", "-"], &batch);
    host.setup(&["ip", "link", "set", "link7", "up"], "");
}

#[test]
fn links_and_addresses_are_as_libc_has_them() {
    let Some(stage) = stage_for(&[Build::Shared]) else { return };
    let program = Build::Shared.of(&stage.lab, "interfaces", &[]);
    furnish(&stage.lab.client);
    furnish(&stage.lab.proxy);
    same_bare_and_wrapped(&stage, &[&program]);
}

#[test]
fn the_broker_is_not_asked_about_links_and_addresses() {
    let Some(stage) = stage_for(&[Build::Shared]) else { return };
    let program = Build::Shared.of(&stage.lab, "interfaces", &[]);
    same_bare_and_wrapped(&stage, &[&program, Path::new("quietly")]);
}
