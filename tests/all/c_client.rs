//! A plain C program: the calls as the manual pages show them, compiled here.

use std::path::PathBuf;

use presocks_tests::origin::Service;
use presocks_tests::proxy::{EACH_NEEDS, one_of_each};
use presocks_tests::{Lab, missing};

/// Resolves, connects, says one line, prints the answer and whom it talked to.
const PROGRAM: &str = r#"
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **words)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list, *place;
    int error = count == 3 ? getaddrinfo(words[1], words[2], &hints, &list) : EAI_NONAME;
    if (error) return fprintf(stderr, "%s\n", gai_strerror(error)), 1;
    int fd = -1;
    for (place = list; place; place = place->ai_next) {
        fd = socket(place->ai_family, place->ai_socktype, place->ai_protocol);
        if (connect(fd, place->ai_addr, place->ai_addrlen) == 0) break;
        perror("connect");
        close(fd);
    }
    if (!place) return 2;
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    if (getpeername(fd, (struct sockaddr *)&peer, &length)) return perror("getpeername"), 3;
    int same = length == place->ai_addrlen && memcmp(&peer, place->ai_addr, length) == 0;
    freeaddrinfo(list);
    if (write(fd, "a line\n", 7) != 7) return perror("write"), 4;
    char text[64];
    ssize_t got, total = 0;
    while (total < 7 && (got = read(fd, text + total, 7 - total)) > 0) total += got;
    return printf("%s: %.*s", same ? "peer" : "another", (int)total, text), 0;
}
"#;

fn compiled(lab: &Lab) -> PathBuf {
    let source = lab.file("client.c", PROGRAM);
    let program = lab.directory().join("client");
    lab.client
        .setup(&["cc", "-O2", "-Wall", "-o", &program.to_string_lossy(), &source.to_string_lossy()], "");
    program
}

#[test]
fn a_c_program_talks_through_every_proxy() {
    if missing(&["cc"]) || missing(&EACH_NEEDS) {
        return;
    }
    let lab = Lab::new();
    let echo = Service::echo(&lab, 7);
    let program = compiled(&lab);
    for (round, proxy) in one_of_each(&lab).iter().enumerate() {
        for host in ["origin.test", "10.88.0.2", "fd88::2"] {
            let client = lab.presocks([program.as_os_str(), host.as_ref(), "7".as_ref()]).proxy(proxy);
            client.run().success().stdout_is("peer: a line\n").stderr_is("");
        }
        assert_eq!(echo.connections(), 3 * (round + 1));
    }
    lab.assert_no_leak();
}
