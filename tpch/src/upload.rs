//! The files in an object store that a running server was given by its operator.
//!
//! It is found through the standard `AWS_*` variables, the same that the server was started with.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::buffered::BufWriter;
use tokio::io::AsyncWriteExt as _;

use crate::generate::Dataset;
use crate::load::Source;
use crate::progress::Progress;

/// The bucket and keys of the environment.
pub(crate) fn source(bucket: &str) -> anyhow::Result<Source> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (Some(access_key), Some(secret_key)) =
        (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"))
    else {
        bail!(
            "the server has no TPC-H tables: to load them, set the AWS_* variables of an object \
             store that the server may read, with a bucket \"{bucket}\" in it"
        );
    };
    let session_token = variable("AWS_SESSION_TOKEN");
    Ok(Source { bucket: bucket.to_owned(), access_key, secret_key, session_token })
}

/// Copy the files to `<bucket>/<table>/`.
pub(crate) async fn upload(data: &Dataset, bucket: &str) -> anyhow::Result<()> {
    let store = AmazonS3Builder::from_env().with_bucket_name(bucket).build()?;
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    let progress = Progress::new("uploading", data.rows.len());
    for (table, _) in &data.rows {
        for entry in std::fs::read_dir(data.directory.join(table))? {
            let path = entry?.path();
            upload_file(&store, table, &path)
                .await
                .with_context(|| format!("cannot upload {} to s3://{bucket}", path.display()))?;
        }
        progress.step(table);
    }
    progress.finish();
    Ok(())
}

async fn upload_file(store: &Arc<dyn ObjectStore>, table: &str, path: &Path) -> anyhow::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).context("a file without a name")?;
    let mut source = tokio::fs::File::open(path).await?;
    let target = object_store::path::Path::from_iter([table, name]);
    let mut writer = BufWriter::new(Arc::clone(store), target);
    tokio::io::copy(&mut source, &mut writer).await?;
    writer.shutdown().await?;
    Ok(())
}
