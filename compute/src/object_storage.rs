//! Which object storage this cluster may reach, and with what credentials. Endpoint, buckets and
//! default credentials are the operator's (`AWS_*` variables and `[object_store]` of the
//! configuration file); SQL names a bucket, a key and perhaps keys of its own and a region, never
//! an endpoint.
//!
//! Invariants: a secret has neither `Debug` nor `Display`; no redirect is followed; link-local
//! addresses (the metadata services of clouds) are never an endpoint, by whatever name.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{HttpClient, HttpConnector, SpawnService};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectMeta, ObjectStore, RetryConfig,
};
use serde::Deserialize;
use tokio::runtime::Handle;
use url::{Host, Url};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A body that gives no byte for this long is stalled.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
const RETRIES_MAX: usize = 6;
const RETRY_TIMEOUT: Duration = Duration::from_secs(90);
/// Objects that one listing may return.
const OBJECTS_MAX: usize = 1_000_000;
const ERROR_TEXT_BYTES_MAX: usize = 300;

/// Something that must never reach a log, a message or a system table.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text of a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that signs with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// With what a statement asks for objects.
#[derive(Clone)]
pub enum Credentials {
    /// IAM_ROLE: the deployment's own credentials.
    Default,
    /// ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN or CREDENTIALS.
    Keys {
        /// The public part.
        access_key_id: String,
        /// The secret part.
        secret_access_key: Secret,
        /// Of temporary credentials.
        session_token: Option<Secret>,
    },
}

/// `[object_store]` of the configuration file. The `AWS_*` variables of the environment win over
/// it.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectStoreConfig {
    /// URL of an S3-compatible service; without one, Amazon S3 of the region.
    pub endpoint: Option<String>,
    /// The default region.
    pub region: Option<String>,
    /// Whether the endpoint may be plain HTTP.
    pub allow_http: bool,
    /// The deployment's own credentials.
    pub access_key_id: Option<String>,
    /// The deployment's own credentials.
    pub secret_access_key: Option<Secret>,
    /// If not empty, the only endpoints that may be reached, that of the region too.
    pub allowed_endpoints: Vec<String>,
    /// If not empty, the only buckets that may be reached.
    pub allowed_buckets: Vec<String>,
    /// Whether the credentials of the machine's instance profile may be used when no others are
    /// configured.
    pub instance_credentials: bool,
}

/// Why object storage could not be used. The texts are those of Redshift.
#[derive(Debug, thiserror::Error)]
pub enum ObjectStorageError {
    /// The operator's configuration does not hold; the operator acts.
    #[error("invalid object storage configuration: {0}")]
    Configuration(String),
    /// The statement asks for what the operator has not allowed, or no credentials exist.
    #[error("{0}")]
    Refused(String),
    /// The service answered with an error.
    #[error("S3ServiceException:{message},Status {status},Error {code}")]
    Service {
        /// The service's own words.
        message: String,
        /// HTTP status.
        status: u16,
        /// The S3 error code, "AccessDenied".
        code: String,
    },
    /// An object is not there.
    #[error("the specified key does not exist: {0}")]
    NoSuchKey(String),
    /// An object is not what was listed any more.
    #[error("the object changed while it was being read: {0}")]
    Changed(String),
    /// The service cannot be reached or breaks off.
    #[error("cannot read from object storage: {0}")]
    Unreachable(String),
}

/// The object storage of a deployment.
pub struct ObjectStorage {
    config: ObjectStoreConfig,
    session_token: Option<Secret>,
    /// Variables of the container and web identity providers, passed on as they are.
    provider_variables: Vec<(AmazonS3ConfigKey, String)>,
    io_runtime: Option<Handle>,
    /// Buckets that are not reached over the network.
    local: HashMap<String, Arc<dyn ObjectStore>>,
}

impl ObjectStorage {
    /// Takes the configuration file's section and the process's environment.
    pub fn new(
        config: ObjectStoreConfig,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ObjectStorageError> {
        let mut storage = Self {
            config,
            session_token: None,
            provider_variables: Vec::new(),
            io_runtime: None,
            local: HashMap::new(),
        };
        let variables: HashMap<String, String> = environment
            .into_iter()
            .filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty())
            .collect();
        storage.take_environment(&variables)?;
        if let Some(endpoint) = storage.config.endpoint.clone() {
            storage
                .check_endpoint(&endpoint)
                .map_err(|error| ObjectStorageError::Configuration(format!("endpoint: {error}")))?;
        }
        Ok(storage)
    }

