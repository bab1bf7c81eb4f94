//! How much may wait for clients to take it: of all together, and of one WebSocket.
//!
//! Large answers that nobody reads are refused beyond a limit for all connections together.
//!
//! jsonrpsee answers every message in a task of its own, as it comes in. A client that asks and asks and reads nothing
//! would make answers pile up. So its calls wait, before anything is computed for them, while as many of its calls are
//! being answered as may, or while too much of what was answered waits for the client to take it; expensive ones look
//! again when it is their turn. While much is waiting, nothing more is read from that client. Nobody else notices.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use hyper::body::Bytes;
use jsonrpsee::{
    MethodResponse,
    types::{ErrorObjectOwned, Id},
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Notify, Semaphore, SemaphorePermit},
};

use crate::{RpcLimits, errors::Failure};

/// What a call that waits takes besides its parameters.
const WAITING_CALL_BYTES: usize = 512;

/// Answers up to this size are never refused.
const SMALL_ANSWER_BYTES: usize = 64 * 1024;

/// What all clients together have not taken yet.
#[derive(Debug)]
pub(crate) struct Unsent {
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl Unsent {
    pub(crate) fn new(limits: &RpcLimits) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), bytes_max: limits.unsent_bytes_max })
    }

    /// Whether an answer of this size may wait for its client; then it counts.
    fn add(&self, bytes: usize) -> bool {
        let before = self.bytes.fetch_add(bytes, Ordering::SeqCst);
        let is_admitted = bytes <= SMALL_ANSWER_BYTES || before + bytes <= self.bytes_max;
        if !is_admitted {
            self.bytes.fetch_sub(bytes, Ordering::SeqCst);
            metrics::counter!("rpc_refused_answers_total").increment(1);
        }
        is_admitted
    }

    /// The error in place of an answer that may not.
    fn refusal(&self, id: Id<'_>) -> MethodResponse {
        MethodResponse::error(id, ErrorObjectOwned::from(Failure::Unread(self.bytes_max)))
    }

    /// An answer as the body of an HTTP response, which counts until the last byte of it is gone.
    pub(crate) fn body(self: &Arc<Self>, answer: MethodResponse, id: Id<'_>) -> Bytes {
        struct Held {
            text: String,
            unsent: Arc<Unsent>,
        }
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                self.text.as_bytes()
            }
        }
        impl Drop for Held {
            fn drop(&mut self) {
                self.unsent.bytes.fetch_sub(self.text.len(), Ordering::SeqCst);
            }
        }
        let text = |answer: MethodResponse| String::from(Box::<str>::from(answer.into_json()));
        let text_of_answer = text(answer);
        if text_of_answer.len() <= SMALL_ANSWER_BYTES {
            Bytes::from(text_of_answer)
        } else if self.add(text_of_answer.len()) {
            Bytes::from_owner(Held { text: text_of_answer, unsent: self.clone() })
        } else {
            Bytes::from(text(self.refusal(id)))
        }
    }
}

/// What is going on on one connection.
#[derive(Debug)]
pub(crate) struct Traffic {
    all: Arc<Unsent>,
    /// For calls that are being answered.
    permits: Semaphore,
    /// Bytes that were answered and not written yet. What is written besides answers counts against them, so it can be
    /// less than there is, but never more.
    unsent: AtomicUsize,
    unsent_max: usize,
    /// Told when `unsent` falls below its limit.
    has_room: Notify,
    /// Bytes of the calls that wait.
    waiting: AtomicUsize,
    waiting_max: usize,
    /// Who reads from the client, while it must not.
    reader: Mutex<Option<Waker>>,
}

tokio::task_local! {
    /// The connection that the call being answered came by, if it is one that keeps count.
    pub(crate) static CALLER: Arc<Traffic>;
}

/// A call that waits, for as long as this lives.
struct Waiting<'a> {
    traffic: &'a Traffic,
    bytes: usize,
}

