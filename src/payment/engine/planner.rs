//! Which gateways a payment may be taken at, in which order.
//!
//! The route gives the order; the application's own gateway stays the first, because only it understands the request as it
//! is. Of the others those whose breakers are closed come first. One that an operator forced open is left out; one that is
//! open by itself is put last, for it may be back when its turn comes, and nothing is sent to it before. A gateway stays in
//! the plan when its account takes the amount and it can carry the very payment: the request is encoded for it on trial, so
//! that capability, currency, amount and instrument are judged by the adapter itself, before anything was promised. What is
//! refused is left out with its reason. The plan is pinned in the first record and never changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::HeaderValue;
use zeroize::Zeroizing;

use super::super::core::{Intent, KeyKind, Plan, PlannedGateway, Policy, Undelivered};
use super::{At, Engine, Route, instruments};
use crate::config::model::{self, Dialect, Mode};
use crate::gateway::canonical::{CaptureMode, EarlierAttempt, Instrument, Operation, Pay, Refusal, Request};
use crate::gateway::{AccessToken, Account, FenceStrength};
use crate::money::{Amount, Currency};
use crate::resilience::breaker;
use crate::telemetry::event::PlanRefused;

/// Why a gateway that is not well is tried after the others.
const PUT_LAST: &str = "breaker_open";

/// A plan, and what is charged at each gateway that is not the application's own.
pub(super) struct Planned {
    pub plan: Plan,
    pub tokens: BTreeMap<String, Instrument>,
    pub refused: Refused,
}

