//! GSSAPI with a proxy (RFC 1961): who we are, by a Kerberos ticket of the user's, and how all that follows is protected.
//!
//! The first token is made before a word is said to the proxy. The library may ask the KDC for it, and wait: that is done on threads of its own, a few at
//! a time for each service, and not waited for longer than for the proxy. A level of protection below the one that was asked for is refused.

mod seal;
pub(crate) mod sealed;
pub(crate) mod trouble;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use presocks_proto::socks5::gssapi::{GREETING, HEADER, Kind, Level, MAX_TOKEN, check_choice, token_len};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::failure::Failure;
use super::limits::Limits;
use super::negotiate::Wire;
use super::stream::Stream;
use crate::gssapi::{Buffer, Context, Naming, Step};
use crate::proxy::Gssapi;
pub(crate) use seal::Seal;
use seal::message;
use sealed::Sealed;
use trouble::Trouble;

/// So many may ask the KDC for one service at a time: the others find what those have got.
const AT_A_TIME: usize = 4;

/// Who may ask the KDC. Each service has turns of its own: one whose KDC never answers keeps nobody from another.
#[derive(Default)]
pub(crate) struct Turns(RefCell<HashMap<String, Arc<Semaphore>>>);

/// How the proxy at this place on a path is to be named. The first one's name has been looked up on this machine already; that of a later one is for the
/// proxy before it.
pub(crate) fn naming(place: usize) -> Naming {
    if place == 0 { Naming::ByHost } else { Naming::Exact }
}

/// What a context protects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// A connection: what comes out of its turn has been tampered with.
    Stream,
    /// Datagrams, which may be lost and overtake each other.
    Datagrams,
}

/// Authenticates on a connection of the broker's, and protects what is said on it from now on.
///
/// # Errors
/// [`Failure::Gssapi`]; [`Failure::AnswerTimeout`].
pub(crate) async fn wrap(
    turns: &Turns,
    gssapi: &Gssapi,
    what: Use,
    naming: Naming,
    limits: &Limits,
    mut stream: Stream,
) -> Result<Stream, Failure> {
    Ok(match authenticate(turns, gssapi, what, naming, limits, &mut stream).await? {
        Some(seal) => Stream::Gssapi(Box::new(Sealed::new(stream, seal))),
        None => stream,
    })
}

/// Authenticates. `None`: what follows is not protected, as it was asked for.
///
/// # Errors
/// [`Failure::Gssapi`]; [`Failure::AnswerTimeout`].
pub(crate) async fn authenticate(
    turns: &Turns,
    gssapi: &Gssapi,
    what: Use,
    naming: Naming,
    limits: &Limits,
    wire: &mut impl Wire,
) -> Result<Option<Seal>, Failure> {
    let failed = |trouble: Trouble| Failure::Gssapi(Box::new(trouble.of(gssapi)));
    let service = gssapi.service.clone();
    let begun = limits.within(
        limits.handshake,
        turns.take(&gssapi.service, move || {
            let mut context = Context::new(&service, naming, what == Use::Stream)?;
            let step = context.step(&[])?;
            Ok((context, step))
        }),
    );
    let conversation = match begun.await {
        Ok(Ok((context, step))) => converse(gssapi, wire, context, step),
        Ok(Err(trouble)) => return Err(failed(trouble)),
        Err(limit) => return Err(failed(Trouble::Slow(limit))),
    };
    match limits.within(limits.handshake, conversation).await {
        Ok(result) => result.map_err(failed),
        Err(limit) => Err(Failure::AnswerTimeout(limit)),
    }
}

impl Turns {
    /// Has the library work for this service, when it is its turn.
    async fn take<T: Send + 'static>(
        &self,
        service: &str,
        work: impl FnOnce() -> Result<T, crate::gssapi::Error> + Send + 'static,
    ) -> Result<T, Trouble> {
        let turns = Arc::clone(
            self.0
                .borrow_mut()
                .entry(service.to_owned())
                .or_insert_with(|| Arc::new(Semaphore::new(AT_A_TIME))),
        );
        // Nobody closes the semaphore.
        let turn = turns.acquire_owned().await.map_err(|_| gone())?;
        aside(move || {
            let result = work();
            drop(turn);
            result
        })
        .await
    }
}

/// Has the library work on a thread where it may wait.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::gssapi::Error> + Send + 'static,
) -> Result<T, Trouble> {
    // Nobody ends the runtime while it runs.
    spawn_blocking(work).await.map_err(|_| gone())?.map_err(Trouble::Library)
}