    /// Requests then run on this runtime, apart from the one that computes.
    pub fn with_io_runtime(mut self, runtime: Handle) -> Self {
        self.io_runtime = Some(runtime);
        self
    }

    /// Serves one bucket from a store in this process, without a network.
    pub fn with_bucket(mut self, name: impl Into<String>, store: Arc<dyn ObjectStore>) -> Self {
        self.local.insert(name.into(), store);
        self
    }

    fn take_environment(
        &mut self,
        variables: &HashMap<String, String>,
    ) -> Result<(), ObjectStorageError> {
        let get = |name: &str| variables.get(name).cloned();
        let config = &mut self.config;
        if let Some(endpoint) = get("AWS_ENDPOINT_URL_S3").or_else(|| get("AWS_ENDPOINT_URL")) {
            // An endpoint of the environment is the operator's and thereby allowed.
            if !config.allowed_endpoints.is_empty() {
                config.allowed_endpoints.push(endpoint.clone());
            }
            config.endpoint = Some(endpoint);
        }
        if let Some(region) = get("AWS_REGION").or_else(|| get("AWS_DEFAULT_REGION")) {
            config.region = Some(region);
        }
        if let Some(allow) = get("AWS_ALLOW_HTTP") {
            config.allow_http = match allow.to_ascii_lowercase().as_str() {
                "true" | "1" | "on" | "yes" => true,
                "false" | "0" | "off" | "no" => false,
                _ => {
                    let reason = "AWS_ALLOW_HTTP must be true or false".to_owned();
                    return Err(ObjectStorageError::Configuration(reason));
                }
            };
        }
        if let (Some(id), Some(key)) = (get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY")) {
            config.access_key_id = Some(id);
            config.secret_access_key = Some(Secret::new(key));
            self.session_token = get("AWS_SESSION_TOKEN").map(Secret::new);
        }
        for name in [
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_ROLE_ARN",
            "AWS_ROLE_SESSION_NAME",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        ] {
            if let (Some(value), Ok(key)) = (get(name), name.to_ascii_lowercase().parse()) {
                self.provider_variables.push((key, value));
            }
        }
        Ok(())
    }

    /// Opens a bucket for one statement. Nothing is sent yet.
    pub fn bucket(
        &self,
        name: &str,
        credentials: &Credentials,
        region: Option<&str>,
    ) -> Result<Bucket, ObjectStorageError> {
        let allowed = &self.config.allowed_buckets;
        if !allowed.is_empty() && !allowed.iter().any(|bucket| bucket == name) {
            return Err(ObjectStorageError::Refused(format!(
                "bucket \"{name}\" is not in the list of allowed buckets"
            )));
        }
        if let Some(store) = self.local.get(name) {
            let objects = Arc::clone(store);
            return Ok(Bucket { name: name.to_owned(), objects, pages: None });
        }
        check_name("bucket", name)?;
        let region = region.or(self.config.region.as_deref()).unwrap_or("us-east-1");
        check_name("region", region)?;
        let mut builder = self
            .authenticate(credentials)?
            .with_bucket_name(name)
            .with_region(region)
            .with_virtual_hosted_style_request(false)
            .with_http_connector(Connector { io_runtime: self.io_runtime.clone() })
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: RETRIES_MAX,
                retry_timeout: RETRY_TIMEOUT,
            });
        let endpoint = match &self.config.endpoint {
            Some(endpoint) => {
                builder = builder.with_endpoint(endpoint);
                endpoint.clone()
            }
            None => format!("https://s3.{region}.amazonaws.com"),
        };
        self.check_endpoint(&endpoint)?;
        let store = Arc::new(
            builder
                .with_allow_http(self.config.allow_http)
                .build()
                .map_err(|error| ObjectStorageError::Configuration(cut(error.to_string())))?,
        );
        let pages: Arc<dyn PaginatedListStore> = Arc::clone(&store) as _;
        Ok(Bucket { name: name.to_owned(), objects: store, pages: Some(pages) })
    }

    fn authenticate(
        &self,
        credentials: &Credentials,
    ) -> Result<AmazonS3Builder, ObjectStorageError> {
        let mut builder = AmazonS3Builder::new();
        let (id, secret, token) = match credentials {
            Credentials::Keys { access_key_id, secret_access_key, session_token } => {
                (Some(access_key_id), Some(secret_access_key), session_token.as_ref())
            }
            Credentials::Default => (
                self.config.access_key_id.as_ref(),
                self.config.secret_access_key.as_ref(),
                self.session_token.as_ref(),
            ),
        };
        if let (Some(id), Some(secret)) = (id, secret) {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret.expose());
            if let Some(token) = token {
                builder = builder.with_token(token.expose());
            }
            return Ok(builder);
        }
        if self.provider_variables.is_empty() && !self.config.instance_credentials {
            return Err(ObjectStorageError::Refused(
                "no credentials for object storage are configured".to_owned(),
            ));
        }
        for (key, value) in &self.provider_variables {
            builder = builder.with_config(*key, value);
        }
        Ok(builder)
    }

    fn check_endpoint(&self, endpoint: &str) -> Result<(), ObjectStorageError> {
        let refuse = |reason: &str| {
            Err(ObjectStorageError::Refused(format!("endpoint \"{endpoint}\" {reason}")))
        };
        let Ok(url) = Url::parse(endpoint) else {
            return refuse("is not a URL");
        };
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return refuse("must be scheme, host and port only");
        }
        match url.scheme() {
            "https" => {}
            "http" if self.config.allow_http => {}
            "http" => return refuse("is plain HTTP, which allow_http does not permit"),
            _ => return refuse("is not an HTTP endpoint"),
        }
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => return refuse("has no host"),
        };
        if address.is_some_and(is_forbidden) {
            return refuse("is a link-local address");
        }
        let allowed = &self.config.allowed_endpoints;
        let same = |other: &String| other.trim_end_matches('/') == endpoint.trim_end_matches('/');
        if !allowed.is_empty() && !allowed.iter().any(same) {
            return refuse("is not in the list of allowed endpoints");
        }
        Ok(())
    }
}

