//! TLS for clients: a rustls acceptor from PEM files that the operator names, or from a certificate
//! that the server makes for itself at its first start, which encrypts and proves nothing.
//!
//! Nothing here decides whether TLS is required; that is `require_ssl`, checked at startup of each
//! connection in `pgwire/startup.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, ServerConfig, crypto};

use crate::private_file;

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
    /// The server's own certificate could not be made or kept; see the disk.
    #[error("cannot keep a certificate in {}: {reason}", path.display())]
    Own {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// The key does not belong to the certificate, or is of a kind that is not supported.
    #[error("the certificate and the key cannot be used")]
    Unusable(#[source] rustls::Error),
}

/// The names in the server's own certificate.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// An acceptor with a certificate of the server's own, which is made when the folder has none.
///
/// # Errors
/// See [`TlsError`].
pub fn own_acceptor(folder: &Path) -> Result<TlsAcceptor, TlsError> {
    let (certificate, key) = (folder.join("server.crt"), folder.join("server.key"));
    let failed = |path: &Path, reason: String| TlsError::Own { path: path.to_path_buf(), reason };
    let is_there =
        |path: &Path| std::fs::exists(path).map_err(|error| failed(path, error.to_string()));
    if !(is_there(&certificate)? && is_there(&key)?) {
        let made = rcgen::generate_simple_self_signed(OWN_NAMES.map(str::to_owned))
            .map_err(|error| failed(&certificate, error.to_string()))?;
        // The key first: a certificate without its key would be found and not be usable.
        private_file::write(&key, &made.signing_key.serialize_pem())
            .map_err(|error| failed(&key, error.to_string()))?;
        private_file::write(&certificate, &made.cert.pem())
            .map_err(|error| failed(&certificate, error.to_string()))?;
        tracing::info!(path = %certificate.display(), "made a certificate of the server's own");
    }
    acceptor(&certificate, &key)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_certificate_is_made_once_and_its_key_is_the_operators() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        own_acceptor(folder.path()).unwrap();
        let (key, certificate) =
            (folder.path().join("server.key"), folder.path().join("server.crt"));
        let made = std::fs::read(&certificate).unwrap();
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        own_acceptor(folder.path()).unwrap();
        assert_eq!(std::fs::read(&certificate).unwrap(), made);
        std::fs::write(&key, "not a key").unwrap();
        assert!(own_acceptor(folder.path()).is_err());
    }
}
