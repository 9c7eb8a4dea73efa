//! The payments that are killed: every mode, every gateway as the first and as the second, with what follows.

use std::time::Duration;

use sentinel::sandbox::NativeError;
use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};

use super::application::Application;
use crate::payments::audit::AtOnce;
use crate::payments::own::{Over, Own, Step};
use crate::support::shop::{Setup, Shop};

/// One of them.
pub struct Scenario {
    pub name: String,
    /// Whose application it is; its gateway is the first of the route.
    own: Own,
    /// The second.
    second: Own,
    /// More failover settings.
    failover: &'static str,
    /// What goes wrong at the first gateway.
    fault: Option<fn(Own) -> Rule>,
    /// Whether the second gateway refuses the first request that it gets, before it does anything.
    limited: bool,
    /// What the application does.
    pub steps: &'static [Step],
    pub at_once: AtOnce,
    /// Whether the slice of `cargo test` kills it, too.
    pub sliced: bool,
}

impl Scenario {
    /// A shop in which it happens.
    pub async fn shop(&self, env: &[(&str, &str)]) -> Shop {
        let setup = Setup {
            failover: self.failover,
            attempt: "600ms",
            ..Setup::default()
        };
        let setup = setup.of(self.own.name(), &[self.own.name(), self.second.name()]);
        let shop = Shop::with_env(setup, env).await;
        // What a search finds is there at once: how long it lags is no part of what is judged here.
        shop.gateway("braintree").set("search_lag", "0").expect("a setting");
        shop
    }

    /// The application, ready to pay; from now on things go wrong.
    pub async fn application(&self, shop: &Shop) -> Application {
        let over = match self.own == Own::Razorpay || self.second == Own::Razorpay {
            true => Over::Rupees,
            false => Over::Euros,
        };
        let mut application = Application::new(self.own, over, self.steps, shop).await;
        if !(self.own.decides() && self.second.decides()) {
            application.gives_up = Some(Duration::from_secs(8));
        }
        if let Some(fault) = self.fault {
            let (gateway, rule) = (shop.gateway(self.own.name()), fault(self.own));
            let refuses = matches!(rule.fault, Fault::Refuse { .. });
            gateway.fault(rule);
            if refuses {
                gateway.refusing().await;
            }
        }
        if self.limited {
            shop.gateway(self.second.name()).fault(limits());
        }
        application
    }
}

fn refuses(_own: Own) -> Rule {
    Rule::always(Match::default(), Fault::Refuse { ms: None })
}

fn limits() -> Rule {
    let fault = Fault::Native {
        error: NativeError::RateLimit,
        when: When::Before,
        retry_after: None,
        stored: false,
    };
    Rule::once(Match::default(), fault)
}

fn lost(own: Own, when: When) -> Rule {
    let fault = Fault::CutAnswer {
        byte: 0,
        cut: Cut::Rst,
        when,
    };
    Rule::once(own.first(), fault)
}

fn executed(own: Own) -> Rule {
    lost(own, When::After)
}

fn not_executed(own: Own) -> Rule {
    lost(own, When::Before)
}

fn executes_late(own: Own) -> Rule {
    Rule::once(own.first(), Fault::DelayExecution { ms: Some(900) })
}

fn capture_lost(_own: Own) -> Rule {
    let fault = Fault::CutAnswer {
        byte: 0,
        cut: Cut::Rst,
        when: When::After,
    };
    Rule::once(Match::path("POST", "/v1/payment_intents/*"), fault)
}

const FENCE: &str = "mode: fence";
const GATED: &str = "mode: gated, hedge_after: 200ms";
const COMPENSATE: &str = "mode: compensate";

type What = (&'static str, Option<fn(Own) -> Rule>, &'static [Step]);

