//! Every default and every bound, with the sentence that justifies it. Nothing else in Sentinel knows a default of the
//! configuration.

use std::time::Duration;

use super::model::{Fee, KeyPolicy, Mode, Protocol, RegistrationPolicy, Undelivered};

const DAY: u64 = 86_400;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// One worker serves some 30,000 requests a second: a sidecar's whole need.
pub const WORKERS: usize = 1;
/// Where `sentinel ca` puts its files unless told otherwise.
pub const LOCAL_CA: &str = "tls";

/// A year and some: what another gateway took can be refunded for as long as gateways and card networks let it be.
pub const RETENTION: Duration = secs(400 * DAY);
/// The shortest that is allowed: the longest window of a gateway's idempotency keys that Sentinel replays into (PayPal's
/// captures: 45 days), and some.
pub const RETENTION_MIN: Duration = secs(48 * DAY);

/// HTTP/1.1: its pools cost 4 to 14 % less processor time than one multiplexed connection, a payment wants a connection
/// of its own, and a connection that dies takes one request with it instead of all.
pub const PROTOCOL: Protocol = Protocol::H1;
/// A gateway that is configured but not used costs no connection.
pub const PREWARM: usize = 0;
/// Above any idle number that a sidecar's traffic leaves behind.
pub const MAX_IDLE: usize = 128;
/// As many as the requests in flight that a route admits: the pool is not a second, hidden limit.
pub const MAX_CONNECTIONS: usize = 1024;
/// What servers usually grant (RFC 9113 6.5.2 recommends no less).
pub const MAX_STREAMS: usize = 100;
/// Below every gateway's own limit seen in the field (60 s and more), so that Sentinel closes first and a request rarely
/// meets a connection that the gateway is just closing.
pub const POOL_IDLE: Duration = secs(30);
/// New connections find new addresses; with jitter a fleet does not reconnect at once.
pub const POOL_MAX_AGE: Duration = secs(300);
/// Ten round trips around the world: whoever has not shaken hands by then does not answer.
pub const CONNECT_TIMEOUT: Duration = secs(3);
/// One pin is an outage on the day the gateway changes its key.
pub const MIN_PINS: usize = 2;

/// Five failures in a row, or half of at least twenty calls in ten seconds: resilience4j's and linkerd's ideas with
/// Envoy's numbers.
pub const BREAKER_CONSECUTIVE: u32 = 5;
/// See [`BREAKER_CONSECUTIVE`].
pub const BREAKER_FAILURE_RATE: f64 = 0.5;
/// A gateway that is slow for four calls of five is down for whoever waits.
pub const BREAKER_SLOW_RATE: f64 = 0.8;
/// An issuer's answer takes one to two seconds; five are no longer usual.
pub const BREAKER_SLOW_AFTER: Duration = secs(5);
/// See [`BREAKER_CONSECUTIVE`].
pub const BREAKER_WINDOW: Duration = secs(10);
/// See [`BREAKER_CONSECUTIVE`].
pub const BREAKER_MIN_CALLS: u32 = 20;
/// Short enough to notice a blip's end, long enough not to hammer.
pub const BREAKER_OPEN: Duration = secs(5);
/// A gateway that is back should not wait longer than a minute for its traffic.
pub const BREAKER_OPEN_MAX: Duration = secs(60);
/// One success may be luck.
pub const BREAKER_HALF_OPEN_CALLS: u32 = 3;

/// Finagle's and Envoy's budget: a fifth of the traffic...
pub const RETRY_BUDGET: f64 = 0.2;
/// ... and a floor for quiet services.
pub const RETRY_MIN_PER_SECOND: f64 = 10.0;
/// A third retry rarely helps and always costs.
pub const RETRY_MAX: u32 = 2;

/// Off unless asked for: a second read is load that the application did not make.
pub const HEDGE_QUANTILE: Option<f64> = None;
/// Dean and Barroso's 5 %: the share of reads beyond the 95th percentile.
pub const HEDGE_MAX_EXTRA: f64 = 0.05;
/// Nothing is gained below.
pub const HEDGE_MIN_DELAY: Duration = Duration::from_millis(1);

