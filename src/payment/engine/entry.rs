//! The door: from a request of an application to a payment at work, or back to the proxy to be forwarded untouched.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;
use zeroize::Zeroize as _;

use super::super::core::KeyKind;
use super::actor::{key_reused, unavailable};
use super::answer::{Told, own_error};
use super::guard::Standing;
use super::minted::{self, Created};
use super::opening::Opening;
use super::persist::trouble;
use super::source::KeySource;
use super::{Desk, Message, Route, canon, follow_up, orders, planner};
use crate::config::model::{KeyPolicy, Secret};
use crate::gateway::canonical::{Instrument, Operation, Pay, Refusal, Request};
use crate::gateway::webhook::WebhookKeys;
use crate::gateway::{Credential, Head, OwnError, Recognised};
use crate::ledger::LedgerError;
use crate::telemetry::event::FailoverRefused;

/// A recognised request, read whole.
#[derive(Debug)]
pub struct Asked {
    /// What it is.
    pub recognised: Recognised,
    /// Its head, hop-by-hop fields and `Sentinel-*` taken off.
    pub head: Head,
    /// Its body.
    pub body: Bytes,
    /// The values of its `Sentinel-Instrument` headers.
    pub alternates: Vec<HeaderValue>,
    /// When it came.
    pub started: Instant,
}

/// Why a payment can be taken nowhere but at the application's own gateway.
#[derive(Clone, Debug)]
pub struct Unavailable {
    /// The first reason, of a closed set: for `Sentinel-Failover: unavailable; reason=...`.
    pub reason: &'static str,
    /// Each other gateway's own, for `Sentinel-Refused`; empty where none was asked.
    pub refused: String,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Handled {
    /// It was answered.
    Answered(Told),
    /// It is none of the engine's business and goes to the application's own gateway as it is.
    Forward {
        /// Why the payment cannot be taken elsewhere. `None` where there is no payment to speak of.
        unavailable: Option<Unavailable>,
        /// The credential to put in place of one that Sentinel had minted.
        authorization: Option<HeaderValue>,
    },
}

/// A payment request, as long as somebody waits for its answer. Card data lives here and nowhere else.
pub(super) struct Material {
    /// The head.
    pub head: Head,
    /// The body as it came.
    pub body: Bytes,
    /// What it means.
    pub pay: Pay,
    /// The application's idempotency key.
    pub key: Option<String>,
    /// What is charged at each other gateway.
    pub tokens: BTreeMap<String, Instrument>,
    /// Which gateways are not in the plan, or last in it, and why.
    pub refused: String,
    /// The account's own credential, in place of one that Sentinel minted.
    pub authorization: Option<HeaderValue>,
}

impl Drop for Material {
    fn drop(&mut self) {
        // The buffer's only owner can wipe it; where hyper still holds a part of it, that part goes with the connection.
        if let Ok(mut body) = std::mem::take(&mut self.body).try_into_mut() {
            body.as_mut().zeroize();
        }
    }
}

/// Somebody asks for a payment, for the first time or again.
pub(crate) struct Ask {
    pub(super) material: Arc<Material>,
    pub(super) fingerprint: [u8; 32],
    pub(super) started: Instant,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Told>,
}

impl Desk {
    /// Handles a recognised request on a route that payments can be taken on.
    pub async fn handle(self: &Rc<Self>, route: &Arc<Route>, mut asked: Asked) -> Handled {
        if let Some(own) = route.own()
            && own.is_of_other_mode(&asked.head.headers)
        {
            return other_mode(route, asked.recognised.operation);
        }
        let authorization = match self.credential(route, &asked.head).await {
            Ok(authorization) => authorization,
            Err(told) => return Handled::Answered(told),
        };
        if let Some(authorization) = &authorization {
            asked
                .head
                .headers
                .insert(http::header::AUTHORIZATION, authorization.clone());
        }
        if let Some(handled) = self.order(route, &asked).await {
            return handled;
        }
        let handled = match asked.recognised.operation {
            Operation::Create | Operation::Authorize | Operation::Sale | Operation::Confirm => {
                self.pay(route, asked, authorization.clone()).await
            }
            Operation::Token => self.mint_token(route, &asked),
            Operation::Verification => self.verification(route, &asked),
            _ => follow_up::handle(self, route, asked).await,
        };
        match handled {
            Handled::Forward { unavailable, .. } => Handled::Forward {
                unavailable,
                authorization,
            },
            answered => answered,
        }
    }

