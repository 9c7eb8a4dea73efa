//! TLS listeners: both protocols by ALPN, certificates replaced while running, handshakes that never end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use sentinel::cli::ca;
use sentinel::listen::Event;
use sentinel::listen::tls::ServerTls;

use super::subject::Recorder;
use super::{END, Subject};
use crate::support::patience::PATIENCE;

fn certify(dir: &Path) -> Arc<ServerTls> {
    let names = ["localhost", "127.0.0.1"].map(str::to_owned).to_vec();
    ca::run(&ca::Args {
        dir: dir.to_owned(),
        names,
    })
    .unwrap();
    ServerTls::load(&dir.join("localhost.pem"), &dir.join("localhost.key")).unwrap()
}

fn client(dir: &Path, alpn: &[u8]) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(dir.join("ca.pem")).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

/// One HTTP/1.1 exchange. Gives the answer and the certificate that was shown.
fn http1(recorder: &Recorder, config: Arc<rustls::ClientConfig>, name: &str) -> (String, Vec<u8>) {
    let mut socket = TcpStream::connect(recorder.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut session = rustls::ClientConnection::new(config, ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let mut stream = rustls::Stream::new(&mut session, &mut socket);
    stream.write_all(END).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer, session.peer_certificates().unwrap()[0].to_vec())
}

#[test]
fn http1_and_http2_by_negotiation_and_a_new_certificate_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let tls = certify(dir.path());
    let served = tls.clone();
    let recorder = Recorder::start(move |settings| settings.tls = Some(served));

    let (answer, first) = http1(&recorder, client(dir.path(), b"http/1.1"), "localhost");
    // read_to_string would have failed without close_notify: the answer cannot be truncated unnoticed.
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"),
        "{answer}"
    );

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let status = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(recorder.address()).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(client(dir.path(), b"h2"));
        let stream = connector
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
            .unwrap();
        let (mut client, connection) = h2::client::Builder::new().handshake::<_, Bytes>(stream).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get("https://localhost/").body(()).unwrap();
        client.send_request(request, true).unwrap().0.await.unwrap().status()
    });
    assert_eq!(status, 200);

    std::fs::remove_file(dir.path().join("localhost.pem")).unwrap();
    assert!(ServerTls::load(&dir.path().join("localhost.pem"), &dir.path().join("localhost.key")).is_err());
    assert_eq!(
        http1(&recorder, client(dir.path(), b"http/1.1"), "127.0.0.1").1,
        first,
        "the old certificate stays"
    );
    tls.replace(&certify(dir.path()));
    assert_ne!(http1(&recorder, client(dir.path(), b"http/1.1"), "127.0.0.1").1, first);
}

#[test]
fn a_handshake_that_never_ends_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let tls = certify(dir.path());
    let recorder = Recorder::start(move |settings| {
        settings.tls = Some(tls);
        settings.handshake_timeout = Duration::from_millis(60);
    });
    let mut silent = TcpStream::connect(recorder.address()).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = silent.write_all(b"\x16\x03\x01");
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest);
    assert!(rest.is_empty());
    recorder.told(Event::HandshakeFailed);
}
