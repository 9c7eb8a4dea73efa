//! Carrying a step out: what it decided is made durable first, then done.
//!
//! The ledger is at work on threads of its own, for about as long as it takes to write a request or an answer. So what
//! comes next is made ready meanwhile: an attempt is written out, an answer is rendered. Neither leaves before the ledger has
//! acknowledged what it follows from; when it does not, what was made ready is dropped.

use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;

use super::super::super::core::{self, Action, Record, State};
use super::super::flight::Flight;
use super::super::persist::{Rows, trouble};
use super::{Actor, LEDGER_PAUSE, Lost};
use crate::gateway::Reply;
use crate::ledger::{Constraint, LedgerError};
use crate::telemetry::event::LedgerCommitted;

/// What was made ready while the ledger recorded what it follows from.
#[derive(Default)]
pub(in crate::payment::engine) struct Prepared {
    /// An attempt, or why it is not sent.
    pub flight: Option<(u16, Result<Flight, &'static str>)>,
    /// What whoever waits longest is told.
    pub reply: Option<Reply>,
}

impl Actor {
    /// Carries out what a step decided, in its order.
    pub(super) async fn carry_out(&mut self, next: State, actions: Vec<Action>, own_ids: bool) -> Result<(), Lost> {
        let (mut send, mut tell) = (None, None);
        for action in &actions {
            match action {
                Action::Send(first) if send.is_none() => send = Some(first.clone()),
                // The first takes everybody who waits.
                Action::Answer { verdict, .. } if tell.is_none() => tell = Some(*verdict),
                _ => {}
            }
        }
        let mut actions = actions.into_iter().peekable();
        let mut prepared = Prepared::default();
        if let Some(Action::Persist(records)) = actions.next_if(|action| matches!(action, Action::Persist(_))) {
            let meanwhile = |actor: &Self| {
                prepared.flight = send.map(|send| (send.n, actor.ground(&next).prepare(&send, None)));
                let first = actor.callers.first();
                let told = tell.zip(first);
                prepared.reply = told.map(|(verdict, first)| actor.written(&next, verdict, &first.material));
            };
            self.persist(&next, &records, own_ids, meanwhile).await?;
            self.state = next;
            self.noticed(&records);
        } else {
            self.state = next;
        }
        for action in actions {
            self.act(action, &mut prepared).await;
        }
        Ok(())
    }

    /// Makes records durable. Returns when they are, or when somebody else was there first. With `own_ids` no other payment
    /// may have an id that they name; otherwise such an id goes on leading to the other one. `meanwhile` is done while the
    /// ledger is at work, and may send nothing: whether there will be anything to send is not known yet.
    async fn persist(
        &mut self,
        next: &State,
        records: &[Record],
        own_ids: bool,
        meanwhile: impl FnOnce(&Self),
    ) -> Result<(), Lost> {
        let mut meanwhile = Some(meanwhile);
        let engine = Arc::clone(&self.desk.engine);
        let op_id = Uuid::now_v7();
        let (mut names, mut holds) = (true, true);
        loop {
            let rows = Rows {
                engine: &engine,
                route: &self.route,
                payment: self.payment,
                state: next,
                records,
                dossier: &self.dossier,
                changed: self.dossier_changed,
            };
            let mut change = rows.change(op_id, self.position);
            if !names {
                change.ids.clear();
            }
            change.holds_order &= holds;
            let (named, held, lease) = (!change.ids.is_empty(), change.holds_order, change.lease_ms);
            let begun = Instant::now();
            let appending = engine.ledger.append(change);
            if let Some(meanwhile) = meanwhile.take() {
                meanwhile(self);
            }
            match appending.await {
                Ok(position) => {
                    let (metrics, took) = (&*engine.metrics, begun.elapsed());
                    LedgerCommitted { metrics, took }.emit();
                    self.position = position;
                    self.dossier_changed = false;
                    if lease > 0 {
                        self.lease_until.set(engine.ledger.now().saturating_add(lease));
                    }
                    return Ok(());
                }
                Err(LedgerError::Conflict { .. }) => return Err(Lost::Moved),
                Err(LedgerError::Taken(Constraint::Id)) if own_ids => return Err(Lost::IdTaken),
                Err(LedgerError::Taken(Constraint::Id)) if named => names = false,
                // It had failed and freed its order, which another payment has now. What became known since is recorded
                // all the same; only another round has to ask for the order again.
                Err(LedgerError::Taken(Constraint::Order)) if held => {
                    let again = |record: &Record| matches!(record, Record::Decision(core::Decision::Reopened { .. }));
                    if records.iter().any(again) {
                        return Err(Lost::OrderTaken);
                    }
                    holds = false;
                }
                Err(error @ (LedgerError::Busy | LedgerError::Full)) => {
                    trouble(&self.desk, &error);
                    tokio::time::sleep(LEDGER_PAUSE).await;
                    // Whoever waits is not left without a word. What is not recorded is in doubt, whatever is known.
                    if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        self.answer_all(core::Verdict::InDoubt { running: true }, false);
                    }
                }
                Err(error) => {
                    trouble(&self.desk, &error);
                    return Err(Lost::Gone);
                }
            }
        }
    }
}
