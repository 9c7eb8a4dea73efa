//! Webhooks that come twice, in another order than they were sent in, after what was found out meanwhile, from somebody
//! else, or against a proof: in every mode, with the books held against what the application was told.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sentinel::sandbox::fault::{Cut, Fault, Rule, When};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::catalogue::{Case, Ends};
use super::{Came, Column, PATIENCE, TRIES, judge};
use crate::payments::own::{self, Own, Says};
use crate::payments::webhooks::{event, signed};
use crate::support::receiver::Receiver;
use crate::support::shop::{Shop, webhook_secret};
use crate::support::wire::{Message, once};

/// How the webhooks of one payment come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Post {
    /// Each once, after every answer that the application gets.
    InTime,
    /// Each three times, after every answer.
    Repeated,
    /// Last first, once the payment is decided.
    Reversed,
    /// With another amount than was signed.
    Forged,
    /// None but one, rightly signed, that contradicts what was found out.
    Contradicting,
}

impl Post {
    const ALL: [Self; 5] = [
        Self::InTime,
        Self::Repeated,
        Self::Reversed,
        Self::Forged,
        Self::Contradicting,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::InTime => "webhooks in time",
            Self::Repeated => "webhooks three times",
            Self::Reversed => "webhooks late and reversed",
            Self::Forged => "webhooks forged",
            Self::Contradicting => "a webhook that says the contrary",
        }
    }
}

/// What happens to the payment at the gateway that notifies.
fn faults() -> [(&'static str, Option<Fault>); 4] {
    let cut = |when| {
        Some(Fault::CutAnswer {
            byte: 0,
            cut: Cut::Rst,
            when,
        })
    };
    [
        ("answered", None),
        ("answer lost, executed", cut(When::After)),
        ("answer lost, not executed", cut(When::Before)),
        ("executed late", Some(Fault::DelayExecution { ms: Some(900) })),
    ]
}

/// Everything that can come of a gateway's webhooks on this route; another gateway's tell nothing of a sale.
fn cases(column: &Column) -> Vec<(Post, &'static str, Option<Fault>)> {
    let hit = column.hit();
    if !column.keyed || column.http2 || hit == Own::Braintree {
        return Vec::new();
    }
    // What contradicts has to be signed here.
    let signs = matches!(hit, Own::Stripe | Own::Adyen);
    let posts = Post::ALL.into_iter();
    posts
        .filter(|post| signs || *post != Post::Contradicting)
        .flat_map(|post| faults().map(|(name, fault)| (post, name, fault)))
        .collect()
}

/// Every `stride`-th case of a column, of those whose row and name contain a text.
pub async fn run(column: &Column, stride: usize, phase: usize, text: &str) -> Vec<Came> {
    let named = |post: Post, fault: &str| format!("{fault}; {}", post.name());
    let chosen: Vec<_> = cases(column)
        .into_iter()
        .enumerate()
        .filter(|(index, (post, fault, _))| {
            index % stride == phase % stride && format!("webhooks: {}", named(*post, fault)).contains(text)
        })
        .map(|(_, case)| case)
        .collect();
    if chosen.is_empty() {
        return Vec::new();
    }
    let receiver = Receiver::start().await;
    let shop = column.shop(Some(receiver.url())).await;
    let token = column.own.token(&shop).await;
    let hit = column.hit().name();
    shop.notifies(hit);
    // Kept back, and posted from here.
    shop.gateway(hit).webhooks_to(None).expect("nowhere");
    column.begin(&shop).await;
    let mut came = Vec::new();
    for (index, (post, fault, rule)) in chosen.into_iter().enumerate() {
        let name = named(post, fault);
        let result = one(&shop, column, &token, index, post, rule).await;
        let (cell, wrong) = match result {
            Ok(cell) => (cell, None),
            Err(wrong) => ("WRONG".to_owned(), Some(format!("{} / {name}: {wrong}", column.name()))),
        };
        came.push(Came {
            row: "webhooks",
            name,
            cell,
            wrong,
        });
    }
    came
}

/// Posts a delivery, as its gateway would.
async fn deliver(shop: &Shop, gateway: &str, headers: &http::HeaderMap, body: &str) -> u16 {
    let mut head = format!(
        "POST /{gateway} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().expect("text")));
    }
    once(shop.webhooks, format!("{head}\r\n{body}")).await.status()
}

/// Posts what the gateway notified of since, in this manner.
async fn deliver_all(shop: &Shop, gateway: &str, post: Post, since: usize) -> Result<(), String> {
    let mut deliveries: Vec<_> = shop.gateway(gateway).webhooks().into_iter().skip(since).collect();
    if post == Post::Reversed {
        deliveries.reverse();
    }
    for _ in 0..if post == Post::Repeated { 3 } else { 1 } {
        for delivery in &deliveries {
            let (body, wanted) = match post {
                Post::Forged => (delivery.body.replace("1999", "1998").replace("19.99", "19.98"), 400),
                _ => (delivery.body.clone(), 200),
            };
            if post == Post::Forged && body == delivery.body {
                continue;
            }
            let status = deliver(shop, gateway, &delivery.headers, &body).await;
            if status != wanted {
                return Err(format!("{status} to {post:?} {body}"));
            }
        }
    }
    Ok(())
}

/// A webhook about this payment that says the contrary of what is in the gateway's books.
async fn contrary(shop: &Shop, hit: Own, order: &str, payment: &str) -> u16 {
    let audit = shop.audit().await;
    let there = audit.positions.iter().find(|position| {
        let named = |name: &Option<String>| name.as_deref() == Some(order) || name.as_deref() == Some(payment);
        position.gateway == hit.name() && (named(&position.order) || named(&position.reference))
    });
    let live = there.is_some_and(sentinel::sandbox::books::Position::live);
    let id = there.map(|position| position.payment.as_str());
    match hit {
        Own::Stripe => {
            let (kind, status, received) = match live {
                true => ("payment_intent.canceled", "canceled", 0),
                false => ("payment_intent.succeeded", "succeeded", 1999),
            };
            let told = event(
                kind,
                &json!({"id": id.unwrap_or("pi_3Contrary"), "object": "payment_intent", "amount": 1999,
                    "amount_received": received, "currency": "eur", "status": status, "capture_method": "automatic",
                    "latest_charge": "ch_3Contrary", "livemode": false, "created": 1_795_000_000,
                    "metadata": {"order_id": order, "sentinel_payment": payment}}),
            );
            let mut headers = http::HeaderMap::new();
            let signature = signed(webhook_secret("stripe"), 0, &told);
            headers.insert("stripe-signature", signature.parse().expect("a header"));
            deliver(shop, "stripe", &headers, &told).await
        }
        Own::Adyen => {
            let (code, psp, original) = match live {
                true => ("TECHNICAL_CANCEL", "CONTRARY00000002", id),
                false => ("AUTHORISATION", id.unwrap_or("CONTRARY00000001"), None),
            };
            let told = adyens(code, psp, original.unwrap_or_default(), payment);
            deliver(shop, "adyen", &http::HeaderMap::new(), &told.to_string()).await
        }
        other => panic!("{} is not signed for here", other.name()),
    }
}

/// An item of Adyen's, signed with the shop's key.
fn adyens(code: &str, psp: &str, original: &str, reference: &str) -> Value {
    let text = format!("{psp}:{original}:AcmeECOM:{reference}:1999:EUR:{code}:true");
    // The shop's key, `00ff`, in bytes.
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&[0, 255]).expect("a key");
    mac.update(text.as_bytes());
    let item = json!({"eventCode": code, "success": "true", "pspReference": psp, "originalReference": original,
        "merchantAccountCode": "AcmeECOM", "merchantReference": reference,
        "amount": {"value": 1999, "currency": "EUR"},
        "additionalData": {"hmacSignature": STANDARD.encode(mac.finalize().into_bytes())}});
    json!({"live": "false", "notificationItems": [{"NotificationRequestItem": item}]})
}

