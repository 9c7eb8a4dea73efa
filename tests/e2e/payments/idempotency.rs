//! Idempotency keys in every way that they can be got wrong, in every mode, while the own gateway is well, while it
//! refuses connections, and while it executes and loses every answer: one key is one payment, what was told is true, and
//! no request gets around its key.

use futures_util::future::join_all;
use sentinel::sandbox::books::Audit;
use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};
use tokio::time::Instant;

use super::audit::{AtOnce, at_rest, most_at_once};
use super::own::{self, Over, Own, Says};
use crate::support::metrics::scrape;
use crate::support::patience::{PATIENCE, REST, within};
use crate::support::shop::{ADYEN_TOKEN, Setup, Shop, parsed};
use crate::support::wire::{Client, Message, once};

/// How the own gateway does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stripe {
    Well,
    Down,
    LosesAnswers,
}

/// A route under one circumstance.
struct Bench {
    shop: Shop,
    mode: &'static str,
    stripe: Stripe,
    at_once: AtOnce,
}

/// What Stripe's or Adyen's application is told.
fn says(answer: &Message) -> Result<Says, String> {
    let outcome = answer.header("sentinel-outcome").unwrap_or_default();
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let word = body["status"].as_str().or(body["resultCode"].as_str());
    match (answer.status(), word) {
        _ if outcome.starts_with("unknown") => Ok(Says::Doubt),
        (200, Some("succeeded" | "Authorised")) => Ok(Says::Taken),
        (200, Some("processing" | "Received")) => Ok(Says::Doubt),
        (400..=499 | 502 | 503, _) => Ok(Says::Nothing),
        _ => Err(format!(
            "neither definite nor in doubt: {} {}",
            answer.start,
            answer.text()
        )),
    }
}

/// The form of a sale; `amount` as it is written.
fn form(order: &str, amount: &str) -> String {
    format!(
        "amount={amount}&currency=eur&confirm=true&payment_method=pm_card_visa&metadata[order_id]={order}&payment_method_types[0]=card"
    )
}

