//! The broker's name server, for programs that ask one themselves: whatever server they mean, this one answers.
//!
//! Queries over UDP come by the gates (`datagram`), each with the server that it was meant for. Over TCP a program's socket is connected to a
//! listener made for it alone. What is answered is in `dns`.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::dns::framing::{Frames, framed};
use super::dns::{NameServer, Transport};
use crate::policy::Addressed;

/// A program that keeps a connection and asks nothing is let go (RFC 7766 section 6.2.3).
const IDLE: Duration = Duration::from_secs(120);

/// Most queries of one connection that are being answered; the next ones wait.
const MOST_AT_ONCE: usize = 64;

/// Answers over TCP (RFC 7766), until the program closes or says nothing for long. `server` is the one that it has addressed. No query
/// waits for the answer to another: an answer goes when it is there.
pub(super) async fn converse(names: Rc<NameServer>, program: TcpStream, server: Addressed) {
    let (from_program, to_program) = program.into_split();
    let (answers, to_write) = mpsc::channel(MOST_AT_ONCE);
    // Ends with the last one who has something to say, or with the program.
    let mut writing = pin!(write_answers(to_program, to_write));
    tokio::select! {
        () = &mut writing => return,
        () = read_queries(&names, from_program, &server, answers) => {}
    }
    writing.await;
}

async fn read_queries(
    names: &Rc<NameServer>,
    mut program: OwnedReadHalf,
    server: &Addressed,
    answers: mpsc::Sender<Vec<u8>>,
) {
    let mut frames = Frames::default();
    let turns = Arc::new(Semaphore::new(MOST_AT_ONCE));
    while let Ok(Ok(Some(query))) = timeout(IDLE, frames.next(&mut program)).await {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        let (names, answers, server) = (Rc::clone(names), answers.clone(), server.clone());
        spawn_local(async move {
            answer(&names, &query, &server, &answers).await;
            drop(turn);
        });
    }
}

async fn answer(names: &NameServer, query: &[u8], server: &Addressed, answers: &mpsc::Sender<Vec<u8>>) {
    if names.is_transfer(query) {
        return names.transfer(query, server, answers).await;
    }
    if let Some(answer) = names.answer(query, server, Transport::Tcp).await {
        // A program that is gone needs no answer.
        let _ = answers.send(answer).await;
    }
}

async fn write_answers(mut program: OwnedWriteHalf, mut answers: mpsc::Receiver<Vec<u8>>) {
    while let Some(answer) = answers.recv().await {
        let Some(answer) = framed(&answer) else { return };
        if program.write_all(&answer).await.is_err() {
            return;
        }
    }
}
