//! An S3 endpoint inside this process, with its objects as plain files on local disk.
//!
//! It speaks the real protocol over loopback HTTP and checks every SigV4 signature against keys
//! made at random at start, so that COPY and UNLOAD take the same path as in the cloud.
//! A bucket is a folder below the root; a file written there is at once an object.
//! It is for the benchmark and for tests: one user, no access rules.

use std::net::Ipv4Addr;
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder as ConnectionBuilder;
use rand::Rng as _;
use rand::distr::Alphanumeric;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use s3s_fs::FileSystem;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::io::ReaderStream;

/// Bytes of one chunk of a response body.
const CHUNK_BYTES: usize = 256 * 1024;

/// A running S3 endpoint; it stops when dropped.
#[derive(Debug)]
pub struct Endpoint {
    url: String,
    access_key: String,
    secret_key: String,
    /// Holds the accept loop, and through it every connection.
    _serving: JoinSet<()>,
}

impl Endpoint {
    /// Serve the folders below `root` as buckets on a free loopback port.
    pub async fn start(root: &Path) -> anyhow::Result<Self> {
        let access_key = format!("AK{}", random_text(18).to_uppercase());
        let secret_key = random_text(40);
        let file_system = FileSystem::new(root)
            .map_err(|error| anyhow::anyhow!("cannot serve {}: {error:?}", root.display()))?;
        let objects = Objects { root: root.to_path_buf(), file_system };
        let mut builder = S3ServiceBuilder::new(objects);
        builder.set_auth(SimpleAuth::from_single(access_key.as_str(), secret_key.as_str()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, builder.build()));
        Ok(Self { url, access_key, secret_key, _serving: serving })
    }

    /// The base URL, for `AWS_ENDPOINT_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The only access key that is let in.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The secret of [`Self::access_key`].
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// The environment that lets a server reach this endpoint and no other.
    pub fn environment(&self) -> [(&'static str, &str); 5] {
        [
            ("AWS_ENDPOINT_URL", &self.url),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", &self.access_key),
            ("AWS_SECRET_ACCESS_KEY", &self.secret_key),
        ]
    }
}

/// Letters and digits from the thread's secure generator.
pub(crate) fn random_text(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

async fn accept(listener: TcpListener, service: S3Service) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                // Without this a small answer waits 40 ms for the other side's acknowledgement.
                if socket.set_nodelay(true).is_err() {
                    continue;
                }
                let service = service.clone();
                connections.spawn(async move {
                    let builder = ConnectionBuilder::new(TokioExecutor::new());
                    // A client that goes away early is its own affair.
                    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The file system of `s3s-fs`, with reads that are fit for big objects.
///
/// `s3s-fs` reads a whole object for its MD5 on each ranged GET of a file that it did not write
/// itself, and sends it in pieces of 4 KiB. Here such a file gets an entity tag from its size and
/// time at its first read, kept where `s3s-fs` looks for it, and bodies go out in large pieces.
#[derive(Debug)]
struct Objects {
    root: PathBuf,
    file_system: FileSystem,
}

impl Objects {
    /// The file of an object, if the key names one below its bucket.
    fn object_path(&self, bucket: &str, key: &str) -> Option<PathBuf> {
        let relative = Path::new(bucket).join(key);
        let inside = relative.components().all(|part| matches!(part, Component::Normal(_)));
        inside.then(|| self.root.join(relative))
    }

    async fn ensure_entity_tag(&self, bucket: &str, key: &str) -> std::io::Result<()> {
        let Some(object) = self.object_path(bucket, key) else { return Ok(()) };
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let name = format!(".bucket-{}.object-{}.internal.json", encode(bucket), encode(key));
        let note = self.root.join(name);
        if tokio::fs::try_exists(&note).await? || !tokio::fs::try_exists(&object).await? {
            return Ok(());
        }
        let metadata = tokio::fs::metadata(&object).await?;
        let changed = metadata
            .modified()?
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since_epoch| since_epoch.as_nanos());
        let tag = format!("{changed:x}-{:x}", metadata.len());
        // Another reader may do the same at this moment: both write the same bytes.
        let draft = self.root.join(format!(".tmp.{}.internal.part", random_text(20)));
        tokio::fs::write(&draft, serde_json::json!({ "e_tag": tag }).to_string()).await?;
        tokio::fs::rename(&draft, &note).await
    }

    /// The bytes of an object from `start`, `length` of them.
    async fn body(&self, path: &Path, start: u64, length: u64) -> std::io::Result<StreamingBlob> {
        let mut file = tokio::fs::File::open(path).await?;
        file.seek(std::io::SeekFrom::Start(start)).await?;
        let stream = ReaderStream::with_capacity(file.take(length), CHUNK_BYTES);
        Ok(StreamingBlob::wrap(stream))
    }
}

fn internal(error: std::io::Error) -> S3Error {
    S3Error::with_source(S3ErrorCode::InternalError, Box::new(error))
}

/// Where the body of an answer begins in its object, from `bytes first-last/total`.
fn range_start(content_range: &str) -> Option<u64> {
    content_range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// Hand operations to the file system as they are.
macro_rules! delegate {
    ($($operation:ident: $input:ident => $output:ident),+ $(,)?) => {
        #[async_trait]
        impl S3 for Objects {
            $(
                async fn $operation(
                    &self,
                    request: S3Request<$input>,
                ) -> S3Result<S3Response<$output>> {
                    self.file_system.$operation(request).await
                }
            )+

            async fn get_object(
                &self,
                request: S3Request<GetObjectInput>,
            ) -> S3Result<S3Response<GetObjectOutput>> {
                let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
                self.ensure_entity_tag(&bucket, &key).await.map_err(internal)?;
                let mut response = self.file_system.get_object(request).await?;
                let output = &mut response.output;
                let start = output.content_range.as_deref().map_or(Some(0), range_start);
                let length = output.content_length.and_then(|bytes| u64::try_from(bytes).ok());
                if let (Some(start), Some(length), Some(path)) =
                    (start, length, self.object_path(&bucket, &key))
                {
                    let body = self.body(&path, start, length).await.map_err(internal)?;
                    output.body = Some(body);
                }
                Ok(response)
            }

            async fn head_object(
                &self,
                request: S3Request<HeadObjectInput>,
            ) -> S3Result<S3Response<HeadObjectOutput>> {
                let (bucket, key) = (&request.input.bucket, &request.input.key);
                self.ensure_entity_tag(bucket, key).await.map_err(internal)?;
                self.file_system.head_object(request).await
            }
        }
    };
}

delegate! {
    create_bucket: CreateBucketInput => CreateBucketOutput,
    delete_bucket: DeleteBucketInput => DeleteBucketOutput,
    head_bucket: HeadBucketInput => HeadBucketOutput,
    list_buckets: ListBucketsInput => ListBucketsOutput,
    get_bucket_location: GetBucketLocationInput => GetBucketLocationOutput,
    list_objects: ListObjectsInput => ListObjectsOutput,
    list_objects_v2: ListObjectsV2Input => ListObjectsV2Output,
    put_object: PutObjectInput => PutObjectOutput,
    copy_object: CopyObjectInput => CopyObjectOutput,
    delete_object: DeleteObjectInput => DeleteObjectOutput,
    delete_objects: DeleteObjectsInput => DeleteObjectsOutput,
    create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput,
    upload_part: UploadPartInput => UploadPartOutput,
    upload_part_copy: UploadPartCopyInput => UploadPartCopyOutput,
    list_parts: ListPartsInput => ListPartsOutput,
    complete_multipart_upload: CompleteMultipartUploadInput => CompleteMultipartUploadOutput,
    abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput,
}