/// A request with these lines in its head.
fn request(lines: &[u8], form: &str) -> Vec<u8> {
    let mut bytes =
        b"POST /v1/payment_intents HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk_test_shop\r\n".to_vec();
    bytes.extend_from_slice(lines);
    let length = form.len();
    let rest = format!(
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{form}"
    );
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// The lines of a key and of the other gateway's token.
fn keyed(key: &str) -> String {
    format!("Idempotency-Key: {key}\r\nSentinel-Instrument: adyen={ADYEN_TOKEN}\r\n")
}

impl Bench {
    async fn open(mode: &'static str, stripe: Stripe) -> Self {
        let (failover, at_once) = match mode {
            "gated" => ("mode: gated, hedge_after: 250ms", AtOnce::OneTaken),
            "compensate" => ("mode: compensate", AtOnce::OneInTheEnd),
            _ => ("mode: fence", AtOnce::One),
        };
        let shop = Shop::with(Setup {
            stripe: "stripe, adyen",
            adyen: "adyen, stripe",
            failover,
            attempt: "600ms",
            ..Setup::default()
        })
        .await;
        let gateway = shop.gateway("stripe");
        match stripe {
            Stripe::Well => {}
            Stripe::Down => shop.down("stripe").await,
            Stripe::LosesAnswers => {
                let lost = Fault::CutAnswer {
                    byte: 0,
                    cut: Cut::Rst,
                    when: When::After,
                };
                // Payments, not the fences of payments.
                let payments = Match {
                    contains: Some("order_id".to_owned()),
                    ..Match::path("POST", "/v1/payment_intents")
                };
                gateway.fault(Rule::always(payments, lost));
            }
        }
        Self {
            shop,
            mode,
            stripe,
            at_once,
        }
    }

    async fn send(&self, lines: impl AsRef<[u8]>, form: &str) -> Message {
        once(self.shop.stripe, request(lines.as_ref(), form)).await
    }

    /// Asks with a key until the payment is decided.
    async fn settled(&self, key: &str, form: &str) -> Message {
        let begun = Instant::now();
        loop {
            let answer = self.send(keyed(key), form).await;
            if says(&answer) != Ok(Says::Doubt) || begun.elapsed() > PATIENCE {
                return answer;
            }
            own::pause().await;
        }
    }

    /// Panics unless the order was taken once, and the answer says where.
    async fn taken(&self, what: &str, order: &str, answer: &Message) {
        let place = format!("{} {:?}, {what}", self.mode, self.stripe);
        assert_eq!(
            says(answer),
            Ok(Says::Taken),
            "{place}: {} {}",
            answer.start,
            answer.text()
        );
        self.true_of(&place, order, Says::Taken).await;
    }

    /// The books, once nothing is under way or owed any more.
    async fn rested(&self) -> Audit {
        let rests = within(REST, async || {
            scrape(self.shop.admin).await;
            at_rest(&self.shop.ledger(), None).then_some(())
        });
        rests.await.expect("it comes to rest");
        self.shop.audit().await
    }

    /// Panics unless the books agree with what was said.
    async fn true_of(&self, place: &str, order: &str, says: Says) {
        let audit = self.rested().await;
        let entries = self.shop.sandbox.books().entries();
        assert!(audit.violations.is_empty(), "{place}: {:?}", audit.violations);
        assert!(
            most_at_once(&entries, order, self.at_once) <= 1,
            "{place}: more than one effect at once"
        );
        let live = audit.live(order);
        match (says, live.as_slice()) {
            (Says::Taken, [one]) => assert_eq!((one.captured, one.refunded), (1999, 0), "{place}"),
            (Says::Nothing, []) | (Says::Doubt, [] | [_]) => {}
            _ => panic!("{place}: told {says:?}\nlive: {live:#?}"),
        }
    }

    async fn keys_that_two_could_read_differently(&self) {
        let long = format!("Idempotency-Key: {}\r\n", "k".repeat(256));
        let bad: [(&str, &[u8]); 9] = [
            ("two keys", b"Idempotency-Key: a\r\nIdempotency-Key: b\r\n"),
            ("one key twice", b"Idempotency-Key: a\r\nIdempotency-Key: a\r\n"),
            ("an empty key", b"Idempotency-Key:\r\n"),
            ("a key of 256 bytes", long.as_bytes()),
            ("a NUL", b"Idempotency-Key: a\0b\r\n"),
            ("a CR", b"Idempotency-Key: a\rb\r\n"),
            ("a tab", b"Idempotency-Key: a\tb\r\n"),
            ("Latin-1", b"Idempotency-Key: caf\xe9\r\n"),
            ("UTF-8", "Idempotency-Key: caf\u{e9}\r\n".as_bytes()),
        ];
        for (index, (what, line)) in bad.into_iter().enumerate() {
            let order = format!("bad-{index}");
            let lines = [line, b"Sentinel-Instrument: adyen=shopper-1/8415698462516992\r\n"].concat();
            let answer = self.send(lines, &form(&order, "1999")).await;
            assert_eq!(answer.status(), 400, "{what}: {}", answer.text());
            self.true_of(what, &order, Says::Nothing).await;
        }
    }

    async fn keys_that_look_like_something_else(&self) {
        let long = "k".repeat(255);
        let keys = [
            "'; DROP TABLE payments; --",
            "../../../../etc/passwd",
            "%0d%0aSet-Cookie: a=b",
            "x\" level=error msg=\"{\\\"forged\\\": true}",
            "${jndi:ldap://127.0.0.1/a} {{7*7}} %s%n",
            "<script>alert(1)</script>",
            &long,
        ];
        for (index, key) in keys.into_iter().enumerate() {
            let order = format!("odd-{index}");
            let first = self.settled(key, &form(&order, "1999")).await;
            self.taken(key, &order, &first).await;
            let again = self.settled(key, &form(&order, "1999")).await;
            assert_eq!(parsed(&again)["id"], parsed(&first)["id"], "{key}");
            self.taken(key, &order, &again).await;
        }
        let payments = self.shop.ledger();
        let count: i64 = payments
            .query_row("SELECT count(*) FROM payments", [], |row| row.get(0))
            .expect("the table is there");
        assert!(count >= 7);
        assert!(!self.shop.sentinel.log().contains("DROP TABLE"));
    }

    /// The same request, however it is written, is a repeat; anything else under its key is refused.
    async fn bodies_under_one_key(&self) {
        let (key, order) = ("body", "body");
        let first = self.settled(key, &form(order, "1999")).await;
        self.taken("the first", order, &first).await;
        let id = parsed(&first)["id"].clone();
        let same = [
            "payment_method_types[]=card&metadata[order_id]=body&payment_method=pm_card_visa&confirm=true&currency=eur&amount=1999",
            "amount=%31999&currency=eur&confirm=true&payment_method=pm_card_visa&metadata%5Border_id%5D=bod%79&payment_method_types%5B0%5D=card",
            "amount=1999&currency=EUR&confirm=true&payment_method=pm_card_visa&metadata[order_id]=body",
        ];
        for same in same {
            let again = self.settled(key, same).await;
            self.taken(same, order, &again).await;
            assert_eq!(parsed(&again)["id"], id, "{same}");
        }
        // Nothing is said of the other gateway's token any more: the payment is where it is.
        let bare = self.send("Idempotency-Key: body\r\n", &form(order, "1999")).await;
        if says(&bare) != Ok(Says::Doubt) {
            self.taken("without the token", order, &bare).await;
            assert_eq!(parsed(&bare)["id"], id);
        }
        self.true_of("without the token", order, Says::Taken).await;
        for (index, other) in OTHERS.iter().enumerate() {
            let other = other.replace("ORDER", order);
            let refused = self.send(keyed(key), &other).await;
            let said = says(&refused);
            assert!(
                matches!(said, Ok(Says::Nothing | Says::Doubt)),
                "{other}: {} {}",
                refused.start,
                refused.text()
            );
            self.true_of(&other, order, Says::Taken).await;
            // As a payment of its own it is taken once, or not at all.
            let order = format!("other-{index}");
            let other = OTHERS[index].replace("ORDER", &order);
            let answer = self.settled(&order, &other).await;
            let told = says(&answer).unwrap_or_else(|error| panic!("{other}: {error}"));
            let place = format!("{} {:?}: {other}", self.mode, self.stripe);
            match told {
                // It may be for another amount.
                Says::Taken => assert_eq!(self.rested().await.live(&order).len(), 1, "{place}"),
                told => self.true_of(&place, &order, told).await,
            }
        }
    }

    async fn one_key_on_two_routes(&self) {
        let first = self.settled("shared", &form("route-a", "1999")).await;
        self.taken("the first route", "route-a", &first).await;
        let begun = Instant::now();
        let second = loop {
            let answer = Own::Adyen.pay(&self.shop, "", "shared", "route-b", Over::Euros).await;
            if says(&answer) != Ok(Says::Doubt) || begun.elapsed() > PATIENCE {
                break answer;
            }
        };
        assert_eq!(says(&second), Ok(Says::Taken), "{}", second.text());
        self.true_of("the second route", "route-b", Says::Taken).await;
        self.true_of("the first route again", "route-a", Says::Taken).await;
    }

    async fn twins(&self, many: usize) {
        let body = form("twins", "1999");
        let answers = join_all((0..many).map(|_| self.send(keyed("twins"), &body))).await;
        let last = self.settled("twins", &body).await;
        self.taken("twins", "twins", &last).await;
        for answer in answers {
            match says(&answer) {
                Ok(Says::Taken) => assert_eq!(parsed(&answer)["id"], parsed(&last)["id"]),
                Ok(Says::Doubt) => {}
                // Of a round whose attempts were over before they left, on a busy machine: the next one is another.
                Ok(Says::Nothing) if answer.header("sentinel-outcome") == Some("not_executed") => {}
                other => panic!("{other:?}: {} {}", answer.start, answer.text()),
            }
        }
    }

    /// The application hangs up after every byte of its request, and then asks once more.
    async fn hangs_up(&self) {
        for (key, full) in [("cut", false), ("unread", true)] {
            let bytes = request(keyed(key).as_bytes(), &form(key, "1999"));
            let ends: Vec<usize> = match full {
                true => vec![bytes.len()],
                false => (0..bytes.len()).collect(),
            };
            for some in ends.chunks(64) {
                join_all(some.iter().map(|end| async {
                    let mut client = Client::connect(self.shop.stripe).await;
                    client.send(&bytes[..*end]).await;
                }))
                .await;
            }
            if !full {
                self.true_of("never whole", key, Says::Nothing).await;
            }
            let answer = self.settled(key, &form(key, "1999")).await;
            self.taken("after hanging up", key, &answer).await;
        }
    }

    /// The process stands still in the middle of a payment, and its application asks again meanwhile.
    async fn stands_still(&self) {
        let body = form("still", "1999");
        let bytes = request(keyed("still").as_bytes(), &body);
        let mut asked = Client::connect(self.shop.stripe).await;
        asked.send(&bytes).await;
        self.shop.sentinel.signal("STOP");
        let mut again = Client::connect(self.shop.stripe).await;
        again.send(&bytes).await;
        self.shop.sentinel.signal("CONT");
        let (first, second) = tokio::join!(asked.answer(), again.answer());
        let last = self.settled("still", &body).await;
        self.taken("after standing still", "still", &last).await;
        for answer in [first, second].into_iter().flatten() {
            if says(&answer) == Ok(Says::Taken) {
                assert_eq!(parsed(&answer)["id"], parsed(&last)["id"]);
            }
        }
    }
}

/// Requests that are not the first one, or no requests that two parties read alike.
const OTHERS: [&str; 14] = [
    "amount=2000&currency=eur&confirm=true&payment_method=pm_card_visa&metadata[order_id]=ORDER",
    "amount=1999&currency=usd&confirm=true&payment_method=pm_card_visa&metadata[order_id]=ORDER",
    "amount=1999.0&currency=eur&confirm=true&payment_method=pm_card_visa&metadata[order_id]=ORDER",
    "amount=2e3&currency=eur&confirm=true&payment_method=pm_card_visa&metadata[order_id]=ORDER",
    "amount=%2B1999&currency=eur&confirm=true&payment_method=pm_card_visa&metadata[order_id]=ORDER",
    "amount=01999&currency=eur&confirm=true&payment_method=pm_card_visa&metadata[order_id]=ORDER",
    "amount=1999%20&currency=eur&confirm=true&payment_method=pm_card_visa&metadata[order_id]=ORDER",
    "amount=+1999&currency=eur&confirm=true&payment_method=pm_card_visa&metadata[order_id]=ORDER",
    "amount=%D9%A1%D9%A9%D9%A9%D9%A9&currency=eur&confirm=true&payment_method=pm_card_visa&metadata[order_id]=ORDER",
    "amount=1999&amount=1999&currency=eur&confirm=true&payment_method=pm_card_visa&metadata[order_id]=ORDER",
    "amount=1&amount=1999&currency=eur&confirm=true&payment_method=pm_card_visa&metadata[order_id]=ORDER",
    "amount[]=1999&currency=eur&confirm=true&payment_method=pm_card_visa&metadata[order_id]=ORDER",
    "amount=1999&currency=eur&confirm=true&payment_method=pm_card_visa&metadata[order_id]=ORDER&transfer_data[destination]=acct_1",
    "amount=1999&currency=eur&confirm=true&payment_method=pm_card_mastercard&metadata[order_id]=ORDER",
];

async fn everything(mode: &'static str, stripe: Stripe) {
    let bench = Bench::open(mode, stripe).await;
    bench.keys_that_two_could_read_differently().await;
    bench.keys_that_look_like_something_else().await;
    bench.bodies_under_one_key().await;
    bench.one_key_on_two_routes().await;
    bench.twins(400).await;
    bench.hangs_up().await;
    bench.stands_still().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_one_payment_however_it_is_used_with_fences() {
    for stripe in [Stripe::Well, Stripe::Down, Stripe::LosesAnswers] {
        everything("fence", stripe).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_one_payment_however_it_is_used_gated() {
    for stripe in [Stripe::Well, Stripe::Down, Stripe::LosesAnswers] {
        everything("gated", stripe).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_one_payment_however_it_is_used_compensating() {
    for stripe in [Stripe::Well, Stripe::Down, Stripe::LosesAnswers] {
        everything("compensate", stripe).await;
    }
}
