//! Generated payments: each walks a path through the production core, and what it must come to is written into books that
//! know the path and nothing of the core.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use sentinel::config::model::Mode;
use sentinel::gateway::outcome::{Outcome, Rejection};
use sentinel::gateway::{FenceStrength, Leg};
use sentinel::ledger::Ledger;
use sentinel::ledger::rows::{Change, NewEvent, Open, Opened, Position};
use sentinel::money::{Amount, Currency, DeclineClass};
use sentinel::payment::core::{
    Action, Event, Finding, Ids, Intent, KeyKind, Plan, PlannedGateway, Policy, Record, State, What, step,
};
use sentinel::upstream::{Evidence, Progress};
use uuid::Uuid;

pub const TENANTS: [&str; 3] = ["tn_one", "tn_two", "local"];
pub const CURRENCIES: [&str; 5] = ["EUR", "USD", "JPY", "KWD", "CLP"];
/// Payments being written at once.
const AT_ONCE: usize = 256;

/// What a path must come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub payments: i64,
    pub failed: i64,
    pub recovered: i64,
    pub recoveries: i64,
    pub captured: i64,
    pub revenue: i64,
    pub refunded: i64,
}

/// The generator's books, by tenant and currency.
#[derive(Clone, Debug, Default)]
pub struct Books(BTreeMap<(String, String), Sum>);

impl Books {
    pub fn add(&mut self, other: &Books) {
        for (place, sum) in &other.0 {
            self.put(place, *sum);
        }
    }

    fn put(&mut self, place: &(String, String), sum: Sum) {
        let all = self.0.entry(place.clone()).or_default();
        all.payments += sum.payments;
        all.failed += sum.failed;
        all.recovered += sum.recovered;
        all.recoveries += sum.recoveries;
        all.captured += sum.captured;
        all.revenue += sum.revenue;
        all.refunded += sum.refunded;
    }

    fn sum(&self, of: impl Fn(&(String, String)) -> bool) -> Sum {
        let mut sums = Books::default();
        let everything = (String::new(), String::new());
        for (_, sum) in self.0.iter().filter(|(place, _)| of(place)) {
            sums.put(&everything, *sum);
        }
        sums.0.get(&everything).copied().unwrap_or_default()
    }

    pub fn counts(&self, of: &dyn Fn(&str) -> bool) -> Sum {
        self.sum(|(tenant, _)| of(tenant))
    }

    pub fn money(&self, currency: &str, of: &dyn Fn(&str) -> bool) -> Sum {
        self.sum(|(tenant, found)| of(tenant) && found == currency)
    }
}

/// The paths, with the share of each in a thousand.
#[derive(Clone, Copy, Debug)]
enum Path {
    Healthy,
    Declined,
    /// The first gateway was not reached, or was busy; the second took it.
    Recovered(Outcome),
    /// The same, and a part or the whole was refunded.
    Refunded(Outcome),
    /// The hold was taken elsewhere and captured in part.
    Captured,
    /// A soft decline, taken elsewhere: not a recovery.
    Soft,
    /// Both failed.
    Both,
    /// The second declined.
    DeclinedElsewhere,
    /// Nothing is known.
    Doubt,
    /// Nothing was known, until it turned out that the first gateway had taken it.
    LateTruth,
    /// The request itself was refused: no gateway would do better.
    Refused,
}

fn path(random: &mut fastrand::Rng) -> Path {
    let busy = Outcome::Rejected(Rejection::Transient);
    let first = if random.bool() { Outcome::NotSent } else { busy };
    match random.u32(0..1000) {
        0..700 => Path::Healthy,
        700..780 => Path::Declined,
        780..850 => Path::Recovered(first),
        850..890 => Path::Refunded(first),
        890..910 => Path::Captured,
        910..930 => Path::Soft,
        930..945 => Path::Both,
        945..960 => Path::DeclinedElsewhere,
        960..970 => Path::Doubt,
        970..985 => Path::LateTruth,
        _ => Path::Refused,
    }
}

/// Writes payments, many at once, and answers the books.
pub async fn payments(ledger: &Arc<dyn Ledger>, number: u64, seed: u64) -> Books {
    payments_of(ledger, &TENANTS.map(str::to_owned), number, seed).await
}

