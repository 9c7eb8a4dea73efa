//! The proxies under measurement: how each is configured and started, and how its cost is read.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::gateway::{Gateway, certificates, message_end};
use crate::load::{Load, request};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// No proxy at all: the load generator speaks to the stub.
    Direct,
    Sentinel,
    Haproxy,
    Nginx,
    /// hyper's server with hyper-util's pooled client, on tokio's work-stealing runtime.
    Naive,
    Pingora,
    Envoy,
    /// Bytes copied over the same TLS, without HTTP: the floor.
    Relay,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Sentinel => "Sentinel",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Naive => "naive hyper",
            Self::Pingora => "Pingora",
            Self::Envoy => "Envoy",
            Self::Relay => "byte copy",
        }
    }

    /// Whether it is measured so: HTTP/2 towards the gateway is for Sentinel, and HAProxy to hold it against.
    pub fn speaks(self, out: Out) -> bool {
        out != Out::Http2 || matches!(self, Self::Sentinel | Self::Haproxy)
    }
}

/// How the proxy speaks to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    Tls,
    /// HTTP/2 over it.
    Http2,
    Plain,
}

impl Out {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls => "TLS",
            Self::Http2 => "TLS+h2",
            Self::Plain => "plaintext",
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rival(name: &str) -> PathBuf {
    root().join("benches/peers/rivals/target/release").join(name)
}

/// The binary that is measured.
pub fn sentinel() -> PathBuf {
    std::env::var("SENTINEL_BIN").map_or_else(|_| root().join("target/release/sentinel"), PathBuf::from)
}

/// Envoy's own binary, inside the Python package that `benches/peers/run` installs.
fn envoy() -> Option<PathBuf> {
    let versions = std::fs::read_dir(root().join(".tools/envoy/lib")).ok()?;
    let mut binaries = versions
        .flatten()
        .map(|version| version.path().join("site-packages/envoy/_bin/envoy"));
    binaries.find(|path| path.exists())
}

fn which(program: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin"]
        .iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|path| path.exists())
}

/// The proxies that are installed or built, narrowed by `--only`.
pub fn available(only: &[String]) -> Vec<Kind> {
    let mut kinds = vec![Kind::Sentinel];
    if which("haproxy").is_some() {
        kinds.push(Kind::Haproxy);
    }
    if which("nginx").is_some() {
        kinds.push(Kind::Nginx);
    }
    if rival("naive").exists() {
        kinds.push(Kind::Naive);
    }
    if rival("pingora").exists() {
        kinds.push(Kind::Pingora);
    }
    if envoy().is_some() {
        kinds.push(Kind::Envoy);
    }
    if rival("relay").exists() {
        kinds.push(Kind::Relay);
    }
    kinds.retain(|kind| only.is_empty() || only.iter().any(|name| kind.name().eq_ignore_ascii_case(name)));
    kinds
}

/// A running proxy.
pub struct Proxy {
    child: Option<Child>,
    dir: PathBuf,
    pub port: u16,
    /// Sentinel's operators' listener.
    admin: Option<u16>,
}

impl Proxy {
    /// Starts it on core 0 (one worker) or on both cores, and waits until it answers.
    pub fn start(kind: Kind, out: Out, workers: usize, gateway: u16) -> Self {
        let cores = if workers == 1 { "0" } else { "0,1" };
        Self::start_under(kind, out, workers, gateway, &["taskset", "-c", cores])
    }

