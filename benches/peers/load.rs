//! The load generator: one blocking thread a connection, canned bytes, no allocation while it measures.
//!
//! At a fixed rate each connection has its own schedule. A request that could not be sent on time because the
//! connection was still waiting for its last answer is counted from its scheduled time (no coordinated omission); one
//! that was late because the generator's own thread woke late is counted from when it was sent.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

/// One run.
#[derive(Clone, Copy)]
pub struct Load {
    pub port: u16,
    pub connections: usize,
    /// Requests a second over all connections; `None` for as many as go.
    pub rate: Option<f64>,
    pub length: Duration,
}

/// What a run saw. Latencies in seconds, sorted.
pub struct Seen {
    pub requests: u64,
    pub took: Duration,
    latencies: Vec<f32>,
}

impl Seen {
    /// Of the latencies, in seconds.
    pub fn quantile(&self, quantile: f64) -> f64 {
        if self.latencies.is_empty() {
            return f64::NAN;
        }
        let index = ((self.latencies.len() as f64 * quantile) as usize).min(self.latencies.len() - 1);
        f64::from(self.latencies[index])
    }
}

impl Load {
    /// Runs in a child process on core 1.
    pub fn run(&self) -> Seen {
        let output = Command::new("taskset")
            .args(["-c", "1"])
            .arg(std::env::current_exe().unwrap())
            .arg("load")
            .args([self.port.to_string(), self.connections.to_string()])
            .args([
                self.rate.unwrap_or(0.0).to_string(),
                self.length.as_millis().to_string(),
            ])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "load failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let (head, body) = output.stdout.split_at(16);
        let requests = u64::from_le_bytes(head[..8].try_into().unwrap());
        let took = Duration::from_nanos(u64::from_le_bytes(head[8..].try_into().unwrap()));
        let latencies = body
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        Seen {
            requests,
            took,
            latencies,
        }
    }
}

/// The request: a 300-byte form as a charge is.
pub fn request(port: u16) -> Vec<u8> {
    let mut body = String::from(
        "amount=2000&currency=usd&payment_method=pm_card_visa&confirm=true&metadata[order_id]=6735&description=",
    );
    body.push_str(&"d".repeat(300 - body.len()));
    format!(
        "POST /v1/payment_intents HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer sk_test_benchmark\r\nStripe-Version: 2026-10-28.endive\r\nIdempotency-Key: 088e159d-6756-faac-6d01-5c623d1c539a\r\nUser-Agent: Stripe/v1 PythonBindings/16.1.0\r\nAccept: */*\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The load's own process: writes the counts and the latencies to standard output.
pub fn child(args: &[String]) {
    let port: u16 = args[0].parse().unwrap();
    let connections: usize = args[1].parse().unwrap();
    let rate: f64 = args[2].parse().unwrap();
    let length = Duration::from_millis(args[3].parse().unwrap());
    let request = request(port);
    let started = Instant::now() + Duration::from_millis(20);
    let threads: Vec<_> = (0..connections)
        .map(|index| {
            let request = request.clone();
            std::thread::Builder::new()
                .stack_size(64 * 1024)
                .spawn(move || {
                    connection(
                        port,
                        &request,
                        started,
                        length,
                        (rate > 0.0).then_some((index, connections, rate)),
                    )
                })
                .unwrap()
        })
        .collect();
    let mut latencies: Vec<f32> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let took = started.elapsed();
    latencies.sort_by(f32::total_cmp);
    let mut out = std::io::stdout().lock();
    out.write_all(&(latencies.len() as u64).to_le_bytes()).unwrap();
    out.write_all(&(took.as_nanos() as u64).to_le_bytes()).unwrap();
    for latency in latencies {
        out.write_all(&latency.to_le_bytes()).unwrap();
    }
}

fn connection(
    port: u16,
    request: &[u8],
    started: Instant,
    length: Duration,
    schedule: Option<(usize, usize, f64)>,
) -> Vec<f32> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the proxy accepts");
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut latencies = Vec::with_capacity(64 * 1024);
    let mut buffer = vec![0u8; 8 * 1024];
    for number in 0u64.. {
        let mut from = Instant::now();
        if let Some((index, of, rate)) = schedule {
            let due = started + Duration::from_secs_f64((index as f64 + number as f64 * of as f64) / rate);
            if due >= started + length {
                break;
            }
            match due.checked_duration_since(from) {
                Some(wait) => {
                    std::thread::sleep(wait);
                    from = Instant::now();
                }
                None => from = due,
            }
        } else if from >= started + length {
            break;
        }
        stream.write_all(request).expect("the proxy reads");
        let mut filled = 0;
        loop {
            let read = stream.read(&mut buffer[filled..]).expect("the proxy answers");
            assert!(read > 0, "the proxy closed a connection");
            filled += read;
            if crate::gateway::message_end(&buffer[..filled]).is_some() {
                break;
            }
        }
        assert!(
            buffer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&buffer[..filled])
        );
        latencies.push(from.elapsed().as_secs_f32());
    }
    latencies
}
