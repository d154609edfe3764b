//! What the leader tells a node beside queries: which cluster and epoch it belongs to, whether it is
//! alive, which files it has, which can go and which to copy from another node, which rows are
//! deleted, and what the catalog says.
//!
//! A node starts closed and executes nothing. The leader opens it, with its epoch: a number that
//! grows with each start of a leader, so that a leader that was replaced can no longer do anything.
//! The node answers with a number of its own that it drew when it started, by which the leader
//! notices a restart, and opens it again.
//!
//! Invariants: a node remembers its cluster and the highest epoch on disk ([`Membership`]) and
//! refuses others; what removes files happens one after another, each with the epoch checked again;
//! ids of segments are never given twice, so that opening removes only what is older than the
//! leader's first id and that its catalog does not know.

pub(crate) mod messages;

mod catalog_copy;
mod client;
mod copy;
mod integrity;
mod membership;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryLimit;
use parking_lot::Mutex;
use storage::ids::{SegmentId, SliceId, TableId};

use self::catalog_copy::CatalogDirectory;
use self::integrity::DamageProto;
use self::membership::Membership;
use self::messages::{
    AbandonWrite, Action, ControlReply, ControlRequest, CopiedCatalog, HeldFileProto, OpenNode,
    Part, RemoveSegments, RewriteSlice, RewrittenProto, StoreCatalog, WriteDeletions,
};
use crate::codec::table::DeletionsProto;
use crate::error::{chain, storage_error, with_sqlstate};
use crate::exchange::Tasks;
use crate::integrity::Damage;
use crate::node::{DeletionsOutcome, HeldFile, Node};
use crate::placement;

pub use catalog_copy::{CatalogCopy, CatalogPart, read_catalog_copy};
pub use client::{Alive, CopyItem, KnownTable, NodeClient, OpenRequest};
pub(crate) use copy::{copy_files, send_file};
pub use membership::check_membership;

/// A node may have less memory for queries than the leader takes it to have by one part in this many.
const MEMORY_SLACK: u64 = 16;

/// The node's side.
pub(crate) struct NodeService {
    node: Arc<Node>,
    tasks: Arc<Tasks>,
    /// Drawn at the start of the process.
    boot: u64,
    /// Of the leader that has opened the node; 0 before.
    epoch: AtomicU64,
    /// The last epoch at whose opening files were removed to the end; held by whatever removes
    /// files.
    swept: Mutex<u64>,
    /// Held by whatever reads or writes the copy of the catalog, and while another leader takes over;
    /// taken after `swept`.
    catalog: Mutex<()>,
    /// What the node has kept on disk since it was opened.
    membership: Mutex<Option<Membership>>,
}

/// What was done.
#[derive(Default)]
struct Done {
    removed: u64,
    files: Vec<HeldFile>,
    damages: Vec<Damage>,
}

impl NodeService {
    pub(crate) fn new(node: Arc<Node>, tasks: Arc<Tasks>) -> Self {
        let (boot, _) = uuid::Uuid::new_v4().as_u64_pair();
        Self {
            node,
            tasks,
            boot,
            epoch: AtomicU64::new(0),
            swept: Mutex::new(0),
            catalog: Mutex::default(),
            membership: Mutex::default(),
        }
    }

    /// Whether a task may run that a leader of this epoch sends.
    pub(crate) fn check_epoch(&self, epoch: Option<u64>) -> Result<()> {
        self.check_disk().map_err(|reason| with_sqlstate("57P03", reason))?;
        let own = self.epoch.load(Ordering::Acquire);
        if own != 0 && epoch == Some(own) {
            return Ok(());
        }
        let message = format!("compute node {} is not open for this leader", self.node.id());
        Err(with_sqlstate("57P03", message))
    }