    /// Looks at the request's credential: one that Sentinel minted means nothing at the gateway, and is swapped.
    async fn credential(self: &Rc<Self>, route: &Arc<Route>, head: &Head) -> Result<Option<HeaderValue>, Told> {
        let Some(own) = route.own() else { return Ok(None) };
        let account = own.account(String::new(), String::new());
        match own.gateway.credential(&head.headers, &account, self.engine.now()) {
            Credential::Native => Ok(None),
            Credential::Minted => match self.token(own).await {
                Some(token) => {
                    let value = HeaderValue::from_str(&format!("Bearer {}", token.value.as_str()));
                    Ok(value.ok().map(|mut value| {
                        value.set_sensitive(true);
                        value
                    }))
                }
                // The gateway is still down, or refuses the account: a payment may yet be taken elsewhere.
                None => Ok(None),
            },
            Credential::Refused => Err(own_error(
                route,
                head,
                &OwnError {
                    status: StatusCode::UNAUTHORIZED,
                    code: "invalid_token",
                    message: "The access token is not valid any more: fetch a new one.".to_owned(),
                    retry: false,
                },
                "token_refused",
            )),
        }
    }

    /// An application's own token request: passed through while the gateway answers, minted while it does not.
    fn mint_token(self: &Rc<Self>, route: &Arc<Route>, asked: &Asked) -> Handled {
        let forward = Handled::Forward {
            unavailable: None,
            authorization: None,
        };
        let Some(own) = route.own().filter(|own| !own.closed()) else {
            return forward;
        };
        self.probe(own);
        let account = own.account(String::new(), String::new());
        let mut seed = [0; 16];
        seed.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        let minted = own
            .gateway
            .mint_token(&asked.head, &asked.body, &account, &seed, self.engine.now());
        match minted {
            Some(reply) => Handled::Answered(Told::plain(reply, "token_minted")),
            None => forward,
        }
    }

    /// An application asks whether a webhook is genuine: what Sentinel wrote, nobody else can answer for.
    fn verification(&self, route: &Route, asked: &Asked) -> Handled {
        let answered = route.own().zip(route.notify()).and_then(|(own, notify)| {
            let webhook = &own.config.webhook;
            let keys = WebhookKeys {
                secret: notify.secret.as_ref().map(Secret::expose),
                webhook_id: webhook.webhook_id.as_deref(),
                notification_url: webhook.notification_url.as_deref(),
                account: None,
                vouched: false,
            };
            route.dialect().verification(&asked.body, &keys, self.engine.now())
        });
        match answered {
            Some(reply) => Handled::Answered(Told::plain(reply, "verification")),
            None => Handled::Forward {
                unavailable: None,
                authorization: None,
            },
        }
    }

