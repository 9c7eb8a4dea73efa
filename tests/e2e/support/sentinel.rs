//! The real binary in a process of its own, ready when it says so through the service manager's socket.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use sentinel::failpoint::AT;
use tokio::time::Instant;

use super::patience::PATIENCE;

/// A running `sentinel run`.
pub struct Sentinel {
    child: Child,
    notify: UnixDatagram,
    /// Its own directory: configuration, ledger, log.
    pub dir: tempfile::TempDir,
}

/// The marks that are kept: more than all tests that run at once have ports, and fewer than a process may have descriptors.
const MARKS: usize = 400;

/// A port that is nobody else's for as long as its test may last, whether or not anything listens there.
///
/// It lies below the range that the system takes ports from by itself, for listeners without a number and for outgoing
/// connections. A UDP socket of the same number is the mark by which other tests, and other runs of them, see that it is
/// taken.
pub fn free_port() -> SocketAddr {
    static TAKEN: Mutex<VecDeque<UdpSocket>> = Mutex::new(VecDeque::new());
    for _ in 0..10_000 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(10_000..32_000)));
        let Ok(mark) = UdpSocket::bind(address) else { continue };
        if TcpListener::bind(address).is_ok() {
            let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
            taken.push_back(mark);
            if taken.len() > MARKS {
                taken.pop_front();
            }
            return address;
        }
    }
    panic!("no port is free");
}

impl Sentinel {
    /// Starts with the given configuration; `{dir}` in it stands for the process's own directory.
    pub fn start(config: &str) -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory"), config, &[])
    }

    /// Starts in an existing directory (a restart on the same ledger), with more environment.
    pub fn start_in(dir: tempfile::TempDir, config: &str, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sentinel"));
        command.stdin(Stdio::null());
        Self::start_by(command, dir, config, env)
    }

    /// Starts in an existing directory, and does not wait until it is ready: it may never be.
    pub fn start_unready(dir: tempfile::TempDir, config: &str, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sentinel"));
        command.stdin(Stdio::null());
        Self::spawn(command, dir, config, env)
    }

    /// Starts with one socket passed as systemd passes it: descriptor 3, `LISTEN_FDS` and `LISTEN_PID`.
    pub fn start_activated(config: &str, socket: std::net::TcpListener) -> Self {
        // A shell moves the socket to its place and becomes the binary, whose process id it can therefore name.
        let mut shell = Command::new("sh");
        shell
            .args([
                "-c",
                "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"",
            ])
            .arg(env!("CARGO_BIN_EXE_sentinel"))
            .stdin(std::os::fd::OwnedFd::from(socket));
        Self::start_by(shell, tempfile::tempdir().expect("a directory"), config, &[])
    }

    fn start_by(command: Command, dir: tempfile::TempDir, config: &str, env: &[(&str, &str)]) -> Self {
        let mut sentinel = Self::spawn(command, dir, config, env);
        // One that is to be killed somewhere may be killed before it is ready: `ended` tells.
        let mortal = env.iter().any(|(name, _)| *name == AT);
        if !mortal || (sentinel.hear("READY=1").is_none() && !sentinel.ended()) {
            sentinel.wait_for("READY=1");
        }
        sentinel
    }

    fn spawn(mut command: Command, dir: tempfile::TempDir, config: &str, env: &[(&str, &str)]) -> Self {
        let config = config.replace("{dir}", &dir.path().display().to_string());
        let file = dir.path().join("sentinel.yaml");
        std::fs::write(&file, config).expect("the configuration is written");
        let socket = dir.path().join("notify");
        let _ = std::fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).expect("a notify socket");
        // How often is looked whether it still lives.
        notify
            .set_read_timeout(Some(Duration::from_secs(1)))
            .expect("a timeout");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.path().join("log"))
            .expect("a log");
        let child = command
            .args(["run", "--config"])
            .arg(&file)
            .env("NOTIFY_SOCKET", &socket)
            .envs(env.iter().copied())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("sentinel starts");
        Self { child, notify, dir }
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits for its end, wherever a test made it end by itself. Not by the signal of a child's end: a handler of it would
    /// interrupt whatever the other tests of this process wait for.
    pub async fn until_it_ends(&mut self, why: &str) {
        let child = Pid::from_child(&self.child);
        let ends = move || waitid(WaitId::Pid(child), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let heard = tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(ends)).await;
        assert!(heard.is_ok() && self.ended(), "{why}: it goes on: {}", self.log());
    }

    /// Waits for a state that the binary reports to the service manager; gives the whole message.
    pub fn wait_for(&mut self, state: &str) -> String {
        let heard = self.hear(state);
        heard.unwrap_or_else(|| {
            panic!(
                "sentinel did not say {state}; exit {:?}; log:\n{}",
                self.child.try_wait(),
                self.log()
            )
        })
    }

    /// The same; `None` where it ends, or patience does, before it says so.
    fn hear(&mut self, state: &str) -> Option<String> {
        let mut buffer = [0u8; 4096];
        let patience = Instant::now() + PATIENCE;
        while Instant::now() < patience {
            // Looked at before the queue: what it said last is read all the same.
            let ended = self.ended();
            match self.notify.recv(&mut buffer) {
                Ok(length) => {
                    let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    if message.lines().any(|line| line == state) {
                        return Some(message);
                    }
                }
                Err(_) if ended => return None,
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(error) => panic!("the notify socket: {error}"),
            }
        }
        None
    }

    /// Reads and forgets what it tells the service manager from now on: a queue that nobody reads would hold it up.
    pub fn ignore_notices(&self) {
        let socket = self.notify.try_clone().expect("the notify socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        std::thread::spawn(move || {
            let mut buffer = [0u8; 4096];
            while socket.recv(&mut buffer).is_ok() {}
        });
    }

    /// Everything it has written to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("sentinel.yaml")
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name (`TERM`, `HUP`, `KILL`, `STOP`, `CONT`).
    pub fn signal(&self, name: &str) {
        let done = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(done.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("an exit status")
    }

    /// SIGKILL, as a crash: gives the directory back for a restart on the same ledger.
    pub fn kill(mut self) -> tempfile::TempDir {
        let _ = self.child.kill();
        let _ = self.child.wait();
        std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a directory"))
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of sentinel ---\n{}", self.log());
        }
    }
}

/// Runs a subcommand to its end: exit code, standard output, standard error.
pub fn command(args: &[&str], dir: &Path) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sentinel"))
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .expect("sentinel starts");
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}
