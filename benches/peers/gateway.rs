//! The gateway stub: answers every request with the same 1.5 KB of JSON, over TLS or plaintext.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::proxies::Out;

/// A running stub in a process of its own, on core 1.
pub struct Gateway {
    child: Child,
    pub port: u16,
}

impl Gateway {
    pub fn start(out: Out, delay_ms: u64) -> Self {
        let mut child = Command::new("taskset")
            .args(["-c", "1"])
            .arg(std::env::current_exe().unwrap())
            .args(["gateway", out.name(), &delay_ms.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("taskset starts the gateway stub");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            child,
            port: line.trim().parse().expect("the stub prints its port"),
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The directory with the certificate authority and the stub's certificate, made once a run.
pub fn certificates() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("sentinel-peers-{}", std::os::unix::process::parent_id()));
    let own = std::env::temp_dir().join(format!("sentinel-peers-{}", std::process::id()));
    if dir.join("ca.pem").exists() {
        return dir;
    }
    if own.join("ca.pem").exists() {
        return own;
    }
    std::fs::create_dir_all(&own).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name
        .push(rcgen::DnType::CommonName, "peers benchmark CA");
    let issuer_cert = ca.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(ca, key);
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
    std::fs::write(own.join("leaf.pem"), leaf.pem()).unwrap();
    std::fs::write(own.join("leaf.key"), leaf_key.serialize_pem()).unwrap();
    std::fs::write(
        own.join("both.pem"),
        format!("{}{}", leaf.pem(), leaf_key.serialize_pem()),
    )
    .unwrap();
    std::fs::write(own.join("ca.pem"), issuer_cert.pem()).unwrap();
    own
}

/// The stub's own process.
pub fn run(args: &[String]) {
    let (tls, http2) = (args[0].starts_with("TLS"), args[0] == "TLS+h2");
    let delay = Duration::from_millis(args[1].parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let acceptor = tls.then(|| acceptor(http2));
        println!("{}", listener.local_addr().unwrap().port());
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            stream.set_nodelay(true).unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                match acceptor {
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) if http2 => serve_http2(stream, delay).await,
                        Ok(stream) => serve(stream, delay).await,
                        Err(_) => {}
                    },
                    None => serve(stream, delay).await,
                }
            });
        }
    });
}

fn acceptor(http2: bool) -> tokio_rustls::TlsAcceptor {
    use rustls::pki_types::pem::PemObject;
    let dir = certificates();
    let chain: Vec<_> = rustls::pki_types::CertificateDer::pem_file_iter(dir.join("leaf.pem"))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(dir.join("leaf.key")).unwrap();
    let mut config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
    if http2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

fn body() -> String {
    format!(
        "{{\"id\":\"pi_bench\",\"object\":\"payment_intent\",\"filler\":\"{}\"}}",
        "x".repeat(1450)
    )
}

/// The same over HTTP/2, by hyper.
async fn serve_http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, delay: Duration) {
    let body = bytes::Bytes::from(body());
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let body = body.clone();
        async move {
            request.into_body().collect().await?;
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let answer = http::Response::builder()
                .header("content-type", "application/json")
                .header("request-id", "req_bench")
                .header("stripe-version", "2026-10-28.endive");
            Ok::<_, hyper::Error>(answer.body(http_body_util::Full::new(body)).unwrap())
        }
    });
    let builder = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    // A proxy that leaves ends it.
    let _ = builder
        .serve_connection(hyper_util::rt::TokioIo::new(stream), service)
        .await;
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, delay: Duration) {
    let body = body();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nrequest-id: req_bench\r\nstripe-version: 2026-10-28.endive\r\n\r\n{body}",
        body.len()
    );
    let mut buffer = vec![0u8; 16 * 1024];
    let mut filled = 0;
    loop {
        let Ok(read) = stream.read(&mut buffer[filled..]).await else {
            return;
        };
        if read == 0 {
            return;
        }
        filled += read;
        while let Some(end) = message_end(&buffer[..filled]) {
            buffer.copy_within(end..filled, 0);
            filled -= end;
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            if stream.write_all(answer.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    }
}

/// Where the first whole message ends: after its head and `Content-Length` bytes, or after the last chunk.
pub fn message_end(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let field = |wanted: &str| {
        text.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    if let Some(length) = field("content-length") {
        let end = head + length.parse::<usize>().ok()?;
        return (bytes.len() >= end).then_some(end);
    }
    if field("transfer-encoding").is_some() {
        return bytes[head..]
            .windows(5)
            .position(|window| window == b"0\r\n\r\n")
            .map(|at| head + at + 5);
    }
    Some(head)
}
