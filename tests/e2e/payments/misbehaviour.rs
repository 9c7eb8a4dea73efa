//! A first gateway that misbehaves, in every way of the evidence table and of the list of bad inputs, in every mode: the
//! application asks with its key until it is told, and then the books of all simulators are held against what it heard.
//! At most one effect is live, what was told is true, and what can be decided is.

mod catalogue;
mod webhooks;

use std::time::Duration;

use sentinel::sandbox::fault::Rule;
use tokio::time::Instant;

use super::audit::{AtOnce, at_rest, most_at_once, owing};
use super::own::{self, Over, Own, Says};
use crate::support::metrics::scrape;
use crate::support::patience::{REST, within};
use crate::support::shop::{Setup, Shop};
use crate::support::wire::Message;
use catalogue::{Case, Ends};

/// One column of the table: a route on which every case happens.
#[derive(Clone, Copy)]
struct Column {
    own: Own,
    second: Own,
    /// Whether the second one misbehaves, while the first is down; else the first does.
    at_second: bool,
    mode: &'static str,
    at_once: AtOnce,
    keyed: bool,
    http2: bool,
}

const fn column(own: Own, second: Own, mode: &'static str) -> Column {
    let at_once = match mode.as_bytes() {
        b"gated" => AtOnce::OneTaken,
        b"compensate" => AtOnce::OneInTheEnd,
        _ => AtOnce::One,
    };
    Column {
        own,
        second,
        at_second: false,
        mode,
        at_once,
        keyed: true,
        http2: false,
    }
}

/// The second one misbehaves.
const fn behind(own: Own, second: Own, mode: &'static str) -> Column {
    Column {
        at_second: true,
        ..column(own, second, mode)
    }
}

/// Every gateway as the first, in every mode that it can, and as the second.
const COLUMNS: &[Column] = &[
    column(Own::Stripe, Own::Adyen, "fence"),
    column(Own::Stripe, Own::Adyen, "gated"),
    column(Own::Stripe, Own::Adyen, "compensate"),
    Column {
        keyed: false,
        ..column(Own::Stripe, Own::Adyen, "fence")
    },
    Column {
        http2: true,
        ..column(Own::Stripe, Own::Adyen, "fence")
    },
    Column {
        http2: true,
        ..column(Own::Stripe, Own::Adyen, "compensate")
    },
    column(Own::Adyen, Own::Stripe, "fence"),
    column(Own::Adyen, Own::Stripe, "gated"),
    column(Own::Adyen, Own::Stripe, "compensate"),
    column(Own::Paypal, Own::Adyen, "fence"),
    column(Own::Paypal, Own::Adyen, "gated"),
    column(Own::Paypal, Own::Adyen, "compensate"),
    column(Own::Braintree, Own::Square, "fence"),
    column(Own::Braintree, Own::Square, "gated"),
    column(Own::Braintree, Own::Square, "compensate"),
    column(Own::Square, Own::Braintree, "fence"),
    column(Own::Square, Own::Braintree, "gated"),
    column(Own::Square, Own::Braintree, "compensate"),
    column(Own::Razorpay, Own::Stripe, "fence"),
    column(Own::Razorpay, Own::Stripe, "compensate"),
    behind(Own::Paypal, Own::Stripe, "fence"),
    behind(Own::Square, Own::Adyen, "fence"),
    behind(Own::Braintree, Own::Paypal, "fence"),
    behind(Own::Adyen, Own::Braintree, "fence"),
    behind(Own::Stripe, Own::Square, "fence"),
    behind(Own::Stripe, Own::Razorpay, "fence"),
    behind(Own::Paypal, Own::Stripe, "gated"),
    behind(Own::Square, Own::Adyen, "gated"),
    behind(Own::Braintree, Own::Paypal, "gated"),
    behind(Own::Adyen, Own::Braintree, "gated"),
    behind(Own::Stripe, Own::Square, "gated"),
];

impl Column {
    fn name(&self) -> String {
        let key = if self.keyed { "" } else { ", no key" };
        let http2 = if self.http2 { ", HTTP/2" } else { "" };
        match self.at_second {
            true => format!(
                "{} behind {} {}{key}{http2}",
                self.second.name(),
                self.own.name(),
                self.mode
            ),
            false => format!("{} {}{key}{http2}", self.own.name(), self.mode),
        }
    }

    /// The one that misbehaves.
    fn hit(&self) -> Own {
        if self.at_second { self.second } else { self.own }
    }

    fn over(&self) -> Over {
        match self.own == Own::Razorpay || self.second == Own::Razorpay {
            true => Over::Rupees,
            false => Over::Euros,
        }
    }

    fn cases(&self) -> Vec<Case> {
        match self.http2 {
            true => catalogue::http2(self.hit()),
            false => catalogue::cases(self.hit()),
        }
    }

