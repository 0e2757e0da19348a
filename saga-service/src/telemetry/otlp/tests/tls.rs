//! A collector behind TLS that wants to know who sends.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, thread};

use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

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

    /// Stands before a collector, for clients that show their certificate.
    fn stand_before(&self, collector: SocketAddr) -> SocketAddr {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.server.key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_client_cert_verifier(clients);
        let mut config = config.with_single_cert(vec![self.server.certificate.der().clone()], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let serve = async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(acceptor.clone(), stream, collector));
            }
        };
        // Ends with the process.
        thread::spawn(move || runtime.block_on(serve));
        addr
    }
}

/// A handshake that fails is the client's to tell.
async fn answer(acceptor: TlsAcceptor, stream: TcpStream, collector: SocketAddr) {
    let Ok(mut caller) = acceptor.accept(stream).await else { return };
    let mut collector = TcpStream::connect(collector).await.unwrap();
    let _ = copy_bidirectional(&mut caller, &mut collector).await;
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
    let collector = Collector::start().unwrap();
    let endpoint = format!("https://localhost:{}", parties.stand_before(collector.addr()).port());
    let files = Files::new(&[
        ("ca.pem", parties.authority.pem()),
        ("client.pem", parties.client.certificate.pem()),
        ("client.key", parties.client.key.serialize_pem()),
    ]);
    let (ca, chain, key) = (files.path("ca.pem"), files.path("client.pem"), files.path("client.key"));
    let trust = ("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.as_str());
    let identity =
        [("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", chain.as_str()), ("OTEL_EXPORTER_OTLP_CLIENT_KEY", key.as_str())];
    for protocol in PROTOCOLS {
        for (arrives, more) in [(1, vec![trust, identity[0], identity[1]]), (0, vec![trust]), (0, identity.to_vec())] {
            let tracer = to(&endpoint, protocol, &[&more[..], &[("OTEL_EXPORTER_OTLP_TIMEOUT", "2000")]].concat());
            assert!(record(&tracer));
            let counters = tracer.counters();
            wait_for(|| counters.exported.get() + counters.lost.get(), |spans| *spans == 1);
            assert_eq!(counters.exported.get(), arrives, "{protocol} {more:?}");
        }
    }
    assert_eq!(collector.spans().len(), PROTOCOLS.len());
}
