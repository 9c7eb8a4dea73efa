//! Simulators of the gateways, for tests, for `sentinel demo` and for a merchant's own CI.
//!
//! A [`Simulator`] is pure: a request and a time go in, an answer and the effects on money come out. The [`server`] puts
//! it on a real socket, and applies [`fault`] scripts *around* it: before a request arrives, between arrival and
//! execution, between execution and answer, and within the answer's bytes. Whatever is executed goes into the
//! [`books`], which no fault touches; a test asks them what really happened.
//!
//! The sandbox knows nothing of the rest of Sentinel, so that a mistake in a dialect cannot hide in its simulator.

pub mod adyen;
pub mod books;
pub mod braintree;
pub mod clock;
pub mod custom;
pub mod fault;
pub mod paypal;
pub mod razorpay;
pub mod server;
pub mod square;
pub mod stripe;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response};

/// The gateways that can be simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// Stripe.
    Stripe,
    /// Adyen.
    Adyen,
    /// PayPal.
    Paypal,
    /// Braintree.
    Braintree,
    /// Square.
    Square,
    /// Razorpay.
    Razorpay,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Stripe,
        Self::Adyen,
        Self::Paypal,
        Self::Braintree,
        Self::Square,
        Self::Razorpay,
    ];

    /// The name in books, paths and options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stripe => "stripe",
            Self::Adyen => "adyen",
            Self::Paypal => "paypal",
            Self::Braintree => "braintree",
            Self::Square => "square",
            Self::Razorpay => "razorpay",
        }
    }

    /// What a person has to know to use it.
    pub const fn guide(self) -> &'static Guide {
        match self {
            Self::Stripe => &stripe::GUIDE,
            Self::Adyen => &adyen::GUIDE,
            Self::Paypal => &paypal::GUIDE,
            Self::Braintree => &braintree::GUIDE,
            Self::Square => &square::GUIDE,
            Self::Razorpay => &razorpay::GUIDE,
        }
    }

    /// A fresh simulator with its default settings.
    pub fn simulator(self) -> Box<dyn Simulator> {
        match self {
            Self::Stripe => Box::<stripe::Stripe>::default(),
            Self::Adyen => Box::<adyen::Adyen>::default(),
            Self::Paypal => Box::<paypal::Paypal>::default(),
            Self::Braintree => Box::<braintree::Braintree>::default(),
            Self::Square => Box::<square::Square>::default(),
            Self::Razorpay => Box::<razorpay::Razorpay>::default(),
        }
    }
}

/// What a simulator takes and what it makes of it, in words for people.
#[derive(Clone, Copy, Debug)]
pub struct Guide {
    /// The port it has by custom.
    pub port: u16,
    /// The credentials it takes, by name.
    pub credentials: &'static [(&'static str, &'static str)],
    /// Published test instruments and what comes of them.
    pub instruments: &'static [(&'static str, &'static str)],
}

/// A complete request as a simulator gets it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The raw path, beginning with `/`.
    pub path: String,
    /// The raw query without `?`; empty when there is none.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// `http://host:port` of this simulator, for links in answers.
    pub base: String,
}

impl Request {
    /// A header as text, when it is there once or more; the first counts.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What an execution did beside its answer.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// Money held, moved, released or given back, in order. The server writes them into the books.
    pub effects: Vec<books::Effect>,
    /// Notifications to deliver, in order.
    pub webhooks: Vec<Webhook>,
    /// What happens later by itself (an asynchronous capture, a refund that fails after acceptance).
    pub scheduled: Vec<Scheduled>,
}

/// A notification, signed and ready to post to the configured URL.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Headers, signature and content type included.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How long after the execution it is posted.
    pub after: Duration,
}

/// Something a simulator asked to be reminded of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// When, counted from now, in real time.
    pub after: Duration,
    /// The simulator's own word for it, given back to [`Simulator::fire`].
    pub token: String,
}

/// An error that a gateway gives for reasons of its own, whatever was asked. Each simulator writes it in its gateway's
/// shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NativeError {
    /// Too many requests; the limiter runs before execution.
    RateLimit,
    /// Another request with the same key, or on the same object, is running.
    Conflict,
    /// The gateway failed: 500.
    Internal,
    /// The gateway is not available: 503.
    Unavailable,
    /// The credentials are wrong.
    Unauthorized,
    /// The credentials lack a right.
    Forbidden,
}

/// One gateway's behaviour, without sockets and without a clock of its own.
///
/// The server calls `admit` when a request has arrived whole, then, perhaps after a scripted delay, `execute`. A gateway
/// that locks idempotency keys claims the key in `admit`, so that a twin arriving in between sees it in use.
pub trait Simulator: Send {
    /// The gateway's name in books and output: `stripe`, `adyen`, `paypal`, ...
    fn gateway(&self) -> &'static str;

    /// Takes a request in, or answers it at once (a replay, a key in use, a wrong credential).
    fn admit(&mut self, _now: i64, _request: &Request) -> Result<(), Box<Response<Bytes>>> {
        Ok(())
    }

    /// Executes an admitted request. `now` is Unix time in seconds on the sandbox's clock.
    fn execute(&mut self, now: i64, request: &Request) -> (Response<Bytes>, Turn);

    /// Makes this the answer that the gateway remembers for the request's idempotency key, where it remembers errors.
    fn remember(&mut self, _now: i64, _request: &Request, _answer: &Response<Bytes>) {}

    /// Forgets an admitted request that a fault script ended before its execution.
    fn abandon(&mut self, _request: &Request) {}

    /// Something scheduled is due.
    fn fire(&mut self, _now: i64, _token: &str) -> Turn {
        Turn::default()
    }

    /// An error of the gateway's own, in its shape.
    fn native_error(&self, error: NativeError, request: &Request) -> Response<Bytes>;

    /// Changes a setting by name (`webhook_secret`, `search_lag`, ...). `Err` names what would have been possible.
    fn set(&mut self, name: &str, value: &str) -> Result<(), String>;
}

/// Where a simulator's count of ids begins. No id of an earlier run comes again: a ledger that was kept knows it, and would
/// take it for another payment's.
fn first_id() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(0))
}