    /// Its shop; webhooks are verified, and passed on, where they have somewhere to go.
    async fn shop(&self, notify: Option<String>) -> Shop {
        let failover = match self.mode {
            "gated" => "mode: gated, hedge_after: 250ms, on_soft_decline: true",
            "compensate" => "mode: compensate, on_soft_decline: true",
            _ => "mode: fence, on_soft_decline: true",
        };
        let setup = Setup {
            failover,
            attempt: "600ms",
            gateway: if self.http2 { ", protocol: h2" } else { "" },
            // A whole column of misbehaviours without one good answer between them opens any breaker, and then says nothing.
            breaker: "consecutive: 100000, min_calls: 100000",
            notify,
            ..Setup::default()
        };
        let shop = Shop::with(setup.of(self.own.name(), &[self.own.name(), self.second.name()])).await;
        // What a search finds is there at once: how long it lags is no part of what is judged here.
        shop.gateway("braintree").set("search_lag", "0").expect("a setting");
        // A decline that names the processor's code, within an order that calls itself completed.
        shop.gateway("paypal")
            .set("declines_inside", "true")
            .expect("a setting");
        shop
    }

    /// Takes the first one down, where the second one is to be asked.
    async fn begin(&self, shop: &Shop) {
        if self.at_second {
            shop.down(self.own.name()).await;
        }
    }
}

/// What came of a case.
struct Came {
    row: &'static str,
    name: String,
    cell: String,
    wrong: Option<String>,
}

/// How long the application asks again, and how often at least: on a busy machine its first answer alone takes its time.
const PATIENCE: Duration = Duration::from_secs(60);
const TRIES: usize = 8;

/// What is said of a fault that did not come to pass: an attempt whose time was over before it arrived, on a busy machine.
const MISSED: &str = "the fault hit nothing";

/// A case, again where its fault hit nothing.
async fn hitting(shop: &Shop, column: &Column, token: &str, index: usize, one: &Case) -> Came {
    let mut came = case(shop, column, token, &format!("{index}"), one.clone()).await;
    for again in 1..4 {
        if !came.wrong.as_ref().is_some_and(|wrong| wrong.ends_with(MISSED)) {
            break;
        }
        came = case(shop, column, token, &format!("{index}-{again}"), one.clone()).await;
    }
    came
}

/// One payment under one misbehaviour.
async fn case(shop: &Shop, column: &Column, token: &str, index: &str, mut case: Case) -> Came {
    let (own, hit) = (column.own, column.hit());
    if !hit.decides() {
        case.ends = Ends::Any;
    }
    let key = format!("key-{index}");
    let order = own.open(shop, &format!("order-{index}")).await;
    let gateway = shop.gateway(hit.name());
    let rules: Vec<Rule> = case.rules.iter().map(|rule| hit.only(rule, &order)).collect();
    for rule in &rules {
        gateway.fault(rule.clone());
    }
    let key = if column.keyed { key.as_str() } else { "" };
    let begun = Instant::now();
    let mut answers: Vec<Message> = Vec::new();
    let says = loop {
        let answer = own.pay(shop, token, key, &order, column.over()).await;
        let says = own.says(shop, &answer).await.expect("the process answers");
        answers.push(answer);
        let patient = column.keyed && case.ends != Ends::Any && (begun.elapsed() < PATIENCE || answers.len() < TRIES);
        if says != Ok(Says::Doubt) || !patient {
            break says;
        }
        own::pause().await;
    };
    let left = gateway.faults();
    shop.up(hit.name()).await;
    let missed = rules
        .first()
        .is_some_and(|first| first.times == Some(1) && left.contains(first));
    // Whether a new connection is opened depends on what the pool kept.
    let says = match missed && rules.iter().all(|rule| rule.matcher.path.is_some()) {
        true => Err(MISSED.to_owned()),
        false => says,
    };
    let (cell, wrong) = match says {
        Ok(says) => {
            let payment = answers
                .last()
                .and_then(|answer| answer.header("sentinel-payment"))
                .map(str::to_owned);
            let judged = judge(shop, column, &case, &order, says, &answers, payment.as_deref()).await;
            match judged {
                Ok(cell) => (cell, None),
                Err(wrong) => {
                    let timeline = payment.map_or_else(String::new, |payment| shop.timeline(&payment));
                    ("WRONG".to_owned(), Some(format!("{wrong}\n{timeline}")))
                }
            }
        }
        Err(wrong) => ("WRONG".to_owned(), Some(wrong)),
    };
    Came {
        row: case.row,
        wrong: wrong.map(|wrong| format!("{} / {}: {wrong}", column.name(), case.name)),
        name: case.name,
        cell,
    }
}