/// The same, of other tenants.
pub async fn payments_of(ledger: &Arc<dyn Ledger>, tenants: &[String; 3], number: u64, seed: u64) -> Books {
    let mut books = Books::default();
    let mut written = futures_util::stream::iter(0..number)
        .map(|n| {
            let seed = seed.wrapping_mul(1_000_003).wrapping_add(n);
            one(Arc::clone(ledger), tenants, seed)
        })
        .buffer_unordered(AT_ONCE);
    while let Some((place, sum)) = written.next().await {
        books.put(&place, sum);
    }
    books
}

/// Writes payments one after the other, with a pause between.
pub async fn trickle(
    ledger: &Arc<dyn Ledger>,
    tenants: &[String; 3],
    number: u64,
    seed: u64,
    pause: Duration,
) -> Books {
    let mut books = Books::default();
    for n in 0..number {
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(n);
        let (place, sum) = one(Arc::clone(ledger), tenants, seed).await;
        books.put(&place, sum);
        tokio::time::sleep(pause).await;
    }
    books
}

struct Payment {
    ledger: Arc<dyn Ledger>,
    id: Uuid,
    tenant: String,
    state: State,
    position: Option<Position>,
    amount: Amount,
    sent: u16,
    random: fastrand::Rng,
}

async fn one(ledger: Arc<dyn Ledger>, tenants: &[String; 3], seed: u64) -> ((String, String), Sum) {
    let mut random = fastrand::Rng::with_seed(seed);
    let tenant = tenants[random.usize(0..tenants.len())].clone();
    let currency = Currency::parse(CURRENCIES[random.usize(0..CURRENCIES.len())]).expect("a currency");
    let path = path(&mut random);
    let amount = Amount {
        units: random.i64(100..500_000),
        currency,
    };
    let mut payment = Payment {
        ledger,
        id: Uuid::now_v7(),
        tenant: tenant.clone(),
        state: State::default(),
        position: None,
        amount,
        sent: 0,
        random,
    };
    let sum = payment.walk(path).await;
    ((tenant, currency.code().to_owned()), sum)
}

impl Payment {
    /// Walks a path; answers what it must come to.
    async fn walk(&mut self, path: Path) -> Sum {
        let units = self.amount.units;
        let none = Sum {
            payments: 1,
            ..Sum::default()
        };
        let failed = Sum { failed: 1, ..none };
        let recovered = Sum {
            recovered: 1,
            recoveries: 1,
            captured: units,
            revenue: units,
            ..failed
        };
        let intent = if matches!(path, Path::Captured) {
            Intent::Authorize
        } else {
            Intent::Sale
        };
        self.tell(What::Open(Box::new(self.plan(intent)))).await;
        let declined = |class| Outcome::Declined(class);
        match path {
            Path::Healthy => {
                self.hears(Outcome::Succeeded).await;
                Sum {
                    captured: units,
                    ..none
                }
            }
            Path::Declined => {
                self.hears(declined(DeclineClass::Hard)).await;
                none
            }
            Path::Recovered(first) => {
                self.hears(first).await;
                self.hears(Outcome::Succeeded).await;
                recovered
            }
            Path::Refunded(first) => {
                self.hears(first).await;
                self.hears(Outcome::Succeeded).await;
                let back = if self.random.bool() {
                    units
                } else {
                    self.random.i64(1..=units)
                };
                self.follow_up(Leg::Refund, back, Outcome::Succeeded).await;
                // A second one that the gateway declines moves nothing.
                if back < units {
                    self.follow_up(Leg::Refund, 1, declined(DeclineClass::Hard)).await;
                }
                Sum {
                    refunded: back,
                    ..recovered
                }
            }
            Path::Captured => {
                self.hears(Outcome::NotSent).await;
                self.hears(Outcome::Authorised).await;
                let part = self.random.i64(1..=units);
                self.follow_up(Leg::Capture, part, Outcome::Succeeded).await;
                Sum {
                    captured: part,
                    revenue: part,
                    ..recovered
                }
            }
            Path::Soft => {
                self.hears(declined(DeclineClass::Soft)).await;
                self.hears(Outcome::Succeeded).await;
                Sum {
                    captured: units,
                    ..none
                }
            }
            Path::Both => {
                self.hears(Outcome::NotSent).await;
                self.hears(Outcome::NotSent).await;
                failed
            }
            Path::DeclinedElsewhere => {
                self.hears(Outcome::NotSent).await;
                self.hears(declined(DeclineClass::Hard)).await;
                failed
            }
            Path::Doubt => {
                self.hears(Outcome::Unknown).await;
                self.tell(What::Deadline).await;
                failed
            }
            Path::LateTruth => {
                self.hears(Outcome::Unknown).await;
                self.tell(What::Deadline).await;
                self.observed(1, Outcome::Succeeded, units).await;
                Sum {
                    captured: units,
                    ..none
                }
            }
            Path::Refused => {
                self.hears(Outcome::Rejected(Rejection::Request)).await;
                none
            }
        }
    }

