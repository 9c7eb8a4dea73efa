//! The proxy that an afternoon with hyper gives: its server, hyper-util's pooled client, the work-stealing runtime.
//! `naive PORT GATEWAY WORKERS [CA]`

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, pem::PemObject};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let workers: usize = args[2].parse().unwrap();
    tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap().block_on(run(args));
}

async fn run(args: Vec<String>) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", args[0].parse().unwrap())).await.unwrap();
    let scheme = if args.len() > 3 { "https" } else { "http" };
    let authority = format!("localhost:{}", args[1]);
    let mut roots = rustls::RootCertStore::empty();
    if let Some(ca) = args.get(3) {
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    let client = Client::builder(TokioExecutor::new()).build::<_, Incoming>(connector);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (client, authority) = (client.clone(), authority.clone());
        tokio::spawn(async move {
            let service = service_fn(move |mut request: Request<Incoming>| {
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                *request.uri_mut() = format!("{scheme}://{authority}{path}").parse::<Uri>().unwrap();
                request.headers_mut().remove("host");
                client.request(request)
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
