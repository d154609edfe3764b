//! `--restore-catalog`: makes the catalog of a leader whose disk was lost from the copies that the
//! nodes have of it.
//!
//! A commit is acknowledged when every node that can be reached has it. So the newest copy has all
//! that was acknowledged, if at most one node is not asked; it may also have a last commit of which
//! nobody was told yet, which is as good as any.

use std::time::Duration;

use compute::exchange::NodeChannels;
use compute::service::{CatalogCopy, CatalogPart, NodeClient};
use futures::future::join_all;
use tokio::runtime::Handle;
use tokio::time::Instant;
use url::Url;

use super::epoch;
use crate::catalog::log::{CatalogLog, LogRecord, rebuild};
use crate::config::Config;
use crate::engine::lock_directory;
use crate::error::{Error, Result};
use crate::private_file;

/// How long a node may take to answer: it may be starting.
const WAIT: Duration = Duration::from_secs(30);
/// Ids of segments and transactions, and of objects, that are left out after the last that is known.
const SEGMENTS_SKIPPED: u64 = 1 << 24;
const OBJECTS_SKIPPED: u32 = 1 << 12;
/// Starts that a leader on the lost disk would need to come after the restored one.
const EPOCHS_AHEAD: u64 = 1 << 32;
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Makes the catalog again in a data directory that has none.
///
/// # Errors
/// Fails if there is a catalog, if more than one node does not answer, or if no node has a copy.
pub async fn restore_catalog(config: &Config) -> Result<()> {
    let path = config.catalog_path();
    private_file::make_directory(&config.data_dir)
        .map_err(|source| Error::Io { action: "make the data directory".into(), source })?;
    let _lock = lock_directory(&config.data_dir)?;
    let io = |source| Error::Io { action: format!("look at {}", path.display()), source };
    if path.try_exists().map_err(io)? {
        let text = format!("{} exists; only a lost catalog is restored", path.display());
        return Err(Error::Config(text));
    }
    // SQLite would take what lies beside a catalog for a part of it.
    for beside in ["-wal", "-shm", "-journal"] {
        let mut name = path.clone().into_os_string();
        name.push(beside);
        let name = std::path::PathBuf::from(name);
        if name.try_exists().map_err(io)? {
            let text = format!("{} is left of a catalog; move it away", name.display());
            return Err(Error::Config(text));
        }
    }
    let urls = config.file.cluster.urls()?;
    if urls.is_empty() {
        let text = "a cluster of one process has no copies of its catalog";
        return Err(Error::Config(text.into()));
    }
    let channels = NodeChannels::new(config.file.cluster.identity()?, Handle::current());
    let client = |url: &Url| NodeClient::new(std::sync::Arc::clone(&channels), url.clone(), 0);
    let answers = join_all(urls.iter().map(|url| fetch(client(url)))).await;
    let mut silent = Vec::new();
    let mut copies = Vec::new();
    for answer in answers {
        match answer {
            Ok(copy) => copies.extend(copy),
            Err(error) => silent.push(error.to_string()),
        }
    }
    if silent.len() > 1 {
        let text = format!(
            "{} nodes do not answer, and only they might have the last commits: {}",
            silent.len(),
            silent.join("; ")
        );
        return Err(Error::Config(text));
    }
    let last_epoch = copies.iter().map(|(_, epoch)| *epoch).max().unwrap_or(0);
    let Some((copy, _)) = copies.into_iter().max_by_key(|(copy, _)| copy.last()) else {
        return Err(Error::Config("no node has a copy of the catalog".into()));
    };
    let (_, commits) = copy.last();
    let CatalogCopy { base, records } = copy;
    let records = records.into_iter().map(log_record).collect::<Result<Vec<_>>>()?;
    // The leader must come after every other that a node has known, also after one on the lost disk
    // that comes back and starts again and again.
    epoch::write(&config.data_dir, last_epoch + EPOCHS_AHEAD)?;
    rebuild(&path, &base.content, &records)?;
    skip_ids(&path)?;
    tracing::info!(commits, nodes = urls.len(), "restored the catalog from the nodes' copies");
    Ok(())
}

/// Leaves out ids that the lost catalog may have given after its last copy: a file is known by its
/// number, and so no number may be given twice.
fn skip_ids(path: &std::path::Path) -> Result<()> {
    let mut log = CatalogLog::open(path)?;
    let (_, mut next) = log.read()?;
    next.segment += SEGMENTS_SKIPPED;
    next.xid += SEGMENTS_SKIPPED;
    next.oid = next.oid.saturating_add(OBJECTS_SKIPPED);
    log.note_next_ids(next).map(drop)
}

pub(crate) fn log_record(part: CatalogPart) -> Result<LogRecord> {
    let statements = String::from_utf8(part.content)
        .map_err(|error| Error::CatalogDamaged(format!("record {}: {error}", part.number)))?;
    Ok(LogRecord { number: part.number, statements })
}

async fn fetch(client: NodeClient) -> Result<Option<(CatalogCopy, u64)>> {
    let end = Instant::now() + WAIT;
    loop {
        match client.fetch_catalog().await {
            Ok(copy) => return Ok(copy),
            Err(error) if Instant::now() >= end => return Err(error.into()),
            Err(_) => tokio::time::sleep(RETRY_INTERVAL).await,
        }
    }
}