impl<'a> Waiting<'a> {
    fn new(traffic: &'a Traffic, bytes: usize) -> Self {
        traffic.waiting.fetch_add(bytes, Ordering::SeqCst);
        Self { traffic, bytes }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let before = self.traffic.waiting.fetch_sub(self.bytes, Ordering::SeqCst);
        if before - self.bytes < self.traffic.waiting_max
            && let Some(reader) = self.traffic.reader.lock().take()
        {
            reader.wake();
        }
    }
}

impl Traffic {
    pub(crate) fn new(limits: &RpcLimits, all: Arc<Unsent>) -> Arc<Self> {
        Arc::new(Self {
            all,
            permits: Semaphore::new(limits.websocket_calls_max.max(1)),
            unsent: AtomicUsize::new(0),
            unsent_max: limits.websocket_unsent_bytes_max.max(1),
            has_room: Notify::new(),
            waiting: AtomicUsize::new(0),
            waiting_max: limits.websocket_waiting_bytes_max.max(1),
            reader: Mutex::new(None),
        })
    }

    /// Waits until a call whose parameters have so many bytes may be answered. One that `is_patient` waits for something
    /// other than the node, and does not count among those that are being answered.
    pub(crate) async fn begin(
        &self,
        bytes: usize,
        is_patient: bool,
    ) -> Option<SemaphorePermit<'_>> {
        let _waiting = Waiting::new(self, bytes + WAITING_CALL_BYTES);
        // Nobody closes the semaphore.
        let permit = if is_patient { None } else { self.permits.acquire().await.ok() };
        self.room().await;
        permit
    }

    /// Waits until the client has taken most of what it was answered.
    pub(crate) async fn room(&self) {
        loop {
            // Made before the look, so that it cannot be told in between.
            let told = self.has_room.notified();
            if self.has_room() {
                return;
            }
            told.await;
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.unsent.load(Ordering::SeqCst) < self.unsent_max
    }

    /// The answer on its way to the client, or the error in place of one that may not wait for it.
    pub(crate) fn answered(&self, answer: MethodResponse, id: Id<'_>) -> MethodResponse {
        let bytes = answer.as_ref().len();
        if !self.all.add(bytes) {
            return self.all.refusal(id);
        }
        self.unsent.fetch_add(bytes, Ordering::SeqCst);
        answer
    }

    fn written(&self, bytes: usize) {
        let less = |unsent: usize| Some(unsent.saturating_sub(bytes));
        let before = self.unsent.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        let before = before.unwrap_or_else(|unsent| unsent);
        self.all.bytes.fetch_sub(bytes.min(before), Ordering::SeqCst);
        if before >= self.unsent_max && before.saturating_sub(bytes) < self.unsent_max {
            self.has_room.notify_waiters();
        }
    }

    /// Ready when something may be read from the client.
    fn poll_read_more(&self, cx: &Context<'_>) -> Poll<()> {
        let may_read = || self.waiting.load(Ordering::SeqCst) < self.waiting_max;
        if may_read() {
            return Poll::Ready(());
        }
        *self.reader.lock() = Some(cx.waker().clone());
        // It may have become so before the waker was there.
        if may_read() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        // The client is gone, and what it has not taken with it.
        self.all.bytes.fetch_sub(*self.unsent.get_mut(), Ordering::SeqCst);
    }
}

/// A client's stream that keeps count.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    stream: S,
    traffic: Arc<Traffic>,
}

