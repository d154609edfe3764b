//! The private authority of a cluster, and certificates signed by it: for those who have no
//! authority of their own. Any PEM files that fit do as well.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use compute::exchange::SERVER_NAME;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::error::{Error, Result};
use crate::private_file;

/// PEM files of one process.
#[derive(Debug, Clone)]
pub struct Files {
    /// The authority's certificate, the same for all.
    pub authority: PathBuf,
    /// The process's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Makes a certificate for the process `name` in `directory`, and the authority if there is none
/// there yet. Files that are there stay.
pub fn make(directory: &Path, name: &str) -> Result<Files> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name == "authority" || !name.chars().all(plain) {
        let text = format!("\"{name}\" is no name for a certificate; use letters, digits and -");
        return Err(Error::Config(text));
    }
    private_file::make_directory(directory).map_err(|source| io(directory, source))?;
    let issuer = authority(directory)?;
    let files = Files {
        authority: directory.join("authority.pem"),
        certificate: directory.join(format!("{name}.pem")),
        key: directory.join(format!("{name}.key")),
    };
    if exists(&files.certificate)? && exists(&files.key)? {
        return Ok(files);
    }
    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages.push(KeyUsagePurpose::DigitalSignature);
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
    write(&files.key, &key.serialize_pem())?;
    write(&files.certificate, &certificate.pem())?;
    Ok(files)
}

/// The authority of the directory, made when there is none.
fn authority(directory: &Path) -> Result<Issuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, "Blueshift cluster authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    params.key_usages.push(KeyUsagePurpose::CrlSign);
    let path = directory.join("authority.key");
    let key = match fs::read_to_string(&path) {
        Ok(pem) => KeyPair::from_pem(&pem).map_err(failed)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = KeyPair::generate().map_err(failed)?;
            write(&path, &key.serialize_pem())?;
            key
        }
        Err(error) => return Err(io(&path, error)),
    };
    let certificate = directory.join("authority.pem");
    if !exists(&certificate)? {
        write(&certificate, &params.self_signed(&key).map_err(failed)?.pem())?;
    }
    Ok(Issuer::new(params, key))
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|source| io(path, source))
}

fn write(path: &Path, text: &str) -> Result<()> {
    private_file::write(path, text).map_err(|source| io(path, source))
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io { action: format!("use {}", path.display()), source }
}

fn failed(error: rcgen::Error) -> Error {
    Error::Internal(format!("cannot make a certificate: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_stays_and_names_are_checked() {
        let directory = tempfile::tempdir().unwrap();
        let first = make(directory.path(), "node-0").unwrap();
        let authority = fs::read(&first.authority).unwrap();
        let second = make(directory.path(), "node-1").unwrap();
        assert_eq!(fs::read(&second.authority).unwrap(), authority);
        assert_ne!(fs::read(&first.key).unwrap(), fs::read(&second.key).unwrap());
        let again = fs::read(&first.certificate).unwrap();
        make(directory.path(), "node-0").unwrap();
        assert_eq!(fs::read(&first.certificate).unwrap(), again);
        for name in ["", "authority", "../x", "a b"] {
            assert!(make(directory.path(), name).is_err(), "{name}");
        }
    }
}
