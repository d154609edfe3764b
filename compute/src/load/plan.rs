//! What a COPY will read: the objects under the prefix, cut into work items for several
//! partitions.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use datafusion::physical_plan::SendableRecordBatchStream;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use parking_lot::Mutex;

use super::error::LoadError;
use super::parquet::{self, ParquetFile, RowGroup};
use super::partition;
use super::request::{Compression, CopyRequest, Format};
use super::share::LoadShare;
use crate::object_storage::{Bucket, ObjectStorage};

/// Bytes of a part of a file, at least and at most.
const PART_BYTES_MIN: u64 = 16 << 20;
const PART_BYTES_MAX: u64 = 64 << 20;
/// Parts that each partition should get, so that they end at about the same time.
const PARTS_PER_PARTITION: u64 = 4;
/// With more header lines than this a file is not cut: the header must end in the first part, and
/// a line may have a quarter of the bytes of the smallest part.
const SPLIT_HEADER_LINES_MAX: usize = 3;
/// Footers that are read at once.
const FOOTER_READS: usize = 16;

/// Something that one partition reads from its start to its end.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// A file of text, or a part of one.
    Text { file: usize, part: Range<u64> },
    /// A row group of a Parquet file.
    RowGroup { file: usize, group: RowGroup },
}

impl Work {
    pub(super) fn file(&self) -> usize {
        match self {
            Self::Text { file, .. } | Self::RowGroup { file, .. } => *file,
        }
    }

    pub(super) fn set_file(&mut self, index: usize) {
        match self {
            Self::Text { file, .. } | Self::RowGroup { file, .. } => *file = index,
        }
    }

    /// The same work on files that were opened again; none if they are not the same any more.
    pub(super) fn check_against(&self, files: &[LoadFile]) -> Option<Self> {
        match self {
            Self::Text { file, part } => {
                let size = files.get(*file)?.object.size;
                (part.end <= size).then(|| self.clone())
            }
            Self::RowGroup { file, group } => {
                let groups = &files.get(*file)?.parquet.as_ref()?.row_groups;
                let found = groups.iter().find(|found| found.index == group.index)?;
                let same = found.range == group.range && found.row_count == group.row_count;
                same.then(|| Self::RowGroup { file: *file, group: found.clone() })
            }
        }
    }

    fn bytes(&self) -> u64 {
        let range = match self {
            Self::Text { part, .. } => part,
            Self::RowGroup { group, .. } => &group.range,
        };
        range.end - range.start
    }
}

/// An object of the load.
pub(super) struct LoadFile {
    pub(super) object: ObjectMeta,
    pub(super) parquet: Option<Arc<ParquetFile>>,
    pub(super) rows: AtomicU64,
}

/// What the partitions of a load share.
pub(super) struct Load {
    pub(super) request: Arc<CopyRequest>,
    pub(super) bucket: Bucket,
    pub(super) files: Vec<LoadFile>,
    partitions: usize,
    share: SharePlace,
    queue: Mutex<VecDeque<Work>>,
    unfinished: AtomicUsize,
}

impl Load {
    pub(super) fn take_work(&self) -> Option<Work> {
        self.queue.lock().pop_front()
    }

    /// Work to prepare while other work is done, if there is enough of it for all partitions.
    pub(super) fn take_work_ahead(&self) -> Option<Work> {
        let mut queue = self.queue.lock();
        if queue.len() > self.partitions { queue.pop_front() } else { None }
    }

    /// Notes that a work item was read to its end.
    pub(super) fn finish_work(&self) {
        self.unfinished.fetch_sub(1, Ordering::AcqRel);
    }

    /// The number of a row of a partition: no other row of the COPY has it.
    pub(super) fn row_number(&self, partition: usize, row: u64) -> u64 {
        let (partitions, index) = (self.partitions as u64, self.share.index as u64);
        row * partitions * self.share.count as u64 + index * partitions + partition as u64
    }

    pub(super) fn url(&self, file: usize) -> String {
        self.bucket.url(self.files[file].object.location.as_ref())
    }
}

/// Which of how many shares of a COPY this is; all have as many partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SharePlace {
    pub(super) index: usize,
    pub(super) count: usize,
}

impl SharePlace {
    /// All of the COPY.
    pub(super) const WHOLE: Self = Self { index: 0, count: 1 };
}

/// A planned COPY.
pub struct LoadPlan {
    load: Arc<Load>,
}