    fn plan(&self, intent: Intent) -> Plan {
        let gateway = |name: &str, native| PlannedGateway {
            name: name.to_owned(),
            fence: FenceStrength::F0,
            lookup: false,
            manual_capture: true,
            void: true,
            idempotency_hours: 24,
            modification_hours: 24,
            declines_stay_open: false,
            native,
        };
        Plan {
            mode: Mode::Fence,
            intent,
            amount: Some(self.amount),
            gateways: vec![gateway("stripe", true), gateway("adyen", false)],
            policy: Policy {
                key: KeyKind::Application,
                soft_decline: true,
                same_gateway_retries: 0,
                ..Policy::default()
            },
        }
    }

    /// The attempt that was sent last is answered.
    async fn hears(&mut self, outcome: Outcome) {
        let units = self.amount.units;
        self.observed(self.sent, outcome, units).await;
    }

    async fn observed(&mut self, n: u16, outcome: Outcome, units: i64) {
        let effect = matches!(outcome, Outcome::Succeeded | Outcome::Authorised);
        let took = Duration::from_millis(self.random.u64(20..900));
        let evidence = Evidence {
            progress: if outcome == Outcome::NotSent {
                Progress::Nothing
            } else {
                Progress::Committed
            },
            bytes_sent: 400,
            status: effect.then_some(200),
            took,
            ..Evidence::nothing_sent(String::new())
        };
        let finding = Finding {
            ids: Ids {
                payment: effect.then(|| format!("id-{n}")),
                ..Ids::default()
            },
            amount: effect.then_some(Amount { units, ..self.amount }),
            ..Finding::bare(outcome, "generated")
        };
        self.tell(What::Observed {
            n,
            finding: Box::new(finding),
            evidence: Some(Box::new(evidence)),
        })
        .await;
    }

    async fn follow_up(&mut self, leg: Leg, units: i64, outcome: Outcome) {
        self.tell(What::FollowUp {
            // Each has a key of its own: the same key again would be the same request.
            request: Some(format!("{leg:?}-{}", self.state.follow_ups.len())),
            leg,
            amount: Some(Amount { units, ..self.amount }),
            keeps: false,
        })
        .await;
        self.observed(self.sent, outcome, units).await;
    }

    async fn tell(&mut self, what: What) {
        let at = self.ledger.now() / 1000;
        let (state, actions) = step(std::mem::take(&mut self.state), Event { at, what });
        self.state = state;
        let mut records: Vec<Record> = Vec::new();
        for action in actions {
            match action {
                Action::Persist(more) => records.extend(more),
                Action::Send(send) => self.sent = send.n,
                _ => {}
            }
        }
        if records.is_empty() {
            return;
        }
        let events: Vec<NewEvent> = records
            .iter()
            .map(|record| NewEvent {
                kind: "generated".to_owned(),
                payload: serde_json::to_string(record).expect("a record"),
            })
            .collect();
        let state = self.state.phase.name().to_owned();
        let Some(position) = self.position else {
            let opened = self.ledger.open(Open {
                payment: self.id,
                op_id: Uuid::now_v7(),
                tenant: self.tenant.clone(),
                route: "checkout".to_owned(),
                key_hash: {
                    let mut hash = [0; 32];
                    hash[..16].copy_from_slice(self.id.as_bytes());
                    hash
                },
                amount: Some(self.amount.units),
                currency: Some(self.amount.currency.code().to_owned()),
                gateway: "stripe".to_owned(),
                lease_ms: 1000,
                state,
                folded: "{}".to_owned(),
                events,
                ..Open::default()
            });
            match opened.await.expect("the ledger opens it") {
                Opened::New(position) => self.position = Some(position),
                other => panic!("{other:?}"),
            }
            return;
        };
        let change = Change {
            payment: self.id,
            op_id: Uuid::now_v7(),
            version: position.version,
            epoch: position.epoch,
            state,
            folded: "{}".to_owned(),
            gateway: "stripe".to_owned(),
            terminal: self.state.finished(),
            events,
            ..Change::default()
        };
        self.position = Some(self.ledger.append(change).await.expect("the ledger takes it"));
    }
}
