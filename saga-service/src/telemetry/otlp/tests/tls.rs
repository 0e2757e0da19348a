//! A collector behind TLS that wants to know who sends.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::Arc,
    thread,
};

use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};

use super::*;

struct Party {
    key: KeyPair,
    certificate: Certificate,
}

/// Who signs for both sides, and the two of them.
struct Parties {
    authority: CertifiedIssuer<'static, KeyPair>,
    server: Party,
    client: Party,
}

impl Parties {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let signed = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            Party { certificate: params.signed_by(&key, &authority).unwrap(), key }
        };
        let (server, client) = (signed("localhost"), signed("client"));
        Self { authority, server, client }
    }

    /// Takes every request, of a client that shows its certificate.
    fn serve(&self) -> SocketAddr {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.server.key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_client_cert_verifier(clients);
        let config = Arc::new(config.with_single_cert(vec![self.server.certificate.der().clone()], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        // Ends with the process.
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream, config.clone())));
        addr
    }
}

/// A handshake that fails is the client's to tell.
fn answer(stream: TcpStream, config: Arc<ServerConfig>) {
    let Ok(connection) = ServerConnection::new(config) else { return };
    let mut stream = StreamOwned::new(connection, stream);
    let mut request = [0; 4096];
    if stream.read(&mut request).is_ok_and(|read| read > 0) {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
}

/// Files that are gone once the test is over.
struct Files(PathBuf);

impl Files {
    fn new(files: &[(&str, String)]) -> Self {
        let dir = std::env::temp_dir().join(format!("saga-otlp-tls-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        for (name, text) in files {
            fs::write(dir.join(name), text).unwrap();
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn both_sides_of_a_tls_connection_show_who_they_are() {
    let parties = Parties::new();
    let endpoint = format!("https://localhost:{}", parties.serve().port());
    let files = Files::new(&[
        ("ca.pem", parties.authority.pem()),
        ("client.pem", parties.client.certificate.pem()),
        ("client.key", parties.client.key.serialize_pem()),
    ]);
    let (ca, chain, key) = (files.path("ca.pem"), files.path("client.pem"), files.path("client.key"));
    let trust = ("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.as_str());
    let identity =
        [("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", chain.as_str()), ("OTEL_EXPORTER_OTLP_CLIENT_KEY", key.as_str())];
    for (arrives, more) in [(1, vec![trust, identity[0], identity[1]]), (0, vec![trust]), (0, identity.to_vec())] {
        let tracer = to(&endpoint, FOR_GOOD, &more);
        assert!(tell(&tracer));
        let counters = tracer.counters();
        eventually(|| counters.exported.get() + counters.lost.get(), |told| *told == 1);
        assert_eq!(counters.exported.get(), arrives, "{more:?}");
    }
}
