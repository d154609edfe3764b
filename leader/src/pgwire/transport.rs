//! The two directions of a connection, buffered, with limits.
//!
//! [`Reader`] checks a message's length against the limit of the connection's state and of the
//! message's type as soon as the five bytes of its head are there, before any of its body is
//! buffered, and its buffer grows only with bytes that have really arrived. Before authentication
//! all bytes together have a budget. The packets before that are read in `startup.rs`, byte for
//! byte and without a buffer, since a TLS handshake may begin in between.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::pgwire::message;
use crate::pgwire::report::{Report, sqlstate};

/// All bytes a client may send after its startup packet and before it is authenticated.
const UNAUTHENTICATED_BYTES_MAX: usize = 48 << 10;
/// A message that answers an authentication request.
const AUTHENTICATION_BYTES_MAX: usize = 8 << 10;
/// A message that carries only names.
const SHORT_MESSAGE_BYTES_MAX: usize = 64 << 10;
/// How much is read ahead while a statement runs.
const READ_AHEAD_BYTES_MAX: usize = 64 << 10;
const READ_BYTES: usize = 8 << 10;
/// How much is read and forgotten at the end of a connection: a client that sends on and on is not
/// listened to for long.
const DRAINED_BYTES_MAX: usize = 1 << 20;
/// A buffer larger than this is given back when it is empty.
const KEPT_BUFFER_BYTES_MAX: usize = 128 << 10;
/// Output is sent when so much is waiting.
pub(crate) const SEND_BYTES: usize = 64 << 10;

/// Why no message could be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The client closed the connection, or the network did.
    Gone,
    /// The client broke the protocol so that the stream of messages is lost; FATAL.
    Protocol(Report),
}

impl From<io::Error> for ReadError {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// The client's bytes.
pub(crate) struct Reader {
    source: Box<dyn AsyncRead + Send + Unpin>,
    buffer: BytesMut,
    /// Bytes that may still be read; `None` after authentication.
    budget: Option<usize>,
    message_bytes_max: usize,
    ended: bool,
}

impl Reader {
    /// A reader of a connection that is not authenticated.
    pub(crate) fn new(source: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self {
            source,
            buffer: BytesMut::new(),
            budget: Some(UNAUTHENTICATED_BYTES_MAX),
            message_bytes_max: 0,
            ended: false,
        }
    }

    /// Lifts the limits that hold before authentication.
    pub(crate) fn set_authenticated(&mut self, message_bytes_max: usize) {
        self.budget = None;
        self.message_bytes_max = message_bytes_max;
    }

    /// Reads an answer to an authentication request; any other message is an error.
    pub(crate) async fn authentication_message(&mut self) -> Result<Bytes, ReadError> {
        self.fill_to(1).await?;
        if self.buffer[0] != b'p' {
            return Err(protocol("expected an authentication response"));
        }
        self.fill_to(5).await?;
        let length = self.length_at(1);
        if !(4..=AUTHENTICATION_BYTES_MAX).contains(&length) {
            return Err(protocol("invalid message length"));
        }
        self.fill_to(1 + length).await?;
        let mut body = self.buffer.split_to(1 + length).freeze();
        body.advance(5);
        Ok(body)
    }

    /// Reads one message of an authenticated client. Dropping the future loses nothing.
    pub(crate) async fn message(&mut self) -> Result<(u8, Bytes), ReadError> {
        self.shrink();
        self.fill_to(1).await?;
        let tag = self.buffer[0];
        if !message::is_known(tag) {
            return Err(protocol(&format!("invalid frontend message type {tag}")));
        }
        self.fill_to(5).await?;
        let length = self.length_at(1);
        let long = message::may_be_long(tag);
        let limit = if long { self.message_bytes_max } else { SHORT_MESSAGE_BYTES_MAX };
        if !(4..=limit).contains(&length) {
            return Err(protocol("invalid message length"));
        }
        self.fill_to(1 + length).await?;
        let mut body = self.buffer.split_to(1 + length).freeze();
        body.advance(5);
        Ok((tag, body))
    }

