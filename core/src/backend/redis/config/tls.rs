//! TLS: the certificates to trust and to present.

use std::fmt;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
};

use crate::error::{Error, Report, Result};

/// Certificates and keys are PEM.
pub struct TlsOptions {
    /// Trusted instead of the built-in roots: the authorities, or the servers' own certificates.
    pub ca: Option<Vec<u8>>,
    /// Client certificate chain.
    pub cert: Option<Vec<u8>>,
    /// The client certificate's key.
    pub key: Option<Vec<u8>>,
    /// Checked instead of the URL's host.
    pub server_name: Option<String>,
    /// `false` accepts any certificate. `true` by default.
    pub reject_unauthorized: bool,
}

impl Default for TlsOptions {
    /// Built-in roots, no client certificate, certificates are checked.
    fn default() -> Self {
        Self { ca: None, cert: None, key: None, server_name: None, reject_unauthorized: true }
    }
}

/// Checked TLS settings, for all servers of a deployment.
#[derive(Clone)]
pub(crate) struct TlsSettings {
    connector: TlsConnector,
    /// In every certificate, instead of the host.
    server_name: Option<ServerName<'static>>,
}

/// The TLS settings of one server.
pub(crate) struct Tls {
    pub server_name: ServerName<'static>,
    settings: TlsSettings,
}

impl Tls {
    pub const fn connector(&self) -> &TlsConnector {
        &self.settings.connector
    }

    /// Of another server of the same deployment.
    pub fn for_host(&self, host: &str) -> Result<Self> {
        self.settings.for_host(host)
    }
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl TlsSettings {
    /// Checks the material; no I/O.
    pub fn new(options: TlsOptions) -> Result<Self> {
        let server_name = options.server_name.map(certificate_name).transpose()?;
        // Set explicitly: a process-wide default would depend on other users of rustls in the process.
        let provider = Arc::new(crypto::ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = if options.reject_unauthorized {
            Arc::new(GivenCertificates::new(options.ca.as_deref(), provider.clone())?)
        } else {
            Arc::new(AcceptAnyCertificate(provider.clone()))
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid("no TLS version can be used", error))?
            .dangerous() // only the name of the API: the usual verifier is set this way too
            .with_custom_certificate_verifier(verifier);
        let config = match (options.cert, options.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => builder
                .with_client_auth_cert(certificates("tls.cert", &cert)?, private_key(&key)?)
                .map_err(|error| invalid("tls.cert and tls.key cannot be used together", error))?,
            _ => {
                return Err(Error::invalid("tls.cert and tls.key belong together; pass both or neither"));
            }
        };
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), server_name })
    }

    /// For the server at this host.
    pub fn for_host(&self, host: &str) -> Result<Tls> {
        let server_name = match &self.server_name {
            Some(name) => name.clone(),
            None => certificate_name(host.to_owned())?,
        };
        Ok(Tls { server_name, settings: self.clone() })
    }
}

fn certificate_name(name: String) -> Result<ServerName<'static>> {
    ServerName::try_from(name).map_err(|error| {
        invalid("tls.serverName (or the URL's host) cannot be the name in a certificate", error)
    })
}

/// What to do about a failed TLS handshake, as far as the error says.
pub(crate) fn hint(error: &std::io::Error) -> &'static str {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return "does the server speak TLS on this port? (redis:// is without TLS)";
    };
    match error {
        // The other one: of an authority that has the name of one that is trusted, but another key.
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "pass the certificate of its issuer as tls: { ca }",
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name; use that name in the URL or as tls: { serverName }",
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired; renew it, and check this host's clock",
        error if is_authority(error) => {
            "its certificate is one of an authority; pass exactly that certificate as tls: { ca }, or give the \
             server one with basicConstraints=CA:FALSE"
        }
        rustls::Error::InvalidCertificate(_) => "its certificate is not valid",
        rustls::Error::AlertReceived(_) => {
            "the server refused; if it requires a client certificate, pass tls: { cert, key }"
        }
        rustls::Error::InvalidMessage(_) => {
            "does the server speak TLS on this port? (redis:// is without TLS)"
        }
        _ => "check the TLS settings of both sides",
    }
}

