//! The in-process S3 endpoint as a client of the cloud sees it.

use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};
use tpch::object_store::Endpoint;

fn client(endpoint: &Endpoint, secret_key: &str) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_endpoint(endpoint.url())
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name("bucket")
        .with_access_key_id(endpoint.access_key())
        .with_secret_access_key(secret_key)
        .with_retry(object_store::RetryConfig { max_retries: 0, ..Default::default() })
        .build()
        .expect("the client's configuration is complete")
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_objects_and_objects_are_files() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("bucket").join("table");
    std::fs::create_dir_all(&folder).unwrap();
    let bytes: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(folder.join("part-1"), &bytes).unwrap();
    let endpoint = Endpoint::start(root.path()).await.unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(client(&endpoint, endpoint.secret_key()));

    let path = Path::from("table/part-1");
    let listed: Vec<_> = store.list(Some(&Path::from("table"))).try_collect().await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0].location, path);
    assert_eq!(listed[0].size, 4_000_000);
    assert_eq!(store.head(&path).await.unwrap().size, 4_000_000);
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), bytes);
    for range in [0..10u64, 999_999..3_000_001, 3_999_999..4_000_000] {
        let part = store.get_range(&path, range.clone()).await.unwrap();
        assert_eq!(part, bytes[range.start as usize..range.end as usize], "{range:?}");
    }
    let tag = store.head(&path).await.unwrap().e_tag;
    assert!(tag.is_some());
    assert_eq!(store.get(&path).await.unwrap().meta.e_tag, tag);

    store.put(&Path::from("out/x"), PutPayload::from_static(b"hello")).await.unwrap();
    assert_eq!(std::fs::read(root.path().join("bucket/out/x")).unwrap(), b"hello");
    let read = store.get(&Path::from("out/x")).await.unwrap().bytes().await.unwrap();
    assert_eq!(read, b"hello".as_slice());
    let missing = store.get(&Path::from("out/y")).await.unwrap_err();
    assert!(matches!(missing, object_store::Error::NotFound { .. }), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_refused() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("bucket")).unwrap();
    std::fs::write(root.path().join("bucket").join("x"), b"x").unwrap();
    let endpoint = Endpoint::start(root.path()).await.unwrap();
    let path = Path::from("x");
    let right = client(&endpoint, endpoint.secret_key());
    assert_eq!(right.get(&path).await.unwrap().bytes().await.unwrap(), b"x".as_slice());
    let wrong = client(&endpoint, "not the secret").get(&path).await.unwrap_err();
    assert!(wrong.to_string().contains("SignatureDoesNotMatch"), "{wrong}");
}
