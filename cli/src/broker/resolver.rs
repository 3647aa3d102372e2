//! The broker's name server, for programs that ask one themselves: whatever server they mean, this one answers.
//!
//! Queries over UDP come by the gates (`datagram`), each with the server that it was meant for. Over TCP a program's socket is connected to a
//! listener made for it alone. What is answered is in `dns`.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Broker, dns};

/// Where name servers listen.
pub(super) const PORT: u16 = 53;

/// A program that keeps a connection and asks nothing is let go (RFC 7766 section 6.2.3).
const IDLE: Duration = Duration::from_secs(120);

/// The answer to a query over UDP.
pub(super) async fn answer(broker: &Rc<Broker>, query: &[u8], _server: SocketAddr) -> Option<Vec<u8>> {
    dns::answer(&mut broker.names.borrow_mut(), query)
}

/// Answers over TCP (RFC 1035 section 4.2.2), until the program closes or says nothing for long.
pub(super) async fn converse(broker: Rc<Broker>, mut program: TcpStream) {
    while let Ok(Ok(query)) = timeout(IDLE, read_query(&mut program)).await {
        let answer = dns::answer(&mut broker.names.borrow_mut(), &query);
        let Some(answer) = answer else { return };
        let Ok(len) = u16::try_from(answer.len()) else { return };
        let mut framed = len.to_be_bytes().to_vec();
        framed.extend(answer);
        if program.write_all(&framed).await.is_err() {
            return;
        }
    }
}

async fn read_query(program: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut query = vec![0; usize::from(program.read_u16().await?)];
    program.read_exact(&mut query).await?;
    Ok(query)
}