    /// Does what is asked; what goes wrong is in the answer.
    pub(crate) fn answer(&self, request: ControlRequest) -> ControlReply {
        let epoch = request.epoch;
        let mut reply = ControlReply { node: self.node.id() as u64, ..ControlReply::default() };
        match request.action {
            Some(Action::WriteDeletions(write)) => {
                if let Err((sqlstate, error)) = self.write_deletions(epoch, &write, &mut reply) {
                    reply.sqlstate = sqlstate;
                    reply.error = error;
                }
            }
            Some(Action::Rewrite(rewrite)) => {
                if let Err((sqlstate, error)) = self.rewrite(epoch, &rewrite, &mut reply) {
                    reply.sqlstate = sqlstate;
                    reply.error = error;
                }
            }
            Some(Action::FetchCatalog(_)) => match self.fetch_catalog() {
                Ok(catalog) => reply.catalog = catalog,
                Err(error) => reply.error = error,
            },
            action => match self.act(ControlRequest { epoch, action }) {
                Ok(Done { removed, files, damages }) => {
                    reply.removed = removed;
                    reply.damages = damages.into_iter().map(DamageProto::from).collect();
                    reply.files = files.into_iter().map(HeldFileProto::from).collect();
                }
                Err(error) => reply.error = error,
            },
        }
        reply.boot = self.boot;
        reply.damage_changes = self.node.damage_changes();
        reply.scrub = Some(self.node.scrub_status().into());
        reply.epoch = self.epoch.load(Ordering::Acquire);
        reply.is_replaced = !reply.error.is_empty() && self.is_replaced(epoch, &reply.error);
        reply
    }

