//! What a payment's plan is made of beside the instrument: the account's currencies and amounts, the gateway's own limits,
//! and the gateways' health; and how each refusal is told.

use serde_json::Value;

use super::own::{Over, Own, Paid, Step};
use crate::support::metrics::{matching, scrape};
use crate::support::shop::{INSTRUMENTS, Setup, Shop, parsed};
use crate::support::wire::{Message, get, once, post};

/// A sale in Stripe's dialect, with every token beside it.
async fn sale(shop: &Shop, key: &str, amount: i64, currency: &str) -> Message {
    let form = format!(
        "amount={amount}&currency={currency}&confirm=true&payment_method=pm_card_visa&metadata[order_id]={key}&payment_method_types[0]=card"
    );
    let fields = format!("Idempotency-Key: {key}\r\nSentinel-Instrument: {INSTRUMENTS}\r\n");
    once(shop.stripe, post("/v1/payment_intents", &fields, &form)).await
}

fn refused(answer: &Message) -> &str {
    answer.header("sentinel-refused").unwrap_or_default()
}

async fn routes(shop: &Shop) -> Value {
    let shown = parsed(&once(shop.admin, get("/routes", "")).await);
    shown
        .as_array()
        .and_then(|routes| routes.first())
        .cloned()
        .expect("a route")
}

