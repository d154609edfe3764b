//! The tasks that are open on a node, and how each is told that its query has ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::common::{Result, internal_err};
use parking_lot::Mutex;
use tonic::codegen::http::{HeaderMap, HeaderValue};

use crate::plan::cancel::QueryEnd;

/// In which a task finds its entry here; set by this process for itself.
const TASK_HEADER: &str = "x-blueshift-task";

/// All open tasks of a node.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<QueryEnd>>>,
    closed: AtomicU64,
}

/// A task that is open; dropped, its query has ended.
pub(crate) struct OpenTask {
    number: u64,
    end: Arc<QueryEnd>,
    tasks: Arc<Tasks>,
}

impl Tasks {
    /// A new task; the headers lead its session to it.
    pub(crate) fn open(self: &Arc<Self>, headers: &mut HeaderMap) -> OpenTask {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let end = Arc::new(QueryEnd::default());
        self.open.lock().insert(number, Arc::clone(&end));
        headers.insert(TASK_HEADER, HeaderValue::from(number));
        OpenTask { number, end, tasks: Arc::clone(self) }
    }

    /// The flag of the task that these headers belong to.
    pub(crate) fn end_of(&self, headers: &HeaderMap) -> Result<Arc<QueryEnd>> {
        let number = headers.get(TASK_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        let open = self.open.lock();
        match number.and_then(|number: u64| open.get(&number)) {
            Some(end) => Ok(Arc::clone(end)),
            None => internal_err!("the task is not open"),
        }
    }

    /// Tells all tasks that nobody wants their rows any more.
    pub(crate) fn end_all(&self) {
        for end in self.open.lock().values() {
            end.set();
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