    fn start_under(kind: Kind, out: Out, workers: usize, gateway: u16, wrapper: &[&str]) -> Self {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = certificates().join(format!("run-{number}"));
        std::fs::create_dir_all(&dir).unwrap();
        if kind == Kind::Direct {
            return Self {
                child: None,
                dir,
                port: gateway,
                admin: None,
            };
        }
        let (port, admin) = (free_port(), free_port());
        let argv = command(kind, out, workers, gateway, [port, admin], &dir);
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let child = Command::new(wrapper[0])
            .args(&wrapper[1..])
            .args(argv)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", kind.name()));
        let proxy = Self {
            child: Some(child),
            dir,
            port,
            admin: (kind == Kind::Sentinel).then_some(admin),
        };
        let patience = Instant::now() + Duration::from_secs(60);
        while exchange(port).is_none() {
            assert!(
                Instant::now() < patience,
                "{} does not answer: {}",
                kind.name(),
                std::fs::read_to_string(proxy.dir.join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        proxy
    }

    /// Every process of the proxy: nginx and HAProxy have children, and valgrind or strace stand before it.
    fn processes(&self) -> Vec<u32> {
        let mut found = vec![self.child.as_ref().expect("a process").id()];
        let mut next = 0;
        while next < found.len() {
            let children =
                std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", found[next])).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            next += 1;
        }
        found
    }

    /// Time on a processor so far, user and system, all threads.
    pub fn cpu(&self) -> Duration {
        let mut total = 0;
        for pid in self.processes() {
            let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
                continue;
            };
            for task in tasks.flatten() {
                let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                total += text
                    .split_whitespace()
                    .next()
                    .and_then(|field| field.parse::<u64>().ok())
                    .unwrap_or(0);
            }
        }
        Duration::from_nanos(total)
    }

    /// Has Sentinel's metrics written out, as a scraper does now and then.
    fn scrape(&self) -> Option<()> {
        use std::io::{Read, Write};
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin?)).ok()?;
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        stream.read_to_end(&mut Vec::new()).ok().map(drop)
    }