async fn force(shop: &Shop, gateway: &str, what: &str) {
    let answer = once(shop.admin, post(&format!("/breakers/stripe/{gateway}/{what}"), "", "")).await;
    assert_eq!(answer.status(), 204, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accounts_currencies_and_amounts_are_part_of_the_plan() {
    let shop = Shop::with(Setup {
        stripe: "stripe, adyen, braintree, square",
        braintree_account: ", takes: { EUR: { min: '5.00', max: '20.00' }, USD: {} }",
        ..Setup::default()
    })
    .await;
    let all = sale(&shop, "all", 1999, "eur").await;
    assert_eq!((all.status(), refused(&all)), (200, ""), "{}", all.text());
    for (key, amount) in [("less", 499), ("more", 2001)] {
        let answer = sale(&shop, key, amount, "eur").await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(refused(&answer), "braintree=amount_out_of_limits", "{key}");
    }
    // The account there has no merchant account in dollars, whatever the configuration hopes for.
    let dollars = sale(&shop, "dollars", 1999, "usd").await;
    assert_eq!(
        refused(&dollars),
        "braintree=currency_not_supported",
        "{}",
        dollars.text()
    );
    let pounds = sale(&shop, "pounds", 1999, "gbp").await;
    assert_eq!(refused(&pounds), "braintree=currency_not_supported");
    let shown = routes(&shop).await;
    assert_eq!(shown["refused"]["braintree"]["amount_out_of_limits"], 2, "{shown:#}");
    assert_eq!(shown["refused"]["braintree"]["currency_not_supported"], 2);
    assert_eq!(shown["plan"]["then"][1]["takes"][0]["currency"], "EUR");
    assert_eq!(shown["plan"]["then"][1]["takes"].as_array().map(Vec::len), Some(1));
    let labels = [
        "route=\"stripe\"",
        "gateway=\"braintree\"",
        "reason=\"amount_out_of_limits\"",
    ];
    let counted = matching(&scrape(shop.admin).await, "sentinel_plan_refusals_total", &labels);
    assert_eq!(counted, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stripe_does_not_charge_is_not_sent_there() {
    let shop = Shop::with(Setup {
        adyen: "adyen, stripe",
        ..Setup::default()
    })
    .await;
    let paid = Paid {
        order: "order-1",
        over: Over::Euros,
        token: "",
        id: "",
    };
    let whole = Own::Adyen.ask(&shop, Step::Sale, "key-1", &paid).send().await;
    assert_eq!(refused(&whole), "", "{}", whole.text());
    let body = serde_json::json!({
        "amount": {"currency": "EUR", "value": 49}, "reference": "order-2", "merchantAccount": "AcmeECOM",
        "returnUrl": "https://shop.example/", "captureDelayHours": 0, "shopperReference": "shopper-1",
        "paymentMethod": {"type": "scheme", "storedPaymentMethodId": "8415698462516992"},
    });
    let small = shop.adyen_post("/v71/payments", "key-2", &body).await;
    assert_eq!(small.status(), 200, "{}", small.text());
    assert_eq!(
        small.header("sentinel-failover"),
        Some("unavailable; reason=amount_out_of_limits")
    );
    assert_eq!(refused(&small), "stripe=amount_out_of_limits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_not_well_comes_last_and_one_that_is_forced_open_not_at_all() {
    let shop = Shop::with(Setup {
        stripe: "stripe, adyen, square",
        breaker: "consecutive: 3, min_calls: 1000, open: 60s, open_max: 60s",
        ..Setup::default()
    })
    .await;
    for name in ["stripe", "adyen"] {
        shop.down(name).await;
    }
    // Whoever is asked first is known to be down after a few payments; every one of them is taken all the same.
    let mut last = None;
    for index in 0..8 {
        let answer = sale(&shop, &format!("key-{index}"), 1999, "eur").await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(answer.header("sentinel-gateway"), Some("square"));
        last = Some(answer);
    }
    let last = last.expect("an answer");
    assert_eq!(refused(&last), "adyen=breaker_open");
    let shown = routes(&shop).await;
    assert_eq!(shown["health"]["adyen"], "open", "{shown:#}");
    let asked = shop.timeline(last.header("sentinel-payment").expect("a payment"));
    let (adyen, square) = (asked.find("\"name\":\"adyen\""), asked.find("\"name\":\"square\""));
    assert!(square.is_some() && square < adyen, "{asked}");

    force(&shop, "square", "open").await;
    shop.up("adyen").await;
    force(&shop, "adyen", "reset").await;
    let forced = sale(&shop, "forced", 1999, "eur").await;
    assert_eq!(forced.header("sentinel-gateway"), Some("adyen"), "{}", forced.text());
    assert_eq!(refused(&forced), "square=breaker_forced_open");
    force(&shop, "adyen", "open").await;
    let nobody = sale(&shop, "nobody", 1999, "eur").await;
    assert_eq!(
        nobody.header("sentinel-failover"),
        Some("unavailable; reason=breaker_forced_open"),
        "{}",
        nobody.text()
    );
    assert_eq!(nobody.status(), 503);
}

/// What none of these takes of an application that pays in rupees.
const RUPEES: &str = "paypal=currency_not_supported, braintree=currency_not_supported, square=currency_not_supported";

/// Which gateway takes which one's payments at all, with every token at hand; else why not.
#[tokio::test(flavor = "multi_thread")]
async fn every_pair_is_planned_or_refused_with_its_reason() {
    use Own::{Adyen, Braintree, Paypal, Razorpay, Square, Stripe};
    let all = [Stripe, Adyen, Paypal, Braintree, Square, Razorpay];
    let mut setup = Setup::default();
    for own in all {
        let mut order = vec![own.name()];
        order.extend(all.iter().filter(|other| **other != own).map(|other| other.name()));
        setup = setup.of(own.name(), &order);
    }
    let shop = Shop::with(setup).await;
    let mut wrong = Vec::new();
    for (own, over, expected) in [
        (Stripe, Over::Euros, "razorpay=currency_not_supported"),
        (Adyen, Over::Euros, "razorpay=currency_not_supported"),
        (Paypal, Over::Euros, "razorpay=currency_not_supported"),
        (Braintree, Over::Euros, "razorpay=currency_not_supported"),
        (Square, Over::Euros, "razorpay=currency_not_supported"),
        // PayPal takes rupees within India only, Braintree by a merchant account in rupees, Square not at all.
        (Stripe, Over::Rupees, RUPEES),
        (Adyen, Over::Rupees, RUPEES),
        (Razorpay, Over::Rupees, RUPEES),
    ] {
        let order = own.open(&shop, "order-pairs").await;
        let token = own.token(&shop).await;
        let answer = own.pay(&shop, &token, &format!("key-of-{over:?}"), &order, over).await;
        let told = (answer.header("sentinel-failover"), refused(&answer));
        if told != (Some("false"), expected) {
            wrong.push(format!(
                "{} {over:?}: {told:?}, not {expected}: {}",
                own.name(),
                answer.text()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
