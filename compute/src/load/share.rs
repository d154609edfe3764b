//! A node's share of a COPY: the statement, the objects, and the parts of them that this node reads.
//!
//! The leader lists the objects and cuts them; each node opens its own objects with its own
//! connection to the object storage, so that no rows go through the leader.

mod proto;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use object_store::ObjectMeta;

use super::error::LoadError;
use super::plan::{LoadFile, LoadPlan, SharePlace, Work, location, open_files};
use super::request::{CopyRequest, Format};
use crate::object_storage::ObjectStorage;

pub(crate) use proto::LoadShareProto;

/// What one node reads.
#[derive(Clone)]
pub struct LoadShare {
    request: Arc<CopyRequest>,
    /// Only those that the work names.
    objects: Vec<ObjectMeta>,
    work: Vec<Work>,
    place: SharePlace,
}

impl LoadShare {
    /// A share of the objects that `work` names by position in `objects`.
    pub(super) fn new(
        request: Arc<CopyRequest>,
        objects: Vec<ObjectMeta>,
        mut work: Vec<Work>,
        place: SharePlace,
    ) -> Self {
        let used: Vec<usize> =
            work.iter().map(Work::file).collect::<BTreeSet<_>>().into_iter().collect();
        for item in &mut work {
            item.set_file(used.binary_search(&item.file()).unwrap_or_default());
        }
        let objects = used.iter().map(|index| objects[*index].clone()).collect();
        Self { request, objects, work, place }
    }

    /// The statement.
    pub fn request(&self) -> &CopyRequest {
        &self.request
    }

    /// Opens the share on the node that reads it, for that many streams.
    pub async fn open(
        &self,
        storage: &ObjectStorage,
        partitions: usize,
    ) -> Result<LoadPlan, LoadError> {
        let (name, _) = location(&self.request.url)?;
        let (credentials, region) = (&self.request.credentials, self.request.region.as_deref());
        let bucket = storage.bucket(name, credentials, region)?;
        let file = |object: &ObjectMeta| LoadFile {
            object: object.clone(),
            parquet: None,
            rows: AtomicU64::new(0),
        };
        let mut files: Vec<LoadFile> = self.objects.iter().map(file).collect();
        if self.request.format == Format::Parquet {
            open_files(&bucket, &mut files, &self.request).await?;
        }
        let mut work = Vec::with_capacity(self.work.len());
        for item in &self.work {
            let checked = item.check_against(&files).ok_or_else(|| {
                LoadError::Incomplete("an object changed since it was listed".to_owned())
            })?;
            work.push(checked);
        }
        let request = Arc::clone(&self.request);
        Ok(LoadPlan::new(request, bucket, files, work, partitions, self.place))
    }
}

/// Without the credentials.
impl fmt::Debug for LoadShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadShare")
            .field("url", &self.request.url)
            .field("work", &self.work.len())
            .finish_non_exhaustive()
    }
}
