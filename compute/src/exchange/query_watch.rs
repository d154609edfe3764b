//! How a query hears at once that one of its tasks has failed.
//!
//! A task whose plan could not be sent is missed only when somebody asks for its rows, and then
//! waited for; a node that dies while nobody waits for its rows is not missed at all. The channel of
//! each task notices both, and tells the query here.

use std::sync::Arc;

use datafusion::common::{DataFusionError, internal_datafusion_err};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Shared by the leader's end of a query and the channels of its tasks.
#[derive(Debug, Default)]
pub struct QueryWatch {
    failure: Mutex<Option<Arc<DataFusionError>>>,
    failed: Notify,
}

impl QueryWatch {
    /// A task has failed. The first failure is the one that counts.
    pub(super) fn fail(&self, error: &Arc<DataFusionError>) {
        self.failure.lock().get_or_insert_with(|| Arc::clone(error));
        self.failed.notify_one();
    }

    /// Waits until a task has failed; for ever if none does.
    pub async fn failed(&self) -> DataFusionError {
        self.failed.notified().await;
        match &*self.failure.lock() {
            Some(error) => DataFusionError::Shared(Arc::clone(error)),
            None => internal_datafusion_err!("a task failed without a reason"),
        }
    }
}
