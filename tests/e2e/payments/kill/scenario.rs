//! The payments that are killed: every mode, taken by the own gateway and by another one, with what follows.

use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};

use super::application::Step;
use crate::payments::audit::AtOnce;
use crate::support::shop::{Setup, Shop};

/// One of them.
pub struct Scenario {
    pub name: &'static str,
    /// Gateways of the route.
    pub gateways: &'static str,
    /// More failover settings.
    pub failover: &'static str,
    /// What goes wrong at the first gateway.
    pub fault: Option<fn() -> Rule>,
    /// What the application does.
    pub steps: &'static [Step],
    pub at_once: AtOnce,
}

impl Scenario {
    /// A shop in which it happens.
    pub async fn shop(&self, env: &[(&str, &str)]) -> Shop {
        let setup = Setup {
            stripe: self.gateways,
            failover: self.failover,
            attempt: "600ms",
            ..Setup::default()
        };
        let shop = Shop::with_env(setup, env).await;
        if let Some(fault) = self.fault {
            shop.gateway("stripe").fault(fault());
        }
        shop
    }
}

fn refuses() -> Rule {
    Rule::always(Match::default(), Fault::Refuse { ms: None })
}

fn lost(when: When) -> Rule {
    let fault = Fault::CutAnswer {
        byte: 0,
        cut: Cut::Rst,
        when,
    };
    Rule::once(Match::path("POST", "/v1/payment_intents"), fault)
}

fn executes_late() -> Rule {
    let fault = Fault::DelayExecution { ms: Some(900) };
    Rule::once(Match::path("POST", "/v1/payment_intents"), fault)
}

fn capture_lost() -> Rule {
    let fault = Fault::CutAnswer {
        byte: 0,
        cut: Cut::Rst,
        when: When::After,
    };
    Rule::once(Match::path("POST", "/v1/payment_intents/*"), fault)
}

const TWO: &str = "stripe, adyen";
const FENCE: &str = "mode: fence";
const GATED: &str = "mode: gated, hedge_after: 200ms";
const COMPENSATE: &str = "mode: compensate";

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "fence: the own gateway takes it",
        gateways: TWO,
        failover: FENCE,
        fault: None,
        steps: &[Step::Sale],
        at_once: AtOnce::One,
    },
    Scenario {
        name: "fence: not sent, taken elsewhere, refunded",
        gateways: TWO,
        failover: FENCE,
        fault: Some(refuses),
        steps: &[Step::Sale, Step::Refund],
        at_once: AtOnce::One,
    },
    Scenario {
        name: "fence: not sent, taken at PayPal",
        gateways: "stripe, paypal",
        failover: FENCE,
        fault: Some(refuses),
        steps: &[Step::Sale],
        at_once: AtOnce::One,
    },
    Scenario {
        name: "fence: unknown and not executed, fenced, taken elsewhere",
        gateways: TWO,
        failover: FENCE,
        fault: Some(|| lost(When::Before)),
        steps: &[Step::Sale],
        at_once: AtOnce::One,
    },
    Scenario {
        name: "fence: unknown and executed, found",
        gateways: TWO,
        failover: FENCE,
        fault: Some(|| lost(When::After)),
        steps: &[Step::Sale],
        at_once: AtOnce::One,
    },
    Scenario {
        name: "fence: held elsewhere, captured",
        gateways: TWO,
        failover: FENCE,
        fault: Some(refuses),
        steps: &[Step::Hold, Step::Capture],
        at_once: AtOnce::One,
    },
    Scenario {
        name: "fence: held elsewhere, voided",
        gateways: TWO,
        failover: FENCE,
        fault: Some(refuses),
        steps: &[Step::Hold, Step::Void],
        at_once: AtOnce::One,
    },
    Scenario {
        name: "gated: the own gateway takes it",
        gateways: TWO,
        failover: GATED,
        fault: None,
        steps: &[Step::Sale],
        at_once: AtOnce::OneTaken,
    },
    Scenario {
        name: "gated: executes late, taken elsewhere, loser voided",
        gateways: TWO,
        failover: GATED,
        fault: Some(executes_late),
        steps: &[Step::Sale],
        at_once: AtOnce::OneTaken,
    },
    Scenario {
        name: "gated: unknown and executed, taken elsewhere, loser voided",
        gateways: TWO,
        failover: GATED,
        fault: Some(|| lost(When::After)),
        steps: &[Step::Sale],
        at_once: AtOnce::OneTaken,
    },
    Scenario {
        name: "gated: the capture's answer is lost",
        gateways: TWO,
        failover: GATED,
        fault: Some(capture_lost),
        steps: &[Step::Sale],
        at_once: AtOnce::OneTaken,
    },
    Scenario {
        name: "compensate: unknown and executed, taken elsewhere, loser refunded",
        gateways: TWO,
        failover: COMPENSATE,
        fault: Some(|| lost(When::After)),
        steps: &[Step::Sale],
        at_once: AtOnce::OneInTheEnd,
    },
    Scenario {
        name: "compensate: unknown and not executed, taken elsewhere",
        gateways: TWO,
        failover: COMPENSATE,
        fault: Some(|| lost(When::Before)),
        steps: &[Step::Sale],
        at_once: AtOnce::OneInTheEnd,
    },
];