    /// What the next message is, if any of it is there.
    pub(crate) fn next_tag(&self) -> Option<u8> {
        self.buffer.first().copied()
    }

    /// Reads ahead while a statement runs, and returns when the client is gone. When enough has
    /// been read ahead it only waits.
    pub(crate) async fn watch(&mut self) {
        while !self.ended {
            if self.buffer.len() >= READ_AHEAD_BYTES_MAX {
                std::future::pending::<()>().await;
            }
            if self.fill().await.is_err() {
                self.ended = true;
            }
        }
    }

    /// Reads and forgets until the client closes, or has sent more than was on its way when it was
    /// told to.
    pub(crate) async fn drain(&mut self) {
        self.buffer = BytesMut::new();
        let mut sink = [0; READ_BYTES];
        let mut left = DRAINED_BYTES_MAX;
        while !self.ended && left > 0 {
            match self.source.read(&mut sink).await {
                Ok(read @ 1..) => left = left.saturating_sub(read),
                Ok(0) | Err(_) => return,
            }
        }
    }

    async fn fill_to(&mut self, bytes: usize) -> Result<(), ReadError> {
        while self.buffer.len() < bytes {
            self.fill().await?;
        }
        Ok(())
    }

    async fn fill(&mut self) -> Result<(), ReadError> {
        if self.ended {
            return Err(ReadError::Gone);
        }
        let read = match self.budget {
            None => {
                self.buffer.reserve(READ_BYTES);
                self.source.read_buf(&mut self.buffer).await?
            }
            Some(0) => return Err(protocol("too many bytes before authentication")),
            Some(budget) => {
                self.buffer.reserve(READ_BYTES);
                let mut limited = (&mut self.source).take(budget as u64);
                let read = limited.read_buf(&mut self.buffer).await?;
                self.budget = Some(budget.saturating_sub(read));
                read
            }
        };
        self.ended = read == 0;
        if self.ended { Err(ReadError::Gone) } else { Ok(()) }
    }

    /// The big-endian length at an offset; a negative one becomes larger than any limit.
    fn length_at(&self, offset: usize) -> usize {
        let mut bytes = &self.buffer[offset..offset + 4];
        usize::try_from(bytes.get_i32()).unwrap_or(usize::MAX)
    }

    /// Gives a large buffer back once a long message has been dealt with.
    fn shrink(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BUFFER_BYTES_MAX {
            self.buffer = BytesMut::new();
        }
    }
}

fn protocol(message: &str) -> ReadError {
    ReadError::Protocol(Report::fatal(sqlstate::PROTOCOL_VIOLATION, message))
}

/// The bytes for the client.
pub(crate) struct Writer {
    sink: Box<dyn AsyncWrite + Send + Unpin>,
    /// Messages not sent yet; append to it freely, then call [`Writer::flush`].
    pub(crate) buffer: BytesMut,
    stall_timeout: Duration,
}

impl Writer {
    /// A writer that gives up when the client takes no byte for `stall_timeout`.
    pub(crate) fn new(sink: Box<dyn AsyncWrite + Send + Unpin>, stall_timeout: Duration) -> Self {
        Self { sink, buffer: BytesMut::new(), stall_timeout }
    }

    /// Has so much piled up that it should be sent?
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() >= SEND_BYTES
    }

    /// Sends all that waits. Dropping the future loses nothing: what was sent has left the buffer.
    ///
    /// # Errors
    /// When the client is gone or takes nothing any more; the connection is of no use then.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while self.buffer.has_remaining() {
            let write = self.sink.write_buf(&mut self.buffer);
            match tokio::time::timeout(self.stall_timeout, write).await {
                Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written?,
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            };
        }
        if self.buffer.capacity() > KEPT_BUFFER_BYTES_MAX * 2 {
            self.buffer = BytesMut::new();
        }
        match tokio::time::timeout(self.stall_timeout, self.sink.flush()).await {
            Ok(flushed) => flushed,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Says goodbye in an orderly way (TLS close_notify, TCP FIN).
    pub(crate) async fn shutdown(&mut self) {
        // The client may be gone already; there is nobody left to tell.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.sink.shutdown()).await;
    }
}
