//! Encrypted connections.

use std::path::Path;
use std::process::Command;

use super::*;
use crate::backend::redis::config::TlsOptions;
use crate::backend::redis::tests::servers::server::{Server, available};

/// A certificate authority, and its certificates for a server called `locks.test` and for a client.
pub fn certificates(dir: &Path) {
    let script = "
        set -e
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt
        for name in server client; do
            openssl req -newkey rsa:2048 -nodes -subj /CN=$name -keyout $name.key -out $name.csr
            printf 'subjectAltName=DNS:locks.test\\nbasicConstraints=CA:FALSE' > $name.ext
            openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \\
                -extfile $name.ext -out $name.crt
        done";
    let made = Command::new("sh").args(["-c", script]).current_dir(dir).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn authorities_names_and_client_certificates_are_checked() {
    if !available() || Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: needs redis-server and openssl");
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    certificates(dir.path());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let pem = |name: &str| Some(std::fs::read(path(name)).unwrap());
    let server = |auth: &str| {
        Server::try_start(&[
            "--tls-port",
            "1",
            "--tls-cert-file",
            &path("server.crt"),
            "--tls-key-file",
            &path("server.key"),
            "--tls-ca-cert-file",
            &path("ca.crt"),
            "--tls-auth-clients",
            auth,
        ])
    };
    let attempt = |server: &Server, tls: TlsOptions| {
        let url = format!("rediss://127.0.0.1:{}", server.port);
        let backend = backend_with(Options { tls: Some(tls), connect_timeout_ms: 1_000, ..options(&url, 0) });
        acquire(&backend, &request(one("r"), 10, acks(0, 0)))
    };
    let refused = |server: &Server, tls: TlsOptions, words: &str| {
        let error = attempt(server, tls).unwrap_err();
        assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
        assert!(error.to_string().contains(words), "{words}: {error}");
    };
    let Some(open) = server("no") else {
        eprintln!("SKIPPED: this server is built without TLS");
        return;
    };
    let named = || TlsOptions { server_name: Some("locks.test".into()), ..TlsOptions::default() };
    refused(&open, named(), "tls: { ca }");
    refused(&open, TlsOptions { ca: pem("ca.crt"), ..TlsOptions::default() }, "serverName");
    attempt(&open, TlsOptions { ca: pem("ca.crt"), ..named() }).unwrap();
    attempt(&open, TlsOptions { reject_unauthorized: false, ..TlsOptions::default() }).unwrap();

    let strict = server("yes").unwrap();
    let with_ca = || TlsOptions { ca: pem("ca.crt"), ..named() };
    refused(&strict, with_ca(), "client certificate");
    attempt(&strict, TlsOptions { cert: pem("client.crt"), key: pem("client.key"), ..with_ca() }).unwrap();

    // Plain text where TLS is expected, and the other way round.
    let url = format!("redis://127.0.0.1:{}", open.port);
    let error = acquire(&backend(&url, 0), &request(one("r"), 10, acks(0, 0))).unwrap_err();
    assert!(error.to_string().contains("rediss://"), "{error}");
    let plain = Server::start(&[]);
    refused(&plain, with_ca(), "speaks TLS");
}

/// Self-signed certificates for `locks.test`: one that is valid, another one, and one that has expired.
fn self_signed(dir: &Path) {
    let script = "
        set -e
        printf 'subjectAltName=DNS:locks.test\\nbasicConstraints=CA:TRUE' > own.ext
        for name in own other expired; do
            days=2
            if [ $name = expired ]; then days=-1; fi
            openssl req -newkey rsa:2048 -nodes -subj /CN=locks.test -keyout $name.key -out $name.csr
            openssl x509 -req -in $name.csr -signkey $name.key -days $days -extfile own.ext -out $name.crt
        done";
    let made = Command::new("sh").args(["-c", script]).current_dir(dir).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn a_self_signed_certificate_is_accepted_if_it_is_given_itself() {
    if !available() || Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: needs redis-server and openssl");
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    self_signed(dir.path());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let server = |name: &str| {
        let (cert, key) = (path(&format!("{name}.crt")), path(&format!("{name}.key")));
        let port = ["--tls-port", "1", "--tls-auth-clients", "no"];
        let files = ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &cert];
        Server::try_start(&[&port[..], &files[..]].concat())
    };
    let attempt = |server: &Server, ca: &str, server_name: &str| {
        let ca = Some(std::fs::read(path(&format!("{ca}.crt"))).unwrap());
        let tls = TlsOptions { ca, server_name: Some(server_name.into()), ..TlsOptions::default() };
        let url = format!("rediss://127.0.0.1:{}", server.port);
        let backend = backend_with(Options { tls: Some(tls), connect_timeout_ms: 1_000, ..options(&url, 0) });
        acquire(&backend, &request(one("r"), 10, acks(0, 0)))
    };
    let (Some(own), Some(expired)) = (server("own"), server("expired")) else {
        eprintln!("SKIPPED: this server is built without TLS");
        return;
    };
    attempt(&own, "own", "locks.test").unwrap();
    for (server, ca, name, words) in [
        (&own, "own", "other.test", "another name"),
        (&own, "other", "locks.test", "exactly that certificate"),
        (&expired, "expired", "locks.test", "has expired"),
    ] {
        let error = attempt(server, ca, name).unwrap_err();
        assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}
