//! The floor: no HTTP at all. Each connection's bytes are copied to a connection of its own to the gateway, over the same
//! TLS, and back, on one thread for each worker. What a proxy costs beyond it is what it does for its keep.
//! `relay PORT GATEWAY WORKERS [CA]`

use std::net::Ipv4Addr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [port, gateway, workers]: [u16; 3] = [0, 1, 2].map(|index: usize| args[index].parse().unwrap());
    let tls = args.get(3).map(|ca| connector(ca));
    let threads: Vec<_> = (0..workers)
        .map(|_| {
            let tls = tls.clone();
            std::thread::spawn(move || worker(port, gateway, tls))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

fn connector(ca: &str) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

fn worker(port: u16, gateway: u16, tls: Option<TlsConnector>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(async move {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseport(true).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, port).into()).unwrap();
        let listener = socket.listen(1024).unwrap();
        loop {
            let (mut inside, _) = listener.accept().await.unwrap();
            inside.set_nodelay(true).unwrap();
            let tls = tls.clone();
            tokio::task::spawn_local(async move {
                let mut outside = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway)).await.unwrap();
                outside.set_nodelay(true).unwrap();
                // An end that leaves is no news here.
                let _ = match tls {
                    Some(tls) => {
                        let name = ServerName::try_from("localhost").unwrap();
                        let mut outside = tls.connect(name, outside).await.unwrap();
                        copy_bidirectional(&mut inside, &mut outside).await
                    }
                    None => copy_bidirectional(&mut inside, &mut outside).await,
                };
            });
        }
    }));
}
