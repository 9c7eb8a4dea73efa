//! An application's endpoint for webhooks: keeps what it is sent, and answers as it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::patience::PATIENCE;
use super::wire::{Message, Reader};

/// It listens as long as the test runs.
pub struct Receiver {
    /// Where.
    pub address: SocketAddr,
    received: watch::Sender<Vec<(Message, u16)>>,
    script: Arc<Mutex<VecDeque<u16>>>,
}

impl Receiver {
    /// Answers 200 until told otherwise.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let receiver = Self {
            address: listener.local_addr().expect("an address"),
            received: watch::Sender::new(Vec::new()),
            script: Arc::default(),
        };
        let (received, script) = (receiver.received.clone(), Arc::clone(&receiver.script));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (received, script) = (received.clone(), Arc::clone(&script));
                tokio::spawn(async move {
                    let Some(message) = Reader::default().message(&mut stream, false).await else {
                        return;
                    };
                    let next = script.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let status = next.unwrap_or(200);
                    received.send_modify(|all| all.push((message, status)));
                    // Zero: the connection ends without a word.
                    if status != 0 {
                        let answer =
                            format!("HTTP/1.1 {status} Told\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                });
            }
        });
        receiver
    }

    /// The next answers, in this order; 0 ends the connection without one.
    pub fn answers(&self, statuses: &[u16]) {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        script.extend(statuses);
    }

    /// Answers the same from now on.
    pub fn always(&self, status: u16) {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        *script = std::iter::repeat_n(status, 10_000).collect();
    }

    /// Answers 200 again.
    pub fn recovers(&self) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Where it takes webhooks.
    pub fn url(&self) -> String {
        format!("http://{}/webhooks?from=sentinel", self.address)
    }

    /// Everything so far, with what it was answered.
    pub fn all(&self) -> Vec<(Message, u16)> {
        self.received.borrow().clone()
    }

    /// What it took.
    pub fn taken(&self) -> Vec<Message> {
        let taken = |(message, status): (Message, u16)| (status == 200).then_some(message);
        self.all().into_iter().filter_map(taken).collect()
    }

    /// Waits until it took so many.
    pub async fn took(&self, count: usize) -> Vec<Message> {
        let enough = |all: &Vec<(Message, u16)>| all.iter().filter(|(_, status)| *status == 200).count() >= count;
        self.wait(&format!("{count} to be taken"), enough).await;
        self.taken()
    }

    /// Waits until it was sent so many.
    pub async fn heard(&self, count: usize) -> Vec<(Message, u16)> {
        self.wait(&format!("{count} to be sent"), |all| all.len() >= count)
            .await;
        self.all()
    }

    async fn wait(&self, what: &str, enough: impl FnMut(&Vec<(Message, u16)>) -> bool) {
        let mut changes = self.received.subscribe();
        let waited = tokio::time::timeout(PATIENCE, changes.wait_for(enough)).await;
        assert!(waited.is_ok(), "waited for {what}: {:#?}", self.all());
    }
}

/// The JSON of a webhook.
pub fn told(message: &Message) -> Value {
    serde_json::from_slice(&message.body).unwrap_or_else(|_| panic!("no JSON: {}", message.text()))
}
