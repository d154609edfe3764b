//! Which connections exist, and how to reach into one from outside: cancel its statement, end it.
//!
//! A CancelRequest proves its right with the secret that only the connection's own client was
//! told. `pg_cancel_backend` and `pg_terminate_backend` come from the engine, which has checked the
//! caller's rights.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use ring::rand::SecureRandom;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pgwire::backend::{CancelHandle, CancelReason};
use crate::pgwire::report::{Report, sqlstate};

/// All connections of a server that have passed the startup message.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    connections: HashMap<i32, Arc<Slot>>,
    last_process_id: i32,
}

/// What others may touch of a connection.
#[derive(Debug)]
struct Slot {
    process_id: i32,
    secret: u32,
    /// The statement that runs now.
    current: Mutex<Option<CancelHandle>>,
    terminate: CancellationToken,
}

impl Registry {
    /// No connections.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of connections.
    pub fn len(&self) -> usize {
        self.inner.lock().connections.len()
    }

    /// Are there no connections?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Cancels the statement that a connection runs now, if any (`pg_cancel_backend`, CANCEL);
    /// `message` is for its client. False if there is no such connection.
    pub fn cancel(&self, process_id: i32, message: Option<String>) -> bool {
        let slot = self.slot(process_id);
        if let Some(slot) = &slot {
            slot.cancel(message);
        }
        slot.is_some()
    }

    /// Ends a connection (`pg_terminate_backend`). False if there is no such connection.
    pub fn terminate(&self, process_id: i32) -> bool {
        let slot = self.slot(process_id);
        if let Some(slot) = &slot {
            slot.terminate.cancel();
        }
        slot.is_some()
    }

    /// Serves a CancelRequest. The client is not told whether the secret was right.
    pub(crate) fn cancel_with_secret(&self, process_id: i32, secret: u32) {
        if let Some(slot) = self.slot(process_id) {
            // One exclusive or over the whole word: the time does not depend on its value.
            if std::hint::black_box(slot.secret ^ secret) == 0 {
                slot.cancel(None);
            }
        }
    }

    fn slot(&self, process_id: i32) -> Option<Arc<Slot>> {
        self.inner.lock().connections.get(&process_id).map(Arc::clone)
    }

    /// Enters a connection, which ends when `shutdown` is cancelled.
    ///
    /// # Errors
    /// 53300 if `connections_max` are there already.
    pub(crate) fn register(
        self: &Arc<Self>,
        connections_max: usize,
        random: &dyn SecureRandom,
        shutdown: &CancellationToken,
    ) -> Result<Registration, Report> {
        let mut secret = [0; 4];
        random.fill(&mut secret).map_err(|_| {
            Report::fatal(sqlstate::INTERNAL_ERROR, "could not generate random cancel key")
        })?;
        let mut inner = self.inner.lock();
        if inner.connections.len() >= connections_max {
            let message =
                format!("connection limit \"{connections_max}\" exceeded for non-bootstrap users");
            return Err(Report::fatal(sqlstate::TOO_MANY_CONNECTIONS, message));
        }
        loop {
            // Positive numbers only: clients print them and compare them.
            inner.last_process_id = inner.last_process_id.checked_add(1).unwrap_or(1);
            if !inner.connections.contains_key(&inner.last_process_id) {
                break;
            }
        }
        let slot = Arc::new(Slot {
            process_id: inner.last_process_id,
            secret: u32::from_be_bytes(secret),
            current: Mutex::new(None),
            terminate: shutdown.child_token(),
        });
        inner.connections.insert(slot.process_id, Arc::clone(&slot));
        Ok(Registration { registry: Arc::clone(self), slot })
    }
}

impl Slot {
    fn cancel(&self, message: Option<String>) {
        if let Some(handle) = &*self.current.lock() {
            handle.cancel_with_message(message);
        }
    }
}

/// A connection's own entry; dropping it removes the entry.
#[derive(Debug)]
pub(crate) struct Registration {
    registry: Arc<Registry>,
    slot: Arc<Slot>,
}

impl Registration {
    pub(crate) fn process_id(&self) -> i32 {
        self.slot.process_id
    }

    pub(crate) fn secret(&self) -> u32 {
        self.slot.secret
    }

    /// Cancelled when the connection must end.
    pub(crate) fn termination(&self) -> CancellationToken {
        self.slot.terminate.clone()
    }

    /// Waits until the connection must end.
    pub(crate) async fn terminated(&self) {
        self.slot.terminate.cancelled().await;
    }

    /// From now until the attendance is dropped, a cancel from outside hits this statement.
    pub(crate) fn attend(&self, timeout: Option<Duration>) -> Attendance {
        let handle = CancelHandle::new();
        *self.slot.current.lock() = Some(handle.clone());
        // A timeout too far away for the clock is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Attendance { slot: Arc::clone(&self.slot), handle, deadline }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.inner.lock().connections.remove(&self.slot.process_id);
    }
}

/// A statement that runs, and the clock that runs against it.
#[derive(Debug)]
pub(crate) struct Attendance {
    slot: Arc<Slot>,
    handle: CancelHandle,
    deadline: Option<Instant>,
}

impl Attendance {
    pub(crate) fn handle(&self) -> &CancelHandle {
        &self.handle
    }

    /// Waits until something other than a CancelRequest demands the statement's end, and cancels
    /// it.
    pub(crate) async fn interrupt(&self) {
        let timeout = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = timeout => self.handle.cancel(CancelReason::StatementTimeout),
            () = self.slot.terminate.cancelled() => self.handle.cancel(CancelReason::Terminated),
        }
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        *self.slot.current.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    #[test]
    fn only_the_right_secret_cancels() {
        let registry = Arc::new(Registry::new());
        let shutdown = CancellationToken::new();
        let connection = registry.register(1, &SystemRandom::new(), &shutdown).unwrap();
        let attendance = connection.attend(None);
        registry.cancel_with_secret(connection.process_id(), connection.secret() ^ 1);
        registry.cancel_with_secret(connection.process_id() + 1, connection.secret());
        assert!(!attendance.handle().is_cancelled());
        registry.cancel_with_secret(connection.process_id(), connection.secret());
        assert_eq!(attendance.handle().reason(), Some(CancelReason::User));
    }

    #[test]
    fn the_limit_counts_what_is_open() {
        let registry = Arc::new(Registry::new());
        let register = || registry.register(1, &SystemRandom::new(), &CancellationToken::new());
        let first = register().unwrap();
        assert_eq!(register().unwrap_err().sqlstate, "53300");
        drop(first);
        register().unwrap();
        assert!(registry.is_empty());
    }
}
