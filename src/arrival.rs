//! When bytes came and went, as the kernel says, and which requests are timed by it.
//!
//! A worker reads late: the kernel has to wake it, and whoever was ready before is served first. To an application that
//! time is the proxy's own, and no clock that a process reads shows it. The kernel stamps what arrives (`SO_TIMESTAMPNS`,
//! socket(7)) and hands the stamp out with the bytes to whoever reads them by recvmsg(2): the same number of system calls,
//! each a little dearer, which is why only some requests of a busy worker are timed ([`Sampler`]).
//!
//! Bytes have gone when the system call begins that writes them: on one machine the peer has them, and works, before it
//! ends. Where the kernel gives no stamp, the time of reading is all that is known, and is taken.

use std::cell::Cell;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns};
use nix::sys::time::TimeSpec;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How much is read together with its stamp: a head and a small body. The room for it is cleared first.
const READ: usize = 2048;

/// A stamp older than this tells of a clock that was set, not of a worker that was late.
const SENSIBLE: Duration = Duration::from_secs(60);

/// So many timed requests a second a worker has at most, about.
const RATE: u32 = 2_000;

/// After so many timed requests their rate is looked at.
const LOOK: u32 = 256;

/// When the bytes came that a [`Socket`] read, and when those went that it wrote.
#[derive(Debug, Default)]
pub struct Arrival {
    asked: Cell<bool>,
    at: Cell<Option<Instant>>,
    watched: Cell<bool>,
    went: Cell<Option<Instant>>,
}

impl Arrival {
    /// The bytes that are read next are timed.
    pub fn ask(&self) {
        self.asked.set(true);
        self.at.set(None);
    }

    /// Nothing is asked any more, and nothing that was told is of use.
    pub fn forget(&self) {
        self.asked.set(false);
        self.at.set(None);
    }

    /// When they came, once they were read; told once.
    pub fn take(&self) -> Option<Instant> {
        self.at.take()
    }

    /// The bytes that are written next are timed.
    pub fn watch(&self) {
        self.watched.set(true);
        self.went.set(None);
    }

    /// When the first of them went, once they did.
    pub fn went(&self) -> Option<Instant> {
        self.went.get()
    }

    fn writes(&self) {
        if self.watched.take() {
            self.went.set(Some(Instant::now()));
        }
    }

    fn tell(&self, stamp: Option<TimeSpec>) {
        self.asked.set(false);
        // Read before the other clock: whoever is kept waiting between the two takes that time for its own.
        let now = Instant::now();
        let age = stamp.and_then(|stamp| {
            let stamp = SystemTime::UNIX_EPOCH + Duration::from(stamp);
            SystemTime::now().duration_since(stamp).ok()
        });
        let age = age.filter(|age| *age < SENSIBLE).unwrap_or_default();
        self.at.set(Some(now.checked_sub(age).unwrap_or(now)));
    }
}

/// A TCP connection of which the arrival of bytes can be asked.
#[derive(Debug)]
pub struct Socket {
    tcp: TcpStream,
    arrival: Rc<Arrival>,
}

impl Socket {
    /// Lets the kernel stamp what arrives from now on.
    pub fn new(tcp: TcpStream, arrival: Rc<Arrival>) -> Self {
        // Without stamps the time of reading is told.
        let _ = setsockopt(&tcp.as_fd(), ReceiveTimestampns, &true);
        Self { tcp, arrival }
    }

    /// What is asked of it.
    pub fn arrival(&self) -> &Rc<Arrival> {
        &self.arrival
    }