    async fn pay(self: &Rc<Self>, route: &Arc<Route>, asked: Asked, authorization: Option<HeaderValue>) -> Handled {
        let dialect = route.dialect();
        let paid_once = dialect.paid_once(&asked.head, &asked.body);
        let (standing, opened) = match self.of_order(route, paid_once.as_deref()).await {
            Ok(known) => known,
            Err(error) => return self.unrecorded(route, &asked.head, &error),
        };
        let refuse = |reason: &'static str, refused: String| {
            if matches!(standing, Standing::Away(_)) {
                return Handled::Answered(paid_elsewhere(route, &asked.head));
            }
            if opened.is_some() {
                return Handled::Answered(orders::unpayable(route, &asked.head, reason));
            }
            FailoverRefused {
                route: route.metrics(),
                payment: "",
                reason,
            }
            .emit();
            Handled::Forward {
                unavailable: Some(Unavailable { reason, refused }),
                authorization: None,
            }
        };
        let key = match dialect.idempotency_key(&asked.head, &asked.body) {
            Ok(key) => key,
            Err(refusal) => return Handled::Answered(bad_key(route, &asked.head, &refusal)),
        };
        let none = BTreeMap::new();
        let settings = route.own().map_or(&none, |own| &own.config.settings);
        let settings = match &opened {
            Some(order) => &orders::settings(settings, order),
            None => settings,
        };
        let pay = match dialect.parse(&asked.recognised, &asked.head, &asked.body, settings) {
            Ok(Request::Pay(pay)) => *pay,
            other => {
                if let Some(handled) = self.reused(route, &asked.head, key.as_deref()).await {
                    return handled;
                }
                let reason = match &other {
                    Err(refusal) => refusal.label(),
                    Ok(_) => "operation_not_supported",
                };
                return refuse(reason, String::new());
            }
        };
        // Nothing moves, and nothing can be lost but the request itself.
        if pay.operation == Operation::Create {
            let (parts, alternates) = ((&asked.head, &asked.body[..]), &asked.alternates[..]);
            if let Some(handled) = self.create(route, parts, &pay, key.as_deref(), alternates).await {
                return handled;
            }
            if let Some(handled) = self.reused(route, &asked.head, key.as_deref()).await {
                return handled;
            }
            return refuse("operation_not_supported", String::new());
        }
        if opened.as_ref().is_some_and(|order| pay.amount != Some(order.amount)) {
            return Handled::Answered(orders::mismatch(route, &asked.head));
        }
        let created = match &pay.confirms {
            Some(id) => match self.engine.made_here(route, id).await {
                Ok(created) => created,
                Err(error) => return self.unrecorded(route, &asked.head, &error),
            },
            None => None,
        };
        let pay = match &created {
            Some(created) => created.confirmed(&pay),
            None => pay,
        };
        let failover = route.failover();
        let source = match (&key, failover.key) {
            _ if created.is_some() => created.as_ref().map_or(KeySource::None, Created::source),
            (Some(key), _) => named(route, &asked.head, key),
            (None, _) if paid_once.is_some() => paid_once.map_or(KeySource::None, KeySource::Order),
            (None, KeyPolicy::Required) => {
                let error = OwnError {
                    status: StatusCode::BAD_REQUEST,
                    code: "idempotency_key_required",
                    message: "This route takes payments with an idempotency key only.".to_owned(),
                    retry: false,
                };
                return Handled::Answered(own_error(route, &asked.head, &error, "idempotency_key_required"));
            }
            (None, KeyPolicy::Natural) => KeySource::natural(&pay).unwrap_or(KeySource::None),
            (None, KeyPolicy::Transparent) => KeySource::None,
        };
        let kind = source.kind();
        let planned = planner::plan(&self.engine, route, &pay, &asked.alternates, kind).await;
        // A key that the ledger knows leads to its payment, whatever could be planned today: the payment may be at another
        // gateway, and its own one has never seen the key.
        let (plan, tokens, refused) = match planned {
            Ok(mut planned) => {
                // It knows nothing of what was made here.
                if created.is_some() || opened.is_some() {
                    planned.plan.gateways.retain(|gateway| !gateway.native);
                }
                (Ok(planned.plan), planned.tokens, planned.refused.words())
            }
            Err((refusal, _)) if created.is_some() => {
                let why = format!("It was created while its gateway was away, and no other can take it: {refusal}.");
                return minted::wrong_state(route, &asked.head, &why);
            }
            Err((refusal, refused)) => match self.seen(route, &source).await {
                Ok(None) => return refuse(refusal.label(), refused.words()),
                Ok(Some(payment)) => (Err(payment), BTreeMap::new(), refused.words()),
                Err(error) => return self.unrecorded(route, &asked.head, &error),
            },
        };
        // What is put last is asked for its health meanwhile: no payment that finds another gateway would.
        for at in route.gateways().iter().filter(|at| !at.native && !at.closed()) {
            self.probe(at);
        }
        let keys = self.engine.ledger.keys();
        let fingerprint = canon::fingerprint(keys, &asked.head, &pay);
        match standing {
            // Another request for the order: while its payment is the gateway's own, the gateway judges.
            Standing::Own(known) if known != fingerprint => {
                return Handled::Forward {
                    unavailable: None,
                    authorization: None,
                };
            }
            Standing::Away(known) if known != fingerprint => {
                return Handled::Answered(paid_elsewhere(route, &asked.head));
            }
            _ => {}
        }
        if let Some(created) = created {
            let once = "The PaymentIntent was confirmed before, or cancelled: create another one.";
            match self.other_request(route, &source, fingerprint).await {
                Ok(false) => {}
                Ok(true) => return minted::wrong_state(route, &asked.head, once),
                Err(error) => return self.unrecorded(route, &asked.head, &error),
            }
            match self.engine.confirm(route, created).await {
                Ok(true) => {}
                Ok(false) => return minted::wrong_state(route, &asked.head, once),
                Err(error) => return self.unrecorded(route, &asked.head, &error),
            }
        }
        let order = pay
            .reference
            .as_ref()
            .map(|reference| super::order_hash(keys, route.tenant(), reference));
        let key = if kind == KeyKind::Application { key } else { None };
        let material = Arc::new(Material {
            head: asked.head,
            body: asked.body,
            pay,
            key,
            tokens,
            refused,
            authorization,
        });
        let (reply, answer) = oneshot::channel();
        let ask = Ask {
            material: Arc::clone(&material),
            fingerprint,
            started: asked.started,
            deadline: asked.started + failover.deadline,
            reply,
        };
        match plan {
            Ok(plan) => self.open(Opening {
                route: Arc::clone(route),
                ask,
                plan,
                source,
                order,
            }),
            Err(payment) => self.engine.send(payment, Message::Ask(ask)).await,
        }
        match answer.await {
            Ok(told) => Handled::Answered(told),
            // The actor is gone without a word: a defect. The payment is in the ledger, and recovery finds it.
            Err(_) => Handled::Answered(Told::lost(route, &material.head)),
        }
    }