    /// Writes deletion vectors. Removes nothing, so that it waits for nobody; what it writes for a
    /// leader that is replaced meanwhile it removes again.
    fn write_deletions(
        &self,
        epoch: u64,
        write: &WriteDeletions,
        reply: &mut ControlReply,
    ) -> Result<(), (String, String)> {
        self.check_open(epoch).map_err(|error| ("57P03".to_owned(), error))?;
        let wrong = |error: DataFusionError| ("XX000".to_owned(), error.strip_backtrace());
        for vector in &write.vectors {
            let new = vector.to_new().map_err(wrong)?;
            let written = self.node.write_deletions(TableId(write.table), &new);
            match written.map_err(|error| (error.sqlstate().to_owned(), chain(&error)))? {
                DeletionsOutcome::Written(info) => reply.vectors.push(DeletionsProto::new(&info)),
                DeletionsOutcome::Conflict => {
                    reply.conflict = true;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Rewrites a slice for VACUUM; takes as long as it takes, and ends when its ids are given up.
    fn rewrite(
        &self,
        epoch: u64,
        rewrite: &RewriteSlice,
        reply: &mut ControlReply,
    ) -> Result<(), (String, String)> {
        self.check_open(epoch).map_err(|error| ("57P03".to_owned(), error))?;
        let wrong = |error: DataFusionError| ("XX000".to_owned(), error.strip_backtrace());
        let request = rewrite.to_request(&self.node).map_err(wrong)?;
        let rewritten = self.node.rewrite_slice(&request);
        let rewritten = rewritten.map_err(|error| (error.sqlstate().to_owned(), chain(&error)))?;
        let Some(rewritten) = rewritten else {
            return Err(("57014".to_owned(), "the rewrite was given up".to_owned()));
        };
        reply.rewritten = rewritten.iter().map(RewrittenProto::new).collect();
        Ok(())
    }

    fn act(&self, request: ControlRequest) -> Result<Done, String> {
        let action = request.action.ok_or("a request asks for nothing")?;
        let action = match action {
            // Neither a sign of life nor a commit waits for whoever looks through files.
            Action::Heartbeat(_) => {
                return self.check_open(request.epoch).map(|()| Done::default());
            }
            Action::StoreCatalog(store) => {
                let _alone = self.catalog.lock();
                self.check_open(request.epoch)?;
                return removed(self.store_catalog(request.epoch, store));
            }
            other => other,
        };
        // A request may have waited here while another leader took over.
        let mut swept = self.swept.lock();
        if let Action::Open(open) = action {
            return removed(self.open(request.epoch, &open, &mut swept));
        }
        self.check_open(request.epoch)?;
        match action {
            Action::Open(_)
            | Action::Heartbeat(_)
            | Action::StoreCatalog(_)
            | Action::FetchCatalog(_)
            | Action::WriteDeletions(_)
            | Action::Rewrite(_) => Ok(Done::default()),
            Action::RemoveSegments(segments) => removed(self.remove(&segments)),
            Action::AbandonWrite(write) => removed(self.abandon(&write)),
            Action::Inventory(_) => self.inventory(),
        }
    }

    /// Makes a copied file one of the node's, by calling `place`: unless its leader was replaced or
    /// has given the file of that number up meanwhile.
    pub(crate) fn publish(
        &self,
        epoch: u64,
        number: SegmentId,
        place: impl FnOnce() -> storage::error::Result<()>,
    ) -> Result<()> {
        // Nobody looks which files there are and can go while one comes.
        let _swept = self.swept.lock();
        self.check_leader(epoch)?;
        // A leader has files of those before it copied too.
        if self.node.is_given_up(number) {
            return Err(with_sqlstate("57P03", "the leader has given up the write"));
        }
        place().map_err(storage_error)
    }

    /// Whether a request was refused because its leader is not the last one any more.
    fn is_replaced(&self, epoch: u64, error: &str) -> bool {
        let known = self.epoch.load(Ordering::Acquire);
        let kept = Membership::read(self.node.io().as_ref(), self.node.data_dir());
        let kept = kept.ok().flatten().map_or(0, |own| own.epoch);
        epoch != 0 && (epoch < known.max(kept) || error == OLDER_CATALOG)
    }

    /// Whether a leader of this epoch may ask.
    pub(crate) fn check_leader(&self, epoch: u64) -> Result<()> {
        let refused = |reason| format!("compute node {}: {reason}", self.node.id());
        self.check_open(epoch).map_err(|reason| with_sqlstate("57P03", refused(reason)))
    }

    /// The node.
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    fn check_open(&self, epoch: u64) -> Result<(), String> {
        self.check_disk()?;
        let known = self.epoch.load(Ordering::Acquire);
        if epoch < known {
            return Err(taken_over(known));
        }
        if known == 0 || epoch != known {
            return Err("the node is not open".to_owned());
        }
        Ok(())
    }

    /// A node that could not make a file durable is closed to everybody: others have copies of what
    /// it has, and what it would write might be gone tomorrow.
    fn check_disk(&self) -> Result<(), String> {
        match self.node.failed_sync() {
            Some(path) => Err(format!(
                "{} could not be made durable; start the node again when its disk is sound",
                path.display()
            )),
            None => Ok(()),
        }
    }

    fn open(&self, epoch: u64, open: &OpenNode, swept: &mut u64) -> Result<u64, String> {
        self.check_disk()?;
        self.check_layout(open)?;
        self.check_memory(open)?;
        let first = SegmentId(open.first_segment);
        if self.take_over(epoch, open)? {
            // What the leader before has begun ends without a result, and leaves no file.
            self.tasks.end_all();
            self.node.abandon_all_before(first);
        }
        if *swept == epoch {
            return Ok(0);
        }
        let mut known: HashMap<TableId, HashSet<SegmentId>> = HashMap::new();
        for table in &open.tables {
            let segments = table.segments.iter().map(|id| SegmentId(*id));
            known.entry(TableId(table.table)).or_default().extend(segments);
        }
        let removed = self.node.sweep_orphans(&known, first).map_err(|error| error.to_string())?;
        *swept = epoch;
        tracing::info!(epoch, removed, "opened by the leader");
        Ok(removed as u64)
    }

    /// From here on this leader is the node's. Answers whether it was not before.
    fn take_over(&self, epoch: u64, open: &OpenNode) -> Result<bool, String> {
        // The leader before cannot commit in between.
        let _alone = self.catalog.lock();
        self.check_catalog(open)?;
        self.join(epoch, open)?;
        Ok(self.epoch.fetch_max(epoch, Ordering::AcqRel) != epoch)
    }

    fn check_layout(&self, open: &OpenNode) -> Result<(), String> {
        let layout = self.node.layout();
        let own = (self.node.id() as u64, layout.nodes() as u64, layout.slices_per_node() as u64);
        let asked = (open.node, open.nodes, open.slices_per_node);
        if own != asked {
            return Err(format!(
                "it is node {} of {} with {} slices each, not node {} of {} with {}",
                own.0, own.1, own.2, asked.0, asked.1, asked.2
            ));
        }
        if open.placement_fingerprint != placement::fingerprint() {
            return Err("it places rows by another hash; use the same build everywhere".to_owned());
        }
        Ok(())
    }

    /// Each query has its own pool, so that nothing but the leader's sums keeps them all within the
    /// node's memory. Machines of the same kind differ by a little.
    fn check_memory(&self, open: &OpenNode) -> Result<(), String> {
        let MemoryLimit::Finite(own) = self.node.runtime_env().memory_pool.memory_limit() else {
            return Ok(());
        };
        let own = own as u64;
        if open.query_bytes <= own + own / MEMORY_SLACK {
            return Ok(());
        }
        Err(format!(
            "it has {own} bytes of memory for queries, and the leader would give them {}; set \
             query_bytes in section [memory] of the leader's file to no more than the smallest node \
             has",
            open.query_bytes
        ))
    }

    /// A leader writes to its own catalog before it has that copied: one that comes with less is from
    /// an old disk.
    fn check_catalog(&self, open: &OpenNode) -> Result<(), String> {
        let membership = Membership::read(self.node.io().as_ref(), self.node.data_dir())?;
        if membership.is_none_or(|own| own.cluster != open.cluster) {
            return Ok(());
        }
        // By its names: a copy that is damaged says so too, and the leader sends another.
        let last = self.catalog_directory().last_number()?;
        match last.is_some_and(|last| last > open.catalog_number) {
            true => Err(OLDER_CATALOG.to_owned()),
            false => Ok(()),
        }
    }

    /// Belongs to the leader's cluster from now on, unless it belongs to another one, or the leader
    /// was replaced. Durable when it returns.
    fn join(&self, epoch: u64, open: &OpenNode) -> Result<(), String> {
        let (io, data_dir) = (self.node.io().as_ref(), self.node.data_dir());
        let asked = Membership { cluster: open.cluster, epoch };
        match Membership::read(io, data_dir)? {
            Some(own) if own.cluster != asked.cluster => Err(format!(
                "it belongs to cluster {:016x}, not to {:016x}; was the leader started on another \
                 data directory?",
                own.cluster, asked.cluster
            )),
            Some(own) if own.epoch > epoch => Err(taken_over(own.epoch)),
            Some(own) if own == asked => {
                *self.membership.lock() = Some(asked);
                Ok(())
            }
            None if self.node.has_files().map_err(|error| error.to_string())? => {
                let text = "it has tables of a cluster that it does not know; use an empty data \
                            directory";
                Err(text.to_owned())
            }
            Some(_) | None => {
                asked.write(io, data_dir)?;
                *self.membership.lock() = Some(asked);
                Ok(())
            }
        }
    }

    fn store_catalog(&self, epoch: u64, store: StoreCatalog) -> Result<u64, String> {
        let Part { number, content, .. } = store.part.ok_or("a catalog without content")?;
        let part = CatalogPart { epoch, number, content };
        let directory = self.catalog_directory();
        match store.is_base {
            true => directory.store_base(&part)?,
            false => directory.store_record(&part)?,
        }
        Ok(0)
    }

    fn fetch_catalog(&self) -> Result<Option<CopiedCatalog>, String> {
        let _alone = self.catalog.lock();
        let Some(copy) = self.catalog_directory().read()? else { return Ok(None) };
        let membership = Membership::read(self.node.io().as_ref(), self.node.data_dir())?;
        let part = |CatalogPart { epoch, number, content }| Part { epoch, number, content };
        let parts = std::iter::once(copy.base).chain(copy.records).map(part).collect();
        Ok(Some(CopiedCatalog { parts, epoch: membership.map_or(0, |own| own.epoch) }))
    }

    fn catalog_directory(&self) -> CatalogDirectory<'_> {
        CatalogDirectory::new(self.node.io().as_ref(), self.node.data_dir())
    }

    /// The node's files. A directory that was emptied under the running node gets its membership
    /// back, without which the node would not take what is copied to it for its own after a restart.
    fn inventory(&self) -> Result<Done, String> {
        let (io, data_dir) = (self.node.io().as_ref(), self.node.data_dir());
        let files = self.node.held_files().map_err(|error| error.to_string())?;
        let own = *self.membership.lock();
        if let (Some(own), None) = (own, Membership::read(io, data_dir)?) {
            own.write(io, data_dir)?;
        }
        let mut damages = self.node.integrity().damages;
        damages.truncate(DAMAGES_TOLD_MAX);
        Ok(Done { removed: 0, files, damages })
    }

    fn remove(&self, segments: &RemoveSegments) -> Result<u64, String> {
        let removed = segments.segments.iter().map(|one| (SliceId(one.slice), one.to_file()));
        self.node
            .remove_stored(TableId(segments.table), removed)
            .map_err(|error| error.to_string())?;
        Ok(segments.segments.len() as u64)
    }

    fn abandon(&self, write: &AbandonWrite) -> Result<u64, String> {
        let ids = write.first_segment..write.end_segment;
        let removed = self.node.abandon_segments(TableId(write.table), ids);
        removed.map(|removed| removed as u64).map_err(|error| error.to_string())
    }
}

fn removed(removed: Result<u64, String>) -> Result<Done, String> {
    Ok(Done { removed: removed?, ..Done::default() })
}

/// Damaged files of which the leader is told what is wrong; that they are damaged it is told of all.
const DAMAGES_TOLD_MAX: usize = 1000;

/// What a leader is told whose catalog was put back to an earlier state.
const OLDER_CATALOG: &str = "the leader's catalog is older than the copy here";

fn taken_over(epoch: u64) -> String {
    format!("a leader with epoch {epoch} has taken over")
}
