//! TLS to a model server or a judge, which must be who it says it is.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::core::authorities;
use crate::error::{Error, Result};

/// Who vouches for servers. Read when the first of them is named.
#[derive(Debug)]
pub struct Trust {
    authorities: Option<PathBuf>,
    /// One for all, so that a server is asked for its certificate once and known again after.
    config: OnceLock<Arc<ClientConfig>>,
}

/// Connections to a server of this name.
#[derive(Debug)]
pub struct Secured {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Trust {
    /// The authorities of a file, and no others; without, those that browsers know, as of when this was built.
    pub fn new(authorities: Option<PathBuf>) -> Self {
        Self { authorities, config: OnceLock::new() }
    }

    /// Connections to a server that is called so.
    ///
    /// # Errors
    /// `authorities`, those of reading, and `upstream` for what is no name.
    pub fn secured(&self, host: &str) -> Result<Secured> {
        let config = match self.config.get() {
            Some(config) => config,
            None => {
                let config = self.config()?;
                self.config.get_or_init(|| config)
            }
        };
        let name = ServerName::try_from(host.trim_matches(['[', ']'])).map_err(|_| {
            let message = format!("{host:?}, expected a name that a certificate can have");
            Error::usage("upstream", message)
        })?;
        Ok(Secured { config: Arc::clone(config), name: name.to_owned() })
    }

    fn config(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                for own in authorities::read(path)? {
                    let added = roots.add(own.into());
                    added.map_err(|error| authorities::refused(path, &error.to_string()))?;
                }
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.expect("the provider has what they need");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl Secured {
    /// The same connection, once the server has shown who it is.
    ///
    /// # Errors
    /// Those of the connection and of what was shown.
    pub async fn over(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsConnector::from(Arc::clone(&self.config)).connect(self.name.clone(), stream).await
    }
}

/// Fails in a build that does not speak TLS.
///
/// # Errors
/// None in this one.
pub fn known() -> Result<()> {
    Ok(())
}

/// Whether a connection failed because the server is not known to be who it says it is.
pub fn is_refused(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}
