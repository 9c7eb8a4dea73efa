//! One payment's exchange: a connection of its own, the commit byte withheld, the answer complete or not believed.
//!
//! The law of [`Client::exchange`]:
//!
//! 1. Everything but the request's last byte is handed to the transport. On a connection that has carried a request
//!    before, or has stood open for more than [`YOUNG`], the peer's acknowledgement of all of it is waited for: a peer
//!    that had closed meanwhile answers with a reset instead, and the failure is *before* the commit byte. On a young
//!    connection the TLS handshake has just proved the peer alive.
//! 2. The caller's gate is asked, as late as possible. It makes *committing* durable, or withdraws.
//! 3. The last byte is released, as a TLS record of its own. From this moment the evidence says [`Progress::Committed`],
//!    whether or not the byte ever leaves the machine.
//!
//! A failure before 3 is a definite [`Sent::No`](super::Sent): the gateway never had a whole request. What fails after 3
//! is never more than *maybe*. An `Ok` is an answer whose framing is complete (declared length, last chunk); an answer
//! that ends with its connection is not believed. Nothing is sent again in here.
//!
//! An answer that comes before 3 cannot be one to this request (safety.md 2.3 row 19), or refuses it unread: the request
//! is then never completed.

use std::fmt;
use std::future::Future as _;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, TryFutureExt as _};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::Instant;

use super::alarm::Elapsed;
use super::client::{prepare, refused_by_peer, takes_leave};
use super::connect::ConnectError;
use super::gate::{Gate, Guard};
use super::h1::{Fault, Framing, Head, Pieces, Rest, Target};
use super::outgoing::Outgoing;
use super::pool::{Lease, Pool};
use super::transport::{Waiting, Wire};
use super::{Client, Error, Evidence, Failure, Progress, Side};
use crate::config::model::GatewayConfig;
use crate::failpoint;
use crate::resilience::Deadline;

/// A connection that carried no request and is younger than this needs no acknowledgement: its handshake is the proof
/// (safety.md 2.3).
pub const YOUNG: Duration = Duration::from_secs(2);

/// How long a connection may have idled and still carry a payment. Servers close idle connections after 5 s and more.
pub const SHORT_IDLE: Duration = Duration::from_secs(2);

/// How long the acknowledgement may take: a round trip around the world, plus the longest delay that TCP allows
/// receivers (RFC 9293 3.8.6.3: under 500 ms; Linux 40 to 200 ms). Running out costs a new connection, not a payment.
pub const ACKNOWLEDGE: Duration = Duration::from_millis(500);

/// Between two questions whether the peer acknowledged, at least: a question costs two system calls.
const SHORTEST: Duration = Duration::from_micros(50);

/// Which connections an exchange may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connections {
    /// A young one if there is one, else one that idled shortly, else a new one.
    #[default]
    Any,
    /// Only one that has never carried a request: after a kept one has failed.
    Fresh,
}

/// Limits of one exchange. Connecting is limited by the gateway's `pool.connect_timeout`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The end of the whole exchange.
    pub total: Deadline,
    /// From the commit byte to the answer's head; zero for none of its own.
    pub response_header: Duration,
    /// The largest answer body, in bytes.
    pub answer: usize,
    /// Which connections may be used.
    pub connections: Connections,
}

/// When each step was done, counted from the start of the exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// A connection was there.
    pub connected: Option<Duration>,
    /// Everything but the commit byte was handed to the socket.
    pub held: Option<Duration>,
    /// The peer acknowledged it; not waited for on a young connection.
    pub acknowledged: Option<Duration>,
    /// The commit byte was released.
    pub released: Option<Duration>,
    /// The answer's head was there.
    pub head: Option<Duration>,
    /// The answer was complete.
    pub complete: Option<Duration>,
}

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    /// Status and fields.
    pub head: response::Parts,
    /// The body, framing removed, whole.
    pub body: Bytes,
    /// What is known of the request.
    pub evidence: Evidence,
    /// When it happened.
    pub marks: Marks,
}

/// A failed exchange.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failed {
    /// What failed, and what is known. [`Evidence::sent`] is the law.
    pub error: Error,
    /// When it happened.
    pub marks: Marks,
}

