//! Tests of what object storage refuses.

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;

use super::*;

fn with_endpoint(endpoint: &str, allow_http: bool) -> Result<ObjectStorage, ObjectStorageError> {
    let config =
        ObjectStoreConfig { endpoint: Some(endpoint.to_owned()), allow_http, ..Default::default() };
    ObjectStorage::new(config, [])
}

fn keys() -> Credentials {
    Credentials::Keys {
        access_key_id: "id".to_owned(),
        secret_access_key: Secret::new("canary-secret"),
        session_token: None,
    }
}

#[test]
fn metadata_addresses_are_refused_in_every_spelling() {
    for endpoint in [
        "http://169.254.169.254",
        "http://2852039166",
        "http://0xa9fea9fe/",
        "http://0251.0376.0251.0376",
        "http://[::ffff:169.254.169.254]",
        "http://[fe80::1]",
        "http://[fd00:ec2::254]",
        "ftp://example.com",
        "file:///etc/passwd",
        "http://user:password@example.com",
        "not a url",
    ] {
        assert!(with_endpoint(endpoint, true).is_err(), "{endpoint}");
    }
    assert!(with_endpoint("http://127.0.0.1:9000", true).is_ok());
    assert!(with_endpoint("http://127.0.0.1:9000", false).is_err());
}

#[test]
fn region_and_bucket_cannot_change_the_host() {
    let storage = ObjectStorage::new(ObjectStoreConfig::default(), []).unwrap();
    for region in ["evil.example/#", "a/b", "x@evil", "", "a..b", "a?b"] {
        assert!(storage.bucket("b", &keys(), Some(region)).is_err(), "{region}");
    }
    for bucket in ["a/../b", "..", "", "a b", "a?x", "a#x"] {
        assert!(storage.bucket(bucket, &keys(), None).is_err(), "{bucket}");
    }
    assert!(storage.bucket("data", &keys(), Some("eu-central-1")).is_ok());
}

#[test]
fn allowed_lists_bind_the_endpoint_of_a_region_too() {
    let config = ObjectStoreConfig {
        allowed_endpoints: vec!["https://s3.eu-central-1.amazonaws.com".to_owned()],
        allowed_buckets: vec!["data".to_owned()],
        ..Default::default()
    };
    let storage = ObjectStorage::new(config, []).unwrap();
    assert!(storage.bucket("data", &keys(), Some("eu-central-1")).is_ok());
    assert!(storage.bucket("data", &keys(), Some("us-east-1")).is_err());
    assert!(storage.bucket("other", &keys(), Some("eu-central-1")).is_err());
}

#[test]
fn environment_wins_and_its_endpoint_is_allowed() {
    let config = ObjectStoreConfig {
        endpoint: Some("https://other.example".to_owned()),
        allowed_endpoints: vec!["https://other.example".to_owned()],
        ..Default::default()
    };
    let environment = [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9000"),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "key"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let storage = ObjectStorage::new(config, environment).unwrap();
    assert_eq!(storage.config.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
    assert!(storage.bucket("data", &Credentials::Default, None).is_ok());
}

#[test]
fn without_credentials_nothing_is_asked_of_the_machine() {
    let storage = ObjectStorage::new(ObjectStoreConfig::default(), []).unwrap();
    let error = storage.bucket("data", &Credentials::Default, None).err().unwrap();
    assert_eq!(error.to_string(), "no credentials for object storage are configured");
}

#[test]
fn service_errors_speak_as_redshift_does() {
    let bucket = Bucket { name: "b".into(), objects: Arc::new(InMemory::new()), pages: None };
    let body = "Server returned non-2xx status code: 403 Forbidden: <Error><Code>\
                InvalidAccessKeyId</Code><Message>The key is unknown</Message>\
                <AWSAccessKeyId>id</AWSAccessKeyId></Error>";
    let error = object_store::Error::PermissionDenied { path: "k".into(), source: body.into() };
    assert_eq!(
        bucket.explain(error, "k").to_string(),
        "S3ServiceException:The key is unknown,Status 403,Error InvalidAccessKeyId"
    );
    let redirect = "Received redirect without LOCATION, this normally indicates";
    let error = object_store::Error::Generic { store: "S3", source: redirect.into() };
    assert!(bucket.explain(error, "k").to_string().contains("Error PermanentRedirect"));
}

#[tokio::test]
async fn a_prefix_is_not_a_directory_and_a_changed_object_is_an_error() {
    let store = Arc::new(InMemory::new());
    for key in ["custdata.txt", "custdata.txt.1", "custdata.txt.bak/x", "other"] {
        store.put(&Path::from(key), "12345".into()).await.unwrap();
    }
    let storage = ObjectStorage::new(ObjectStoreConfig::default(), [])
        .unwrap()
        .with_bucket("b", Arc::clone(&store) as _);
    let bucket = storage.bucket("b", &Credentials::Default, None).unwrap();
    let found = bucket.list("custdata.txt").await.unwrap();
    assert_eq!(found.len(), 3);
    assert_eq!(bucket.read(&found[0], 1..3).await.unwrap(), "23");
    store.put(&found[0].location, "54321".into()).await.unwrap();
    let error = bucket.read(&found[0], 1..3).await.unwrap_err();
    assert!(matches!(error, ObjectStorageError::Changed(_)), "{error}");
}
