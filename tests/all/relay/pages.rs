//! Pages and records that real programs fetch, hooked and caught.

use presocks_tests::origin::http;
use presocks_tests::{Invocation, Lab};

use super::{PYTHON, Via};

const PROGRAM: &str =
    "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode(), end='')";

/// How the hosts of the laboratory are named in a URL: by name, and by addresses of both families. `is_v4`: SOCKS4a knows no others.
pub(crate) fn hosts(is_v4: bool) -> &'static [&'static str] {
    if is_v4 { &["origin.test", "10.88.0.2"] } else { &["origin.test", "10.88.0.2", "[fd88::2]"] }
}

/// curl, wget and Python fetch a page from each of these hosts. `setting`: how they are run.
#[track_caller]
pub(crate) fn are_fetched<'lab>(
    lab: &'lab Lab,
    via: &(impl Via + ?Sized),
    hosts: &[&str],
    setting: impl Fn(Invocation<'lab>) -> Invocation<'lab>,
) {
    for host in hosts {
        let page = format!("http://{host}/hello");
        for words in [
            &["curl", "-sS", &page][..],
            &["wget", "-q", "-O", "-", &page],
            &[PYTHON, "-c", PROGRAM, &page],
            &["env", "-i", "curl", "-sS", &page],
        ] {
            let run = setting(lab.presocks(words).options(via.options())).run();
            run.success().stdout_is(http::HELLO).stderr_is("");
        }
    }
}

/// curl fetches a large page.
#[track_caller]
pub(crate) fn arrive_whole(lab: &Lab, via: &(impl Via + ?Sized)) {
    let fetch = lab.presocks(["curl", "-sS", "http://10.88.0.2/large"]).options(via.options());
    fetch.run().success().stdout_is(http::large());
}

/// A record that is no address comes from the name server of the laboratory.
#[track_caller]
pub(crate) fn have_records(lab: &Lab, via: &(impl Via + ?Sized)) {
    let words = ["dig", "+short", "@192.0.2.53", "mail.test", "TXT"];
    let run = lab.presocks(words).options(via.options()).options(["--dns", "10.88.0.2"]).run();
    run.success().stdout_is("\"v=spf1 mx -all\"\n").stderr_is("");
}
