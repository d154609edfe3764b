//! Lets a chosen call on files fail, for tests that fail the 1st, 2nd, 3rd... call of a scenario
//! until it passes untouched.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Io, OutputFile, broken, failed, sync_failed};
use crate::error::{Error, Result};

/// The kinds of calls of [`Io`] and [`OutputFile`] that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// [`Io::create`]
    Create,
    /// [`OutputFile::append`]
    Append,
    /// [`OutputFile::sync`]
    Sync,
    /// [`Io::read_at`]
    ReadAt,
    /// [`Io::len`]
    Len,
    /// [`Io::rename`]
    Rename,
    /// [`Io::remove`]
    Remove,
    /// [`Io::list`]
    List,
    /// [`Io::create_directory`]
    CreateDirectory,
    /// [`Io::sync_directory`]
    SyncDirectory,
}

/// How much of the failing call happens before it reports the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultEffect {
    /// Nothing.
    Nothing,
    /// The first half of an append; other calls do nothing.
    Half,
    /// All of it: only the answer is lost.
    All,
}

/// Which call fails, and how.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// Only calls of this kind count; `None` counts them all.
    pub kind: Option<CallKind>,
    /// Which of the counted calls fails, from 0.
    pub call: u64,
    /// Whether all later counted calls fail too.
    pub lasting: bool,
    /// What happens before the error.
    pub effect: FaultEffect,
    /// The number of the operating system's error, for example 5 (EIO) or 28 (ENOSPC).
    pub os_error: i32,
}

/// Passes calls on, except those that a [`Fault`] picks.
#[derive(Debug, Clone)]
pub struct FaultyIo {
    inner: Arc<dyn Io>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug)]
struct Plan {
    fault: Fault,
    calls: u64,
    failures: u64,
}

impl FaultyIo {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn Io>, fault: Fault) -> FaultyIo {
        FaultyIo { inner, plan: Arc::new(Mutex::new(Plan { fault, calls: 0, failures: 0 })) }
    }

    /// How many calls have failed so far.
    pub fn failures(&self) -> u64 {
        self.plan.lock().failures
    }

    /// Runs a call, or fails it.
    fn run<T>(&self, kind: CallKind, path: &Path, call: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.next_fault(kind) {
            None => call(),
            Some(fault) => {
                match fault.effect {
                    FaultEffect::Nothing | FaultEffect::Half => {}
                    FaultEffect::All => drop(call()),
                }
                Err(injected(kind, path, fault.os_error))
            }
        }
    }

    fn next_fault(&self, kind: CallKind) -> Option<Fault> {
        let mut plan = self.plan.lock();
        let fault = plan.fault;
        if fault.kind.is_some_and(|counted| counted != kind) {
            return None;
        }
        let call = plan.calls;
        plan.calls += 1;
        let fails = call == fault.call || (fault.lasting && call > fault.call);
        plan.failures += u64::from(fails);
        fails.then_some(fault)
    }
}

fn injected(kind: CallKind, path: &Path, os_error: i32) -> Error {
    let action = match kind {
        CallKind::Create | CallKind::CreateDirectory => "create",
        CallKind::Append => "write",
        CallKind::ReadAt => "read",
        CallKind::Len => "look at",
        CallKind::Rename => "rename",
        CallKind::Remove => "remove",
        CallKind::List => "list",
        CallKind::Sync | CallKind::SyncDirectory => {
            return sync_failed(path)(std::io::Error::from_raw_os_error(os_error));
        }
    };
    failed(action, path)(std::io::Error::from_raw_os_error(os_error))
}

impl Io for FaultyIo {
    fn create(&self, path: &Path) -> Result<Box<dyn OutputFile>> {
        let inner = self.run(CallKind::Create, path, || self.inner.create(path))?;
        let file = FaultyFile { io: self.clone(), inner, path: path.to_owned(), broken: false };
        Ok(Box::new(file))
    }

    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.run(CallKind::ReadAt, path, || self.inner.read_at(path, offset, buffer))
    }

    fn len(&self, path: &Path) -> Result<Option<u64>> {
        self.run(CallKind::Len, path, || self.inner.len(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.run(CallKind::Rename, from, || self.inner.rename(from, to))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.run(CallKind::Remove, path, || self.inner.remove(path))
    }

    fn list(&self, directory: &Path) -> Result<Vec<PathBuf>> {
        self.run(CallKind::List, directory, || self.inner.list(directory))
    }

    fn create_directory(&self, directory: &Path) -> Result<()> {
        let call = || self.inner.create_directory(directory);
        self.run(CallKind::CreateDirectory, directory, call)
    }

    fn sync_directory(&self, directory: &Path) -> Result<()> {
        let call = || self.inner.sync_directory(directory);
        self.run(CallKind::SyncDirectory, directory, call)
    }

    fn will_need(&self, path: &Path, offset: u64, length: u64) {
        self.inner.will_need(path, offset, length);
    }
}

#[derive(Debug)]
struct FaultyFile {
    io: FaultyIo,
    inner: Box<dyn OutputFile>,
    path: PathBuf,
    broken: bool,
}

impl OutputFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.broken {
            return Err(broken("write", &self.path));
        }
        let result = match self.io.next_fault(CallKind::Append) {
            None => self.inner.append(bytes),
            Some(fault) => {
                let written = match fault.effect {
                    FaultEffect::Nothing => 0,
                    FaultEffect::Half => bytes.len() / 2,
                    FaultEffect::All => bytes.len(),
                };
                let _ = self.inner.append(&bytes[..written]);
                Err(injected(CallKind::Append, &self.path, fault.os_error))
            }
        };
        self.broken = result.is_err();
        result
    }

    fn sync(&mut self) -> Result<()> {
        if self.broken {
            return Err(broken("sync", &self.path));
        }
        let FaultyFile { io, inner, path, .. } = self;
        let result = io.run(CallKind::Sync, path, || inner.sync());
        self.broken = result.is_err();
        result
    }
}