/// One bucket, opened with the credentials of one statement.
#[derive(Clone)]
pub struct Bucket {
    name: String,
    objects: Arc<dyn ObjectStore>,
    pages: Option<Arc<dyn PaginatedListStore>>,
}

impl Bucket {
    /// Every object whose key starts with `prefix`, in the order of keys. A prefix is a prefix of
    /// the key, not a directory.
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, ObjectStorageError> {
        let mut found = match &self.pages {
            Some(pages) => self.list_pages(pages.as_ref(), prefix).await?,
            None => {
                let all: Vec<ObjectMeta> = self
                    .objects
                    .list(None)
                    .try_collect()
                    .await
                    .map_err(|error| self.explain(error, prefix))?;
                all.into_iter()
                    .filter(|object| object.location.as_ref().starts_with(prefix))
                    .collect()
            }
        };
        found.sort_by(|left, right| left.location.cmp(&right.location));
        Ok(found)
    }

    async fn list_pages(
        &self,
        pages: &dyn PaginatedListStore,
        prefix: &str,
    ) -> Result<Vec<ObjectMeta>, ObjectStorageError> {
        let mut found = Vec::new();
        let mut page_token = None;
        loop {
            let options = PaginatedListOptions { page_token, ..Default::default() };
            let page = pages
                .list_paginated(Some(prefix).filter(|prefix| !prefix.is_empty()), options)
                .await
                .map_err(|error| self.explain(error, prefix))?;
            found.extend(page.result.objects);
            if found.len() > OBJECTS_MAX {
                return Err(ObjectStorageError::Refused(format!(
                    "prefix \"{prefix}\" has more than {OBJECTS_MAX} objects"
                )));
            }
            page_token = page.page_token;
            if page_token.is_none() {
                return Ok(found);
            }
        }
    }

