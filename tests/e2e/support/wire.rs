//! HTTP/1.1 by hand: what exactly goes over the wire is the point of these tests.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A message as it was read from the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Request line or status line.
    pub start: String,
    /// Fields in order, names as sent.
    pub headers: Vec<(String, String)>,
    /// The body, framing removed.
    pub body: Vec<u8>,
    /// Trailer fields of a chunked body.
    pub trailers: Vec<(String, String)>,
}

impl Message {
    /// The first field of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The status of an answer.
    pub fn status(&self) -> u16 {
        self.start
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Reads messages from one side of a connection, keeping what came early.
#[derive(Default)]
pub struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    async fn more(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> bool {
        let mut chunk = [0u8; 16 * 1024];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.buffer.extend_from_slice(&chunk[..length]);
                true
            }
        }
    }

    async fn line(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Some(line);
            }
            if !self.more(stream).await {
                return None;
            }
        }
    }

    async fn exactly(&mut self, stream: &mut (impl AsyncRead + Unpin), length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.more(stream).await {
                return None;
            }
        }
        Some(self.buffer.drain(..length).collect())
    }

    async fn fields(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line(stream).await?;
            if line.is_empty() {
                return Some(fields);
            }
            let (name, value) = line.split_once(':')?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// Reads the head of the next message.
    pub async fn head(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Option<Message> {
        let start = self.line(stream).await?;
        let headers = self.fields(stream).await?;
        Some(Message {
            start,
            headers,
            body: Vec::new(),
            trailers: Vec::new(),
        })
    }

    /// Reads the next message whole; `None` when the connection ends before it does. `bodiless` for answers to HEAD.
    pub async fn message(&mut self, stream: &mut (impl AsyncRead + Unpin), bodiless: bool) -> Option<Message> {
        let mut message = self.head(stream).await?;
        let is_answer = message.start.starts_with("HTTP/");
        if bodiless || (is_answer && matches!(message.status(), 100..=199 | 204 | 304)) {
            return Some(message);
        }
        if message
            .header("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
        {
            loop {
                let line = self.line(stream).await?;
                let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
                if size == 0 {
                    message.trailers = self.fields(stream).await?;
                    return Some(message);
                }
                message.body.extend(self.exactly(stream, size).await?);
                self.line(stream).await?;
            }
        }
        if let Some(length) = message.header("content-length") {
            let length = length.parse().ok()?;
            message.body = self.exactly(stream, length).await?;
        } else if is_answer {
            while self.more(stream).await {}
            message.body = std::mem::take(&mut self.buffer);
        }
        Some(message)
    }
}

/// A client connection.
pub struct Client {
    /// The socket.
    pub stream: TcpStream,
    reader: Reader,
}

impl Client {
    /// Connects.
    pub async fn connect(address: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        Self {
            stream,
            reader: Reader::default(),
        }
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the proxy reads");
    }

    /// Reads the next answer whole.
    pub async fn answer(&mut self) -> Option<Message> {
        self.reader.message(&mut self.stream, false).await
    }

    /// Reads the next answer to a HEAD request.
    pub async fn answer_to_head(&mut self) -> Option<Message> {
        self.reader.message(&mut self.stream, true).await
    }

    /// Reads the head of the next answer only.
    pub async fn head(&mut self) -> Option<Message> {
        self.reader.head(&mut self.stream).await
    }

    /// Sends a request and reads its answer.
    pub async fn exchange(&mut self, bytes: impl AsRef<[u8]>) -> Message {
        self.send(bytes).await;
        self.answer().await.expect("an answer")
    }
}

/// One request on a connection of its own.
pub async fn once(address: std::net::SocketAddr, bytes: impl AsRef<[u8]>) -> Message {
    Client::connect(address).await.exchange(bytes).await
}

/// The same to a process that may go away meanwhile.
pub async fn attempt(address: std::net::SocketAddr, bytes: impl AsRef<[u8]>) -> Option<Message> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(bytes.as_ref()).await.ok()?;
    Reader::default().message(&mut stream, false).await
}

/// A form POST as the Stripe SDKs write it.
pub fn post(path: &str, extra: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk_test_1\r\n{extra}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A GET.
pub fn get(path: &str, extra: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk_test_1\r\n{extra}\r\n")
}
