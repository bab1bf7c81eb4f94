//! One client's socket, with protection from clients that do not read what they asked for.
//!
//! While something cannot be written because the client does not read, nothing more is read from it: answers to
//! requests that keep coming in would pile up in memory. And when it has not read for long enough, it is disconnected.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::Sleep,
};

/// A stream to a client that may stop reading.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    stream: S,
    stalled_max: Duration,
    /// Runs while a write waits for the client.
    stalled: Option<Pin<Box<Sleep>>>,
    /// The client was given up: everything fails from now on.
    is_given_up: bool,
    /// The reader that waits for the write.
    reader: Option<Waker>,
    /// Its place among the connections that there may be, also after it has become a WebSocket.
    _place: OwnedSemaphorePermit,
}

impl<S> Connection<S> {
    pub(crate) const fn new(stream: S, stalled_max: Duration, place: OwnedSemaphorePermit) -> Self {
        Self { stream, stalled_max, stalled: None, is_given_up: false, reader: None, _place: place }
    }

    /// Notes how a write went.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.is_given_up {
            return Poll::Ready(Err(given_up()));
        }
        if result.is_pending() {
            let stalled_max = self.stalled_max;
            let stalled =
                self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(stalled_max)));
            ready!(stalled.as_mut().poll(cx));
            self.is_given_up = true;
            metrics::counter!("rpc_stalled_clients_total").increment(1);
        }
        self.stalled = None;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        if self.is_given_up { Poll::Ready(Err(given_up())) } else { result }
    }
}

fn given_up() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answers")
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_given_up {
            return Poll::Ready(Err(given_up()));
        }
        if self.stalled.is_some() {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.written(cx, result)
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
    use std::{future::poll_fn, sync::Arc};
    use tokio::sync::Semaphore;

    fn place() -> OwnedSemaphorePermit {
        Arc::new(Semaphore::new(1)).try_acquire_owned().expect("nobody else has it")
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_for_too_long_is_disconnected() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut connection = Connection::new(server, Duration::from_millis(50), place());
        let mut write = async |bytes: &[u8]| {
            poll_fn(|cx| Pin::new(&mut connection).poll_write(cx, bytes)).await
        };
        assert_eq!(write(&[1; 64]).await.unwrap(), 64);
        assert_eq!(write(&[2; 64]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // From then on both directions are closed, so that whoever waits for the client gives up too.
        poll_fn(|cx| Pin::new(&mut client).poll_write(cx, b"more")).await.unwrap();
        let mut bytes = [0; 8];
        let mut buffer = ReadBuf::new(&mut bytes);
        let read = poll_fn(|cx| Pin::new(&mut connection).poll_read(cx, &mut buffer)).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_not_read_from_until_it_does() {
        let (mut client, server) = tokio::io::duplex(8);
        let mut connection = Connection::new(server, Duration::from_secs(60), place());
        poll_fn(|cx| Pin::new(&mut connection).poll_write(cx, &[1; 8])).await.unwrap();
        let full =
            poll_fn(|cx| Poll::Ready(Pin::new(&mut connection).poll_write(cx, &[2; 8]))).await;
        assert!(full.is_pending());
        let mut bytes = [0; 8];
        poll_fn(|cx| Pin::new(&mut client).poll_write(cx, b"x")).await.unwrap();
        let mut buffer = ReadBuf::new(&mut bytes);
        let early =
            poll_fn(|cx| Poll::Ready(Pin::new(&mut connection).poll_read(cx, &mut buffer))).await;
        assert!(early.is_pending(), "what the client sends meanwhile stays in its socket");
        poll_fn(|cx| Pin::new(&mut client).poll_read(cx, &mut ReadBuf::new(&mut bytes)))
            .await
            .unwrap();
        poll_fn(|cx| Pin::new(&mut connection).poll_write(cx, &[2; 8])).await.unwrap();
        poll_fn(|cx| Pin::new(&mut connection).poll_read(cx, &mut ReadBuf::new(&mut bytes)))
            .await
            .unwrap();
        assert_eq!(bytes[0], b'x');
    }
}
