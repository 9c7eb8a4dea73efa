//! What the kernel knows of a connection: whether the peer acknowledged everything that was handed to it.
//!
//! The count is that of `SIOCOUTQ` (written and not yet acknowledged), asked for through `NETLINK_SOCK_DIAG`
//! (`linux/inet_diag.h`), which needs no privilege and, unlike the ioctl and `TCP_INFO`, has a safe interface. One
//! question is one system call each way, some microseconds; the kernel answers before the first returns.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// `SOCK_DIAG_BY_FAMILY` of `linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` of `linux/netlink.h`.
const REQUEST: u16 = 1;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// Lengths of `nlmsghdr` and of `inet_diag_req_v2`.
const HEADER: usize = 16;
const QUESTION: usize = 56;
/// Where `nlmsg_seq` stands.
const NUMBER: usize = 8;
/// Where `idiag_wqueue` stands: after the header, four bytes, the socket's id, `idiag_expires` and `idiag_rqueue`.
const WRITE_QUEUE: usize = HEADER + 4 + 48 + 4 + 4;

/// Asks the kernel. One for each worker.
#[derive(Debug)]
pub(super) struct Kernel {
    socket: OwnedFd,
    /// Questions so far: an answer bears the number of its own.
    asked: Cell<u32>,
}

impl Kernel {
    /// Opens the way to the kernel.
    ///
    /// # Errors
    /// Where the sandbox forbids `AF_NETLINK`, or the kernel was built without socket diagnosis.
    pub(super) fn open() -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(netlink::SOCK_DIAG),
        )?;
        Ok(Self {
            socket,
            asked: Cell::new(0),
        })
    }

    /// Bytes of this connection that the peer has not acknowledged.
    ///
    /// # Errors
    /// When the kernel does not know the connection (any more), or does not answer.
    pub(super) fn unacknowledged(&self, local: SocketAddr, peer: SocketAddr) -> io::Result<u32> {
        let number = self.asked.get().wrapping_add(1);
        self.asked.set(number);
        rustix::net::send(&self.socket, &question(number, local, peer), SendFlags::empty())?;
        let mut answer = [0u8; 1024];
        loop {
            let (length, _) = rustix::net::recv(&self.socket, &mut answer[..], RecvFlags::DONTWAIT)?;
            // What is left of an earlier question must not answer this one.
            if answer[..length].get(NUMBER..NUMBER + 4) == Some(&number.to_ne_bytes()[..]) {
                return write_queue(&answer[..length]);
            }
        }
    }
}

fn question(number: u32, local: SocketAddr, peer: SocketAddr) -> [u8; HEADER + QUESTION] {
    let mut message = [0u8; HEADER + QUESTION];
    message[0..4].copy_from_slice(&((HEADER + QUESTION) as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST.to_ne_bytes());
    message[NUMBER..NUMBER + 4].copy_from_slice(&number.to_ne_bytes());
    let ask = &mut message[HEADER..];
    // AF_INET and AF_INET6 of Linux.
    ask[0] = if local.is_ipv4() { 2 } else { 10 };
    ask[1] = TCP;
    // Any state.
    ask[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    ask[8..10].copy_from_slice(&local.port().to_be_bytes());
    ask[10..12].copy_from_slice(&peer.port().to_be_bytes());
    write_address(&mut ask[12..28], local.ip());
    write_address(&mut ask[28..44], peer.ip());
    if let SocketAddr::V6(local) = local {
        ask[44..48].copy_from_slice(&local.scope_id().to_ne_bytes());
    }
    // INET_DIAG_NOCOOKIE.
    ask[48..56].copy_from_slice(&[0xff; 8]);
    message
}

fn write_address(into: &mut [u8], address: IpAddr) {
    match address {
        IpAddr::V4(v4) => into[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => into.copy_from_slice(&v6.octets()),
    }
}

fn write_queue(answer: &[u8]) -> io::Result<u32> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok());
    let count = answer.get(WRITE_QUEUE..WRITE_QUEUE + 4);
    match (
        kind.map(u16::from_ne_bytes),
        count.and_then(|bytes| bytes.try_into().ok()),
    ) {
        (Some(BY_FAMILY), Some(count)) => Ok(u32::from_ne_bytes(count)),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair(address: &str) -> Option<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind(address).ok()?;
        let client = TcpStream::connect(listener.local_addr().ok()?).ok()?;
        client.set_nodelay(true).ok()?;
        Some((client, listener.accept().ok()?.0))
    }

    fn left(kernel: &Kernel, stream: &TcpStream) -> io::Result<u32> {
        kernel.unacknowledged(stream.local_addr()?, stream.peer_addr()?)
    }

    #[test]
    fn what_the_peer_acknowledged_is_known() {
        let kernel = Kernel::open().unwrap();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Some((mut client, mut server)) = pair(address) else {
                continue;
            };
            assert_eq!(left(&kernel, &client).unwrap(), 0);
            client.write_all(b"first").unwrap();
            client.write_all(b"second").unwrap();
            server.read_exact(&mut [0; 11]).unwrap();
            let limit = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
            while left(&kernel, &client).unwrap() > 0 {
                assert!(std::time::SystemTime::now() < limit, "{address}: never acknowledged");
            }
        }
    }

    #[test]
    fn what_lies_in_a_full_pipe_is_not_acknowledged() {
        let kernel = Kernel::open().unwrap();
        let (mut client, _server) = pair("127.0.0.1:0").unwrap();
        client.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(length) = client.write(&[0; 65536]) {
            written += length;
        }
        let unacknowledged = left(&kernel, &client).unwrap();
        assert!(unacknowledged > 0 && (unacknowledged as usize) <= written);
    }

    #[test]
    fn a_connection_that_is_gone_is_not_known() {
        let kernel = Kernel::open().unwrap();
        let nobody = "127.0.0.1:1".parse().unwrap();
        assert!(kernel.unacknowledged(nobody, nobody).is_err());
    }
}
