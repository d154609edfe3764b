//! The watch over one node: asks it twice a second whether it lives, opens it when it has started,
//! tells it what to remove, and sees that it has a copy of the catalog.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use compute::layout::Layout;
use compute::service::{KnownTable, OpenRequest};
use datafusion::common::runtime::SpawnedTask;
use storage::ids::{SegmentId, TableId};

use super::copies::Known;
use super::node_set::{Member, Removal};

const INTERVAL: Duration = Duration::from_millis(500);
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
    /// The number of the last write to the leader's catalog.
    pub(super) catalog_number: Arc<AtomicU64>,
    /// Memory of queries on each node, bytes.
    pub(super) query_bytes: usize,
    pub(super) known: Known,
    pub(super) catch_up: CatchUp,
}

impl Watch {
    pub(super) async fn run(self) {
        loop {
            let open = self.look().await;
            if open {
                self.deliver().await;
                self.copy_catalog().await;
            }
            let interval = if open { INTERVAL } else { INTERVAL_CLOSED };
            let waiting = tokio::time::timeout(interval, self.member.wake.notified());
            let woken = waiting.await.is_ok();
            if woken && !open {
                // There is something to tell, and nobody to tell it to.
                tokio::time::sleep(interval).await;
            }
        }
    }

    /// Whether the node is there and open.
    async fn look(&self) -> bool {
        let member = &self.member;
        match member.client.heartbeat().await {
            // Somebody else may have missed it meanwhile: then it has to be opened again.
            Ok(alive) if member.is_open() => {
                member.hears_of_damage(&alive);
                return true;
            }
            Ok(_) => {}
            Err(error) => {
                // At once: whether it can be opened may take long to find out.
                if member.is_open() {
                    member.lose(&error.to_string());
                }
            }
        }
        self.open().await
    }

    /// The node is gone, or has started and knows no leader yet.
    async fn open(&self) -> bool {
        let request = OpenRequest {
            node: self.member.number,
            layout: self.layout,
            known: self.known_tables(),
            first_segment: self.first_segment,
            cluster: self.cluster,
            catalog_number: self.catalog_number.load(Ordering::Acquire),
            query_bytes: self.query_bytes,
        };
        match self.member.client.open(request).await {
            Ok((boot, removed)) => {
                tracing::info!(node = self.member.number, removed, "opened a compute node");
                self.member.found(boot);
                true
            }
            Err(error) => {
                self.member.heard(&error);
                self.member.lose(&error.to_string());
                false
            }
        }
    }

    /// The files that no node may sweep away.
    fn known_tables(&self) -> Vec<KnownTable> {
        let wanted = (self.known)();
        let mut tables: HashMap<TableId, Vec<SegmentId>> = HashMap::new();
        for table in &wanted.tables {
            let segments = table.files().map(|(_, file)| file.number());
            tables.entry(table.id).or_default().extend(segments);
        }
        for piece in &wanted.held {
            tables.entry(piece.table).or_default().push(piece.number());
        }
        let known = |(table, segments)| KnownTable { table, segments };
        tables.into_iter().map(known).collect()
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