fn gone() -> Trouble {
    Trouble::Broken(io::ErrorKind::Interrupted.into())
}

/// The whole conversation, from the greeting to the level of protection.
async fn converse(
    gssapi: &Gssapi,
    wire: &mut impl Wire,
    mut context: Context,
    mut step: Step,
) -> Result<Option<Seal>, Trouble> {
    wire.send(&GREETING).await.map_err(Trouble::Broken)?;
    let mut choice = [0; 2];
    receive_all(wire, &mut choice).await?;
    check_choice(choice).map_err(Trouble::Method)?;
    while !step.is_complete {
        send(wire, Kind::Authentication, &step.token).await?;
        let token = receive(wire, Kind::Authentication, Trouble::ClosedOnUs).await?;
        // Its answer is not for the KDC: this takes no turn.
        (context, step) = aside(move || {
            let step = context.step(&token)?;
            Ok((context, step))
        })
        .await
        .map_err(Trouble::by_the_proxy)?;
    }
    // The last one may be for the proxy alone.
    if !step.token.as_slice().is_empty() {
        send(wire, Kind::Authentication, &step.token).await?;
    }
    agree(gssapi.level, wire, context).await
}

/// The level of protection (section 4). Both sides say it under the context's protection, so that nobody on the way makes it another. A stronger one than was
/// asked for will do.
async fn agree(level: Level, wire: &mut impl Wire, mut context: Context) -> Result<Option<Seal>, Trouble> {
    if !context.protects(level == Level::Confidentiality) {
        return Err(Trouble::NotOffered);
    }
    let wish = context.wrap(false, &[level.number()]).map_err(Trouble::Library)?;
    send(wire, Kind::Protection, &wish).await?;
    let answer = receive(wire, Kind::Protection, Trouble::ClosedOnLevel(level)).await?;
    let answer = context.unwrap(false, &answer).map_err(Trouble::Token)?;
    let [number] = *answer.as_slice() else { return Err(Trouble::NoLevel) };
    let will_do = |agreed: &Level| *agreed == level || level > Level::Clear && *agreed > level;
    let agreed = Level::new(number).filter(will_do);
    let agreed = agreed.ok_or(Trouble::Level { wanted: level, answered: number })?;
    if agreed == Level::Clear {
        return Ok(None);
    }
    let is_confidential = agreed == Level::Confidentiality;
    if !context.protects(is_confidential) {
        return Err(Trouble::NotOffered);
    }
    let room = u32::try_from(MAX_TOKEN).unwrap_or(u32::MAX);
    let most = context.most(is_confidential, room).map_err(Trouble::Library)?;
    Ok(Some(Seal::new(context, is_confidential, most.clamp(1, MAX_TOKEN))))
}

async fn send(wire: &mut impl Wire, kind: Kind, token: &Buffer) -> Result<(), Trouble> {
    let message = message(kind, token).ok_or(Trouble::TooLong)?;
    wire.send(&message).await.map_err(Trouble::Broken)
}

/// A message's token, and not a byte more. `closed`: what it means that the proxy ends here.
async fn receive(wire: &mut impl Wire, kind: Kind, closed: Trouble) -> Result<Vec<u8>, Trouble> {
    let mut head = [0; HEADER];
    let (first, rest) = head.split_at_mut(HEADER / 2);
    // A proxy that closes before it has read all is heard of as a reset.
    match receive_all(wire, first).await {
        Err(Trouble::Closed) => return Err(closed),
        Err(Trouble::Broken(error)) if error.kind() == io::ErrorKind::ConnectionReset => return Err(closed),
        result => result?,
    }
    // An abort has no more.
    token_len(kind, first).map_err(Trouble::Malformed)?;
    receive_all(wire, rest).await?;
    let len = token_len(kind, &head).map_err(Trouble::Malformed)?.unwrap_or_default();
    let mut token = vec![0; len];
    receive_all(wire, &mut token).await?;
    Ok(token)
}

async fn receive_all(wire: &mut impl Wire, mut room: &mut [u8]) -> Result<(), Trouble> {
    while !room.is_empty() {
        let len = wire.receive(room).await.map_err(Trouble::Broken)?;
        if len == 0 {
            return Err(Trouble::Closed);
        }
        room = room.get_mut(len..).unwrap_or_default();
    }
    Ok(())
}