fn invalid(message: &str, cause: impl fmt::Display) -> Error {
    Error::InvalidOption(Report::caused(format!("{message}: {cause}"), cause))
}

fn certificates(option: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| invalid(&format!("{option} is not PEM"), error))?;
    if found.is_empty() {
        return Err(Error::invalid(format!("{option} contains no certificate; PEM is expected")));
    }
    Ok(found)
}

/// The error never quotes the key.
fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| Error::invalid("tls.key contains no private key; unencrypted PEM is expected"))
}

/// The usual checks; in addition, a server may present one of the given certificates itself, even if that is
/// one of an authority, as self-signed ones are unless they say otherwise.
#[derive(Debug)]
struct GivenCertificates {
    usual: Arc<WebPkiServerVerifier>,
    /// Empty for the built-in roots.
    given: Vec<CertificateDer<'static>>,
}

impl GivenCertificates {
    fn new(ca: Option<&[u8]>, provider: Arc<CryptoProvider>) -> Result<Self> {
        let given = ca.map_or(Ok(Vec::new()), |pem| certificates("tls.ca", pem))?;
        let mut roots = RootCertStore::empty();
        if ca.is_none() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for certificate in &given {
            roots
                .add(certificate.clone())
                .map_err(|error| invalid("tls.ca has a certificate that cannot be trusted", error))?;
        }
        let usual = WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .map_err(|error| invalid("tls.ca cannot be used", error))?;
        Ok(Self { usual, given })
    }
}

impl ServerCertVerifier for GivenCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let checked =
            self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match checked {
            Err(error) if is_authority(&error) && self.given.iter().any(|given| given == end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// Whether a certificate that is valid now was refused only for being one of an authority. webpki looks at
/// the time of validity before.
fn is_authority(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why)))
        if matches!(why.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)))
}

/// `rejectUnauthorized: false` accepts every certificate. Signatures of the handshake are still checked, so
/// the channel is encrypted, but the identity of the other side is unknown.
#[derive(Debug)]
struct AcceptAnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: TlsOptions) -> String {
        let error = TlsSettings::new(options).unwrap_err();
        assert_eq!(error.code(), "INVALID_OPTION");
        error.to_string()
    }

    #[test]
    fn invalid_material_is_refused_and_never_quoted() {
        let secret = b"-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n".to_vec();
        assert!(
            refused(TlsOptions { ca: Some(b"nonsense".to_vec()), ..Default::default() }).contains("tls.ca")
        );
        assert!(refused(TlsOptions { key: Some(secret.clone()), ..Default::default() }).contains("tls.cert"));
        let message = refused(TlsOptions {
            cert: Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec()),
            key: Some(secret),
            ..Default::default()
        });
        assert!(message.contains("tls.key"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
        assert!(
            refused(TlsOptions { server_name: Some("a b".into()), ..Default::default() })
                .contains("serverName")
        );
    }

    #[test]
    fn certificates_are_checked_unless_disabled() {
        assert!(TlsOptions::default().reject_unauthorized);
        assert!(TlsSettings::new(TlsOptions::default()).is_ok());
        let any = TlsOptions { reject_unauthorized: false, ..Default::default() };
        assert!(TlsSettings::new(any).unwrap().for_host("127.0.0.1").is_ok());
    }

    #[test]
    fn the_name_in_the_certificate_is_the_host_unless_given() {
        let own = TlsSettings::new(TlsOptions::default()).unwrap();
        assert_eq!(own.for_host("one.test").unwrap().server_name, "one.test".try_into().unwrap());
        assert!(own.for_host("a b").is_err());
        let given = TlsOptions { server_name: Some("all.test".into()), ..Default::default() };
        let given = TlsSettings::new(given).unwrap();
        assert_eq!(given.for_host("10.0.0.1").unwrap().server_name, "all.test".try_into().unwrap());
    }
}
