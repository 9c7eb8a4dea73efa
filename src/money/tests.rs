//! Amounts against the worked examples of the gateways' documents, and round trips over the whole table.

use proptest::prelude::*;

use super::*;
use Dialect::{Adyen, Braintree, Custom, Paypal, Razorpay, Square, Stripe};

const GATEWAYS: [Dialect; 7] = [Stripe, Paypal, Braintree, Square, Razorpay, Adyen, Custom];

fn adyen(value: i64, code: &str) -> Amount {
    Amount::from_minor(Adyen, value, code).expect("Adyen takes it")
}

#[test]
fn every_row_of_the_table_parses() {
    let rows = currencies::parse(include_str!("currencies.csv"));
    assert_eq!(rows.len(), 161);
    for row in rows {
        row.expect("row parses");
    }
    assert_eq!(Currency::all().count(), 161);
}

#[test]
fn the_worked_examples_convert_exactly() {
    let pesos = Amount::from_minor(Stripe, 1000, "clp").expect("pesos");
    assert_eq!(pesos.to_minor(Razorpay), Ok(1000));
    assert_eq!(pesos.to_minor(Adyen), Ok(100_000));
    let rupiah = adyen(10_000, "IDR");
    assert_eq!(rupiah.to_minor(Stripe), Ok(1_000_000));
    assert_eq!(rupiah.decimal(), "10000.00");
    let kronur = Amount::from_minor(Razorpay, 500, "ISK").expect("kronur");
    assert_eq!(kronur.to_minor(Stripe), Ok(50_000));
    assert_eq!(kronur.to_minor(Adyen), Ok(50_000));
    assert_eq!(kronur.decimal(), "500");
    let yen = Amount::from_minor(Stripe, 500, "jpy").expect("yen");
    for gateway in [Square, Razorpay, Adyen, Custom] {
        assert_eq!(yen.to_minor(gateway), Ok(500));
    }
    assert_eq!(yen.to_decimal(Paypal).as_deref(), Ok("500"));
    assert_eq!(yen.to_decimal(Braintree).as_deref(), Ok("500"));
    assert_eq!(yen.decimal(), "500");
    let forint = Amount::from_minor(Stripe, 100_050, "huf").expect("forint");
    assert_eq!(forint.to_minor(Adyen), Ok(100_050));
    assert_eq!(
        forint.to_decimal(Paypal),
        Err(MoneyError::NotExact(forint.currency, Gateway(Paypal)))
    );
    assert_eq!(adyen(100_000, "HUF").to_decimal(Paypal).as_deref(), Ok("1000"));
    assert_eq!(adyen(100_000, "TWD").to_decimal(Paypal).as_deref(), Ok("1000"));
    let dinar = adyen(1234, "KWD");
    assert_eq!(
        dinar.to_minor(Stripe),
        Err(MoneyError::NotExact(dinar.currency, Gateway(Stripe)))
    );
    assert_eq!(
        dinar.to_minor(Razorpay),
        Err(MoneyError::NotExact(dinar.currency, Gateway(Razorpay)))
    );
    assert_eq!(
        dinar.to_minor(Paypal),
        Err(MoneyError::Unsupported(dinar.currency, Gateway(Paypal)))
    );
    assert_eq!(adyen(1230, "KWD").to_minor(Stripe), Ok(1230));
    assert_eq!(adyen(5, "CVE").to_minor(Stripe), Ok(500), "Adyen counts whole escudos");
    assert_eq!(
        Amount::from_minor(Stripe, 550, "CVE")
            .expect("cve")
            .to_minor(Adyen)
            .ok(),
        None
    );
}

#[test]
fn steps_contradictions_and_unknown_codes_are_refused() {
    let odd = Amount::from_minor(Stripe, 50_050, "isk").expect("a fact, although Stripe would not take it");
    assert!(matches!(odd.to_minor(Stripe), Err(MoneyError::NotExact(..))));
    assert_eq!(odd.decimal(), "500.50", "nothing is hidden");
    let uganda = adyen(500, "UGX");
    assert!(matches!(uganda.to_minor(Stripe), Err(MoneyError::Contradictory(..))));
    assert!(matches!(
        Amount::from_minor(Stripe, 500, "ugx"),
        Err(MoneyError::Contradictory(..))
    ));
    assert!(
        matches!(Amount::from_minor(Stripe, 500, "bgn"), Err(MoneyError::Unsupported(..))),
        "no statement found"
    );
    assert!(matches!(
        Amount::from_minor(Stripe, 500, "xyz"),
        Err(MoneyError::UnknownCurrency(_))
    ));
    assert_eq!(Amount::from_minor(Stripe, 500, "us"), Err(MoneyError::NotACurrency));
    assert_eq!(Amount::from_minor(Stripe, 500, "ÿÿ"), Err(MoneyError::NotACurrency));
    assert!(Currency::parse("INR").expect("code").in_country_only(Paypal));
    assert!(!Currency::parse("INR").expect("code").in_country_only(Stripe));
}

