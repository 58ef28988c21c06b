//! Who vouches for servers that are reached over TLS.

#[cfg(feature = "https")]
use std::path::Path;
use std::path::PathBuf;

#[cfg(feature = "https")]
use tokio_rustls::rustls::pki_types::CertificateDer;
#[cfg(feature = "https")]
use tokio_rustls::rustls::pki_types::pem::PemObject;

#[cfg(feature = "https")]
use crate::error::{Error, ErrorKind, IoContext, Result};

/// The environment variable that names a file of authorities.
const VARIABLE: &str = "SSL_CERT_FILE";

/// The file of authorities that this machine names, if it names one.
pub fn named() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from)
}

/// The certificates of a file, as bytes.
///
/// # Errors
/// `authorities` for what is no PEM, or has no certificate; those of reading.
#[cfg(feature = "https")]
pub fn read(path: &Path) -> Result<Vec<Vec<u8>>> {
    let text = std::fs::read(path).at("read", path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| refused(path, &error.to_string()))?;
    if all.is_empty() {
        return Err(refused(path, "none"));
    }
    Ok(all.iter().map(|own| own.to_vec()).collect())
}

/// The error for a file that is no list of authorities.
#[cfg(feature = "https")]
pub fn refused(path: &Path, received: &str) -> Error {
    let message = format!("{}: expected certificates in PEM, received {received}", path.display());
    Error::new(ErrorKind::BadInput, "authorities", message)
}
