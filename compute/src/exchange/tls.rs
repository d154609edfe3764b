//! Who may talk on the cluster port: those with a certificate of the cluster's own authority.

use std::fmt;
use std::path::Path;

use tonic::transport::{Certificate, ClientTlsConfig, ServerTlsConfig};

use crate::error::Error;

/// The name in every certificate of a cluster. Which node answers is checked by the control
/// service; the certificate says that it is one of the cluster's.
pub const SERVER_NAME: &str = "blueshift-cluster";

/// A process's certificate and key, and the authority that has signed all of them.
#[derive(Clone)]
pub struct Identity {
    authority: Certificate,
    identity: tonic::transport::Identity,
}

impl Identity {
    /// Reads PEM files: the authority's certificate, the process's certificate and its key.
    pub fn read(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, Error> {
        let read = |path: &Path| {
            std::fs::read(path)
                .map_err(|source| Error::Certificate { path: path.to_owned(), source })
        };
        Ok(Self {
            authority: Certificate::from_pem(read(authority)?),
            identity: tonic::transport::Identity::from_pem(read(certificate)?, read(key)?),
        })
    }

    /// For a server that speaks only with holders of a certificate.
    pub(super) fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(self.identity.clone())
            .client_ca_root(self.authority.clone())
            .timeout(HANDSHAKE_TIMEOUT)
    }

    /// For a client of such a server.
    pub(super) fn client(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(self.authority.clone())
            .identity(self.identity.clone())
            .domain_name(SERVER_NAME)
            .timeout(HANDSHAKE_TIMEOUT)
    }
}

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Without the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}
