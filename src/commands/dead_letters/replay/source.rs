//! Delivers dead letters to a pipeline, as a broker would: each again after a lost session, until it is
//! acknowledged. Ends the pipeline when all are.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::event::{Message, SessionId};
use crate::source::{Disconnect, Incoming, Source};

/// The most letters that are handed over and not yet marked as replayed. After a crash a sink finds so many among
/// the ids that it claims.
pub(super) const WINDOW: usize = 2048;

/// The most messages that the pipeline gets at once.
const BATCH: usize = 256;

/// A letter that the pipeline has settled. It keeps its place in the window until it is marked.
#[derive(Debug)]
pub(super) struct SettledLetter {
    /// The broker's message id, which the mark names.
    pub(super) id: Bytes,
    _place: OwnedSemaphorePermit,
}

/// Reads messages from a channel, at most [`WINDOW`] at a time. Who sends them bounds their bytes.
pub(super) struct ReplaySource {
    messages: mpsc::Receiver<Message>,
    has_ended: bool,
    window: Arc<Semaphore>,
    /// What is not acknowledged, the oldest first.
    unacked: VecDeque<(Message, OwnedSemaphorePermit)>,
    /// How many of these the current session has delivered.
    delivered: usize,
    /// The position of the oldest one in the current session.
    first: u64,
    session: SessionId,
    /// What the pipeline must be told before it gets messages.
    news: VecDeque<Incoming>,
    settled: mpsc::Sender<SettledLetter>,
    /// Cancelled once all letters are acknowledged, which ends the pipeline.
    end: CancellationToken,
}

impl ReplaySource {
    /// Creates the source. `settled` gets each message that was acknowledged, and needs room for [`WINDOW`].
    pub(super) fn new(
        messages: mpsc::Receiver<Message>,
        settled: mpsc::Sender<SettledLetter>,
        end: CancellationToken,
    ) -> Self {
        let session = SessionId(1);
        Self {
            messages,
            has_ended: false,
            window: Arc::new(Semaphore::new(WINDOW)),
            unacked: VecDeque::new(),
            delivered: 0,
            first: 1,
            session,
            news: VecDeque::from([Incoming::Session(session)]),
            settled,
            end,
        }
    }

    /// Waits for the next message and takes it. Cancel-safe.
    async fn take(&mut self) {
        let Ok(place) = Arc::clone(&self.window).acquire_owned().await else { return };
        match self.messages.recv().await {
            Some(message) => self.unacked.push_back((message, place)),
            None => self.has_ended = true,
        }
    }

    /// Takes the messages that are ready.
    fn take_more(&mut self) {
        while self.unacked.len() - self.delivered < BATCH {
            let Ok(place) = Arc::clone(&self.window).try_acquire_owned() else { return };
            let Ok(message) = self.messages.try_recv() else { return };
            self.unacked.push_back((message, place));
        }
    }
}

#[async_trait]
impl Source for ReplaySource {
    async fn next(&mut self) -> Option<Incoming> {
        loop {
            if let Some(news) = self.news.pop_front() {
                return Some(news);
            }
            if self.delivered < self.unacked.len() {
                self.take_more();
                let messages: Vec<_> = self
                    .unacked
                    .range(self.delivered..)
                    .take(BATCH)
                    .map(|(message, _)| message.clone())
                    .collect();
                self.delivered += messages.len();
                return Some(Incoming::Messages(messages));
            }
            if self.has_ended {
                if self.unacked.is_empty() {
                    self.end.cancel();
                }
                return pending().await;
            }
            self.take().await;
        }
    }

    fn ack(&mut self, session: SessionId, through: u64) {
        while session == self.session && self.first <= through && self.delivered > 0 {
            let Some((message, place)) = self.unacked.pop_front() else { return };
            self.first += 1;
            self.delivered -= 1;
            // There is room for the whole window. Nobody receives it after an error.
            let _stopped = self.settled.try_send(SettledLetter { id: message.id, _place: place });
        }
    }

    fn give_up(&mut self, session: SessionId) {
        if session == self.session {
            self.session = SessionId(session.0 + 1);
            (self.delivered, self.first) = (0, 1);
            self.news.extend([Incoming::Lost(session), Incoming::Session(self.session)]);
        }
    }

    async fn close(&mut self) -> Disconnect {
        Disconnect::Confirmed
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::sink::testing::message;

    fn messages(numbers: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = Message> {
        numbers.map(|number| message(number, Bytes::from_static(b"{}")))
    }

    fn source(count: u64) -> (ReplaySource, mpsc::Receiver<SettledLetter>, CancellationToken) {
        let (sender, receiver) = mpsc::channel(count as usize);
        messages(1..=count).for_each(|message| sender.try_send(message).unwrap());
        let (settled, settlements) = mpsc::channel(WINDOW);
        let end = CancellationToken::new();
        (ReplaySource::new(receiver, settled, end.clone()), settlements, end)
    }

    /// Returns the numbers of the messages that are ready.
    fn ready(source: &mut ReplaySource) -> Vec<String> {
        let mut ids = Vec::new();
        while let Some(incoming) = source.next().now_or_never() {
            match incoming.unwrap() {
                Incoming::Session(session) => ids.push(format!("session {session}")),
                Incoming::Lost(session) => ids.push(format!("lost {session}")),
                Incoming::Messages(messages) => ids
                    .extend(messages.iter().map(|message| String::from_utf8_lossy(&message.id).into_owned())),
            }
        }
        ids
    }

    #[test]
    fn a_session_that_is_given_up_is_delivered_again_and_its_acks_are_void() {
        let (mut source, mut settled, end) = source(3);
        assert_eq!(ready(&mut source), ["session 1", "ID:1", "ID:2", "ID:3"]);
        source.ack(SessionId(1), 1);
        source.give_up(SessionId(1));
        source.ack(SessionId(1), 3);
        source.give_up(SessionId(1));
        assert_eq!(ready(&mut source), ["lost 1", "session 2", "ID:2", "ID:3"]);
        source.ack(SessionId(2), 1);
        assert!(!end.is_cancelled());
        source.ack(SessionId(2), 2);
        assert_eq!(ready(&mut source), [""; 0]);
        assert!(end.is_cancelled());
        let ids: Vec<_> = std::iter::from_fn(|| settled.try_recv().ok()).map(|settled| settled.id).collect();
        assert_eq!(ids, ["ID:1", "ID:2", "ID:3"]);
    }

    #[test]
    fn no_more_is_taken_than_the_window_holds_until_letters_are_marked() {
        let (mut source, mut settled, _) = source(WINDOW as u64 + 5);
        assert_eq!(ready(&mut source).len(), 1 + WINDOW);
        source.ack(SessionId(1), 7);
        assert_eq!(ready(&mut source).len(), 0, "settled, but not marked");
        drop([settled.try_recv().unwrap(), settled.try_recv().unwrap()]);
        assert_eq!(ready(&mut source).len(), 2);
    }
}
