//! Finding out whether a gateway is back, by calls that move no money. A customer's payment is never the probe.

use std::rc::Rc;
use std::time::Duration;

use super::{At, Desk};
use crate::resilience::breaker::{Probing, Report, Verdict};
use crate::resilience::jitter;
use crate::telemetry::event::AttemptFinished;
use crate::telemetry::labels::Kind;

/// How long a probe may take.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Desk {
    /// Sends a probe when the breaker wants one, and does not wait for it.
    pub(super) fn probe(self: &Rc<Self>, at: &At) {
        if !at.breaker.wants_probe(At::instant()) {
            return;
        }
        let desk = Rc::clone(self);
        let at = at.clone();
        tokio::task::spawn_local(async move { desk.ask_for_health(&at).await });
    }

    async fn ask_for_health(self: &Rc<Self>, at: &At) {
        let account = at.account(String::new(), String::new());
        let Some(outgoing) = at.gateway.probe(&account) else {
            return;
        };
        let Ok(mut permit) = at.breaker.admit(At::instant(), Probing::Allowed) else {
            return;
        };
        if let Some(transition) = permit.take_transition() {
            at.transition(&transition);
        }
        let exchanged = self.exchange(at, outgoing, TIMEOUT, false, async || true).await;
        let took = exchanged.evidence.took;
        let (verdict, result) = match &exchanged.answer {
            Some(answer) => (Verdict::of_status(answer.status.as_u16()), "answered"),
            None => (Verdict::Failure, "failed"),
        };
        AttemptFinished {
            at: &at.metrics,
            kind: Kind::Probe,
            result,
            took,
            sent: "not_sent",
            bytes_sent: exchanged.evidence.bytes_sent,
            status: exchanged.evidence.status,
            note: &exchanged.evidence.note,
            trace: None,
        }
        .emit();
        if let Some(transition) = permit.report(Report::new(verdict, took), At::instant(), jitter()) {
            at.transition(&transition);
        }
    }
}
