//! The door: from a request of an application to a payment at work, or back to the proxy to be forwarded untouched.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use tokio::sync::oneshot;
use tokio::time::Instant;
use zeroize::Zeroize as _;

use super::super::core::KeyKind;
use super::actor::unavailable;
use super::answer::{Told, own_error};
use super::guard::Standing;
use super::opening::Opening;
use super::persist::trouble;
use super::source::KeySource;
use super::{Desk, Route, canon, follow_up, planner};
use crate::config::model::KeyPolicy;
use crate::gateway::canonical::{Instrument, Operation, Pay, Refusal, Request};
use crate::gateway::{Credential, Head, OwnError, Recognised};
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

/// What becomes of a request.
#[derive(Debug)]
pub enum Handled {
    /// It was answered.
    Answered(Told),
    /// It is none of the engine's business and goes to the application's own gateway as it is.
    Forward {
        /// Why the payment cannot be taken elsewhere: for `Sentinel-Failover: unavailable; reason=...`. `None` where there
        /// is no payment to speak of.
        unavailable: Option<&'static str>,
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
        let handled = match asked.recognised.operation {
            Operation::Create | Operation::Authorize | Operation::Sale | Operation::Confirm => {
                self.pay(route, asked, authorization.clone()).await
            }
            Operation::Token => self.mint_token(route, &asked),
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

    async fn pay(self: &Rc<Self>, route: &Arc<Route>, asked: Asked, authorization: Option<HeaderValue>) -> Handled {
        let dialect = route.dialect();
        let order = dialect.paid_once(&asked.head, &asked.body).map(KeySource::Order);
        let standing = match &order {
            Some(order) => match self.standing(route, order).await {
                Ok(standing) => standing,
                Err(error) => {
                    trouble(self, &error);
                    let error = unavailable("ledger_unavailable");
                    return Handled::Answered(own_error(route, &asked.head, &error, "ledger_unavailable"));
                }
            },
            None => Standing::Free,
        };
        let refuse = |unavailable: &'static str| {
            if matches!(standing, Standing::Away(_)) {
                return Handled::Answered(paid_elsewhere(route, &asked.head));
            }
            FailoverRefused {
                route: route.metrics(),
                payment: "",
                reason: unavailable,
            }
            .emit();
            Handled::Forward {
                unavailable: Some(unavailable),
                authorization: None,
            }
        };
        let key = match dialect.idempotency_key(&asked.head, &asked.body) {
            Ok(key) => key,
            Err(refusal) => return Handled::Answered(bad_key(route, &asked.head, &refusal)),
        };
        let none = BTreeMap::new();
        let settings = route.own().map_or(&none, |own| &own.config.settings);
        let pay = match dialect.parse(&asked.recognised, &asked.head, &asked.body, settings) {
            Ok(Request::Pay(pay)) => *pay,
            Ok(_) => return refuse("operation_not_supported"),
            Err(refusal) => return refuse(refusal.label()),
        };
        // Nothing moves, and nothing can be lost but the request itself.
        if pay.operation == Operation::Create {
            return refuse("operation_not_supported");
        }
        let failover = route.failover();
        let source = match (&key, failover.key) {
            (Some(key), _) => KeySource::Application {
                method: asked.head.method.to_string(),
                key: key.clone(),
                // PayPal keeps keys for each kind of call apart.
                path: matches!(route.dialect().dialect(), crate::config::model::Dialect::Paypal)
                    .then(|| asked.head.path.clone()),
            },
            (None, _) if order.is_some() => order.unwrap_or(KeySource::None),
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
        let planned = match planned {
            Ok(planned) => planned,
            Err(refusal) => return refuse(refusal.label()),
        };
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
            tokens: planned.tokens,
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
        self.open(Opening {
            route: Arc::clone(route),
            ask,
            plan: planned.plan,
            source,
            order,
        });
        match answer.await {
            Ok(told) => Handled::Answered(told),
            // The actor is gone without a word: a defect. The payment is in the ledger, and recovery finds it.
            Err(_) => Handled::Answered(Told::lost(route, &material.head)),
        }
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
