//! From the core's records to the ledger's rows.

use serde::Serialize;
use uuid::Uuid;

use super::super::core::keys::derive;
use super::super::core::{Decision, Key, Phase, Record, State, Why};
use super::dossier::{Dossier, NAME};
use super::tenants::LOCAL;
use super::{At, Desk, Engine, Route};
use crate::gateway::Leg;
use crate::ledger::LedgerError;
use crate::ledger::rows::{Change, Id, NewAttempt, NewEvent, Open, Position, Scope, Sealed, Winner};
use crate::telemetry::event::LedgerTrouble;

/// Seconds that a lease outlives one attempt.
const SPARE: std::time::Duration = std::time::Duration::from_secs(5);

/// The word of a leg in rows and labels.
pub(super) const fn leg(leg: Leg) -> &'static str {
    match leg {
        Leg::Charge => "charge",
        Leg::Auth => "auth",
        Leg::Capture => "capture",
        Leg::Void => "void",
        Leg::Refund => "refund",
        Leg::Fence => "fence",
        Leg::Lookup => "lookup",
    }
}

/// The event's name of a record.
fn kind(record: &Record) -> &'static str {
    match record {
        Record::IntentOpened { .. } => "intent_opened",
        Record::AttemptPlanned { .. } => "attempt_planned",
        Record::AttemptResent { .. } => "attempt_resent",
        Record::AttemptObserved { .. } => "attempt_observed",
        Record::Decision(decision) => match decision {
            Decision::FailoverLicensed { .. } => "failover_licensed",
            Decision::Winner { .. } => "winner",
            Decision::WinnerRevoked { .. } => "winner_revoked",
            Decision::Failed { .. } => "failed",
            Decision::Parked => "parked",
            Decision::Resumed => "resumed",
            Decision::Reopened { .. } => "reopened",
            Decision::Entered(_) => "entered",
        },
        Record::ObligationOpened { .. } => "obligation_opened",
        Record::ObligationClosed { .. } => "obligation_closed",
        Record::ResponseSealed { .. } => "response_sealed",
        Record::FollowUpOpened { .. } => "follow_up_opened",
        Record::Abandoned => "abandoned",
        // The ledger itself records "lease_taken" when it hands a lease over.
        Record::LeaseTaken { .. } => "recovered",
        Record::ManualHold { .. } => "manual_hold",
        Record::ManualResolved { .. } => "manual_resolved",
    }
}

/// JSON, in a buffer of about its length: growing one from nothing copies it several times.
fn json(value: &impl Serialize, length: usize) -> String {
    let mut text = Vec::with_capacity(length);
    match serde_json::to_writer(&mut text, value) {
        Ok(()) => String::from_utf8(text).unwrap_or_default(),
        Err(_) => String::new(),
    }
}

/// What rows are made from.
pub(super) struct Rows<'a> {
    pub engine: &'a Engine,
    pub route: &'a Route,
    pub payment: Uuid,
    /// The state after the records.
    pub state: &'a State,
    pub records: &'a [Record],
    pub dossier: &'a Dossier,
    /// Whether the dossier differs from what was sealed last.
    pub changed: bool,
}

