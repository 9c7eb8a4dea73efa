//! News of a payment, written in its application's dialect from what the ledger keeps.

use uuid::Uuid;

use super::super::announce::news::Kind;
use super::super::announce::outbox::Entry;
use super::super::core::{Record, State, Verdict};
use super::dossier::{Dossier, NAME};
use super::{Engine, Route};
use crate::config::model::{Notify, Secret};
use crate::gateway::announcement::{Announcement, News, Written};
use crate::gateway::canonical::RefundStatus;
use crate::ledger::LedgerError;

impl Engine {
    /// A payment right before and right after one of its events; `None` where it is erased.
    pub(in crate::payment) async fn around(
        &self,
        payment: Uuid,
        seq: i64,
    ) -> Result<Option<(State, State)>, LedgerError> {
        let (mut before, mut after) = (State::default(), State::default());
        for event in self.ledger.events(payment).await? {
            if event.seq > seq {
                break;
            }
            let Ok(record) = Record::read(&event.payload) else {
                return Ok(None);
            };
            if event.seq < seq {
                before.fold(&record);
            }
            after.fold(&record);
        }
        Ok((after.version > before.version).then_some((before, after)))
    }

    /// The events that an entry of the outbox is told by, as the payment was then; `None` where it is erased.
    pub(in crate::payment) async fn announcement(
        &self,
        route: &Route,
        notify: &Notify,
        entry: &Entry,
    ) -> Result<Option<Vec<Written>>, LedgerError> {
        let Some((_, state)) = self.around(entry.payment, entry.seq).await? else {
            return Ok(None);
        };
        let sealed = self.ledger.unseal(entry.payment, NAME.to_owned()).await?;
        let dossier = sealed.and_then(|sealed| serde_json::from_slice::<Dossier>(&sealed).ok());
        let (Some(dossier), Some(own)) = (dossier, route.own()) else {
            return Ok(None);
        };
        let (kind, n) = (entry.news.kind, entry.news.n);
        let told = match kind {
            Kind::Succeeded => Some(Verdict::Succeeded { n }),
            Kind::Authorised => Some(Verdict::Authorised { n }),
            Kind::Failed => state.told,
            Kind::Captured | Kind::Voided | Kind::Refunded | Kind::RefundFailed => None,
        };
        let of = match told {
            Some(_) => Some(n).filter(|n| *n > 0),
            None => state.winner,
        };
        let of = of.or_else(|| state.pays().next_back().map(|(n, _)| n));
        let mut view = dossier.view(&state, of, told);
        let refund_id = |n| self.refund_id(route.dialect(), entry.payment, n);
        view.refunds = dossier.refunds(&state, refund_id);
        let capture_id = |n| self.capture_id(route.dialect(), entry.payment, n);
        view.captures = dossier.captures(&state, capture_id);
        view.ids.capture = match kind {
            Kind::Captured if Some(n) != state.winner => Some(capture_id(n)),
            _ => {
                let of = dossier.notes.get(&n).and_then(|note| note.capture);
                of.map(capture_id).or_else(|| Some(view.captures.last()?.id.clone()))
            }
        };
        let amount = state.attempt(n).and_then(|attempt| attempt.amount);
        let refund = |status| dossier.refund(n, amount, status, refund_id(n));
        let news = match kind {
            Kind::Succeeded => News::Succeeded,
            Kind::Authorised => News::Authorised,
            Kind::Failed => News::Failed,
            Kind::Captured => News::Captured,
            Kind::Voided => News::Voided,
            Kind::Refunded => News::Refunded(refund(RefundStatus::Succeeded)),
            Kind::RefundFailed => News::RefundFailed(refund(RefundStatus::Failed)),
        };
        let amount = match kind {
            Kind::Captured | Kind::Refunded | Kind::RefundFailed => amount.unwrap_or(view.amount),
            Kind::Succeeded | Kind::Authorised | Kind::Failed | Kind::Voided => view.amount,
        };
        let parts: [&[u8]; 4] = [
            b"notification",
            entry.payment.as_bytes(),
            &n.to_be_bytes(),
            kind.name().as_bytes(),
        ];
        let mut seed = [0; 16];
        seed.copy_from_slice(&self.ledger.keys().derive(&parts)[..16]);
        let account = own.account(String::new(), String::new());
        Ok(Some(route.dialect().announce(&Announcement {
            news,
            view: &view,
            amount,
            seed,
            account: &account,
            webhook: &own.config.webhook,
            secret: notify.secret.as_ref().map(Secret::expose),
            url: &notify.url,
            base: &route.base(),
            at: entry.at.div_euclid(1000),
            now: jiff::Timestamp::now().as_second(),
        })))
    }
}
