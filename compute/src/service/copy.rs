//! Segments on their way from a node that has them to one that shall have a copy.
//!
//! ```text
//! leader --copy--> node --file--> node that has the segment
//!                       <-- bytes with checksums, in parts, and the length at the end
//!        temporary file, sync, check of the whole file, rename, sync of the directory
//!        <-- done
//! ```
//!
//! Invariants: a copy gets its name only when it is the file that the leader's catalog knows, block
//! by block, and the node still belongs to that leader; a copy that was not finished leaves nothing;
//! two copies of one segment at a time do not disturb each other.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::runtime::JoinSet;
use datafusion::common::{Result, internal_datafusion_err};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use storage::checksum::{BlockPlace, block_checksum};
use storage::ids::{SegmentId, SliceId, TableId};
use storage::statistics::SegmentInfo;
use storage::verify::{Depth, verify_segment};
use tokio::sync::mpsc;
use tonic::Status;
use url::Url;

use super::NodeService;
use super::messages::{CopyRequest, CopySegment, FileOpen, FilePart};
use crate::codec::unreadable;
use crate::error::{storage_error, with_sqlstate};
use crate::exchange::NodeChannels;

/// Segments that a node copies at the same time for one request.
const COPIES_AT_ONCE: usize = 4;
/// Bytes of a file that are sent at once.
const PART_BYTES: u64 = 1 << 20;
/// Parts between the network and the disk.
const PARTS_QUEUED_MAX: usize = 2;

/// A segment that this node shall have.
struct Wanted {
    epoch: u64,
    table: TableId,
    slice: SliceId,
    info: SegmentInfo,
}

/// Copies what the request names. The first failure ends it.
pub(crate) async fn copy_segments(
    service: Arc<NodeService>,
    channels: Arc<NodeChannels>,
    request: CopyRequest,
) -> Result<()> {
    service.check_leader(request.epoch)?;
    let source = Url::parse(&request.source).map_err(unreadable)?;
    let slices = service.node().layout().slices();
    let wanted = |segment: CopySegment| -> Result<Wanted> {
        if segment.slice as usize >= slices {
            return Err(unreadable(format!("there is no slice {}", segment.slice)));
        }
        Ok(Wanted {
            epoch: request.epoch,
            table: TableId(segment.table),
            slice: SliceId(segment.slice),
            info: SegmentInfo::from_bytes(&segment.info).map_err(unreadable)?,
        })
    };
    let wanted = request.segments.into_iter().map(wanted).collect::<Result<Vec<_>>>()?;
    let copies = wanted.into_iter().map(|wanted| {
        let (service, channels) = (Arc::clone(&service), Arc::clone(&channels));
        let source = source.clone();
        async move { copy_segment(&service, &channels, &source, wanted).await }
    });
    futures::stream::iter(copies).buffer_unordered(COPIES_AT_ONCE).try_collect().await
}

async fn copy_segment(
    service: &Arc<NodeService>,
    channels: &Arc<NodeChannels>,
    source: &Url,
    wanted: Wanted,
) -> Result<()> {
    let node = service.node();
    let path = node.segment_path(wanted.table, wanted.slice, wanted.info.id);
    if node.io().len(&path).map_err(storage_error)? == Some(wanted.info.byte_count) {
        // Whoever gave it its name may not have come to make the name durable.
        return sync_directory_of(service, &path);
    }
    let open = FileOpen {
        epoch: wanted.epoch,
        table: wanted.table.0,
        slice: wanted.slice.0,
        segment: wanted.info.id.0,
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
    let path = node.segment_path(wanted.table, wanted.slice, wanted.info.id);
    if let Some(directory) = path.parent() {
        // The directory may have been lost with what was in it.
        io.create_directory(directory).map_err(storage_error)?;
    }
    let temporary = node.copy_path(&path);
    let written = write_parts(service, wanted, &temporary, &mut parts)
        .and_then(|()| check(service, wanted, &temporary))
        .and_then(|()| {
            service.publish(wanted.epoch, wanted.info.id, || io.rename(&temporary, &path))
        });
    if let Err(error) = written {
        // The copy has failed already; what is left is removed at the next start.
        let _ = io.remove(&temporary);
        return Err(error);
    }
    let synced = sync_directory_of(service, &path);
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
        let id = wanted.info.id.0;
        with_sqlstate("08006", format!("a copy of segment {id} was not received: {reason}"))
    };
    let mut file = service.node().io().create(temporary).map_err(storage_error)?;
    let mut offset = 0;
    loop {
        let part = parts.blocking_recv().ok_or_else(|| broken("it ended before its end"))?;
        if part.bytes.is_empty() {
            if (part.byte_count, offset) != (wanted.info.byte_count, wanted.info.byte_count) {
                return Err(broken("its length is another"));
            }
            return file.sync().map_err(storage_error);
        }
        let place = BlockPlace { segment: wanted.info.id, offset };
        if block_checksum(place, &part.bytes) != part.checksum {
            return Err(broken("its bytes were damaged on the way"));
        }
        offset += part.bytes.len() as u64;
        if offset > wanted.info.byte_count {
            return Err(broken("it is too long"));
        }
        file.append(&part.bytes).map_err(storage_error)?;
    }
}

/// What lies on the disk now must be the segment that the catalog knows.
fn check(service: &NodeService, wanted: &Wanted, temporary: &Path) -> Result<()> {
    let io = Arc::clone(service.node().io());
    let problems = verify_segment(io, temporary, &wanted.info, Depth::Checksums);
    match problems.first() {
        None => Ok(()),
        Some(problem) => {
            let id = wanted.info.id.0;
            Err(with_sqlstate("XX001", format!("the copy of segment {id} is damaged: {problem}")))
        }
    }
}

fn sync_directory_of(service: &NodeService, path: &Path) -> Result<()> {
    match path.parent() {
        Some(directory) => service.node().io().sync_directory(directory).map_err(storage_error),
        None => Ok(()),
    }
}

/// Sends the file of a segment, in parts. Blocks.
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
    let segment = SegmentId(open.segment);
    let path = node.segment_path(TableId(open.table), SliceId(open.slice), segment);
    let Some(byte_count) = node.io().len(&path).map_err(storage_error)? else {
        let text = format!("segment {} is not on compute node {}", segment.0, node.id());
        return Err(with_sqlstate("58030", text));
    };
    let mut offset = 0;
    while offset < byte_count {
        let length = (byte_count - offset).min(PART_BYTES);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        node.io().read_at(&path, offset, &mut bytes).map_err(storage_error)?;
        let checksum = block_checksum(BlockPlace { segment, offset }, &bytes);
        send(FilePart { bytes: Bytes::from(bytes), checksum, byte_count: 0 })?;
        offset += length;
    }
    send(FilePart { bytes: Bytes::new(), checksum: 0, byte_count })
}
