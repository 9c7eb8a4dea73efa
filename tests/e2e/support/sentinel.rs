//! The real binary in a process of its own, ready when it says so through the service manager's socket.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A running `sentinel run`.
pub struct Sentinel {
    child: Child,
    notify: UnixDatagram,
    /// Its own directory: configuration, ledger, log.
    pub dir: tempfile::TempDir,
}

/// A port that was free a moment ago.
pub fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address")
}

impl Sentinel {
    /// Starts with the given configuration; `{dir}` in it stands for the process's own directory.
    pub fn start(config: &str) -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory"), config, &[])
    }

    /// Starts in an existing directory (a restart on the same ledger), with more environment.
    pub fn start_in(dir: tempfile::TempDir, config: &str, env: &[(&str, &str)]) -> Self {
        let config = config.replace("{dir}", &dir.path().display().to_string());
        let file = dir.path().join("sentinel.yaml");
        std::fs::write(&file, config).expect("the configuration is written");
        let socket = dir.path().join("notify");
        let _ = std::fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).expect("a notify socket");
        notify
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a timeout");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.path().join("log"))
            .expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_sentinel"))
            .args(["run", "--config"])
            .arg(&file)
            .env("NOTIFY_SOCKET", &socket)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("sentinel starts");
        let mut sentinel = Self { child, notify, dir };
        sentinel.wait_for("READY=1");
        sentinel
    }

    /// Waits for a state that the binary reports to the service manager.
    pub fn wait_for(&mut self, state: &str) {
        let mut buffer = [0u8; 4096];
        loop {
            match self.notify.recv(&mut buffer) {
                Ok(length)
                    if String::from_utf8_lossy(&buffer[..length])
                        .lines()
                        .any(|line| line == state) =>
                {
                    return;
                }
                Ok(_) => {}
                Err(error) => panic!(
                    "sentinel did not say {state} ({error}); exit {:?}; log:\n{}",
                    self.child.try_wait(),
                    self.log()
                ),
            }
        }
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