#[test]
fn only_plain_digits_are_numbers() {
    for bad in [
        "", "-1", "+1", "1.5", "1e3", "1 ", " 1", "1,000", "١٠٠٠", "１", "NaN", "0x10", "01", "00", "1_000", "1.",
    ] {
        assert_eq!(
            Amount::parse_minor(Stripe, bad, "usd"),
            Err(MoneyError::Malformed),
            "{bad:?}"
        );
    }
    for huge in [
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999999999",
    ] {
        assert_eq!(
            Amount::parse_minor(Stripe, huge, "usd"),
            Err(MoneyError::Overflow),
            "{huge}"
        );
    }
    assert_eq!(
        Amount::parse_minor(Stripe, "9223372036854775807", "usd").map(|amount| amount.units),
        Ok(i64::MAX)
    );
    assert_eq!(
        Amount::parse_minor(Stripe, "9223372036854775807", "clp"),
        Err(MoneyError::Overflow),
        "canonical is finer"
    );
    assert_eq!(Amount::parse_minor(Stripe, "0", "usd").map(Amount::is_zero), Ok(true));
    for bad in [
        "", ".", ".5", "5.", "1.234", "-1.00", "1.0.0", "1e2", "01.00", "1,00", " 1.00", "1.٥", "1.-5",
    ] {
        assert_eq!(
            Amount::from_decimal(Paypal, bad, "USD"),
            Err(MoneyError::Malformed),
            "{bad:?}"
        );
    }
    assert_eq!(
        Amount::from_decimal(Paypal, "500.00", "JPY"),
        Err(MoneyError::Malformed),
        "PayPal refuses it too"
    );
    assert_eq!(
        Amount::from_decimal(Paypal, "20", "USD").map(|amount| amount.units),
        Ok(2000)
    );
    assert_eq!(
        Amount::from_decimal(Paypal, "20.5", "USD").map(|amount| amount.units),
        Ok(2050)
    );
    assert_eq!(
        Amount::from_decimal(Paypal, "99999999999999999999.00", "USD"),
        Err(MoneyError::Overflow)
    );
}

#[test]
fn json_amounts_are_integer_literals() {
    let read = |text: &str| {
        let value: serde_json::Value = serde_json::from_str(text).expect("json");
        Amount::json_minor(Adyen, &value, "USD")
    };
    assert_eq!(read("1000").map(|amount| amount.units), Ok(1000));
    assert_eq!(read("-1"), Err(MoneyError::Negative));
    assert_eq!(read("9223372036854775808"), Err(MoneyError::Overflow));
    for bad in ["1000.0", "1e3", "\"1000\"", "null", "true", "[1000]"] {
        assert_eq!(read(bad), Err(MoneyError::Malformed), "{bad}");
    }
}

#[test]
fn sums_stay_within_a_currency_and_a_sign() {
    let (ten, twenty, euro) = (adyen(10, "USD"), adyen(20, "USD"), adyen(10, "EUR"));
    assert_eq!(ten.checked_add(ten), Ok(twenty));
    assert_eq!(twenty.checked_sub(ten), Ok(ten));
    assert_eq!(ten.checked_sub(twenty), Err(MoneyError::Negative));
    assert!(matches!(ten.checked_add(euro), Err(MoneyError::Mismatch(..))));
    assert!(matches!(ten.checked_sub(euro), Err(MoneyError::Mismatch(..))));
    assert_eq!(
        Amount { units: i64::MAX, ..ten }.checked_add(ten),
        Err(MoneyError::Overflow)
    );
    assert!(ten < twenty);
    assert_eq!(ten.partial_cmp(&euro), None);
    assert_eq!(Amount { units: -1, ..ten }.to_minor(Stripe), Err(MoneyError::Negative));
}

fn currency() -> impl Strategy<Value = Currency> {
    proptest::sample::select(Currency::all().collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_a_gateway_writes_comes_back_as_written(value in 0..=i64::MAX / 100_000, currency in currency()) {
        for gateway in GATEWAYS {
            let Ok(amount) = Amount::from_minor(gateway, value, currency.code()) else { continue };
            match amount.to_minor(gateway) {
                Ok(back) => {
                    prop_assert_eq!(back, value);
                    let text = amount.to_decimal(gateway).expect("exact");
                    prop_assert_eq!(Amount::from_decimal(gateway, &text, currency.code()), Ok(amount));
                }
                Err(error) => prop_assert!(matches!(error, MoneyError::NotExact(..)), "only a step may refuse: {}", error),
            }
        }
    }

    #[test]
    fn no_conversion_between_gateways_changes_an_amount(value in 0..1_000_000_000_i64, currency in currency()) {
        for from in GATEWAYS {
            let Ok(amount) = Amount::from_minor(from, value, currency.code()) else { continue };
            for to in GATEWAYS {
                let Ok(sent) = amount.to_minor(to) else { continue };
                prop_assert_eq!(Amount::from_minor(to, sent, &currency.lower()), Ok(amount));
            }
        }
    }

    #[test]
    fn no_text_becomes_an_amount_unless_it_is_its_own_number(text in "[0-9+\\-. e]{0,22}") {
        if let Ok(amount) = Amount::parse_minor(Stripe, &text, "usd") {
            prop_assert_eq!(amount.units.to_string(), text);
        }
    }

    #[test]
    fn no_input_makes_the_readers_panic(text in "\\PC{0,24}", code in "\\PC{0,4}") {
        for gateway in GATEWAYS {
            let _ = Amount::parse_minor(gateway, &text, &code);
            let _ = Amount::from_decimal(gateway, &text, "KWD");
        }
    }

    #[test]
    fn an_amount_survives_the_ledger(units in 0..=i64::MAX, currency in currency()) {
        let amount = Amount { units, currency };
        let text = serde_json::to_string(&amount).expect("json");
        prop_assert_eq!(serde_json::from_str::<Amount>(&text).expect("json"), amount);
    }
}