/// One payment.
async fn one(
    shop: &Shop,
    column: &Column,
    token: &str,
    index: usize,
    post: Post,
    fault: Option<Fault>,
) -> Result<String, String> {
    let (own, hit) = (column.own, column.hit());
    let key = format!("webhooks-{index}");
    let order = own.open(shop, &format!("webhooks-order-{index}")).await;
    let gateway = shop.gateway(hit.name());
    let since = gateway.webhooks().len();
    let rule = fault.map(|fault| hit.only(&Rule::once(hit.first(), fault), &order));
    if let Some(rule) = rule {
        gateway.fault(rule);
    }
    let begun = Instant::now();
    let mut answers: Vec<Message> = Vec::new();
    let says = loop {
        let answer = own.pay(shop, token, &key, &order, column.over()).await;
        let says = own.says(shop, &answer).await.expect("the process answers")?;
        answers.push(answer);
        if matches!(post, Post::InTime | Post::Repeated) {
            deliver_all(shop, hit.name(), post, since).await?;
        }
        let patient = hit.decides() && (begun.elapsed() < PATIENCE || answers.len() < TRIES);
        if says != Says::Doubt || !patient {
            break says;
        }
        own::pause().await;
    };
    gateway.clear_faults();
    gateway.quiet().await;
    let payment = answers.last().and_then(|answer| answer.header("sentinel-payment"));
    let payment = payment.map(str::to_owned).ok_or("no payment")?;
    if post != Post::Contradicting {
        deliver_all(shop, hit.name(), post, since).await?;
    }
    let case = Case {
        row: "webhooks",
        name: String::new(),
        rules: Vec::new(),
        ends: if hit.decides() { Ends::Known } else { Ends::Any },
    };
    // First what was decided without it; what contradicts a proof moves no money, and calls a person.
    let timeline = || shop.timeline(&payment);
    let told = judge(shop, column, &case, &order, says, &answers, Some(&payment)).await;
    let told = told.map_err(|wrong| format!("{wrong}\n{}", timeline()))?;
    if post != Post::Contradicting {
        return Ok(told);
    }
    let before = shop.audit().await.live(&order).len();
    let status = contrary(shop, hit, &order, &payment).await;
    let again = own.pay(shop, token, &key, &order, column.over()).await;
    let audit = shop.audit().await;
    let after = audit.live(&order).len();
    if status != 200 || after != before || !audit.violations.is_empty() {
        return Err(format!(
            "{status} to the contrary, {after} live\n{:?}\n{}",
            audit.violations,
            timeline()
        ));
    }
    let says_now = own.says(shop, &again).await.expect("the process answers")?;
    match (says, says_now) {
        (Says::Taken, Says::Nothing) | (Says::Nothing, Says::Taken) => {
            Err(format!("told {says:?} before and {says_now:?} after\n{}", timeline()))
        }
        _ if timeline().contains("manual_hold") => Ok(format!("{told}; a person is called")),
        _ => Ok(format!("{told}; nothing follows")),
    }
}