/// One between two gateways. The mode is the first word of the name.
fn between(own: Own, second: Own, what: What) -> Scenario {
    let (name, fault, steps) = what;
    let (failover, at_once) = match name.split(':').next() {
        Some("gated") => (GATED, AtOnce::OneTaken),
        Some("compensate") => (COMPENSATE, AtOnce::OneInTheEnd),
        _ => (FENCE, AtOnce::One),
    };
    Scenario {
        name: format!("{name} ({}, {})", own.name(), second.name()),
        own,
        second,
        failover,
        fault,
        limited: false,
        steps,
        at_once,
        sliced: true,
    }
}

const TAKEN: What = ("fence: the own gateway takes it", None, &[Step::Sale]);
const REFUNDED: What = (
    "fence: not sent, taken elsewhere, refunded",
    Some(refuses),
    &[Step::Sale, Step::Refund],
);
const ELSEWHERE: What = ("fence: not sent, taken elsewhere", Some(refuses), &[Step::Sale]);
const FOUND: What = ("fence: unknown and executed, found", Some(executed), &[Step::Sale]);
const CAPTURED: What = (
    "fence: held elsewhere, captured",
    Some(refuses),
    &[Step::Hold, Step::Capture],
);
const VOIDED: What = (
    "fence: held elsewhere, voided",
    Some(refuses),
    &[Step::Hold, Step::Void],
);
const AGAIN: What = (
    "fence: executed by nobody, asked again, taken elsewhere",
    Some(refuses),
    &[Step::Sale],
);
const LOSER_VOIDED: What = (
    "gated: unknown and executed, taken elsewhere, loser voided",
    Some(executed),
    &[Step::Sale],
);

/// All that can happen between Stripe and Adyen.
const EVERYTHING: &[What] = &[
    TAKEN,
    REFUNDED,
    (
        "fence: unknown and not executed, fenced, taken elsewhere",
        Some(not_executed),
        &[Step::Sale],
    ),
    FOUND,
    CAPTURED,
    VOIDED,
    ("gated: the own gateway takes it", None, &[Step::Sale]),
    (
        "gated: executes late, taken elsewhere, loser voided",
        Some(executes_late),
        &[Step::Sale],
    ),
    LOSER_VOIDED,
    ("gated: the capture's answer is lost", Some(capture_lost), &[Step::Sale]),
    (
        "compensate: unknown and executed, taken elsewhere, loser refunded",
        Some(executed),
        &[Step::Sale],
    ),
    (
        "compensate: unknown and not executed, taken elsewhere",
        Some(not_executed),
        &[Step::Sale],
    ),
];

/// The others, in a ring: each is the first of one pair and the second of another.
const RING: &[(Own, Own)] = &[
    (Own::Adyen, Own::Paypal),
    (Own::Paypal, Own::Braintree),
    (Own::Braintree, Own::Square),
    (Own::Square, Own::Stripe),
    (Own::Razorpay, Own::Stripe),
    (Own::Stripe, Own::Razorpay),
];

/// All of them.
pub fn all() -> Vec<Scenario> {
    let mut all: Vec<Scenario> = EVERYTHING
        .iter()
        .map(|what| between(Own::Stripe, Own::Adyen, *what))
        .collect();
    all.push(Scenario {
        limited: true,
        ..between(Own::Stripe, Own::Adyen, AGAIN)
    });
    for (own, second) in RING {
        // Razorpay holds by the account's setting, and releases nothing.
        let holds = *own != Own::Razorpay && *second != Own::Razorpay;
        // Where a kill lets Braintree itself take the payment, it gives nothing back before the night.
        let first = if *own == Own::Braintree { ELSEWHERE } else { REFUNDED };
        let whole: &[What] = match holds {
            true => &[first, TAKEN, FOUND, CAPTURED, VOIDED, LOSER_VOIDED],
            false => &[first, TAKEN, FOUND],
        };
        all.extend(whole.iter().enumerate().map(|(index, what)| Scenario {
            sliced: index == 0,
            ..between(*own, *second, *what)
        }));
    }
    all
}
