//! Segments and deletion vectors on their way from a node that has them to one that shall have a copy.
//!
//! ```text
//! leader --copy--> node --file--> node that has the file
//!                       <-- bytes with checksums, in parts, and the length at the end
//!        temporary file, sync, check of the whole file, rename, sync of the directory
//!        <-- done
//! ```
//!
//! Invariants: a copy gets its name only when it is the file that the leader's catalog knows, block
//! by block, and the node still belongs to that leader; a copy that was not finished leaves nothing,
//! and a damaged file that it was to replace as it was; two copies of one file at a time do not
//! disturb each other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::runtime::JoinSet;
use datafusion::common::{Result, internal_datafusion_err};
use faults::Place;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use storage::checksum::{BlockPlace, block_checksum};
use storage::deletion_vector::DeletionVector;
use storage::ids::{SliceId, TableId};
use storage::verify::{Depth, verify_segment};
use tokio::sync::mpsc;
use tonic::Status;
use url::Url;

use super::NodeService;
use super::messages::{CopyFile, CopyRequest, FileOpen, FilePart, SliceSegment};
use crate::codec::{missing, unreadable};
use crate::error::{storage_error, with_sqlstate};
use crate::exchange::NodeChannels;
use crate::node::{FileInfo, StoredFile};

/// Files that a node copies at the same time for one request.
const COPIES_AT_ONCE: usize = 4;
/// Bytes of a file that are sent at once.
const PART_BYTES: u64 = 1 << 20;
/// Parts between the network and the disk.
const PARTS_QUEUED_MAX: usize = 2;

/// A file that this node shall have.
struct Wanted {
    epoch: u64,
    table: TableId,
    slice: SliceId,
    file: FileInfo,
}

impl Wanted {
    /// Where it belongs.
    fn path(&self, service: &NodeService) -> PathBuf {
        service.node().file_path(self.table, self.slice, self.file.file())
    }
}

/// Copies what the request names. The first failure ends it.
pub(crate) async fn copy_files(
    service: Arc<NodeService>,
    channels: Arc<NodeChannels>,
    request: CopyRequest,
) -> Result<()> {
    service.check_leader(request.epoch)?;
    let source = Url::parse(&request.source).map_err(unreadable)?;
    let slices = service.node().layout().slices();
    let wanted = |file: &CopyFile| -> Result<Wanted> {
        if file.slice as usize >= slices {
            return Err(unreadable(format!("there is no slice {}", file.slice)));
        }
        Ok(Wanted {
            epoch: request.epoch,
            table: TableId(file.table),
            slice: SliceId(file.slice),
            file: file.to_info()?,
        })
    };
    let wanted = request.files.iter().map(wanted).collect::<Result<Vec<_>>>()?;
    let copies = wanted.into_iter().map(|wanted| {
        let (service, channels) = (Arc::clone(&service), Arc::clone(&channels));
        let source = source.clone();
        async move { copy_file(&service, &channels, &source, wanted).await }
    });
    futures::stream::iter(copies).buffer_unordered(COPIES_AT_ONCE).try_collect().await
}

async fn copy_file(
    service: &Arc<NodeService>,
    channels: &Arc<NodeChannels>,
    source: &Url,
    wanted: Wanted,
) -> Result<()> {
    let node = service.node();
    let path = wanted.path(service);
    let length = node.io().len(&path).map_err(storage_error)?;
    // The place of a damaged file is taken by the copy.
    if length == Some(wanted.file.byte_count()) && !node.is_damaged(&path) {
        // Whoever gave it its name may not have come to make the name durable.
        return sync_directory_of(service, &path);
    }
    let open = FileOpen {
        epoch: wanted.epoch,
        table: wanted.table.0,
        file: Some(SliceSegment::new(wanted.slice, wanted.file.file())),
    };
    let parts = channels.file(source, open).await?;
    let (sender, receiver) = mpsc::channel(PARTS_QUEUED_MAX);
    let mut receiving = JoinSet::new();
    let own = Arc::clone(service);
    receiving.spawn_blocking(move || receive(&own, &wanted, receiver));
    let forwarded = forward(parts, sender).await;
    let received = match receiving.join_next().await {
        Some(Ok(received)) => received,
        Some(Err(error)) => Err(internal_datafusion_err!("a copy did not end: {error}")),
        None => Err(internal_datafusion_err!("a copy was not begun")),
    };
    // A stream that broke off is why too little was received.
    forwarded.and(received)
}

