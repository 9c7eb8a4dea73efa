//! The real binary in a process of its own, and what the kernel and its own metrics say of it. Shared by the measuring
//! programs through `#[path]`.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running `sentinel run`.
pub struct Sentinel {
    child: Child,
    pub admin: SocketAddr,
    dir: PathBuf,
}

/// The binary that is measured: `SENTINEL_BIN`, or the one that was built with the measuring program. That one's runtime
/// has the tests' clock in it, which costs a lock at each look.
fn binary() -> PathBuf {
    std::env::var_os("SENTINEL_BIN").map_or_else(|| env!("CARGO_BIN_EXE_sentinel").into(), PathBuf::from)
}

/// A port that was free a moment ago.
pub fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// What the kernel says of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub resident_kib: f64,
    pub descriptors: f64,
    pub threads: f64,
    /// User and system time so far, in seconds.
    pub processor: f64,
}

impl Sentinel {
    /// Starts with the configuration; its admin listener must be `admin`.
    pub fn start(config: &str, admin: SocketAddr) -> Self {
        let dir = std::env::temp_dir().join(format!("sentinel-bench-{}-{}", std::process::id(), admin.port()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("sentinel.yaml");
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let child = Command::new(binary())
            .args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let sentinel = Self { child, admin, dir };
        let patience = Instant::now() + Duration::from_secs(20);
        while sentinel
            .ask("GET", "/ready", "")
            .is_none_or(|(status, _)| status != 200)
        {
            assert!(Instant::now() < patience, "sentinel did not start: {}", sentinel.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        sentinel
    }

    /// How often the process calls these system calls while `load` runs, by strace(1); `None` where there is none, or where
    /// it may not look.
    pub async fn system_calls(&self, names: &str, load: impl Future<Output = ()>) -> Option<f64> {
        let summary = self.dir.join("strace");
        let pid = self.child.id().to_string();
        let mut strace = Command::new("strace")
            .args([
                "-f",
                "-c",
                "-U",
                "calls",
                "-e",
                &format!("trace={names}"),
                "-p",
                &pid,
                "-o",
            ])
            .arg(&summary)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        std::thread::sleep(Duration::from_millis(300));
        load.await;
        let _ = Command::new("kill").args(["-INT", &strace.id().to_string()]).status();
        let _ = strace.wait();
        let text = std::fs::read_to_string(summary).ok()?;
        let total = text.lines().find_map(|line| line.trim().strip_suffix("total"));
        total?.trim().parse().ok()
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("sentinel.yaml")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Stops it as a service manager does, and waits.
    pub fn stop(mut self) -> bool {
        let _ = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        self.child.wait().is_ok_and(|status| status.success())
    }

    /// One request to the operators' interface: status and body.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// One scrape.
    pub fn scrape(&self) -> Samples {
        let (_, text) = self.ask("GET", "/metrics", "").expect("the admin listener answers");
        Samples::read(&text)
    }

    pub fn usage(&self) -> Usage {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = std::fs::read_to_string(proc.join("status")).unwrap_or_default();
        let field = |name: &str| -> f64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok())
                .unwrap_or(f64::NAN)
        };
        Usage {
            resident_kib: field("VmRSS:"),
            descriptors: count(&proc.join("fd")),
            threads: field("Threads:"),
            processor: processor(&proc),
        }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn count(dir: &Path) -> f64 {
    std::fs::read_dir(dir).map_or(f64::NAN, |entries| entries.count() as f64)
}

fn processor(proc: &Path) -> f64 {
    let stat = std::fs::read_to_string(proc.join("stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<f64> = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    // The kernel counts in hundredths of a second (USER_HZ) on every Linux.
    fields.iter().sum::<f64>() / 100.0
}

/// The samples of one scrape, by name with labels.
#[derive(Clone, Debug, Default)]
pub struct Samples(pub BTreeMap<String, f64>);

impl Samples {
    fn read(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// The sum of a family's samples that have all these labels, each as `name="value"`.
    pub fn sum(&self, family: &str, labels: &[&str]) -> f64 {
        self.0
            .iter()
            .filter(|(name, _)| {
                name.split('{').next() == Some(family) && labels.iter().all(|label| name.contains(label))
            })
            .map(|(_, value)| value)
            .sum()
    }
}
