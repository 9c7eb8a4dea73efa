//! Asking a gateway whether a webhook is its own, and passing one on to the application.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use super::Desk;
use crate::config::model::Notify;
use crate::gateway::webhook::WebhookKeys;

/// How long a gateway may take to vouch for its own webhook: it waits for the answer itself.
const PATIENCE: Duration = Duration::from_secs(5);

impl Desk {
    /// Asks a gateway whether a delivery is its own. `None` when it cannot be asked, or does not say.
    pub(in crate::payment) async fn vouched(
        self: &Rc<Self>,
        gateway: &str,
        keys: &WebhookKeys<'_>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Option<bool> {
        let routes = self.engine.routes();
        let at = routes.iter().find_map(|route| route.at(gateway))?;
        let mut account = at.account(String::new(), String::new());
        account.token = Some(self.token(at).await?);
        let question = at.gateway.vouching(keys, headers, body, &account)?;
        let exchanged = self.exchange(at, question, PATIENCE, false, async || true).await;
        let answer = exchanged.answer?;
        if answer.status == http::StatusCode::UNAUTHORIZED {
            self.engine.tokens.forget(at);
        }
        at.gateway.vouched(&answer)
    }

    /// Posts what came from a gateway to an application; its status, or `None` when it did not answer in time.
    pub(in crate::payment) async fn pass_on(
        &self,
        notify: &Notify,
        headers: HeaderMap,
        body: Bytes,
        patience: Duration,
    ) -> Option<u16> {
        super::super::announce::posted(&self.wire, notify, headers, body, patience).await
    }
}
