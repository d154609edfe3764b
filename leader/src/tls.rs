//! TLS for clients: a rustls acceptor from PEM files that the operator names.
//!
//! Nothing here decides whether TLS is required; that is `require_ssl`, checked at startup of each
//! connection in `pgwire/startup.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, ServerConfig, crypto};

/// Why TLS could not be set up; the operator must correct the configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file is missing, unreadable, empty or not PEM.
    #[error("cannot read the certificate chain {}: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key file is missing, unreadable or not PEM.
    #[error("cannot read the private key {}: {reason}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key does not belong to the certificate, or is of a kind that is not supported.
    #[error("the certificate and the key cannot be used")]
    Unusable(#[source] rustls::Error),
}

/// Makes an acceptor of TLS 1.2 and 1.3 from a certificate chain (leaf first) and its key.
///
/// # Errors
/// See [`TlsError`].
pub fn acceptor(certificate_path: &Path, key_path: &Path) -> Result<TlsAcceptor, TlsError> {
    let certificate_error =
        |reason: String| TlsError::Certificate { path: certificate_path.to_path_buf(), reason };
    let chain = CertificateDer::pem_file_iter(certificate_path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| certificate_error(error.to_string()))?;
    if chain.is_empty() {
        return Err(certificate_error("it contains no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key_path).map_err(|error| TlsError::Key {
        path: key_path.to_path_buf(),
        reason: error.to_string(),
    })?;
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(TlsError::Unusable)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
