//! A scripted gateway: reads real requests over TLS or plaintext, writes down what it got, and answers as told.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::patience::PATIENCE;
use super::wire::{Message, Reader};

/// A byte stream either way.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What to do with one request. Answering `false` closes the connection.
pub type Script = Arc<
    dyn Fn(usize, Message, Box<dyn Stream>) -> Pin<Box<dyn Future<Output = Option<Box<dyn Stream>>> + Send>>
        + Send
        + Sync,
>;

/// A running gateway.
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Message>>>,
    connections: Arc<AtomicUsize>,
    arrived: watch::Sender<usize>,
    task: tokio::task::JoinHandle<()>,
}

impl Gateway {
    /// Starts one that answers a request for each permit it is given, and the permits.
    pub async fn holding() -> (Self, Arc<Semaphore>) {
        let leave = Arc::new(Semaphore::new(0));
        let permits = Arc::clone(&leave);
        let script: Script = Arc::new(move |_, _, mut stream| {
            let leave = Arc::clone(&permits);
            Box::pin(async move {
                leave.acquire().await.ok()?.forget();
                stream.write_all(json(200, "{}").as_bytes()).await.ok()?;
                Some(stream)
            })
        });
        (Self::scripted(None, script).await, leave)
    }

    /// Starts one that answers every request with what `answer` makes of its number and content.
    pub async fn answering(
        tls: Option<Arc<rustls::ServerConfig>>,
        answer: impl Fn(usize, &Message) -> String + Send + Sync + 'static,
    ) -> Self {
        let answer = Arc::new(answer);
        Self::scripted(
            tls,
            Arc::new(move |number, message, mut stream| {
                let answer = Arc::clone(&answer);
                Box::pin(async move {
                    let text = answer(number, &message);
                    stream.write_all(text.as_bytes()).await.ok()?;
                    stream.flush().await.ok()?;
                    Some(stream)
                })
            }),
        )
        .await
    }

    /// Starts one that runs the script for every request; the script gets the stream and gives it back to go on.
    pub async fn scripted(tls: Option<Arc<rustls::ServerConfig>>, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self::on(listener, tls, script)
    }

    /// The same on a given listener (a gateway that comes back on its old port).
    pub fn on(listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>>, script: Script) -> Self {
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let numbers = Arc::new(AtomicUsize::new(0));
        let arrived = watch::Sender::new(0);
        let task = tokio::spawn({
            let (seen, connections) = (Arc::clone(&seen), Arc::clone(&connections));
            let arrived = arrived.clone();
            async move {
                let mut tasks = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::SeqCst);
                    let (seen, numbers, script, tls) = (
                        Arc::clone(&seen),
                        Arc::clone(&numbers),
                        Arc::clone(&script),
                        tls.clone(),
                    );
                    let arrived = arrived.clone();
                    tasks.spawn(async move {
                        let _ = stream.set_nodelay(true);
                        let mut stream: Box<dyn Stream> = match tls {
                            Some(config) => match tokio_rustls::TlsAcceptor::from(config).accept(stream).await {
                                Ok(stream) => Box::new(stream),
                                Err(_) => return,
                            },
                            None => Box::new(stream),
                        };
                        let mut reader = Reader::default();
                        while let Some(message) = reader.message(&mut stream, false).await {
                            seen.lock().expect("the record").push(message.clone());
                            arrived.send_modify(|count| *count += 1);
                            let number = numbers.fetch_add(1, Ordering::SeqCst);
                            match script(number, message, stream).await {
                                Some(back) => stream = back,
                                None => return,
                            }
                        }
                    });
                }
            }
        });
        Self {
            address,
            seen,
            connections,
            arrived,
            task,
        }
    }

    /// Waits until it has read so many requests whole.
    pub async fn received(&self, count: usize) {
        let mut arrived = self.arrived.subscribe();
        let enough = arrived.wait_for(|seen| *seen >= count);
        let enough = tokio::time::timeout(PATIENCE, enough).await;
        assert!(enough.is_ok(), "only {} of {count} requests arrived", self.seen().len());
    }

    /// The requests it has read whole, so far.
    pub fn seen(&self) -> Vec<Message> {
        self.seen.lock().expect("the record").clone()
    }

    /// Connections it has accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer with a JSON body.
pub fn json(status: u16, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nrequest-id: req_test\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
