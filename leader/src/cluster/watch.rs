//! The watch over one node: asks it every second whether it lives, opens it when it has started,
//! tells it what to remove, and sees that it has a copy of the catalog.

use std::sync::Arc;
use std::time::Duration;

use compute::layout::Layout;
use compute::service::OpenRequest;
use datafusion::common::runtime::SpawnedTask;
use storage::ids::SegmentId;

use super::node_set::{Known, Member, Removal};

const INTERVAL: Duration = Duration::from_secs(1);
/// While a node is not open it is asked more often: it may be starting.
const INTERVAL_CLOSED: Duration = Duration::from_millis(100);

/// How it is with a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It was not asked yet.
    Unknown,
    /// It is there, and executes tasks of this leader.
    Open {
        /// Tells one start of the node from another.
        boot: u64,
    },
    /// It did not answer, or refused.
    Lost {
        /// What was wrong.
        reason: String,
    },
}

/// Copies the catalog to the nodes that have missed something. Blocks.
pub(crate) type CatchUp = Arc<dyn Fn() + Send + Sync>;

/// Owns the conversation with a node.
pub(super) struct Watch {
    pub(super) member: Arc<Member>,
    pub(super) layout: Layout,
    pub(super) first_segment: SegmentId,
    pub(super) cluster: u64,
    pub(super) known: Known,
    pub(super) catch_up: CatchUp,
}

impl Watch {
    pub(super) async fn run(self) {
        loop {
            let state = self.ask().await;
            let open = matches!(state, State::Open { .. });
            self.note(state);
            if open {
                self.deliver().await;
                self.copy_catalog().await;
            }
            let interval = if open { INTERVAL } else { INTERVAL_CLOSED };
            let waiting = tokio::time::timeout(interval, self.member.has_removals.notified());
            let woken = waiting.await.is_ok();
            if woken && !open {
                // There is something to tell, and nobody to tell it to.
                tokio::time::sleep(interval).await;
            }
        }
    }

    async fn ask(&self) -> State {
        match self.member.client.heartbeat().await {
            Ok(boot) => State::Open { boot },
            Err(_) => self.open().await,
        }
    }

    /// A heartbeat failed: the node is gone, or has started and knows no leader yet.
    async fn open(&self) -> State {
        let request = OpenRequest {
            node: self.member.number,
            layout: self.layout,
            known: (self.known)(),
            first_segment: self.first_segment,
            cluster: self.cluster,
        };
        match self.member.client.open(request).await {
            Ok((boot, removed)) => {
                tracing::info!(node = self.member.number, removed, "opened a compute node");
                self.member.copied.forget();
                State::Open { boot }
            }
            Err(error) => State::Lost { reason: error.to_string() },
        }
    }

    fn note(&self, state: State) {
        self.member.state.send_if_modified(|known| {
            if *known == state {
                return false;
            }
            if let (State::Open { .. }, State::Lost { reason }) = (&*known, &state) {
                tracing::warn!(node = self.member.number, reason, "lost a compute node");
            }
            *known = state;
            true
        });
    }

    async fn copy_catalog(&self) {
        if self.member.copied.is_known() {
            return;
        }
        let catch_up = Arc::clone(&self.catch_up);
        let copied = SpawnedTask::spawn_blocking(move || catch_up()).join().await;
        if let Err(error) = copied {
            tracing::error!(node = self.member.number, %error, "copying the catalog did not end");
        }
    }

    async fn deliver(&self) {
        while let Some(removal) = self.member.next_removal() {
            let client = &self.member.client;
            let told = match &removal {
                Removal::Files(table, files) => client.remove_stored(*table, files).await,
                Removal::Write(table, ids) => client.abandon_write(*table, ids.clone()).await,
            };
            if let Err(error) = told {
                tracing::warn!(node = self.member.number, %error, "cannot remove files yet");
                self.member.put_back(removal);
                return;
            }
        }
    }
}
