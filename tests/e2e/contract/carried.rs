//! What a payment carries beside its money, written for every gateway and read back as that gateway's application would have
//! written it: amount, capture, initiator, instrument, the result of an authentication and the network's id of the first
//! payment are the same, or the gateway is refused before anything is sent.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use proptest::test_runner::{Config, TestRunner};
use sentinel::config::model::Dialect;
use sentinel::gateway::canonical::*;
use sentinel::gateway::{Account, Head, for_dialect};
use sentinel::money::Amount;

use super::arbitrary;

const TARGETS: [Dialect; 5] = [
    Dialect::Stripe,
    Dialect::Adyen,
    Dialect::Paypal,
    Dialect::Braintree,
    Dialect::Square,
];

/// A token as the target's adapter takes one.
fn token(target: Dialect) -> &'static str {
    match target {
        Dialect::Stripe => "pm_1",
        Dialect::Adyen => "shopper-1/8415698462516992",
        Dialect::Square => "CUST1/ccof:card-1",
        _ => "8kk845",
    }
}

fn account(target: Dialect, pay: &Pay) -> Account {
    let code = pay.amount.expect("an amount").currency.code().to_owned();
    let merchant_account = format!("merchant_accounts.{code}");
    let braintree = [
        ("merchant_id", "m"),
        ("public_key", "p"),
        ("private_key", "s"),
        (merchant_account.as_str(), "m_of_this_currency"),
    ];
    let mut account = arbitrary::account(match target {
        Dialect::Stripe => &[("secret_key", "sk_test_1")],
        Dialect::Adyen => &[("api_key", "key"), ("merchant_account", "AcmeECOM")],
        Dialect::Paypal => &[("client_id", "id"), ("client_secret", "secret")],
        Dialect::Square => &[("access_token", "token"), ("location_id", "L1")],
        _ => &braintree,
    });
    if target == Dialect::Braintree {
        // Its gateway reads the currency from the account, as its server would.
        account
            .settings
            .insert(merchant_account, "m_of_this_currency".to_owned());
    }
    if target == Dialect::Stripe {
        account.settings.insert("mit_exemption".to_owned(), "true".to_owned());
    }
    account
}

/// What is the same of two instruments.
fn instrument(pay: &Pay) -> String {
    match &pay.instrument {
        Some(Instrument::Token(token)) => {
            let bare = token.rsplit_once('/').map_or(token.as_str(), |(_, bare)| bare);
            format!("token {bare}")
        }
        Some(Instrument::Card(card)) => format!("card {} {}/{}", card.number, card.expiry_month, card.expiry_year),
        Some(Instrument::NetworkToken(token)) => format!(
            "network token {} {}/{} {:?} {:?}",
            token.number, token.expiry_month, token.expiry_year, token.cryptogram, token.eci
        ),
        Some(Instrument::Bound(name)) => format!("bound {name}"),
        None => "none".to_owned(),
    }
}

/// Writes the payment for the target and reads it back; `Err` is the reason of the refusal.
fn back(target: Dialect, pay: &Pay) -> Result<Pay, &'static str> {
    let gateway = for_dialect(target).expect("a dialect");
    let account = account(target, pay);
    let request = Request::Pay(Box::new(pay.clone()));
    let outgoing = gateway.encode(&request, &account).map_err(|refusal| refusal.label())?;
    let (path, query) = match outgoing.target.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (outgoing.target.clone(), None),
    };
    let recognised = gateway.recognise(&outgoing.method, &path);
    let head = Head {
        method: outgoing.method,
        path,
        query,
        headers: outgoing.headers,
        base: String::new(),
    };
    match gateway.parse(&recognised, &head, &outgoing.body, &account.settings) {
        Ok(Request::Pay(read)) => Ok(*read),
        other => panic!("{target:?} does not read what it writes: {other:?}"),
    }
}