    /// Resident memory, MB.
    fn resident(&self) -> f64 {
        let kib: f64 = self
            .processes()
            .iter()
            .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok())
            .filter_map(|status| {
                let line = status
                    .lines()
                    .find_map(|line| line.strip_prefix("VmRSS:").map(str::to_owned))?;
                line.trim().trim_end_matches(" kB").parse::<f64>().ok()
            })
            .sum();
        kib / 1024.0
    }

    fn stop(&mut self) {
        for pid in self.child.as_ref().map(|_| self.processes()).unwrap_or_default() {
            let _ = Command::new("kill")
                .args(["-TERM", &pid.to_string()])
                .stderr(Stdio::null())
                .status();
        }
        if let Some(child) = &mut self.child {
            let patience = Instant::now() + Duration::from_secs(10);
            while Instant::now() < patience {
                if matches!(child.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One request on a connection of its own.
fn exchange(port: u16) -> Option<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    round(&mut stream, port)
}

fn round(stream: &mut TcpStream, port: u16) -> Option<()> {
    use std::io::{Read, Write};
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.write_all(&request(port)).ok()?;
    let mut buffer = vec![0u8; 8 * 1024];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).ok().filter(|read| *read > 0)?;
        filled += read;
        if message_end(&buffer[..filled]).is_some() {
            return buffer.starts_with(b"HTTP/1.1 200").then_some(());
        }
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn command(kind: Kind, out: Out, workers: usize, gateway: u16, [port, admin]: [u16; 2], dir: &Path) -> Vec<String> {
    let certs = certificates();
    let ca = certs.join("ca.pem");
    let tls = out != Out::Plain;
    let scheme = if tls { "https" } else { "http" };
    let path = |name: &str| dir.join(name).display().to_string();
    match kind {
        Kind::Direct => unreachable!("direct has no process"),
        Kind::Sentinel => {
            let mut config = String::new();
            writeln!(config, "workers: {workers}").unwrap();
            writeln!(config, "listeners: {{ admin: 127.0.0.1:{admin} }}").unwrap();
            writeln!(config, "log: {{ access: false, level: warn }}").unwrap();
            writeln!(config, "admission: {{ connections: 20000 }}").unwrap();
            writeln!(
                config,
                "gateways:\n  stripe:\n    dialect: stripe\n    endpoint: {scheme}://localhost:{gateway}"
            )
            .unwrap();
            writeln!(config, "    allow_private: true").unwrap();
            if tls {
                writeln!(config, "    roots: {}", ca.display()).unwrap();
            }
            if out == Out::Http2 {
                writeln!(config, "    protocol: h2").unwrap();
            }
            writeln!(
                config,
                "routes:\n  - name: bench\n    listen: 127.0.0.1:{port}\n    dialect: stripe"
            )
            .unwrap();
            writeln!(config, "    gateways: [stripe]").unwrap();
            std::fs::write(dir.join("sentinel.yaml"), config).unwrap();
            vec![
                sentinel().display().to_string(),
                "run".into(),
                "--config".into(),
                path("sentinel.yaml"),
            ]
        }
        Kind::Haproxy => {
            let mut config = format!("global\n  nbthread {workers}\n  maxconn 9980\n");
            config.push_str("defaults\n  mode http\n  timeout connect 2s\n  timeout client 60s\n  timeout server 30s\n  timeout http-request 10s\n");
            writeln!(config, "frontend in\n  bind 127.0.0.1:{port}\n  default_backend out").unwrap();
            writeln!(config, "backend out\n  http-reuse always").unwrap();
            let extra = if tls {
                format!(
                    " ssl verify required ca-file {} sni str(localhost) verifyhost localhost{}",
                    ca.display(),
                    if out == Out::Http2 { " alpn h2" } else { "" }
                )
            } else {
                String::new()
            };
            writeln!(config, "  server s 127.0.0.1:{gateway}{extra}").unwrap();
            std::fs::write(dir.join("haproxy.cfg"), config).unwrap();
            vec![
                which("haproxy").unwrap().display().to_string(),
                "-db".into(),
                "-f".into(),
                path("haproxy.cfg"),
            ]
        }
        Kind::Nginx => {
            let mut config = format!(
                "worker_processes {workers};\ndaemon off;\nmaster_process {};\npid {};\n",
                if workers == 1 { "off" } else { "on" },
                path("nginx.pid")
            );
            config.push_str("user root;\nevents { worker_connections 19000; }\nhttp {\n  access_log off;\n  keepalive_timeout 300s;\n  keepalive_requests 1000000;\n");
            for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
                writeln!(config, "  {name}_temp_path {};", path(name)).unwrap();
            }
            writeln!(
                config,
                "  upstream out {{ server 127.0.0.1:{gateway}; keepalive 256; keepalive_requests 1000000; }}"
            )
            .unwrap();
            writeln!(config, "  server {{\n    listen 127.0.0.1:{port};\n    location / {{\n      proxy_pass {scheme}://out;\n      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";").unwrap();
            if tls {
                writeln!(config, "      proxy_ssl_verify on; proxy_ssl_trusted_certificate {}; proxy_ssl_name localhost; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.2 TLSv1.3;", ca.display()).unwrap();
            }
            config.push_str("    }\n  }\n}\n");
            std::fs::write(dir.join("nginx.conf"), config).unwrap();
            vec![
                which("nginx").unwrap().display().to_string(),
                "-c".into(),
                path("nginx.conf"),
                "-e".into(),
                path("error.log"),
            ]
        }
        Kind::Naive | Kind::Pingora | Kind::Relay => {
            let name = match kind {
                Kind::Naive => "naive",
                Kind::Pingora => "pingora",
                _ => "relay",
            };
            let mut argv = vec![
                rival(name).display().to_string(),
                port.to_string(),
                gateway.to_string(),
                workers.to_string(),
            ];
            if tls {
                argv.push(ca.display().to_string());
            }
            argv
        }
        Kind::Envoy => {
            std::fs::write(
                dir.join("envoy.yaml"),
                envoy_config([port, gateway], tls.then_some(&ca)),
            )
            .unwrap();
            vec![
                envoy().unwrap().display().to_string(),
                "--concurrency".into(),
                workers.to_string(),
                "--disable-hot-restart".into(),
                "--log-level".into(),
                "error".into(),
                "-c".into(),
                path("envoy.yaml"),
            ]
        }
    }
}

/// One listener, one cluster: no access log, no request ids, as many connections as the others may have.
fn envoy_config([port, gateway]: [u16; 2], ca: Option<&PathBuf>) -> String {
    let address = |port: u16| format!("{{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}");
    let (inside, outside) = (address(port), address(gateway));
    let tls = ca.map_or(String::new(), |ca| {
        format!(
            "
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: localhost
        common_tls_context:
          validation_context:
            trusted_ca: {{ filename: {} }}
            match_typed_subject_alt_names: [{{ san_type: DNS, matcher: {{ exact: localhost }} }}]",
            ca.display()
        )
    });
    format!(
        "static_resources:
  listeners:
  - address: {inside}
    ignore_global_conn_limit: true
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: peers
          codec_type: HTTP1
          generate_request_id: false
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            virtual_hosts: [{{ name: all, domains: ['*'], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: out }} }}] }}]
  clusters:
  - name: out
    load_assignment:
      cluster_name: out
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {outside} }} }}] }}]{tls}
"
    )
}