/// An answer whose body is still to come.
enum Begun {
    Alone(Head),
    Stream(Response<Incoming>),
}

impl Begun {
    fn status(&self) -> StatusCode {
        match self {
            Self::Alone(head) => head.status,
            Self::Stream(response) => response.status(),
        }
    }
}

/// Why there is none.
enum Refused<B> {
    Alone(Fault),
    Stream(Box<TrySendError<Request<Outgoing<B>>>>),
}

impl<B> fmt::Display for Refused<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone(fault) => fault.fmt(f),
            Self::Stream(refused) => refused.error().fmt(f),
        }
    }
}

impl<B> Client<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    /// Sends one payment's request, and gives back its complete answer.
    ///
    /// The request's target is path and query; `Host`, the endpoint's base path and the framing are put in here.
    /// `gate` is asked once everything but the last byte was handed over: `true` releases it, `false` withdraws the
    /// request for good ([`Failure::Withdrawn`]). It is never cancelled once it was asked, unless the exchange itself is
    /// dropped; it is not asked at all when the exchange fails earlier. Dropped before the release, the exchange has
    /// sent no whole request; dropped later, anything may have happened.
    ///
    /// # Errors
    /// [`Failed`], with evidence. Nothing was retried.
    pub async fn exchange<G>(
        &self,
        gateway: &Arc<GatewayConfig>,
        request: Request<Bytes>,
        limits: &Limits,
        gate: G,
    ) -> Result<Answer, Box<Failed>>
    where
        G: AsyncFnOnce() -> bool,
    {
        let mut run = Run::new(limits);
        failpoint::pass("wire.connect");
        let (mut lease, pool) = match self.exclusive(gateway, limits, run.started).await {
            Ok(checked_out) => checked_out,
            Err(ConnectError { failure, note }) => return Err(run.failed(failure, note)),
        };
        run.marks.connected = Some(run.started.elapsed());
        failpoint::pass("wire.connected");
        let Some(wire) = lease.wire().map(Rc::clone) else {
            return Err(run.failed(Failure::Internal, "no connection"));
        };
        let http2 = lease.http2();
        let proven = !lease.reused && lease.rested < YOUNG;
        let before_written = wire.written.get();
        run.on(&wire, lease.reused, http2);

        // 1. Everything but the last byte.
        let (mut parts, body) = request.into_parts();
        let length = body.len() as u64;
        frame(&mut parts, length, http2);
        let gate_of_byte = Gate::new();
        // Given up at any moment before the release, the commit byte is never written.
        let guard = Guard(Rc::clone(&gate_of_byte));
        let alarms = self.alarms();
        let result = {
            let byte = Rc::clone(&gate_of_byte);
            let answer = match lease.http1() {
                Some(connection) => {
                    let target = Target {
                        base: &gateway.endpoint.base_path,
                        authority: &pool.authority,
                    };
                    let pieces = if proven { Pieces::One } else { Pieces::Two };
                    match connection.begin_held(&target, &parts, &body, pieces, byte) {
                        Ok(held) => Either::Left(held.map_ok(Begun::Alone).map_err(Refused::Alone)),
                        Err(fault) => return Err(run.failed(Failure::Internal, fault)),
                    }
                }
                None => {
                    prepare(&gateway.endpoint, &mut parts, &pool.authority);
                    let sent = lease.send(Request::from_parts(parts, Outgoing::held(body, byte)));
                    let refused = |refused| Refused::Stream(Box::new(refused));
                    Either::Right(sent.map_ok(Begun::Stream).map_err(refused))
                }
            };
            let mut answer = pin!(answer);
            let held = unless_answered(answer.as_mut(), |cx| gate_of_byte.poll_arrived(cx));
            match alarms.until(limits.total.at(), held).await {
                Ok(Ok(())) => run.marks.held = Some(run.started.elapsed()),
                Ok(Err(early)) => return Err(run.early(early)),
                Err(Elapsed) => return Err(run.failed(Failure::Deadline, "the request was not taken in time")),
            }
            if !proven {
                let bound = limits.total.shortened(Instant::now(), ACKNOWLEDGE).at();
                // Over HTTP/2 hyper has the frames, and writes them when its task has its turn.
                let least = before_written + if http2 { length } else { 0 };
                let mut acknowledged = pin!(self.acknowledged(&pool, &wire, least));
                let both = unless_answered(answer.as_mut(), |cx| acknowledged.as_mut().poll(cx));
                match alarms.until(bound, both).await {
                    Ok(Ok(())) => run.marks.acknowledged = Some(run.started.elapsed()),
                    Ok(Err(early)) => return Err(run.early(early)),
                    Err(Elapsed) => return Err(run.failed(Failure::Unacknowledged, "not acknowledged in time")),
                }
            }

            failpoint::pass("wire.held");

            // 2. May it go?
            if !gate().await {
                return Err(run.failed(Failure::Withdrawn, "withdrawn before the commit byte"));
            }
            if limits.total.expired(Instant::now()) {
                return Err(run.failed(Failure::Deadline, "the deadline passed before the commit byte"));
            }
            if let Some(early) = settle(answer.as_mut(), &wire, http2).await {
                return Err(match early {
                    Some(early) => run.early(early),
                    None => run.failed(Failure::Connection, "the gateway closed before the commit byte"),
                });
            }

            // 3. It goes.
            failpoint::pass("wire.commit");
            run.committed = true;
            run.marks.released = Some(run.started.elapsed());
            gate_of_byte.release();
            let until = limits.total.shortened(Instant::now(), limits.response_header);
            alarms.until(until.at(), answer).await
        };
        drop(guard);
        let begun = match result {
            Ok(Ok(begun)) => begun,
            Ok(Err(refused)) => {
                if let Refused::Stream(refused) = &refused {
                    if takes_leave(refused.error()) {
                        lease.shun();
                    }
                    run.refused_by_peer = refused_by_peer(refused.error());
                }
                return Err(run.failed(Failure::Connection, refused));
            }
            Err(Elapsed) if limits.total.expired(Instant::now()) => {
                return Err(run.failed(Failure::Deadline, "no answer within the deadline"));
            }
            Err(Elapsed) => return Err(run.failed(Failure::HeaderTimeout, "no answer in time")),
        };
        run.marks.head = Some(run.started.elapsed());
        failpoint::pass("wire.head");
        run.status = Some(begun.status().as_u16());
        let collected = match begun {
            Begun::Alone(head) if head.framing == Framing::Close => {
                let note = "the answer ends with its connection: it could be cut off";
                return Err(run.failed(Failure::Connection, note));
            }
            Begun::Alone(head) => Either::Left(receive(&mut lease, head, limits.answer)),
            Begun::Stream(response) => Either::Right(async {
                let (head, incoming) = response.into_parts();
                Ok((head, collect(incoming, limits.answer).await?))
            }),
        };
        let (head, body) = match alarms.until(limits.total.at(), collected).await {
            Ok(Ok(answer)) => answer,
            Ok(Err((failure, note))) => return Err(run.failed(failure, note)),
            Err(Elapsed) => {
                return Err(run.failed(Failure::BodyTimeout, "the answer was not complete within the deadline"));
            }
        };
        run.marks.complete = Some(run.started.elapsed());
        failpoint::pass("wire.complete");
        lease.give_back();
        Ok(Answer {
            head,
            body,
            evidence: run.evidence(String::new()),
            marks: run.marks,
        })
    }

    /// A connection that nobody else uses, or a stream of its own, as the module describes.
    async fn exclusive(
        &self,
        gateway: &Arc<GatewayConfig>,
        limits: &Limits,
        now: Instant,
    ) -> Result<(Lease<B>, Rc<Pool<B>>), ConnectError> {
        let pool = self.pool(gateway)?;
        // What stood open must be acknowledged, and that only the kernel can tell.
        let old = limits.connections == Connections::Any && self.kernel().is_some();
        let idle = gateway.pool.idle;
        let fits = |used: bool, rested: Duration| match used {
            false => rested < YOUNG || (old && rested < idle),
            true => old && rested < SHORT_IDLE,
        };
        loop {
            if let Some(lease) = pool.fitting(now, fits) {
                self.restock(&pool);
                return Ok((lease, pool));
            }
            if old && let Some(lease) = pool.shared(now).await {
                return Ok((lease, pool));
            }
            if let Some(place) = self.vacancy(&pool, &limits.total, now).await? {
                let lease = match old {
                    true => self.open(&pool, place, &limits.total, now).await?,
                    false => self.open_alone(&pool, place, &limits.total, now).await?,
                };
                self.restock(&pool);
                return Ok((lease, pool));
            }
        }
    }

    /// Ends when the peer acknowledged everything that was written, once that is at least so much. The kernel has to be
    /// asked, so the first question comes when this peer has usually acknowledged, and the next ones at a fraction of that:
    /// few questions, whether the peer is a microsecond or a tenth of a second away.
    async fn acknowledged(&self, pool: &Pool<B>, wire: &Wire, least: u64) {
        let Some((kernel, (local, peer))) = self.kernel().zip(wire.addresses()) else {
            return std::future::pending().await;
        };
        let began = Instant::now();
        let usual = pool.acknowledges.get();
        let mut pause = (usual / 8).max(SHORTEST);
        if usual > SHORTEST {
            self.naps().nap(usual - pause.min(usual / 2)).await;
        } else {
            // hyper's task, or a peer on this machine, gets its turn.
            tokio::task::yield_now().await;
        }
        // A connection that the kernel does not know is dead: whoever reads it will say so, or the bound will.
        let mut too_soon = false;
        while wire.written.get() < least || !matches!(kernel.unacknowledged(local, peer), Ok(0)) {
            too_soon = true;
            self.naps().nap(pause).await;
            pause = pause * 3 / 2;
        }
        // A first question that finds it done says nothing of when it was: most of that time may be a busy worker's own
        // delay, which would come back eightfold as the next wait.
        pool.acknowledges.set(match too_soon {
            true => (usual * 3 + began.elapsed()) / 4,
            false => usual - usual / 8,
        });
    }
}