/// What was carried to which gateway, and how often; and what was refused there.
#[derive(Default)]
struct Tally {
    carried: BTreeMap<(Dialect, &'static str), usize>,
    refused: BTreeSet<(Dialect, &'static str)>,
}

impl Tally {
    /// Takes a payment to every gateway; panics where another one arrives.
    fn carry(&mut self, pay: &Pay) {
        for target in TARGETS {
            let mut pay = pay.clone();
            if matches!(pay.instrument, Some(Instrument::Token(_))) {
                pay.instrument = Some(Instrument::Token(token(target).to_owned()));
            }
            let read = match back(target, &pay) {
                Ok(read) => read,
                Err(reason) => {
                    self.refused.insert((target, reason));
                    continue;
                }
            };
            let mut count = |what| *self.carried.entry((target, what)).or_default() += 1;
            count("payment");
            assert_eq!(read.amount, pay.amount, "{target:?}");
            assert_eq!(read.capture, pay.capture, "{target:?}");
            assert_eq!(read.initiator, pay.initiator, "{target:?}");
            assert_eq!(instrument(&read), instrument(&pay), "{target:?}");
            assert_eq!(read.three_ds, pay.three_ds, "{target:?}");
            if pay.three_ds.is_some() {
                count("three_ds");
            }
            // A vault's token brings the vault's own id, and a customer who is there needs none.
            let needs = pay.initiator == Initiator::Merchant && !matches!(pay.instrument, Some(Instrument::Token(_)));
            if needs {
                assert_eq!(read.network_transaction_id, pay.network_transaction_id, "{target:?}");
                if pay.network_transaction_id.is_some() {
                    count("network_transaction_id");
                }
            }
        }
    }
}

/// A payment of each kind there is: by every instrument, captured at once or later, by the customer or the merchant, with
/// an authentication and without, with the network's id and without.
fn kinds() -> Vec<Pay> {
    let card = Instrument::Card(Card {
        number: "4111111111111111".to_owned(),
        expiry_month: "03".to_owned(),
        expiry_year: "2030".to_owned(),
        cvc: Some("737".to_owned()),
        holder: Some("J. Smith".to_owned()),
    });
    let network = Instrument::NetworkToken(NetworkToken {
        number: "4895370012003478".to_owned(),
        expiry_month: "11".to_owned(),
        expiry_year: "2031".to_owned(),
        cryptogram: Some("AgAAAAAABk4DWZ4C28yUQAAAAAA=".to_owned()),
        eci: Some("05".to_owned()),
    });
    let three_ds = ThreeDs {
        version: "2.2.0".to_owned(),
        eci: Some("05".to_owned()),
        cryptogram: "AgAAAAAABk4DWZ4C28yUQAAAAAA=".to_owned(),
        transaction_id: Some("1111aaaa-22bb".to_owned()),
    };
    let mut kinds = Vec::new();
    for instrument in [card, network, Instrument::Token("a token".to_owned())] {
        for (operation, capture) in [
            (Operation::Sale, CaptureMode::Automatic),
            (Operation::Authorize, CaptureMode::Manual),
        ] {
            for initiator in [Initiator::Customer, Initiator::Merchant] {
                for three_ds in [None, Some(three_ds.clone())] {
                    for network_transaction_id in [None, Some("123456789012345".to_owned())] {
                        kinds.push(Pay {
                            operation,
                            confirms: None,
                            amount: Some(Amount::from_minor(Dialect::Stripe, 1999, "EUR").expect("euros")),
                            capture,
                            instrument: Some(instrument.clone()),
                            customer: None,
                            initiator,
                            reference: Some("order-1".to_owned()),
                            description: None,
                            statement: None,
                            metadata: indexmap::IndexMap::new(),
                            buyer: Buyer::default(),
                            return_url: Some("https://shop.example/return".to_owned()),
                            three_ds: three_ds.clone(),
                            network_transaction_id,
                            unportable: Vec::new(),
                        });
                    }
                }
            }
        }
    }
    kinds
}

#[test]
fn what_a_payment_carries_is_the_same_at_every_gateway_or_refused() {
    let mut tally = Tally::default();
    kinds().iter().for_each(|pay| tally.carry(pay));
    for target in TARGETS {
        let capabilities = for_dialect(target).expect("a dialect").capabilities();
        let has = |what| tally.carried.get(&(target, what)).is_some_and(|count| *count > 0);
        assert!(has("payment"), "{target:?}");
        assert_eq!(has("three_ds"), capabilities.external_three_ds, "{target:?}");
        // Stripe's is a feature that an account must be given.
        let ids = capabilities.network_transaction_id || target == Dialect::Stripe;
        assert_eq!(has("network_transaction_id"), ids, "{target:?}");
        let refused = &tally.refused;
        assert!(
            capabilities.external_three_ds || refused.contains(&(target, "three_ds_not_portable")),
            "{target:?}: {refused:?}"
        );
    }
    // The same over payments that nobody thought of.
    let tally = RefCell::new(tally);
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(1_500)
    });
    let result = runner.run(&arbitrary::pay("a token"), |pay| {
        tally.borrow_mut().carry(&pay);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