impl Rows<'_> {
    fn events(&self) -> Vec<NewEvent> {
        let event = |record: &Record| NewEvent {
            kind: kind(record).to_owned(),
            payload: json(
                record,
                match record {
                    Record::IntentOpened { .. } => 1024,
                    Record::AttemptObserved { .. } => 640,
                    _ => 192,
                },
            ),
        };
        self.records.iter().map(event).collect()
    }

    fn folded(&self) -> String {
        json(self.state, 2048)
    }

    /// The gateway that has, or is now tried for, the payment.
    fn gateway(&self) -> String {
        let winner = self.state.winner.and_then(|n| self.state.attempt(n));
        let attempt = winner.or_else(|| self.state.pays().next_back().map(|(_, attempt)| attempt));
        let planned = match attempt {
            Some(attempt) => self.state.gateway_of(attempt),
            None => self.state.plan.gateways.first(),
        };
        planned.map_or_else(String::new, |planned| planned.name.clone())
    }

    fn attempts(&self) -> Vec<NewAttempt> {
        let mut rows = Vec::new();
        for record in self.records {
            let Record::AttemptPlanned {
                n,
                gateway,
                leg: of,
                key,
                ..
            } = record
            else {
                continue;
            };
            let Some(planned) = self.state.plan.gateway(*gateway) else {
                continue;
            };
            let mut carried = self.key(&planned.name, *of, *key);
            if carried.is_empty() {
                // A gateway without idempotency keys: the payment stands for one.
                carried = self.payment.to_string();
            }
            if self.route.tenant() != LOCAL {
                // A tenant's keys are its own: the same one of two tenants goes to two accounts of the gateway.
                carried = format!("{carried}@{}", self.route.tenant());
            }
            // The same key once more inside one payment is a new try of the same request, and stays distinct.
            let before = self.state.numbered().any(|(other, attempt)| {
                other < *n && attempt.gateway == *gateway && attempt.leg == *of && attempt.key == *key
            });
            rows.push(NewAttempt {
                n: u32::from(*n),
                gateway: planned.name.clone(),
                leg: leg(*of).to_owned(),
                gateway_key: if before {
                    format!("{carried}#{n}@{}", self.payment)
                } else {
                    carried
                },
            });
        }
        rows
    }

    /// The idempotency key of an attempt at a gateway.
    fn key(&self, gateway: &str, leg: Leg, key: Key) -> String {
        let at = self.route.at(gateway);
        self.engine
            .key(self.payment, at, gateway, leg, key, self.dossier.key.as_deref())
    }

    /// Ids learned or minted: the gateway's for its webhooks, the application's for its follow-ups.
    fn ids(&self) -> Vec<Id> {
        let mut ids = Vec::new();
        let dialect = self.route.dialect().dialect().name();
        let application = || Scope::Application {
            tenant: self.route.tenant().to_owned(),
            dialect: dialect.to_owned(),
        };
        let mut add = |scope: Scope, id: &str, kind: &str| {
            ids.push(Id {
                scope,
                id: id.to_owned(),
                kind: kind.to_owned(),
            });
        };
        let captures = self.route.dialect().captures_by_id();
        for record in self.records {
            match record {
                Record::AttemptPlanned {
                    n,
                    leg: Leg::Refund,
                    why: Why::FollowUp(_),
                    ..
                } => {
                    let id = self.engine.refund_id(self.route.dialect(), self.payment, *n);
                    add(application(), &id, &format!("refund:{n}"));
                }
                Record::AttemptPlanned {
                    n, gateway, leg, why, ..
                } => {
                    if (*leg, captures) == (Leg::Capture, true) && matches!(why, Why::FollowUp(_)) {
                        let id = self.engine.capture_id(self.route.dialect(), self.payment, *n);
                        add(application(), &id, &format!("capture:{n}"));
                    }
                    let native = self.state.plan.gateway(*gateway).is_some_and(|planned| planned.native);
                    if !native {
                        add(application(), &self.dossier.base.ids.payment, "payment");
                        if self.dossier.base.ids.charge != self.dossier.base.ids.payment {
                            add(application(), &self.dossier.base.ids.charge, "charge");
                        }
                    }
                }
                Record::AttemptObserved { n, finding, .. } => {
                    let Some(attempt) = self.state.attempt(*n) else {
                        continue;
                    };
                    let Some(planned) = self.state.gateway_of(attempt) else {
                        continue;
                    };
                    let known = [
                        (&finding.ids.payment, "payment"),
                        (&finding.ids.charge, "charge"),
                        (&finding.ids.modification, leg(attempt.leg)),
                    ];
                    for (id, kind) in known {
                        let Some(id) = id else { continue };
                        let scope = Scope::Gateway {
                            name: planned.name.clone(),
                        };
                        add(scope, id, kind);
                        if planned.native {
                            add(application(), id, kind);
                        }
                    }
                }
                _ => {}
            }
        }
        ids
    }

    fn seal(&self) -> Vec<Sealed> {
        if !self.changed {
            return Vec::new();
        }
        let value = json(self.dossier, 2048).into_bytes();
        vec![Sealed {
            name: NAME.to_owned(),
            value,
        }]
    }

    /// How long the lease lasts from now, in milliseconds.
    pub fn lease(route: &Route) -> i64 {
        let lease = route.failover().attempt_timeout + SPARE;
        i64::try_from(lease.as_millis()).unwrap_or(i64::MAX)
    }

    /// The row of a new payment.
    pub fn open(&self, key_hash: [u8; 32], fingerprint: [u8; 32], order: Option<[u8; 32]>, deadline: i64) -> Open {
        Open {
            payment: self.payment,
            op_id: Uuid::now_v7(),
            tenant: self.route.tenant().to_owned(),
            route: self.route.name().to_owned(),
            key_hash,
            fingerprint,
            fp_version: super::canon::VERSION,
            amount: self.state.plan.amount.map(|amount| amount.units),
            currency: self.state.plan.amount.map(|amount| amount.currency.code().to_owned()),
            order_ref_hash: order,
            order_guard: self.route.failover().order_guard,
            gateway: self
                .state
                .plan
                .gateways
                .first()
                .map_or_else(String::new, |first| first.name.clone()),
            deadline,
            lease_ms: Self::lease(self.route),
            state: self.state.phase.name().to_owned(),
            folded: self.folded(),
            events: self.events(),
            attempts: self.attempts(),
            ids: self.ids(),
            seal: self.seal(),
        }
    }

    /// The change of an open payment. Made anew under the same id when it has to be sent again.
    pub fn change(&self, op_id: Uuid, position: Position) -> Change {
        let state = self.state;
        let mut winner = Winner::Keep;
        for record in self.records {
            match record {
                Record::Decision(Decision::Winner { n }) => winner = Winner::Set(u32::from(*n)),
                Record::Decision(Decision::WinnerRevoked { .. }) => winner = Winner::Revoke,
                _ => {}
            }
        }
        let owed = state.obligations.iter().filter(|owed| owed.proof.is_none()).count();
        let doubtful = matches!(state.phase, Phase::InDoubt { .. } | Phase::Fencing { .. });
        let finished = state.finished();
        Change {
            payment: self.payment,
            op_id,
            version: position.version,
            epoch: position.epoch,
            state: state.phase.name().to_owned(),
            folded: self.folded(),
            gateway: self.gateway(),
            terminal: finished,
            in_doubt: doubtful || (state.parked && !state.phase.settled()),
            manual: state.phase == Phase::Manual,
            obligations: u32::try_from(owed).unwrap_or(u32::MAX),
            holds_order: self.route.failover().order_guard
                && !matches!(state.phase, Phase::Failed { .. } | Phase::Voided { .. }),
            amount: None,
            events: self.events(),
            attempts: self.attempts(),
            winner,
            ids: self.ids(),
            seal: self.seal(),
            lease_ms: if finished { 0 } else { Self::lease(self.route) },
        }
    }
}