/// What each gateway was refused for, or put last; in the order in which they were looked at.
#[derive(Default)]
pub(super) struct Refused(Vec<(String, &'static str)>);

impl Refused {
    fn note(&mut self, route: &Route, at: &At, reason: &'static str) {
        PlanRefused {
            route: route.metrics(),
            gateway: &at.config.name,
            reason,
        }
        .emit();
        self.0.push((at.config.name.clone(), reason));
    }

    /// `adyen=currency_not_supported, square=breaker_open`; empty for none.
    pub fn words(&self) -> String {
        let each = self.0.iter().map(|(gateway, reason)| format!("{gateway}={reason}"));
        each.collect::<Vec<_>>().join(", ")
    }
}

/// Plans a payment. `Err` is why it cannot be taken anywhere but at the application's own gateway.
pub(super) async fn plan(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    pay: &Pay,
    alternates: &[HeaderValue],
    key: KeyKind,
) -> Result<Planned, (Refusal, Refused)> {
    let failover = route.failover();
    let intent = match pay.capture {
        CaptureMode::Automatic => Intent::Sale,
        CaptureMode::Manual => Intent::Authorize,
    };
    let mut refused = Refused::default();
    if let Some(name) = pay.unportable.first() {
        return Err((Refusal::Parameter(name.clone()), refused));
    }
    let sources = instruments::Sources::new(engine, route, pay, alternates);
    let mut mode = failover.mode;
    let mut gateways = Vec::new();
    let mut tokens = BTreeMap::new();
    let mut first_refusal = None;
    let mut in_order: Vec<&At> = route.gateways().iter().collect();
    in_order.sort_by_key(|at| !(at.native || at.closed()));
    for at in in_order {
        if at.native {
            // Gated, a sale is asked for as a hold; where that cannot be written, the payment is made the plain way.
            let gated = mode == Mode::Gated && intent == Intent::Sale;
            if gated && trial(at, held(pay)).is_err() {
                mode = Mode::Fence;
            }
            gateways.push(planned(
                at,
                engine.believed(at, failover).await,
                pay,
                mode,
                failover,
                key,
            ));
            continue;
        }
        let tried = async {
            if at.breaker.state() == breaker::State::ForcedOpen {
                return Err(Refusal::ForcedOpen);
            }
            taken(at, pay)?;
            let instrument = sources.at(at).await?;
            let translated = translated(pay, instrument.clone());
            let asked = match mode {
                Mode::Gated => held(&translated),
                _ => translated,
            };
            trial(at, asked)?;
            Ok::<_, Refusal>(instrument)
        };
        match tried.await {
            Ok(instrument) => {
                if !at.closed() {
                    refused.note(route, at, PUT_LAST);
                }
                if let Some(instrument) = instrument {
                    tokens.insert(at.config.name.clone(), instrument);
                }
                gateways.push(planned(
                    at,
                    engine.believed(at, failover).await,
                    pay,
                    mode,
                    failover,
                    key,
                ));
            }
            Err(refusal) => {
                refused.note(route, at, refusal.label());
                first_refusal.get_or_insert(refusal);
            }
        }
    }
    let others = gateways.iter().filter(|gateway| !gateway.native).count();
    if others == 0 {
        return Err((first_refusal.unwrap_or(Refusal::NoPortableInstrument), refused));
    }
    let plan = Plan {
        mode,
        intent,
        amount: pay.amount,
        gateways,
        policy: policy(failover, key),
    };
    Ok(Planned { plan, tokens, refused })
}

/// Whether the account takes the payment's amount, as far as the configuration says.
fn taken(at: &At, pay: &Pay) -> Result<(), Refusal> {
    let (Some(takes), Some(amount)) = (&at.config.takes, pay.amount) else {
        return Ok(());
    };
    match takes.get(amount.currency.code()) {
        None => Err(Refusal::Currency(amount.currency.code().to_owned())),
        Some(limits) if limits.hold(amount) => Ok(()),
        Some(_) => Err(Refusal::Limit("the account's own limits".to_owned())),
    }
}

/// The payment as another gateway is asked for it: ids of the application's own gateway mean nothing there.
pub(super) fn translated(pay: &Pay, instrument: Option<Instrument>) -> Pay {
    let mut pay = pay.clone();
    pay.instrument = instrument;
    pay.customer = None;
    pay.confirms = None;
    pay.operation = match pay.capture {
        CaptureMode::Automatic => Operation::Sale,
        CaptureMode::Manual => Operation::Authorize,
    };
    pay.metadata.retain(|key, _| !key.starts_with(instruments::METADATA));
    pay
}

/// The same payment as a hold.
pub(super) fn held(pay: &Pay) -> Pay {
    Pay {
        capture: CaptureMode::Manual,
        operation: Operation::Authorize,
        ..pay.clone()
    }
}

/// Whether the adapter can write it.
fn trial(at: &At, pay: Pay) -> Result<(), Refusal> {
    if !at.has_credentials() {
        return Err(Refusal::Account("credentials".to_owned()));
    }
    let account = at.questions.account.get_or_init(|| trial_account(at));
    let request = Request::Pay(Box::new(pay));
    match at.gateway.before(&request, account)? {
        // What is asked first is written from all that the payment itself is written from.
        Some(_) => Ok(()),
        None => at.gateway.encode(&request, account).map(|_| ()),
    }
}

pub(super) fn trial_account(at: &At) -> Account {
    let mut account = at.account("trial-trial".to_owned(), "trial".to_owned());
    account.token = Some(AccessToken {
        value: Zeroizing::new("trial".to_owned()),
        expires_in: 0,
    });
    account
}

/// What a gateway can be asked about an attempt whose answer was lost.
#[derive(Clone, Copy, Debug)]
struct Answerable {
    fences: bool,
    looks_up: bool,
}

/// What an account can be asked, found out once for each kind of payment: by its capture, key and currency. The questions
/// about two payments of one kind differ only in values that every adapter writes.
#[derive(Debug, Default)]
pub struct Questions {
    known: Mutex<Vec<(Kind, Answerable)>>,
    /// The account as it is written for on trial.
    account: OnceLock<Account>,
}

/// Whether money is taken at once, whether the attempt carries a key, and the currency.
type Kind = ((bool, bool), Currency);

impl Questions {
    fn of(&self, at: &At, pay: &Pay, (automatic, keyed): (bool, bool)) -> Answerable {
        let object = pay.confirms.clone().filter(|_| at.native);
        // An object of the application's own is named in the question, and may be none that can be asked about.
        let (None, Some(amount)) = (&object, pay.amount) else {
            return Answerable::found_out(at, object, pay.amount, (automatic, keyed));
        };
        let kind = ((automatic, keyed), amount.currency);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, answerable)) = known.iter().find(|(of, _)| *of == kind) {
            return *answerable;
        }
        let answerable = Answerable::found_out(at, None, Some(amount), (automatic, keyed));
        known.push((kind, answerable));
        answerable
    }
}

