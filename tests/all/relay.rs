//! Connections that run through the broker, because the program's socket cannot reach the proxy itself.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use presocks_tests::lab::ORIGIN;
use presocks_tests::origin::Service;
use presocks_tests::proxy::Microsocks;
use presocks_tests::{Lab, missing, patience};

/// Sends until every buffer on the way is full, tells how much that was, and exits with all of it under way.
const FILL: &str = "
import select, socket, sys
s = socket.create_connection((sys.argv[1], 7000))
s.setblocking(False)
sent = 0
while select.select([], [s], [], 1)[1]: sent += s.send(bytes(65536))
print(sent)";

#[test]
fn what_a_program_sends_before_it_exits_arrives() {
    if missing(&["python3", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    let has_exited = Arc::new(AtomicBool::new(false));
    let (received, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let origin = (Arc::clone(&has_exited), Arc::clone(&received), Arc::clone(&is_over));
    let _slow = Service::start(&lab, 7000, move |mut stream| {
        let (has_exited, received, is_over) = &origin;
        patience::wait_until("the program to exit", || has_exited.load(Ordering::SeqCst));
        let mut buffer = vec![0; 65536];
        let ended = loop {
            match stream.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(len) => drop(received.fetch_add(len, Ordering::SeqCst)),
                Err(error) => break Err(error),
            }
        };
        is_over.store(true, Ordering::SeqCst);
        ended
    });
    let outcome = lab.presocks(["python3", "-c", FILL, &ORIGIN.to_string()]).proxy(&proxy.url6()).run();
    let sent: usize = outcome.success().stdout().trim().parse().unwrap();
    has_exited.store(true, Ordering::SeqCst);
    patience::wait_until("the connection to end", || is_over.load(Ordering::SeqCst));
    assert_eq!(received.load(Ordering::SeqCst), sent);
    lab.assert_no_leak();
}
