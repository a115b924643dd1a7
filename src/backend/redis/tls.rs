//! TLS to Redis: rustls with ring.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

use crate::error::{Error, Report, Result};

/// TLS material, each as PEM.
pub struct TlsOptions {
    /// Trusted instead of the built-in roots.
    pub ca: Option<Vec<u8>>,
    /// Client certificate chain.
    pub cert: Option<Vec<u8>>,
    /// The client certificate's key.
    pub key: Option<Vec<u8>>,
    /// Checked instead of the URL's host.
    pub server_name: Option<String>,
    /// `false` takes any certificate.
    pub reject_unauthorized: bool,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self { ca: None, cert: None, key: None, server_name: None, reject_unauthorized: true }
    }
}

/// Ready to wrap connections.
pub(super) struct Tls {
    connector: TlsConnector,
    server_name: ServerName<'static>,
}

impl Tls {
    pub(super) fn new(options: TlsOptions, host: &str) -> Result<Self> {
        // Named, not installed: the process's default provider is not ours to choose.
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::InvalidOption(Report::caused("redis.tls cannot be set up", error)))?;
        let builder = if options.reject_unauthorized {
            builder.with_root_certificates(roots(options.ca.as_deref())?)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        };
        let config = match (options.cert, options.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates("cert", &cert)?;
                let key = PrivateKeyDer::from_pem_slice(&key)
                    .map_err(|error| not_pem("key", "a private key", &error))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    Error::invalid(format!("redis.tls.cert and redis.tls.key do not fit: {error}"))
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        let name = options.server_name.unwrap_or_else(|| host.to_owned());
        let server_name = ServerName::try_from(name)
            .map_err(|_| Error::invalid("redis.tls.serverName is no name a certificate can have"))?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), server_name })
    }

    pub(super) async fn connect<S>(&self, stream: S) -> std::io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.connector.connect(self.server_name.clone(), stream).await
    }
}

fn roots(ca: Option<&[u8]>) -> Result<RootCertStore> {
    let Some(pem) = ca else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    let mut store = RootCertStore::empty();
    for certificate in certificates("ca", pem)? {
        store.add(certificate).map_err(|error| not_pem("ca", "certificates", &error))?;
    }
    Ok(store)
}

fn certificates(name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<std::result::Result<Vec<_>, _>>();
    let found = found.map_err(|error| not_pem(name, "certificates", &error))?;
    if found.is_empty() {
        return Err(Error::invalid(format!(
            "redis.tls.{name} has no certificate in it; it must be PEM text"
        )));
    }
    Ok(found)
}

fn not_pem(name: &str, what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!("redis.tls.{name} must be PEM text with {what}: {error}"))
}

/// Takes whatever certificate it is shown: `rejectUnauthorized: false`. The handshake's signatures are still checked,
/// so that the connection is at least the one it was opened as.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