impl Answerable {
    fn found_out(at: &At, object: Option<String>, amount: Option<Amount>, (automatic, keyed): (bool, bool)) -> Self {
        let account = trial_account(at);
        let earlier = EarlierAttempt {
            idempotency_key: keyed.then(|| "trial".to_owned()),
            reference: Some("trial".to_owned()),
            object,
            amount,
            automatic_capture: automatic,
            ..EarlierAttempt::default()
        };
        let fences = at.has_credentials() && at.gateway.fence(&earlier, &account).is_some();
        let found = EarlierAttempt {
            object: Some("trial".to_owned()),
            charge: Some("trial".to_owned()),
            ..earlier.clone()
        };
        let looks_up = [&earlier, &found]
            .into_iter()
            .any(|earlier| at.gateway.lookup(earlier, &account).is_some());
        Self { fences, looks_up }
    }
}

/// The facts about a gateway that the payment's decisions rest on. What it can be asked is found out by writing the
/// question: an adapter may have a fence for holds and none for sales, or no way to look anything up.
fn planned(
    at: &At,
    believed: FenceStrength,
    pay: &Pay,
    mode: Mode,
    failover: &model::Failover,
    key: KeyKind,
) -> PlannedGateway {
    let capabilities = at.capabilities();
    let automatic = pay.capture == CaptureMode::Automatic && mode != Mode::Gated;
    // The application's own bytes bear the merchant's reference, and no key but its own or what a header carries.
    let own_bytes = at.native && (automatic || pay.capture == CaptureMode::Manual);
    let keyed = !own_bytes || key == KeyKind::Application || at.gateway.idempotency_header().is_some();
    let Answerable { fences, looks_up } = at.questions.of(at, pay, (automatic, keyed));
    // What can be ended only once its id is known is not fenced: an attempt whose answer was lost has no id.
    // Where that reference may name another payment, too, a fence by it could end that one, of which the application was
    // told.
    let ends_others = own_bytes && at.gateway.fences_by_reference() && !failover.order_guard;
    let fence = match fences && !ends_others {
        true => believed,
        false => believed.min(FenceStrength::F1),
    };
    let planned = PlannedGateway::new(at.config.name.clone(), capabilities, fence);
    PlannedGateway {
        lookup: looks_up && at.has_credentials(),
        // A declined Stripe intent can be confirmed again from the browser that has its secret.
        declines_stay_open: at.native && at.config.dialect == Dialect::Stripe,
        native: at.native,
        idempotency_hours: if keyed { planned.idempotency_hours } else { 0 },
        modification_hours: at.gateway.repeats(&at.config.settings),
        ..planned
    }
}

fn policy(failover: &model::Failover, key: KeyKind) -> Policy {
    let quiescent = failover.assume_quiescent_after.map(|after| after.as_secs());
    Policy {
        key,
        soft_decline: failover.on_soft_decline,
        gateway_decline: failover.on_gateway_decline,
        account_fault: failover.on_account_fault,
        decline_failovers: failover.max_declines,
        same_gateway_retries: failover.same_gateway_retries,
        fence_before_secondary: failover.fence_before_secondary,
        assume_quiescent_after: quiescent.map(|after| u32::try_from(after).unwrap_or(u32::MAX)),
        undelivered: match failover.undelivered {
            model::Undelivered::Keep => Undelivered::Keep,
            model::Undelivered::Void => Undelivered::Void,
        },
    }
}