impl<S> Metered<S> {
    pub(crate) const fn new(stream: S, traffic: Arc<Traffic>) -> Self {
        Self { stream, traffic }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.traffic.poll_read_more(cx) {
            Poll::Ready(()) => Pin::new(&mut self.stream).poll_read(cx, buffer),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.traffic.written(count);
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.traffic.written(count);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonrpsee::ResponsePayload;
    use std::future::poll_fn;

    fn traffic() -> Arc<Traffic> {
        let limits = RpcLimits {
            websocket_calls_max: 2,
            websocket_unsent_bytes_max: 100,
            websocket_waiting_bytes_max: 2 * WAITING_CALL_BYTES,
            unsent_bytes_max: 3 * SMALL_ANSWER_BYTES,
            ..RpcLimits::default()
        };
        Traffic::new(&limits, Unsent::new(&limits))
    }

    /// An answer of so many bytes.
    fn answer(bytes: usize) -> MethodResponse {
        let around = r#"{"jsonrpc":"2.0","id":1,"result":""}"#.len();
        let text = ResponsePayload::success("x".repeat(bytes - around));
        let answer = MethodResponse::response(Id::Number(1), text, usize::MAX);
        assert_eq!(answer.as_ref().len(), bytes);
        answer
    }

    #[tokio::test]
    async fn large_answers_that_nobody_reads_are_refused_beyond_the_limit_and_small_ones_never() {
        let traffic = traffic();
        let all = traffic.all.clone();
        let id = || Id::Number(1);
        let large = 3 * SMALL_ANSWER_BYTES / 2;
        let held = all.body(answer(large), id());
        assert_eq!(held.len(), large);
        assert!(traffic.answered(answer(large), id()).is_success());
        assert_eq!(traffic.answered(answer(large), id()).as_error_code(), Some(-32005));
        let refused = all.body(answer(large), id());
        assert!(refused.starts_with(br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32005"#));
        assert!(traffic.answered(answer(SMALL_ANSWER_BYTES), id()).is_success());
        assert_eq!(all.body(answer(100), id()).len(), 100);
        // Room is made by a client that reads, and by one that leaves.
        drop(held);
        let other = Traffic::new(&RpcLimits::default(), all.clone());
        drop(traffic);
        assert!(other.answered(answer(large), id()).is_success());
        other.written(large);
        assert_eq!(all.bytes.load(Ordering::SeqCst), 0);
    }

    /// Whether a call could begin now.
    async fn can_begin(traffic: &Traffic) -> bool {
        let begin = std::pin::pin!(traffic.begin(0, false));
        let mut begin = Some(begin);
        poll_fn(|cx| {
            let begin = begin.as_mut().expect("polled once");
            Poll::Ready(begin.as_mut().poll(cx).is_ready())
        })
        .await
    }

    #[tokio::test]
    async fn calls_wait_for_those_before_them_and_for_the_client_to_read() {
        let traffic = traffic();
        let first = traffic.begin(0, false).await;
        let second = traffic.begin(0, false).await;
        assert!(!can_begin(&traffic).await);
        assert!(traffic.begin(0, true).await.is_none(), "a patient call does not count");
        drop(first);
        assert!(can_begin(&traffic).await);
        let _ = traffic.answered(answer(250), Id::Null);
        assert!(!can_begin(&traffic).await);
        drop(second);
        traffic.written(150);
        assert!(!can_begin(&traffic).await);
        let waits = {
            let traffic = traffic.clone();
            tokio::spawn(async move { traffic.begin(0, false).await.is_some() })
        };
        while traffic.waiting.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // A notification that was not announced counts too, and does no harm.
        traffic.written(300);
        assert!(waits.await.unwrap());
        assert_eq!(traffic.unsent.load(Ordering::SeqCst), 0);
        assert_eq!(traffic.waiting.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn nothing_is_read_while_many_calls_wait() {
        let traffic = traffic();
        let (mut client, server) = tokio::io::duplex(64);
        let mut stream = Metered::new(server, traffic.clone());
        let _ = traffic.answered(answer(100), Id::Null);
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let traffic = traffic.clone();
                tokio::spawn(async move { traffic.begin(0, false).await.is_some() })
            })
            .collect();
        while traffic.waiting.load(Ordering::SeqCst) < 2 * WAITING_CALL_BYTES {
            tokio::task::yield_now().await;
        }
        poll_fn(|cx| Pin::new(&mut client).poll_write(cx, b"more")).await.unwrap();
        let mut bytes = [0; 8];
        let mut buffer = ReadBuf::new(&mut bytes);
        let early =
            poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_read(cx, &mut buffer))).await;
        assert!(early.is_pending());
        poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, &[0; 1])).await.unwrap();
        // Its waker was kept and is called when the calls go on.
        poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut buffer)).await.unwrap();
        assert_eq!(buffer.filled(), b"more");
        for call in waiting {
            assert!(call.await.unwrap());
        }
    }
}
