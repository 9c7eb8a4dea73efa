//! Stripe's published test cards: numbers, `pm_card_...`, `tok_...`, and what comes of each.

use super::errors::Failure;

/// What a charge of a card comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Approved.
    Approve,
    /// Declined: `code`, and `decline_code` where it says more.
    Decline(&'static str, Option<&'static str>),
    /// The customer has to authenticate; then approved.
    Challenge,
    /// The customer has to authenticate; then declined for lack of funds.
    ChallengeThenDecline,
    /// Attaches to a customer, then declines.
    DeclineWhenCharged,
    /// Blocked before the network is asked.
    Blocked,
    /// Approved; a refund succeeds first and fails later.
    RefundFails,
    /// Approved; a refund is pending first and succeeds later.
    RefundPends,
}

/// A card as it is kept: never its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Card {
    pub(super) brand: &'static str,
    pub(super) funding: &'static str,
    pub(super) last4: String,
    pub(super) exp_month: i64,
    pub(super) exp_year: i64,
    pub(super) verdict: Verdict,
}

use Verdict::{
    Approve, Blocked, Challenge, ChallengeThenDecline, Decline, DeclineWhenCharged, RefundFails, RefundPends,
};

const fn declined(code: &'static str) -> Verdict {
    Decline("card_declined", Some(code))
}

/// Number, brand, the names behind `pm_card_` and `tok_`, outcome.
const CARDS: [(&str, &str, &[&str], Verdict); 34] = [
    ("4242424242424242", "visa", &["visa"], Approve),
    ("4000056655665556", "visa", &["visa_debit"], Approve),
    ("5555555555554444", "mastercard", &["mastercard"], Approve),
    ("5200828282828210", "mastercard", &["mastercard_debit"], Approve),
    ("5105105105105100", "mastercard", &["mastercard_prepaid"], Approve),
    ("378282246310005", "amex", &["amex"], Approve),
    ("371449635398431", "amex", &[], Approve),
    ("6011111111111117", "discover", &["discover"], Approve),
    ("3056930009020004", "diners", &["diners"], Approve),
    ("3566002020360505", "jcb", &["jcb"], Approve),
    ("6200000000000005", "unionpay", &["unionpay"], Approve),
    ("4000002500000003", "visa", &["fr"], Approve),
    ("4000002760000016", "visa", &["de"], Approve),
    ("4000000000000077", "visa", &["bypassPending"], Approve),
    (
        "4000000000000002",
        "visa",
        &["visa_chargeDeclined", "chargeDeclined"],
        declined("generic_decline"),
    ),
    (
        "4000000000009995",
        "visa",
        &[
            "visa_chargeDeclinedInsufficientFunds",
            "chargeDeclinedInsufficientFunds",
        ],
        declined("insufficient_funds"),
    ),
    (
        "4000000000009987",
        "visa",
        &["visa_chargeDeclinedLostCard", "chargeDeclinedLostCard"],
        declined("lost_card"),
    ),
    (
        "4000000000009979",
        "visa",
        &["visa_chargeDeclinedStolenCard", "chargeDeclinedStolenCard"],
        declined("stolen_card"),
    ),
    (
        "4000000000000069",
        "visa",
        &["chargeDeclinedExpiredCard"],
        Decline("expired_card", None),
    ),
    (
        "4000000000000127",
        "visa",
        &["chargeDeclinedIncorrectCvc"],
        Decline("incorrect_cvc", None),
    ),
    (
        "4000000000000119",
        "visa",
        &["chargeDeclinedProcessingError"],
        Decline("processing_error", None),
    ),
    (
        "4000000000006975",
        "visa",
        &[
            "visa_chargeDeclinedVelocityLimitExceeded",
            "chargeDeclinedVelocityLimitExceeded",
        ],
        declined("card_velocity_exceeded"),
    ),
    (
        "4242424242424241",
        "visa",
        &["chargeDeclinedIncorrectNumber"],
        Decline("incorrect_number", None),
    ),
    (
        "4100000000000019",
        "visa",
        &["radarBlock", "chargeDeclinedFraudulent"],
        Blocked,
    ),
    ("4000000000004954", "visa", &["riskLevelHighest"], Blocked),
    ("4000000000000341", "visa", &["chargeCustomerFail"], DeclineWhenCharged),
    (
        "4000002500003155",
        "visa",
        &["authenticationRequiredOnSetup"],
        Challenge,
    ),
    (
        "4000002760003184",
        "visa",
        &["authenticationRequired", "threeDSecure2Required"],
        Challenge,
    ),
    ("4000000000003220", "visa", &["threeDSecureRequired"], Challenge),
    (
        "4000008260003178",
        "visa",
        &["authenticationRequiredChargeDeclinedInsufficientFunds"],
        ChallengeThenDecline,
    ),
    ("4000000000005126", "visa", &["refundFail"], RefundFails),
    ("4000000000007726", "visa", &["pendingRefund"], RefundPends),
    ("4000000000003055", "visa", &["threeDSecureOptional"], Approve),
    ("4000000000001976", "visa", &["createDisputeInquiry"], Approve),
];

/// The expiry of the cards that go by name.
const EXPIRY: (i64, i64) = (12, 2034);