    /// Bytes `range` of an object as it was when it was listed; an object that has changed since
    /// is an error, and so is a body that is too short.
    pub async fn read(
        &self,
        object: &ObjectMeta,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes, ObjectStorageError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let key = object.location.as_ref();
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            if_match: object.e_tag.clone(),
            ..Default::default()
        };
        let result = self
            .objects
            .get_opts(&object.location, options)
            .await
            .map_err(|error| self.explain(error, key))?;
        // Not every service honours If-Match, so the answer is compared as well. Without tags in
        // the listing the time decides, which headers give in whole seconds.
        let same = result.meta.size == object.size
            && match (&result.meta.e_tag, &object.e_tag) {
                (Some(now), Some(then)) => now == then,
                _ => result.meta.last_modified.timestamp() == object.last_modified.timestamp(),
            };
        if !same {
            return Err(ObjectStorageError::Changed(self.url(key)));
        }
        let bytes = result.bytes().await.map_err(|error| self.explain(error, key))?;
        if bytes.len() as u64 != range.end - range.start {
            return Err(ObjectStorageError::Unreachable(format!(
                "{} gave {} bytes of {}",
                self.url(key),
                bytes.len(),
                range.end - range.start
            )));
        }
        Ok(bytes)
    }

    /// `s3://bucket/key`.
    pub fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }

    fn explain(&self, error: object_store::Error, key: &str) -> ObjectStorageError {
        use object_store::Error;
        let url = self.url(key);
        let text = source_text(&error);
        let code = xml_element(&text, "Code").map(str::to_owned);
        let message = xml_element(&text, "Message").map(|text| cut(text.to_owned()));
        let service = |status: u16, code: &str, message: Option<String>, default: &str| {
            ObjectStorageError::Service {
                message: message.unwrap_or_else(|| default.to_owned()),
                status,
                code: code.to_owned(),
            }
        };
        match error {
            Error::NotFound { .. } if code.as_deref() == Some("NoSuchBucket") => {
                service(404, "NoSuchBucket", message, "The specified bucket does not exist")
            }
            Error::NotFound { .. } => ObjectStorageError::NoSuchKey(url),
            Error::Precondition { .. } | Error::NotModified { .. } => {
                ObjectStorageError::Changed(url)
            }
            Error::PermissionDenied { .. } => {
                service(403, code.as_deref().unwrap_or("AccessDenied"), message, "Access Denied")
            }
            Error::Unauthenticated { .. } => {
                service(401, code.as_deref().unwrap_or("Unauthorized"), message, "Unauthorized")
            }
            _ if text.contains("without LOCATION") || text.contains("status code: 30") => service(
                301,
                "PermanentRedirect",
                None,
                "The bucket you are attempting to access must be addressed using the specified \
                 endpoint.",
            ),
            _ => match (code, message) {
                (Some(code), message) => service(status_of(&text), &code, message, "error"),
                (None, _) => ObjectStorageError::Unreachable(cut(format!("{url}: {text}"))),
            },
        }
    }
}

/// Makes the HTTP client: no redirects (credentials go to the operator's endpoint and nowhere
/// else), no names that resolve to link-local addresses, time limits everywhere.
#[derive(Debug)]
struct Connector {
    io_runtime: Option<Handle>,
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(Resolver))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .user_agent("blueshift")
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .build()
            .map_err(|error| object_store::Error::Generic { store: "S3", source: error.into() })?;
        Ok(match &self.io_runtime {
            Some(runtime) => HttpClient::new(SpawnService::new(client, runtime.clone())),
            None => HttpClient::new(client),
        })
    }
}

struct Resolver;

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.iter().any(|address| is_forbidden(address.ip())) {
                return Err(format!("{} resolves to a link-local address", name.as_str()).into());
            }
            Ok(Box::new(found.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

/// Whether an address belongs to a metadata service of a cloud or is otherwise link-local.
fn is_forbidden(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_link_local() || address.is_multicast() || address.is_broadcast()
        }
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || address.is_multicast()
                // The metadata service of EC2 over IPv6.
                || address.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
        }
    }
}

/// Bucket and region become parts of a host or path, so they may hold nothing that ends one.
fn check_name(what: &str, name: &str) -> Result<(), ObjectStorageError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let inside = (1..=255).contains(&name.len()) && name.bytes().all(allowed);
    let dots = name.contains("..") || name.starts_with('.') || name.ends_with('.');
    if inside && !dots {
        return Ok(());
    }
    Err(ObjectStorageError::Refused(format!("invalid {what} name \"{}\"", cut(name.to_owned()))))
}

/// The innermost texts of an error: where `object_store` keeps status and body.
fn source_text(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

fn xml_element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let open = format!("<{name}>");
    let start = text.find(&open)? + open.len();
    let length = text[start..].find("</")?;
    Some(&text[start..start + length])
}

fn status_of(text: &str) -> u16 {
    let digits = text.split("status code: ").nth(1).and_then(|rest| rest.get(..3));
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(500)
}

fn cut(mut text: String) -> String {
    if text.len() > ERROR_TEXT_BYTES_MAX {
        let end = (0..=ERROR_TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
    text
}

#[cfg(test)]
mod tests;