/// What came from one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedFile {
    /// `s3://bucket/key`.
    pub url: String,
    /// Size of the object.
    pub bytes: u64,
    /// Rows loaded.
    pub rows: u64,
}

impl LoadPlan {
    pub(super) fn new(
        request: Arc<CopyRequest>,
        bucket: Bucket,
        files: Vec<LoadFile>,
        work: Vec<Work>,
        partitions: usize,
        share: SharePlace,
    ) -> Self {
        Self {
            load: Arc::new(Load {
                request,
                bucket,
                files,
                partitions,
                share,
                unfinished: AtomicUsize::new(work.len()),
                queue: Mutex::new(work.into()),
            }),
        }
    }

    /// The work divided among nodes, each of which reads its share itself.
    pub fn into_shares(self, nodes: usize) -> Vec<LoadShare> {
        let mut work: Vec<Vec<Work>> = vec![Vec::new(); nodes];
        let mut bytes = vec![0; nodes];
        // Large items come first; each goes to the node that has the least to read so far.
        for item in self.load.queue.lock().drain(..) {
            let least = (0..nodes).min_by_key(|node| bytes[*node]).unwrap_or(0);
            bytes[least] += item.bytes();
            work[least].push(item);
        }
        let objects: Vec<ObjectMeta> =
            self.load.files.iter().map(|file| file.object.clone()).collect();
        let share = |(index, work)| {
            let place = SharePlace { index, count: nodes };
            LoadShare::new(Arc::clone(&self.load.request), objects.clone(), work, place)
        };
        work.into_iter().enumerate().map(share).collect()
    }

    /// How many streams there are to execute.
    pub fn partitions(&self) -> usize {
        self.load.partitions
    }

    /// Bytes of all objects.
    pub fn bytes(&self) -> u64 {
        self.load.files.iter().map(|file| file.object.size).sum()
    }

    /// Batches of whole rows, of [`CopyRequest::schema`]. All partitions share one queue of work,
    /// so together they give every row once, however often and by whom they are executed; which
    /// rows come from which is not determined.
    pub fn execute(&self, partition: usize) -> SendableRecordBatchStream {
        debug_assert!(partition < self.load.partitions);
        partition::stream(Arc::clone(&self.load), partition)
    }

    /// To be called when all streams have ended: what was loaded. Fails if any work item was not
    /// read to its end, whatever the streams said.
    pub fn finish(&self) -> Result<Vec<LoadedFile>, LoadError> {
        let unfinished = self.load.unfinished.load(Ordering::Acquire);
        if unfinished > 0 {
            return Err(LoadError::Incomplete(format!("{unfinished} parts were not read")));
        }
        let loaded = self.load.files.iter().enumerate().map(|(index, file)| LoadedFile {
            url: self.load.url(index),
            bytes: file.object.size,
            rows: file.rows.load(Ordering::Relaxed),
        });
        Ok(loaded.collect())
    }
}

/// Lists the objects of a COPY and cuts them into work for `partitions` streams.
pub async fn plan(
    request: CopyRequest,
    storage: &ObjectStorage,
    partitions: usize,
) -> Result<LoadPlan, LoadError> {
    check(&request)?;
    let (bucket_name, prefix) = location(&request.url)?;
    let bucket = storage.bucket(bucket_name, &request.credentials, request.region.as_deref())?;
    let objects = bucket.list(prefix).await?;
    if objects.is_empty() {
        return Err(LoadError::NoSuchPrefix(prefix.to_owned()));
    }
    // Objects without a byte are marks of directories or of a writer that was done.
    let filled = objects.into_iter().filter(|object| object.size > 0);
    let mut files: Vec<LoadFile> =
        filled.map(|object| LoadFile { object, parquet: None, rows: AtomicU64::new(0) }).collect();
    let partitions = partitions.max(1);
    let mut work = if request.format == Format::Parquet {
        open_files(&bucket, &mut files, &request).await?;
        row_group_work(&files)
    } else {
        text_work(&files, &request, partitions as u64)
    };
    // Large items first, so that the partitions end at about the same time.
    work.sort_by_key(|item| std::cmp::Reverse(item.bytes()));
    Ok(LoadPlan::new(Arc::new(request), bucket, files, work, partitions, SharePlace::WHOLE))
}