    /// The connection itself.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    fn poll_read_stamped(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.tcp.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled_to(READ.min(buf.remaining()));
            let size = room.len();
            match self.tcp.try_io(Interest::READABLE, || receive(&self.tcp, room)) {
                Ok((length, stamp)) => {
                    if 0 < length && length < size {
                        // That was all there is: the runtime need not look again before it is told of more.
                        let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                        let _ = self.tcp.try_io(Interest::READABLE, nothing);
                    }
                    buf.advance(length);
                    self.arrival.tell(stamp);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// Room for one control message with a `timespec`.
#[repr(align(8))]
struct Control([u8; 32]);

fn receive(tcp: &TcpStream, room: &mut [u8]) -> io::Result<(usize, Option<TimeSpec>)> {
    let mut control = Control([0; 32]);
    let mut room = [IoSliceMut::new(room)];
    let received = recvmsg::<()>(tcp.as_raw_fd(), &mut room, Some(&mut control.0), MsgFlags::empty())?;
    let stamp = received.cmsgs().ok().and_then(|mut messages| {
        messages.find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(stamp) => Some(stamp),
            _ => None,
        })
    });
    Ok((received.bytes, stamp))
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.arrival.asked.get() && buf.remaining() > 0 {
            true => self.poll_read_stamped(cx, buf),
            false => Pin::new(&mut self.tcp).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.arrival.writes();
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.arrival.writes();
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Which requests are timed: all of them where there are few, every second, fourth, eighth of a busier worker.
///
/// By number and not by time: the first of those that come together waits the shortest, and would be timed too often.
#[derive(Debug)]
pub struct Sampler {
    every: Cell<u32>,
    /// Requests to come that are not timed.
    skip: Cell<u32>,
    /// Timed since the last look.
    timed: Cell<u32>,
    looked: Cell<Instant>,
}

impl Default for Sampler {
    fn default() -> Self {
        Self {
            every: Cell::new(1),
            skip: Cell::new(0),
            timed: Cell::new(0),
            looked: Cell::new(Instant::now()),
        }
    }
}

impl Sampler {
    /// Whether the request that comes now is one of them.
    pub fn next(&self) -> bool {
        if let Some(skip) = self.skip.get().checked_sub(1) {
            self.skip.set(skip);
            return false;
        }
        self.timed.set(self.timed.get() + 1);
        if self.timed.get() == LOOK {
            self.look(Instant::now());
        }
        self.skip.set(self.every.get() - 1);
        true
    }

    fn look(&self, now: Instant) {
        let took = now.saturating_duration_since(self.looked.replace(now));
        self.timed.set(0);
        let usual = Duration::from_secs(1) * LOOK / RATE;
        if took < usual {
            self.every.set((self.every.get() * 2).min(64));
        } else if took > usual * 3 {
            self.every.set((self.every.get() / 2).max(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn bytes_came_when_they_were_sent_and_not_when_they_were_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let arrival = Rc::new(Arrival::default());
        let mut socket = Socket::new(listener.accept().await.unwrap().0, Rc::clone(&arrival));
        let mut read = [0; 16];
        // The kernel begins to stamp a moment after it was asked for the first time; the first answers are those of a
        // kernel that does not.
        let mut stamped = false;
        for _ in 0..100_000 {
            peer.write_all(b"one").await.unwrap();
            let sent_by = Instant::now();
            arrival.ask();
            assert_eq!(socket.read(&mut read).await.unwrap(), 3);
            let came = arrival.take().unwrap();
            assert!(came <= Instant::now() && arrival.take().is_none(), "told once");
            stamped = came <= sent_by;
            if stamped {
                break;
            }
        }
        assert!(stamped);
        arrival.watch();
        let before = Instant::now();
        socket.write_all(b"first").await.unwrap();
        let went = arrival.went().unwrap();
        socket.write_all(b"second").await.unwrap();
        assert!(went >= before && arrival.went() == Some(went));
        peer.read_exact(&mut read[..11]).await.unwrap();
        // What is not asked is not told, and the end is the end either way.
        peer.write_all(b"three").await.unwrap();
        assert_eq!(socket.read(&mut read).await.unwrap(), 5);
        assert!(arrival.take().is_none());
        drop(peer);
        arrival.ask();
        assert_eq!(socket.read(&mut read).await.unwrap(), 0);
    }

    #[test]
    fn a_busy_worker_times_fewer_requests_and_a_calm_one_all() {
        let sampler = Sampler::default();
        assert!((1..LOOK).all(|_| sampler.next()), "all at first");
        let start = sampler.looked.get();
        let mut now = start;
        for every in [2, 4, 8] {
            now += Duration::from_millis(20);
            sampler.look(now);
            assert_eq!(sampler.every.get(), every);
        }
        let timed = (0..800).filter(|_| sampler.next()).count();
        assert_eq!(timed, 100);
        for every in [4, 2, 1, 1] {
            now += Duration::from_secs(1);
            sampler.look(now);
            assert_eq!(sampler.every.get(), every);
        }
    }
}