/// What is known while an exchange runs.
struct Run {
    started: Instant,
    marks: Marks,
    wire: Option<(Rc<Wire>, u64, u64)>,
    reused: bool,
    http2: bool,
    refused_by_peer: bool,
    committed: bool,
    status: Option<u16>,
    total: Deadline,
}

impl Run {
    fn new(limits: &Limits) -> Self {
        Self {
            started: Instant::now(),
            marks: Marks::default(),
            wire: None,
            reused: false,
            http2: false,
            refused_by_peer: false,
            committed: false,
            status: None,
            total: limits.total,
        }
    }

    fn on(&mut self, wire: &Rc<Wire>, reused: bool, http2: bool) {
        self.wire = Some((Rc::clone(wire), wire.written.get(), wire.read.get()));
        self.reused = reused;
        self.http2 = http2;
    }

    fn evidence(&self, note: String) -> Evidence {
        let (sent, received) = self.wire.as_ref().map_or((0, 0), |(wire, written, read)| {
            (wire.written.get() - written, wire.read.get() - read)
        });
        Evidence {
            progress: match (self.committed, sent) {
                (true, _) => Progress::Committed,
                (false, 0) => Progress::Nothing,
                (false, _) => Progress::Partial,
            },
            bytes_sent: sent,
            bytes_received: received,
            reused: self.reused,
            http2: self.http2,
            refused_by_peer: self.refused_by_peer,
            status: self.status,
            note,
            took: self.started.elapsed(),
        }
    }