fn card(row: &(&'static str, &'static str, &'static [&'static str], Verdict), expiry: (i64, i64)) -> Card {
    let (number, brand, names, verdict) = row;
    Card {
        brand,
        funding: match names.first() {
            Some(name) if name.ends_with("_debit") => "debit",
            Some(name) if name.ends_with("_prepaid") => "prepaid",
            _ => "credit",
        },
        last4: last4(number),
        exp_month: expiry.0,
        exp_year: expiry.1,
        verdict: *verdict,
    }
}

fn last4(number: &str) -> String {
    number
        .get(number.len().saturating_sub(4)..)
        .unwrap_or_default()
        .to_owned()
}

/// The card behind `pm_card_visa` or `tok_visa`.
pub(super) fn by_name(id: &str) -> Option<Card> {
    let name = id.strip_prefix("pm_card_").or_else(|| id.strip_prefix("tok_"))?;
    let row = CARDS.iter().find(|(_, _, names, _)| names.contains(&name))?;
    Some(card(row, EXPIRY))
}

/// The card with a number. Numbers that are none are refused here; real ones are declined, because this is a test mode.
pub(super) fn by_number(param: &str, number: &str, (month, year): (i64, i64), now_year: i64) -> Result<Card, Failure> {
    let refused = |code: &str, message: &str| {
        let mut error = serde_json::Map::new();
        error.insert("type".to_owned(), "card_error".into());
        error.insert("code".to_owned(), code.into());
        error.insert("message".to_owned(), message.into());
        error.insert("param".to_owned(), param.into());
        Failure::card(error)
    };
    if !(1..=12).contains(&month) {
        return Err(refused(
            "invalid_expiry_month",
            "Your card's expiration month is invalid.",
        ));
    }
    let year = if year < 100 { year + 2000 } else { year };
    if year < now_year || year > now_year + 50 {
        return Err(refused(
            "invalid_expiry_year",
            "Your card's expiration year is invalid.",
        ));
    }
    let number: String = number.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    if let Some(row) = CARDS.iter().find(|(known, ..)| *known == number) {
        return Ok(card(row, (month, year)));
    }
    if !(12..=19).contains(&number.len()) || !luhn(&number) {
        return Err(refused("incorrect_number", "Your card number is incorrect."));
    }
    Ok(Card {
        brand: match number.as_bytes() {
            [b'4', ..] => "visa",
            [b'5' | b'2', ..] => "mastercard",
            [b'3', b'4' | b'7', ..] => "amex",
            _ => "unknown",
        },
        funding: "credit",
        last4: last4(&number),
        exp_month: month,
        exp_year: year,
        verdict: declined("test_mode_live_card"),
    })
}

fn luhn(number: &str) -> bool {
    let digits: Option<Vec<u32>> = number.chars().rev().map(|c| c.to_digit(10)).collect();
    let sum = digits.map(|digits| {
        let double = |(at, digit): (usize, u32)| match at % 2 {
            0 => digit,
            _ if digit > 4 => digit * 2 - 9,
            _ => digit * 2,
        };
        digits.into_iter().enumerate().map(double).sum::<u32>()
    });
    sum.is_some_and(|sum| sum % 10 == 0)
}

/// What a declined customer reads.
pub(super) fn message(code: &str, decline: Option<&str>) -> &'static str {
    match decline.unwrap_or(code) {
        "insufficient_funds" => "Your card has insufficient funds.",
        "expired_card" => "Your card has expired.",
        "incorrect_cvc" => "Your card's security code is incorrect.",
        "incorrect_number" => "Your card number is incorrect.",
        "processing_error" => "An error occurred while processing your card. Try again in a little bit.",
        "card_velocity_exceeded" => "Your card was declined for making repeated attempts too frequently.",
        "authentication_required" => "Your card was declined. This transaction requires authentication.",
        "test_mode_live_card" => "Your card was declined. Your request was in test mode, but used a non test card.",
        _ => "Your card was declined.",
    }
}

/// `advice_code`, and the network's decline code, where Stripe's test mode gives them.
pub(super) fn advice(code: &str, decline: Option<&str>) -> (Option<&'static str>, Option<&'static str>) {
    match decline.unwrap_or(code) {
        "insufficient_funds" => (Some("try_again_later"), Some("51")),
        "generic_decline" => (Some("try_again_later"), Some("01")),
        "lost_card" => (Some("do_not_try_again"), Some("41")),
        "stolen_card" => (Some("do_not_try_again"), Some("43")),
        "expired_card" => (Some("do_not_try_again"), Some("54")),
        "incorrect_cvc" => (Some("confirm_card_data"), Some("N7")),
        "processing_error" => (Some("try_again_later"), None),
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_numbers_and_names_are_known_and_others_are_declined_or_refused() {
        for (number, ..) in CARDS.iter().filter(|(number, ..)| *number != "4242424242424241") {
            assert!(luhn(number), "{number}");
        }
        assert_eq!(by_name("pm_card_visa").unwrap().last4, "4242");
        assert_eq!(
            by_name("tok_chargeDeclined").unwrap().verdict,
            declined("generic_decline")
        );
        assert!(by_name("pm_card_nothing").is_none());
        let by = |number, month, year| by_number("number", number, (month, year), 2026);
        assert_eq!(by("4242 4242 4242 4242", 1, 30).unwrap().exp_year, 2030);
        assert_eq!(
            by("4111111111111111", 1, 2030).unwrap().verdict,
            declined("test_mode_live_card")
        );
        assert!(by("4111111111111112", 1, 2030).is_err());
        assert!(by("4242424242424242", 13, 2030).is_err());
        assert!(by("4242424242424242", 12, 2020).is_err());
    }
}
