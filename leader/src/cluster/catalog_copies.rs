//! Copies of the catalog on the nodes: every node that can be reached has each commit, durably,
//! before the commit is acknowledged. A node that was away gets all of the catalog when it is back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::node_set::{Member, NodeSet};
use super::watch::State;
use crate::catalog::log::{CatalogLog, LogRecord};
use crate::transaction::manager::CatalogCopies;

/// A commit is warned about that fewer nodes than these have.
const COPIES_MIN: usize = 2;
/// After so many records, if they are longer than all of the catalog, a node gets the catalog anew.
const RECORDS_MIN: usize = 64;
/// After so many records it gets it in any case.
const RECORDS_MAX: usize = 4096;

/// What the leader knows of the copy on a node.
#[derive(Debug, Default)]
pub(super) struct Copied(Mutex<Option<Last>>);

/// A copy that is whole.
#[derive(Debug, Clone, Copy)]
struct Last {
    /// Of its last commit.
    number: u64,
    base_bytes: usize,
    records: usize,
    record_bytes: usize,
}

impl Copied {
    /// The node has started, or did not answer: who knows what it has.
    pub(super) fn forget(&self) {
        *self.0.lock() = None;
    }

    pub(super) fn is_known(&self) -> bool {
        self.0.lock().is_some()
    }
}

/// What a node is sent.
enum Part {
    Record { number: u64, statements: String, before: Last },
    Base { number: u64, image: Arc<Vec<u8>> },
}

impl CatalogCopies for NodeSet {
    fn copy(&self, log: &mut CatalogLog, record: &LogRecord) {
        let copies = self.send(log, record.number, Some(record));
        let wanted = COPIES_MIN.min(self.members().len());
        if copies < wanted {
            tracing::warn!(copies, wanted, "too few nodes have a copy of the catalog");
        }
    }

    fn is_replaced(&self) -> bool {
        self.members().iter().any(|member| member.is_replaced())
    }

    fn catch_up(&self, log: &mut CatalogLog) {
        match log.number() {
            Ok(number) => drop(self.send(log, number, None)),
            Err(error) => tracing::error!(%error, "cannot read the catalog to copy it"),
        }
    }
}

impl NodeSet {
    /// Brings every open node up to commit `number`, which is the log's last; how many have it.
    fn send(&self, log: &mut CatalogLog, number: u64, record: Option<&LogRecord>) -> usize {
        // Before any node has it: a node that is opened again meanwhile compares it with its copy.
        self.catalog_number.fetch_max(number, Ordering::AcqRel);
        let mut image = None;
        let mut sends = Vec::new();
        let mut copies = 0;
        for member in self.members() {
            if !matches!(*member.state.borrow(), State::Open { .. }) {
                continue;
            }
            let last = *member.copied.0.lock();
            if last.is_some_and(|last| last.number == number) {
                copies += 1;
                continue;
            }
            let part = match (last, record) {
                (Some(before), Some(record)) if before.takes(record) => {
                    let statements = record.statements.clone();
                    Part::Record { number, statements, before }
                }
                _ => {
                    let image = match &image {
                        Some(image) => Arc::clone(image),
                        None => match log.image() {
                            Ok(bytes) => Arc::clone(image.insert(Arc::new(bytes))),
                            Err(error) => {
                                tracing::error!(%error, "cannot read the catalog to copy it");
                                continue;
                            }
                        },
                    };
                    Part::Base { number, image }
                }
            };
            sends.push(send_part(member, part));
        }
        if sends.is_empty() {
            return copies;
        }
        let sent = Handle::current().block_on(join_all(sends));
        copies + sent.into_iter().filter(|sent| *sent).count()
    }
}

impl Last {
    fn takes(self, record: &LogRecord) -> bool {
        let is_long = self.records >= RECORDS_MIN && self.record_bytes >= self.base_bytes;
        self.number + 1 == record.number && !is_long && self.records < RECORDS_MAX
    }
}

/// Whether the node has it now.
async fn send_part(member: &Member, part: Part) -> bool {
    let client = &member.client;
    let (stored, last) = match part {
        Part::Record { number, statements, before } => {
            let last = Last {
                number,
                records: before.records + 1,
                record_bytes: before.record_bytes + statements.len(),
                ..before
            };
            (client.store_catalog_record(number, statements.into_bytes()).await, last)
        }
        Part::Base { number, image } => {
            let base_bytes = image.len();
            let last = Last { number, base_bytes, records: 0, record_bytes: 0 };
            (client.store_catalog_base(number, image.to_vec()).await, last)
        }
    };
    *member.copied.0.lock() = stored.is_ok().then_some(last);
    if let Err(error) = &stored {
        member.heard(error);
        tracing::warn!(node = member.number, %error, "a node could not copy the catalog");
    }
    stored.is_ok()
}