/// Holds what was told against the books.
async fn judge(
    shop: &Shop,
    column: &Column,
    case: &Case,
    order: &str,
    says: Says,
    answers: &[Message],
    payment: Option<&str>,
) -> Result<String, String> {
    if says != Says::Doubt
        && let Some(payment) = payment
    {
        rest(shop, column.hit(), payment).await?;
    }
    let audit = shop.audit().await;
    if !audit.violations.is_empty() {
        return Err(format!("the books: {:?}", audit.violations));
    }
    let most = most_at_once(&shop.sandbox.books().entries(), order, column.at_once);
    if most > 1 {
        return Err(format!("{most} effects at once"));
    }
    // What is owed and waits for its gateway is no second payment: it is recorded, and driven until it is proven.
    let owing = payment.map_or_else(Vec::new, |payment| owing(&shop.ledger(), Some(payment)));
    let mut live = audit.live(order);
    live.retain(|position| !owing.contains(&position.gateway));
    let told = answers.last().ok_or("no answer")?;
    let owner = told.header("sentinel-gateway").unwrap_or_default();
    let times = match answers.len() {
        1 => String::new(),
        n => format!(", asked {n} times"),
    };
    let times = match &owing[..] {
        [] => times,
        owing => format!("{times}, owed at {}", owing.join(" and ")),
    };
    match (says, &live[..]) {
        (Says::Taken, _) if case.ends == Ends::Refused => Err(format!("taken by {owner} all the same")),
        (Says::Taken, [one]) if one.gateway == owner && (one.captured, one.refunded) == (1999, 0) => {
            let place = if owner == column.own.name() { "own" } else { "elsewhere" };
            Ok(format!("{place}{times}"))
        }
        (Says::Nothing, []) => Ok(format!("nothing{times}")),
        (Says::Doubt, [] | [_]) if case.ends == Ends::Any || !column.keyed => Ok("in doubt".to_owned()),
        (Says::Doubt, _) if column.at_once == AtOnce::OneInTheEnd && case.ends == Ends::Any => {
            Ok("in doubt".to_owned())
        }
        _ => Err(format!(
            "told {says:?} by {} {}\nlive: {live:#?}",
            told.start,
            told.text().chars().take(300).collect::<String>()
        )),
    }
}

/// Waits until nothing is under way or owed, but for what a gateway decides in its own time.
async fn rest(shop: &Shop, hit: Own, payment: &str) -> Result<(), String> {
    let left = || {
        let owing = owing(&shop.ledger(), Some(payment));
        !hit.decides() && !owing.is_empty() && owing.iter().all(|gateway| gateway == hit.name())
    };
    let rests = within(REST, async || {
        scrape(shop.admin).await;
        (at_rest(&shop.ledger(), Some(payment)) || left()).then_some(())
    });
    rests.await.ok_or_else(|| "it does not come to rest".to_owned())
}

/// Every `stride`-th case of a column, of those whose row and name contain a text.
async fn run(column: &Column, stride: usize, phase: usize, text: &str) -> Vec<Came> {
    let chosen: Vec<(usize, Case)> = column
        .cases()
        .into_iter()
        .enumerate()
        .filter(|(index, one)| {
            let wanted = format!("{}: {}", one.row, one.name).contains(text);
            wanted && index % stride == phase % stride
        })
        .collect();
    let mut came = Vec::new();
    let mut chosen = chosen.into_iter().peekable();
    while chosen.peek().is_some() {
        // Stripe's list of a minute has a hundred places, and what is lost is looked for in one.
        let shop = column.shop(None).await;
        let token = column.own.token(&shop).await;
        column.begin(&shop).await;
        for (index, one) in chosen.by_ref().take(50) {
            came.push(hitting(&shop, column, &token, index, &one).await);
        }
    }
    came.extend(webhooks::run(column, stride, phase, text).await);
    came
}

/// Runs columns beside each other, prints what came of them, and gives back what was wrong.
async fn table(columns: &[Column], stride: usize, text: &str) -> Vec<String> {
    let runs = columns
        .iter()
        .enumerate()
        .map(|(phase, column)| run(column, stride, phase, text));
    let all = futures_util::future::join_all(runs).await;
    let mut wrong = Vec::new();
    println!("| route | row | first gateway | came of it |");
    println!("|---|---|---|---|");
    for (column, came) in columns.iter().zip(all) {
        for came in came {
            println!("| {} | {} | {} | {} |", column.name(), came.row, came.name, came.cell);
            wrong.extend(came.wrong);
        }
    }
    wrong
}

/// A slice: other cases in every column.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_first_gateway_does_there_is_one_effect_and_the_truth_is_told() {
    let wrong = table(COLUMNS, 11, "").await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// All of it; see `tests/double-charge/run`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes three quarters of an hour: tests/double-charge/run"]
async fn everything() {
    let set = |name| std::env::var(name).unwrap_or_default();
    let (only, cases) = (set("ONLY"), set("CASES"));
    let columns: Vec<Column> = COLUMNS
        .iter()
        .filter(|column| column.name().contains(&only))
        .copied()
        .collect();
    let mut wrong = Vec::new();
    for some in columns.chunks(4) {
        wrong.extend(table(some, 1, &cases).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