    /// The payment that the ledger knows by the application's key.
    async fn seen(&self, route: &Route, source: &KeySource) -> Result<Option<Uuid>, LedgerError> {
        if source.kind() != KeyKind::Application {
            return Ok(None);
        }
        let hash = source.hash(self.engine.ledger.keys(), route, Uuid::nil(), 0);
        Ok(self.engine.ledger.by_key(hash).await?.map(|payment| payment.id))
    }

    /// The answer to a request that could only be forwarded, if its key belongs to a payment: it is another request under
    /// that key, and the application's own gateway may not know that.
    async fn reused(&self, route: &Route, head: &Head, key: Option<&str>) -> Option<Handled> {
        let source = named(route, head, key?);
        match self.seen(route, &source).await {
            Ok(None) => None,
            Ok(Some(_)) => Some(Handled::Answered(own_error(route, head, &key_reused(), "key_reused"))),
            Err(error) => Some(self.unrecorded(route, head, &error)),
        }
    }

    /// Whether the ledger knows a payment by this name, made by another request.
    async fn other_request(&self, route: &Route, source: &KeySource, mine: [u8; 32]) -> Result<bool, LedgerError> {
        let hash = source.hash(self.engine.ledger.keys(), route, Uuid::nil(), 0);
        let found = self.engine.ledger.by_key(hash).await?;
        Ok(found.is_some_and(|payment| payment.fingerprint != mine))
    }

    /// Nothing may be sent while the ledger does not say what was sent before.
    pub(super) fn unrecorded(&self, route: &Route, head: &Head, error: &LedgerError) -> Handled {
        trouble(self, error);
        let error = unavailable("ledger_unavailable");
        Handled::Answered(own_error(route, head, &error, "ledger_unavailable"))
    }
}

/// What an application's key names.
fn named(route: &Route, head: &Head, key: &str) -> KeySource {
    KeySource::Application {
        method: head.method.to_string(),
        key: key.to_owned(),
        // PayPal keeps keys for each kind of call apart.
        path: matches!(route.dialect().dialect(), crate::config::model::Dialect::Paypal).then(|| head.path.clone()),
    }
}

/// A request with a key of the other mode (test for live) is between its application and the gateway alone.
fn other_mode(route: &Route, operation: Operation) -> Handled {
    let reason = "credential_of_other_mode";
    let pays = matches!(
        operation,
        Operation::Create | Operation::Authorize | Operation::Sale | Operation::Confirm
    );
    if pays {
        FailoverRefused {
            route: route.metrics(),
            payment: "",
            reason,
        }
        .emit();
    }
    Handled::Forward {
        unavailable: pays.then(|| Unavailable {
            reason,
            refused: String::new(),
        }),
        authorization: None,
    }
}

/// An order is paid once, by whichever gateway.
fn paid_elsewhere(route: &Route, head: &Head) -> Told {
    let error = OwnError {
        status: StatusCode::CONFLICT,
        code: "possible_duplicate",
        message: "A payment of this order was taken by another gateway, or may have been: it was not paid again."
            .to_owned(),
        retry: false,
    };
    own_error(route, head, &error, "possible_duplicate")
}

fn bad_key(route: &Route, head: &Head, refusal: &Refusal) -> Told {
    let error = OwnError {
        status: StatusCode::BAD_REQUEST,
        code: "idempotency_key_invalid",
        message: format!("{refusal}. The request was not forwarded."),
        retry: false,
    };
    own_error(route, head, &error, refusal.label())
}