/// Logs and counts what is wrong with the ledger. A failed disk ends the process: whether the record is durable is
/// unknowable (safety.md D8), and nothing may be sent, answered or written after it.
pub(super) fn trouble(desk: &Desk, error: &LedgerError) {
    LedgerTrouble {
        metrics: &desk.engine.metrics,
        kind: match error {
            LedgerError::Busy => "busy",
            LedgerError::Full => "full",
            LedgerError::Conflict { .. } => "conflict",
            LedgerError::NotFound => "not_found",
            LedgerError::Taken(_) => "taken",
            LedgerError::Invalid(_) => "invalid",
            LedgerError::Damaged(_) => "damaged",
            LedgerError::Fatal(_) => "fatal",
            LedgerError::Closed => "closed",
        },
        detail: &error.to_string(),
    }
    .emit();
    if let LedgerError::Fatal(_) = error {
        std::process::abort();
    }
}

impl Engine {
    /// The idempotency key of an attempt (safety rule D6).
    pub(super) fn key(
        &self,
        payment: Uuid,
        at: Option<&At>,
        gateway: &str,
        leg: Leg,
        key: Key,
        application: Option<&str>,
    ) -> String {
        let max = at.map_or(usize::MAX, |at| at.capabilities().idempotency_key_len);
        match (key, application) {
            (Key::Application, Some(application)) => application.to_owned(),
            // The application's key is gone with its dossier: nothing can be sent under it any more, and no other key may
            // take its place.
            (Key::Application, None) => String::new(),
            (Key::Derived { nth }, _) => derive(&self.gateway_secret, &payment.to_string(), gateway, leg, nth, max),
        }
    }
}
