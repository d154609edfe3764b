//! An S3 endpoint with one bucket, on loopback, owned by one test. Files written with
//! [`ObjectStore::put`] are objects that COPY reads by the real protocol.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tpch::object_store::Endpoint;

/// The name of the bucket.
pub(crate) const BUCKET: &str = "load";

/// An endpoint and the folder behind it.
pub(crate) struct ObjectStore {
    directory: TempDir,
    endpoint: Endpoint,
}

impl ObjectStore {
    pub(crate) async fn start() -> ObjectStore {
        let directory = tempfile::Builder::new().prefix("blueshift-objects-").tempdir().unwrap();
        std::fs::create_dir(directory.path().join(BUCKET)).unwrap();
        let endpoint = Endpoint::start(directory.path()).await.unwrap();
        ObjectStore { directory, endpoint }
    }

    /// The variables that let a server use this endpoint.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let variables = self.endpoint.environment();
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    pub(crate) fn put(&self, key: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Where the object's file is.
    pub(crate) fn path(&self, key: &str) -> PathBuf {
        self.directory.path().join(BUCKET).join(Path::new(key))
    }

    /// `ACCESS_KEY_ID ... SECRET_ACCESS_KEY ...` as COPY takes them.
    pub(crate) fn keys(&self) -> String {
        format!(
            "ACCESS_KEY_ID '{}' SECRET_ACCESS_KEY '{}'",
            self.endpoint.access_key(),
            self.endpoint.secret_key()
        )
    }

    pub(crate) fn access_key(&self) -> &str {
        self.endpoint.access_key()
    }

    pub(crate) fn secret_key(&self) -> &str {
        self.endpoint.secret_key()
    }
}