/// User-space instructions a request: cachegrind over two runs of different length, so that the start drops out.
pub fn instructions(kind: Kind, out: Out) -> Option<f64> {
    which("valgrind")?;
    let count = |requests: usize| {
        let tool = ["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"];
        let proxy = under_valgrind(kind, out, &tool, requests);
        let log = std::fs::read_to_string(proxy.dir.join("log")).unwrap();
        log.lines()
            .filter(|line| line.contains("I refs:") || line.contains("I   refs:") || line.contains("I\u{a0}refs"))
            .filter_map(|line| line.rsplit(':').next()?.trim().replace(',', "").parse::<f64>().ok())
            .fold(0.0, f64::max)
    };
    let (few, many) = (800, 4800);
    let difference = count(many) - count(few);
    (difference > 0.0).then_some(difference / (many - few) as f64)
}

/// callgrind's account of a whole run of Sentinel, from its start to its end, with a scrape of its metrics.
pub fn called(out: Out, requests: usize) -> String {
    let profile = certificates().join("profile");
    let file = format!("--callgrind-out-file={}", profile.display());
    let tool = ["--tool=callgrind", "--demangle=no", &file];
    under_valgrind(Kind::Sentinel, out, &tool, requests);
    std::fs::read_to_string(profile).expect("callgrind's account")
}

/// Runs a proxy under valgrind to its end: so many requests on 8 connections.
fn under_valgrind(kind: Kind, out: Out, tool: &[&str], requests: usize) -> Proxy {
    let gateway = Gateway::start(out, 0);
    let wrapper: Vec<&str> = ["valgrind", "--trace-children=yes"]
        .iter()
        .chain(tool)
        .copied()
        .collect();
    let mut proxy = Proxy::start_under(kind, out, 1, gateway.port, &wrapper);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let port = proxy.port;
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                for _ in 0..requests / 8 {
                    round(&mut stream, port).expect("an answer under valgrind");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    proxy.scrape();
    proxy.stop();
    proxy
}

/// System calls a request at 500 a second.
pub fn syscalls(kind: Kind, out: Out) -> Option<f64> {
    which("strace")?;
    let count = |seconds: u64| {
        let gateway = Gateway::start(out, 0);
        let mut proxy = Proxy::start_under(
            kind,
            out,
            1,
            gateway.port,
            &["strace", "-f", "-c", "-U", "calls,name", "-o", "/dev/stdout"],
        );
        let load = Load {
            port: proxy.port,
            connections: 16,
            rate: Some(500.0),
            length: Duration::from_secs(seconds),
        };
        let seen = load.run();
        proxy.stop();
        let log = std::fs::read_to_string(proxy.dir.join("log")).unwrap();
        let total = log
            .lines()
            .find(|line| line.trim_end().ends_with("total"))
            .and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        (total.unwrap_or(0.0), seen.requests as f64)
    };
    let (few, few_requests) = count(1);
    let (many, many_requests) = count(5);
    (many > few).then(|| (many - few) / (many_requests - few_requests))
}

/// Idle connections at the most: HAProxy wants two descriptors for each, and common limits allow 20,000.
pub const MANY: usize = 9_900;

/// Resident memory, MB.
pub struct Memory {
    pub start: f64,
    pub idle_1k: f64,
    pub idle_many: f64,
}

/// Memory at start and with idle connections, each of which has carried one request.
pub fn memory(kind: Kind) -> Memory {
    let gateway = Gateway::start(Out::Tls, 0);
    let proxy = Proxy::start(kind, Out::Tls, 1, gateway.port);
    let start = proxy.resident();
    let mut connections = Vec::with_capacity(MANY);
    let mut grow = |to: usize| {
        while connections.len() < to {
            let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).expect("a connection");
            round(&mut stream, proxy.port).expect("an answer");
            connections.push(stream);
        }
        std::thread::sleep(Duration::from_millis(500));
        proxy.resident()
    };
    let idle_1k = grow(1000);
    let idle_many = grow(MANY);
    Memory {
        start,
        idle_1k,
        idle_many,
    }
}