/// Hands on what comes, until it ends or nobody wants it any more.
async fn forward(
    mut parts: BoxStream<'static, Result<FilePart>>,
    sender: mpsc::Sender<FilePart>,
) -> Result<()> {
    while let Some(part) = parts.next().await {
        if sender.send(part?).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Writes a file as it comes; the whole of it or nothing.
fn receive(
    service: &NodeService,
    wanted: &Wanted,
    mut parts: mpsc::Receiver<FilePart>,
) -> Result<()> {
    let node = service.node();
    let io = node.io();
    let path = wanted.path(service);
    if let Some(directory) = path.parent() {
        // The directory may have been lost with what was in it.
        io.create_directory(directory).map_err(storage_error)?;
    }
    let temporary = node.copy_path(&path);
    let written = write_parts(service, wanted, &temporary, &mut parts)
        .and_then(|()| check(service, wanted, &temporary))
        .and_then(|()| {
            faults::point(Place::CopyReceived);
            service.publish(wanted.epoch, wanted.file.number(), || io.rename(&temporary, &path))
        });
    if let Err(error) = written {
        // The copy has failed already; what is left is removed at the next start.
        let _ = io.remove(&temporary);
        return Err(error);
    }
    let synced = sync_directory_of(service, &path);
    faults::point(Place::CopyDurable);
    if synced.is_err() {
        // A later sync may claim what this one has lost.
        let _ = io.remove(&path);
    }
    synced
}

fn write_parts(
    service: &NodeService,
    wanted: &Wanted,
    temporary: &Path,
    parts: &mut mpsc::Receiver<FilePart>,
) -> Result<()> {
    let broken = |reason: &str| {
        let name = name(wanted.file.file());
        with_sqlstate("08006", format!("a copy of {name} was not received: {reason}"))
    };
    let mut file = service.node().io().create(temporary).map_err(storage_error)?;
    let byte_count = wanted.file.byte_count();
    let mut offset = 0;
    loop {
        let part = parts.blocking_recv().ok_or_else(|| broken("it ended before its end"))?;
        if part.bytes.is_empty() {
            if part.byte_count != byte_count || offset != byte_count {
                return Err(broken("its length is another"));
            }
            return file.sync().map_err(storage_error);
        }
        let place = BlockPlace { segment: wanted.file.number(), offset };
        if block_checksum(place, &part.bytes) != part.checksum {
            return Err(broken("its bytes were damaged on the way"));
        }
        offset += part.bytes.len() as u64;
        if offset > byte_count {
            return Err(broken("it is too long"));
        }
        file.append(&part.bytes).map_err(storage_error)?;
    }
}

/// What lies on the disk now must be the file that the catalog knows.
fn check(service: &NodeService, wanted: &Wanted, temporary: &Path) -> Result<()> {
    let io = service.node().io();
    match &wanted.file {
        FileInfo::Segment(info) => {
            let problems = verify_segment(Arc::clone(io), temporary, info, Depth::Checksums);
            let Some(problem) = problems.first() else { return Ok(()) };
            let name = name(wanted.file.file());
            Err(with_sqlstate("XX001", format!("the copy of {name} is damaged: {problem}")))
        }
        FileInfo::Deletions(info) => {
            DeletionVector::verify(io.as_ref(), temporary, info).map_err(storage_error)
        }
    }
}

/// A file as a message names it.
fn name(file: StoredFile) -> String {
    match file {
        StoredFile::Segment(id) => format!("segment {}", id.0),
        StoredFile::DeletionVector(segment, id) => {
            format!("deletion vector {} of segment {}", id.0, segment.0)
        }
    }
}

fn sync_directory_of(service: &NodeService, path: &Path) -> Result<()> {
    match path.parent() {
        Some(directory) => service.node().io().sync_directory(directory).map_err(storage_error),
        None => Ok(()),
    }
}

/// Sends a file, in parts. Blocks.
pub(crate) fn send_file(
    service: &NodeService,
    open: FileOpen,
    to_status: impl Fn(datafusion::common::DataFusionError) -> Status,
    sender: &mpsc::Sender<Result<FilePart, Status>>,
) {
    let sent = send_parts(service, open, |part| {
        let gone = |_| internal_datafusion_err!("nobody wants the file");
        sender.blocking_send(Ok(part)).map_err(gone)
    });
    if let Err(error) = sent {
        // Nobody may be there any more to hear it.
        let _ = sender.blocking_send(Err(to_status(error)));
    }
}

fn send_parts(
    service: &NodeService,
    open: FileOpen,
    mut send: impl FnMut(FilePart) -> Result<()>,
) -> Result<()> {
    service.check_leader(open.epoch)?;
    let node = service.node();
    let asked = open.file.ok_or_else(|| missing("the file to send"))?;
    let file = asked.to_file();
    let path = node.file_path(TableId(open.table), SliceId(asked.slice), file);
    let Some(byte_count) = node.io().len(&path).map_err(storage_error)? else {
        let text = format!("{} is not on compute node {}", name(file), node.id());
        return Err(with_sqlstate("58030", text));
    };
    let mut offset = 0;
    while offset < byte_count {
        let length = (byte_count - offset).min(PART_BYTES);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        node.io().read_at(&path, offset, &mut bytes).map_err(storage_error)?;
        let checksum = block_checksum(BlockPlace { segment: file.number(), offset }, &bytes);
        send(FilePart { bytes: Bytes::from(bytes), checksum, byte_count: 0 })?;
        offset += length;
    }
    send(FilePart { bytes: Bytes::new(), checksum: 0, byte_count })
}
