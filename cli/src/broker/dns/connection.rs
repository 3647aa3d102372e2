//! One kept connection to a name server, through the proxy, for all that is asked of it (RFC 7766).
//!
//! Queries are sent as they come, without waiting for each other, under IDs of our own; answers may come in any order. The server may
//! close at any time: what was under way is then asked once more, on a new connection, or more often as long as each connection
//! brings an answer. There one query goes alone until it is answered: a server that closes after each answer resets a connection
//! on which more has come, and the answer may be lost with it. Whoever asked is told of a failure by its sender's being dropped.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval, timeout};

use super::framing::{Frames, framed};
use super::message;
use super::trouble::Trouble;
use super::upstream::Upstreams;
use crate::policy::Upstream;
use crate::upstream::stream::Stream;

/// How long a connection without a query is kept. Servers close theirs after some seconds, too (RFC 7766 section 6.2.3).
const IDLE: Duration = Duration::from_secs(10);

/// How often is looked for queries that nobody waits for any more.
const TICK: Duration = Duration::from_secs(1);

/// Most queries under way on a connection; the others wait. Few enough that a free ID is found at once.
const MOST_UNDER_WAY: usize = 256;

/// How long a server may take no query.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// A query, and who waits for its answer.
pub(super) struct Asked {
    query: Vec<u8>,
    asker: oneshot::Sender<Vec<u8>>,
    /// Has a connection ended that brought no answer to anything?
    has_failed: bool,
}

impl Asked {
    pub(super) fn new(query: Vec<u8>, asker: oneshot::Sender<Vec<u8>>) -> Self {
        Self { query, asker, has_failed: false }
    }
}

/// Serves `questions`, of which one is there, until there has been none for a while.
pub(super) async fn keep(upstreams: Rc<Upstreams>, upstream: Upstream, mut questions: mpsc::Receiver<Asked>) {
    let mut again = VecDeque::new();
    // All that waits for an attempt that fails shares its end. The next query makes another.
    while let Ok(stream) = upstreams.connect(upstream).await {
        again = Conversation::new(&upstreams, upstream, stream, again).run(&mut questions).await;
        if again.is_empty() && questions.is_empty() {
            break;
        }
    }
    // Nothing can have come in since it was looked: there is one thread, and nothing was waited for.
    upstreams.forget(&upstream);
}

/// A connection.
struct Conversation<'a> {
    upstreams: &'a Upstreams,
    upstream: Upstream,
    from_server: ReadHalf<Stream>,
    to_server: WriteHalf<Stream>,
    frames: Frames,
    under_way: HashMap<u16, UnderWay>,
    /// What the last connection left over, to be asked here.
    left_over: VecDeque<Asked>,
    /// Has the last connection left anything over?
    is_second: bool,
    /// When the server last said something.
    heard: Instant,
    has_answered: bool,
}

/// A query that was sent.
struct UnderWay {
    asked: Asked,
    sent: Instant,
}

impl<'a> Conversation<'a> {
    fn new(upstreams: &'a Upstreams, upstream: Upstream, stream: Stream, left_over: VecDeque<Asked>) -> Self {
        let (from_server, to_server) = split(stream);
        Self {
            upstreams,
            upstream,
            from_server,
            to_server,
            frames: Frames::default(),
            under_way: HashMap::new(),
            is_second: !left_over.is_empty(),
            left_over,
            heard: Instant::now(),
            has_answered: false,
        }
    }

    /// Until the connection ends; what is to be asked again.
    async fn run(mut self, questions: &mut mpsc::Receiver<Asked>) -> VecDeque<Asked> {
        // However it ends, what counts is what has no answer.
        let _ = self.converse(questions).await;
        let mut again = self.left_over;
        for UnderWay { asked, .. } in self.under_way.into_values() {
            if self.has_answered || !asked.has_failed {
                again.push_back(Asked { has_failed: !self.has_answered, ..asked });
            } else {
                self.upstreams.failed(&self.upstream, &Trouble::Closed);
            }
        }
        again
    }

    async fn converse(&mut self, questions: &mut mpsc::Receiver<Asked>) -> io::Result<()> {
        let mut tick = interval(TICK);
        loop {
            while self.may_send()
                && let Some(asked) = self.left_over.pop_front()
            {
                self.send(asked).await?;
            }
            tokio::select! {
                // In this order: what has come in while the connection ended is a part of its end.
                biased;
                Some(asked) = questions.recv(), if self.may_send() => self.send(asked).await?,
                message = self.frames.next(&mut self.from_server) => match message? {
                    Some(message) => self.take(&message),
                    None => return Ok(()),
                },
                _ = tick.tick() => {
                    if self.is_over() {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn may_send(&self) -> bool {
        let most = if self.is_second && !self.has_answered { 1 } else { MOST_UNDER_WAY };
        self.under_way.len() < most
    }

    async fn send(&mut self, asked: Asked) -> io::Result<()> {
        let message = self.enter(asked)?;
        let write = async {
            self.to_server.write_all(&message).await?;
            self.to_server.flush().await
        };
        timeout(WRITE_LIMIT, write).await?
    }

    /// The query as it is sent: under an ID that nobody else can guess, whatever the program chose.
    fn enter(&mut self, asked: Asked) -> io::Result<Vec<u8>> {
        let (id, place) = loop {
            let mut id = [0; 2];
            getrandom(&mut id, GetRandomFlags::empty())?;
            if let Entry::Vacant(place) = self.under_way.entry(u16::from_be_bytes(id)) {
                break (id, place);
            }
        };
        let rest = asked.query.get(id.len()..).unwrap_or(&[]);
        let message = framed(&[&id, rest].concat()).unwrap_or_default();
        place.insert(UnderWay { asked, sent: Instant::now() });
        Ok(message)
    }

    /// An answer. One that belongs to no query is late, or not for us.
    fn take(&mut self, message: &[u8]) {
        self.heard = Instant::now();
        let Some(id) = message.first_chunk().map(|id| u16::from_be_bytes(*id)) else { return };
        let Some(UnderWay { asked, .. }) = self.under_way.remove(&id) else { return };
        let Some(answer) = message::accept(&asked.query, message) else {
            self.upstreams.failed(&self.upstream, &Trouble::Malformed);
            return;
        };
        self.has_answered = true;
        // Whoever has asked may be gone.
        let _ = asked.asker.send(answer);
    }

    /// Nothing more to wait for; or a server that has said nothing since a query that was given up: the connection may be dead.
    fn is_over(&mut self) -> bool {
        let heard = self.heard;
        let mut is_dead = false;
        self.under_way.retain(|_, under_way| {
            let is_given_up = under_way.asked.asker.is_closed();
            is_dead |= is_given_up && under_way.sent > heard;
            !is_given_up
        });
        is_dead || self.under_way.is_empty() && heard.elapsed() > IDLE
    }
}
