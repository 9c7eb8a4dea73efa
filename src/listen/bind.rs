//! The sockets that Sentinel listens on: bound here, or passed by systemd.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel queues for a listener.
const BACKLOG: i32 = 1024;

/// A listening socket, not yet registered with any runtime.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error(
        "{address} is already in use{}. Stop that process, or choose another address in the configuration",
        .holder.as_ref().map(|holder| format!(" by {holder}")).unwrap_or_default()
    )]
    InUse {
        /// The address.
        address: SocketAddr,
        /// Process name and id, when they can be found out.
        holder: Option<String>,
    },
    /// Not allowed.
    #[error(
        "no permission to listen on {address}: ports below 1024 need CAP_NET_BIND_SERVICE, a systemd socket, or a higher port"
    )]
    Denied {
        /// The address.
        address: SocketAddr,
    },
    /// The address is not one of this machine's.
    #[error("{address} is not an address of this machine: check the interface, or use 127.0.0.1")]
    NotLocal {
        /// The address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {source}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
}

impl Bound {
    /// The address, with the port that the kernel chose when 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same socket once more: both share one queue of connections.
    pub fn copy(&self) -> io::Result<Self> {
        Ok(Self {
            listener: self.listener.try_clone()?,
            address: self.address,
        })
    }

    /// The socket itself.
    pub fn into_std(self) -> TcpListener {
        self.listener
    }

    /// Binds `address` once for each worker.
    ///
    /// Several workers share the address with SO_REUSEPORT, and the kernel spreads connections over them. One worker
    /// binds without it; and before several do, a plain bind proves that nobody else listens there. Otherwise a second
    /// Sentinel would silently take half of the first one's connections.
    pub fn for_workers(address: SocketAddr, workers: usize) -> Result<Vec<Self>, BindError> {
        let first = bind(address, false)?;
        if workers <= 1 {
            return Ok(vec![first]);
        }
        let address = first.address;
        drop(first);
        (0..workers).map(|_| bind(address, true)).collect()
    }
}

fn bind(address: SocketAddr, shared: bool) -> Result<Bound, BindError> {
    let attempt = || -> io::Result<Bound> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shared)?;
        if address.is_ipv6() {
            // 127.0.0.1 and [::1] are bound separately; a dual-stack socket would collide with the former.
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        let address = listener.local_addr()?;
        Ok(Bound { listener, address })
    };
    attempt().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse {
            address,
            holder: holder(address),
        },
        io::ErrorKind::PermissionDenied => BindError::Denied { address },
        io::ErrorKind::AddrNotAvailable => BindError::NotLocal { address },
        _ => BindError::Other { address, source },
    })
}

/// The sockets that systemd passed (`LISTEN_FDS`), found by their address.
#[derive(Debug, Default)]
pub struct Activated(Vec<Bound>);

impl Activated {
    /// Takes the passed sockets out of the environment; to be called once, before threads are started.
    pub fn from_env() -> io::Result<Self> {
        let mut fds = listenfd::ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..fds.len() {
            let Some(listener) = fds.take_tcp_listener(index)? else {
                continue;
            };
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            sockets.push(Bound { listener, address });
        }
        Ok(Self(sockets))
    }

    /// The passed socket of this address, once for each worker: all share its one queue. `None` when none was passed.
    pub fn take(&mut self, address: SocketAddr, workers: usize) -> io::Result<Option<Vec<Bound>>> {
        let Some(index) = self.0.iter().position(|bound| bound.address == address) else {
            return Ok(None);
        };
        let first = self.0.swap_remove(index);
        let mut bounds = Vec::with_capacity(workers.max(1));
        for _ in 1..workers {
            bounds.push(Bound {
                listener: first.listener.try_clone()?,
                address,
            });
        }
        bounds.push(first);
        Ok(Some(bounds))
    }

    /// Addresses that were passed and that nobody took: a configuration that does not fit its socket unit.
    pub fn left(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.0.iter().map(|bound| bound.address)
    }
}

/// The process that listens on an address, for the error message. Linux only; needs no privilege for own processes.
fn holder(address: SocketAddr) -> Option<String> {
    let port = format!(":{:04X}", address.port());
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        std::fs::read_to_string(table).ok()?.lines().find_map(|line| {
            let mut fields = line.split_whitespace();
            let local = fields.nth(1)?;
            let listening = fields.nth(1)? == "0A";
            (local.ends_with(&port) && listening)
                .then(|| fields.nth(5).map(str::to_owned))
                .flatten()
        })
    })?;
    let wanted = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let pid = process.file_name();
        let Some(pid) = pid.to_str().filter(|pid| pid.bytes().all(|b| b.is_ascii_digit())) else {
            continue;
        };
        let Ok(fds) = std::fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let holds = fds
            .flatten()
            .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()));
        if holds {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {pid})", name.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_names_who_uses_it() {
        let first = Bound::for_workers("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        for workers in [1, 2] {
            let error = Bound::for_workers(first.address(), workers).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, BindError::InUse { .. }), "{text}");
            if cfg!(target_os = "linux") {
                assert!(text.contains(&format!("(process {})", std::process::id())), "{text}");
            }
        }
    }

    #[test]
    fn workers_share_one_address() {
        let bounds = Bound::for_workers("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        assert_eq!(bounds.len(), 3);
        assert!(bounds.iter().all(|bound| bound.address() == bounds[0].address()));
    }
}
