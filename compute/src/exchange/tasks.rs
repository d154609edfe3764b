//! The tasks that are open on a node: how each is told that its query has ended, and the memory that
//! the tasks of a query share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use datafusion::common::{Result, internal_err};
use parking_lot::Mutex;
use tonic::codegen::http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use crate::memory::QueryMemory;
use crate::plan::cancel::QueryEnd;

/// In which a task finds its entry here; set by this process for itself.
const TASK_HEADER: &str = "x-blueshift-task";

/// All open tasks of a node.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    next: AtomicU64,
    open: Mutex<HashMap<u64, TaskState>>,
    /// The grants of queries with open tasks.
    grants: Mutex<HashMap<Uuid, Weak<QueryMemory>>>,
    closed: AtomicU64,
}

/// What the session of a task needs to know.
#[derive(Debug, Clone)]
pub(crate) struct TaskState {
    /// Set when nobody wants its rows any more.
    pub(crate) end: Arc<QueryEnd>,
    /// The memory of its query; None: whatever the node has.
    pub(crate) memory: Option<Arc<QueryMemory>>,
}

/// A task that is open; dropped, its query has ended.
pub(crate) struct OpenTask {
    number: u64,
    end: Arc<QueryEnd>,
    tasks: Arc<Tasks>,
}

impl Tasks {
    /// A new task; the headers lead its session to it.
    pub(crate) fn open(
        self: &Arc<Self>,
        headers: &mut HeaderMap,
        memory: Option<Arc<QueryMemory>>,
    ) -> OpenTask {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let end = Arc::new(QueryEnd::default());
        self.open.lock().insert(number, TaskState { end: Arc::clone(&end), memory });
        headers.insert(TASK_HEADER, HeaderValue::from(number));
        OpenTask { number, end, tasks: Arc::clone(self) }
    }

    /// The memory that all tasks of a query share; `make` makes it for the first of them.
    pub(super) fn share_memory(
        &self,
        query: Uuid,
        make: impl FnOnce() -> Result<QueryMemory>,
    ) -> Result<Arc<QueryMemory>> {
        let mut grants = self.grants.lock();
        if let Some(memory) = grants.get(&query).and_then(Weak::upgrade) {
            return Ok(memory);
        }
        grants.retain(|_, memory| memory.strong_count() > 0);
        let memory = Arc::new(make()?);
        grants.insert(query, Arc::downgrade(&memory));
        Ok(memory)
    }

    /// The task that these headers belong to.
    pub(crate) fn find(&self, headers: &HeaderMap) -> Result<TaskState> {
        let number = headers.get(TASK_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        let open = self.open.lock();
        match number.and_then(|number: u64| open.get(&number)) {
            Some(task) => Ok(task.clone()),
            None => internal_err!("the task is not open"),
        }
    }

    /// Tells all tasks that nobody wants their rows any more.
    pub(crate) fn end_all(&self) {
        for task in self.open.lock().values() {
            task.end.set();
        }
    }

    /// How many tasks have been closed so far.
    pub(super) fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }
}

impl Drop for OpenTask {
    fn drop(&mut self) {
        self.end.set();
        self.tasks.open.lock().remove(&self.number);
        self.tasks.closed.fetch_add(1, Ordering::Relaxed);
    }
}