/// One request in flight costs some 30 KB; a thousand are more than a sidecar's application has.
pub const IN_FLIGHT: usize = 1024;
/// A quarter of that may wait for a short moment.
pub const QUEUE: usize = 256;
/// A request that waited a second is better told than kept.
pub const QUEUE_TIMEOUT: Duration = secs(1);
/// A fixed limit is one that an operator can reason about.
pub const ADAPTIVE: bool = false;
/// The largest payment request seen in the gateways' documentation has some 100 KB (line items).
pub const BODY: usize = 1 << 20;

/// The shortest default of an official SDK is 30 s: an answer must come before it.
pub const RESPONSE_HEADER: Duration = secs(28);
/// A body that pauses this long has stopped.
pub const BODY_IDLE: Duration = secs(30);
/// See [`RESPONSE_HEADER`].
pub const TOTAL: Duration = secs(28);

/// Safe without a second thought: nothing is changed about the merchant's account or how payments look there.
pub const MODE: Mode = Mode::Fence;
/// A second acquirer asks the same issuer; card networks count and charge for repeated tries.
pub const ON_SOFT_DECLINE: bool = false;
/// "Busy, try again" is an outage in the shape of a decline.
pub const ON_GATEWAY_DECLINE: bool = true;
/// A wrong key should wake somebody, not silently move the traffic.
pub const ON_ACCOUNT_FAULT: bool = false;
/// The card networks count tries across gateways.
pub const MAX_DECLINES: u8 = 1;
/// One stale connection is normal, two in a row are an outage.
pub const SAME_GATEWAY_RETRIES: u8 = 1;
/// Before the shortest timeout of an official SDK (30 s), with time left to write the answer down and deliver it.
pub const FAILOVER_DEADLINE: Duration = secs(25);
/// Leaves two full attempts and a fence inside the deadline.
pub const ATTEMPT_TIMEOUT: Duration = secs(10);
/// Beyond the slowest usual issuer, so that a second hold on the customer's card stays rare.
pub const HEDGE_AFTER: Duration = secs(5);
/// What the application would have without Sentinel.
pub const KEY: KeyPolicy = KeyPolicy::Transparent;
/// A customer who comes back a day later means a new order.
pub const NATURAL_WINDOW: Duration = secs(DAY);
/// Some merchants charge one order in parts.
pub const ORDER_GUARD: bool = false;
/// Whoever sends card numbers decides for herself where they go.
pub const RAW_CARDS: bool = false;
/// A fence that was never seen to hold is a hope.
pub const REQUIRE_CERTIFICATE: bool = true;
/// Needed only where another replica passes requests to the first gateway without the ledger.
pub const FENCE_BEFORE_SECONDARY: bool = false;
/// Voiding a payment that the customer believes made is worse than keeping one that she did not see.
pub const UNDELIVERED: Undelivered = Undelivered::Keep;

/// Nothing is gained by waiting where no load balancer has to notice.
pub const SHUTDOWN_MIN: Duration = Duration::ZERO;
/// Below Kubernetes' default grace period of 30 s.
pub const SHUTDOWN_MAX: Duration = secs(25);

/// Lines for people; a log collector says that it wants JSON.
pub const LOG_JSON: bool = false;
/// Metrics tell the sum of it, for less.
pub const LOG_ACCESS: bool = false;
/// State changes and what needs somebody's eye.
pub const LOG_LEVEL: &str = "info";

/// A connection costs some 20 KB idle.
pub const CONNECTIONS: usize = 10_000;
/// No SDK takes more than milliseconds; a slow-loris takes all it gets.
pub const HEADER_TIMEOUT: Duration = secs(10);
/// Four times the largest head that an SDK is known to send.
pub const HEAD: usize = 64 << 10;

/// A sidecar's loopback is reached by its own machine or pod only; anybody could reach anything else.
pub const REGISTRATION: RegistrationPolicy = RegistrationPolicy::Loopback;
/// Where the dashboard listens unless told otherwise.
pub const DASHBOARD: &str = "http://localhost:3000";
/// 2 % of what was recovered, in millionths.
pub const FEE: Fee = Fee { millionths: 20_000 };

/// What every span is found under, unless several sidecars report to one collector.
pub const SERVICE: &str = "sentinel";
/// Payments are few and each may be asked about; a busy sidecar says less.
pub const SAMPLE: f64 = 1.0;

/// The gateways themselves try for up to three days (Stripe's live mode, PayPal).
pub const NOTIFY_GIVE_UP: Duration = Duration::from_secs(3 * 86_400);