    fn failed(&self, failure: Failure, note: impl std::fmt::Display) -> Box<Failed> {
        let side = match failure {
            Failure::Withdrawn | Failure::Internal => Side::Local,
            Failure::Deadline if !self.committed && self.total.expired(self.started) => Side::Local,
            _ => Side::Upstream,
        };
        let error = Error {
            failure,
            side,
            evidence: self.evidence(note.to_string()),
        };
        Box::new(Failed {
            error,
            marks: self.marks,
        })
    }

    /// The exchange ended before the commit byte was released.
    fn early<B>(&mut self, end: Result<Begun, Refused<B>>) -> Box<Failed> {
        match end {
            Ok(begun) => {
                self.status = Some(begun.status().as_u16());
                self.failed(Failure::EarlyAnswer, "answered before the commit byte")
            }
            Err(refused) => self.failed(Failure::Connection, refused),
        }
    }
}

/// Our own framing and nothing of the caller's: what cannot be complete without its last byte.
fn frame(parts: &mut http::request::Parts, length: u64, http2: bool) {
    parts.headers.remove(header::TRANSFER_ENCODING);
    parts.headers.remove(header::EXPECT);
    parts.headers.remove(header::CONTENT_LENGTH);
    let bare = matches!(parts.method, Method::GET | Method::HEAD | Method::DELETE);
    // Over HTTP/2 hyper tells the length that the body tells, and the end is a flag of the last frame.
    if !http2 && (length > 0 || !bare) {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// The whole of an answer over HTTP/1.1 whose head was read.
async fn receive<B>(
    lease: &mut Lease<B>,
    head: Head,
    limit: usize,
) -> Result<(response::Parts, Bytes), (Failure, String)> {
    let Some(connection) = lease.http1() else {
        return Err((Failure::Internal, String::new()));
    };
    let broken = |fault: Fault| (Failure::Connection, fault.to_string());
    let mut rest = Rest::new(head.framing);
    let response = connection.answer(head, HeaderMap::new()).map_err(broken)?;
    let mut whole = Whole::new(limit, rest.size_hint().lower())?;
    while let Some(frame) = std::future::poll_fn(|cx| rest.poll(connection, cx))
        .await
        .map_err(broken)?
    {
        whole.push(frame.data_ref())?;
    }
    Ok((response.into_parts().0, whole.bytes.freeze()))
}

/// The whole of an answer's body over HTTP/2.
async fn collect(mut incoming: Incoming, limit: usize) -> Result<Bytes, (Failure, String)> {
    let mut whole = Whole::new(limit, incoming.size_hint().lower())?;
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
        let frame = frame.map_err(|error| (Failure::Connection, error.to_string()))?;
        whole.push(frame.data_ref())?;
    }
    Ok(whole.bytes.freeze())
}

/// A body that is gathered, up to a limit.
struct Whole {
    bytes: BytesMut,
    limit: usize,
}

impl Whole {
    fn new(limit: usize, expected: u64) -> Result<Self, (Failure, String)> {
        let bytes = BytesMut::new();
        let whole = Self { bytes, limit };
        match expected > limit as u64 {
            true => Err(whole.too_large()),
            false => Ok(whole),
        }
    }

    fn push(&mut self, data: Option<&Bytes>) -> Result<(), (Failure, String)> {
        let data = data.map_or(&[][..], |data| data);
        if self.bytes.len() + data.len() > self.limit {
            return Err(self.too_large());
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    fn too_large(&self) -> (Failure, String) {
        let note = format!("the answer has more than {} bytes", self.limit);
        (Failure::TooLarge, note)
    }
}

/// A step, unless the answer (or the connection's end) comes first.
async fn unless_answered<T, F>(
    mut answer: Pin<&mut F>,
    mut step: impl FnMut(&mut std::task::Context<'_>) -> Poll<()>,
) -> Result<(), T>
where
    F: Future<Output = T>,
{
    std::future::poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Ready(early) => Poll::Ready(Err(early)),
        Poll::Pending => step(cx).map(Ok),
    })
    .await
}

/// Takes notice of everything that the kernel already knows: `None` when the connection is quiet and open.
async fn settle<T, F>(mut answer: Pin<&mut F>, wire: &Wire, http2: bool) -> Option<Option<T>>
where
    F: Future<Output = T>,
{
    // What lies unread may be TLS's own (session tickets), or another stream's, which hyper's task reads when it gets its
    // turn; and what the runtime has not been told of yet is read after it had its own.
    for _ in 0..8 {
        let early = std::future::poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await;
        match (early, wire.waiting()) {
            (Poll::Ready(early), _) => return Some(Some(early)),
            (Poll::Pending, Waiting::Nothing) => return None,
            (Poll::Pending, Waiting::End) => return Some(None),
            (Poll::Pending, Waiting::Bytes) => tokio::task::yield_now().await,
        }
    }
    // A connection that many streams share may never be quiet.
    if http2 { None } else { Some(None) }
}

#[cfg(test)]
mod tests;