pub(super) async fn open_files(
    bucket: &Bucket,
    files: &mut [LoadFile],
    request: &CopyRequest,
) -> Result<(), LoadError> {
    let objects: Vec<ObjectMeta> = files.iter().map(|file| file.object.clone()).collect();
    let opened: Vec<ParquetFile> = futures::stream::iter(objects)
        .map(|object| async move { parquet::open(bucket, &object, &request.columns).await })
        .buffered(FOOTER_READS)
        .try_collect()
        .await?;
    for (file, parquet) in files.iter_mut().zip(opened) {
        file.parquet = Some(Arc::new(parquet));
    }
    Ok(())
}

fn row_group_work(files: &[LoadFile]) -> Vec<Work> {
    let of_file = |(file, load_file): (usize, &LoadFile)| {
        let groups = load_file.parquet.iter().flat_map(|parquet| parquet.row_groups.clone());
        groups.map(move |group| Work::RowGroup { file, group }).collect::<Vec<_>>()
    };
    files.iter().enumerate().flat_map(of_file).collect()
}

fn text_work(files: &[LoadFile], request: &CopyRequest, partitions: u64) -> Vec<Work> {
    let total: u64 = files.iter().map(|file| file.object.size).sum();
    let wanted = total / (partitions * PARTS_PER_PARTITION);
    let part_bytes = wanted.clamp(PART_BYTES_MIN, PART_BYTES_MAX);
    // A part of a CSV file may begin inside of quotes, which only its start can tell.
    let splittable = matches!(request.format, Format::Delimited { .. })
        && request.compression == Compression::None
        && request.conversion.ignore_header <= SPLIT_HEADER_LINES_MAX;
    let mut work = Vec::new();
    for (file, load_file) in files.iter().enumerate() {
        let size = load_file.object.size;
        let count = if splittable { (size / part_bytes).max(1) } else { 1 };
        for index in 0..count {
            let start = index * part_bytes;
            let end = if index + 1 == count { size } else { start + part_bytes };
            work.push(Work::Text { file, part: start..end });
        }
    }
    work
}

/// Bucket and prefix of `s3://bucket/prefix`. The prefix is taken as it is written.
pub(super) fn location(url: &str) -> Result<(&str, &str), LoadError> {
    let rest = url.strip_prefix("s3://").ok_or_else(|| LoadError::Location(url.to_owned()))?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(LoadError::Location(url.to_owned()));
    }
    Ok((bucket, prefix))
}

/// What must hold for any later step to make sense.
fn check(request: &CopyRequest) -> Result<(), LoadError> {
    let refuse = |reason: &str| Err(LoadError::Options(reason.to_owned()));
    let plain = |byte: u8| byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0);
    match request.format {
        Format::Delimited { delimiter } if !plain(delimiter) => {
            return refuse("the delimiter must be one ASCII character that ends no line");
        }
        Format::Csv { delimiter, quote } if !plain(delimiter) || !plain(quote) => {
            return refuse("delimiter and quote must be ASCII characters that end no line");
        }
        Format::Csv { delimiter, quote } if delimiter == quote => {
            return refuse("delimiter and quote must differ");
        }
        Format::Parquet if request.compression != Compression::None => {
            return refuse("compression options are not allowed with PARQUET");
        }
        Format::Delimited { .. } | Format::Csv { .. } | Format::Parquet => {}
    }
    if request.conversion.null_as.contains('\n') {
        return refuse("NULL AS cannot contain a line end");
    }
    if request.columns.is_empty() {
        return refuse("COPY needs at least one column");
    }
    let loaded =
        request.columns.iter().map(|column| (column.position, column.column_type.arrow_type()));
    let omitted = request.omitted.iter().map(|column| (column.position, column.value.data_type()));
    let counted = request.counted.iter().filter_map(|column| {
        let field = request.schema.fields().get(column.position)?;
        Some((column.position, field.data_type().clone()))
    });
    let mut columns: Vec<_> = loaded.chain(omitted).chain(counted).collect();
    columns.sort_by_key(|(position, _)| *position);
    let fields = request.schema.fields();
    let fits = columns.len() == fields.len()
        && columns.iter().zip(fields).enumerate().all(|(index, ((position, data_type), field))| {
            *position == index && data_type == field.data_type()
        });
    if !fits {
        return refuse("the columns of the COPY are not those of the table");
    }
    for column in &request.omitted {
        let field = &fields[column.position];
        if column.value.is_null() && !field.is_nullable() {
            let name = field.name();
            return Err(LoadError::Options(format!(
                "column \"{name}\" is not null, has no default and is not in the column list"
            )));
        }
    }
    Ok(())
}
