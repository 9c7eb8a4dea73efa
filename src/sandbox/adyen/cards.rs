//! What Adyen's test environment makes of a payment: published test cards, holder names and magic values.

use serde_json::{Map, Value};

/// What a payment comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Authorised.
    Authorised,
    /// The shopper has to authenticate first.
    Challenge,
    /// Refused, cancelled or an error, with the `refusalReasonCode`.
    Refused(&'static str),
    /// The end of it comes later, by webhook.
    Received,
    /// The acquirer could not be reached; nothing was sent to it, and the key stays free.
    Transient,
    /// The connection to the acquirer broke; what became of the payment is not known, and the key keeps the error.
    Broken,
}

/// Holder name, code and reason, as published.
const NAMES: [(&str, &str, &str); 47] = [
    ("UNKNOWN", "0", "Unknown"),
    ("APPROVED", "1", "Authorised"),
    ("DECLINED", "2", "Refused"),
    ("REFERRAL", "3", "Referral"),
    ("ERROR", "4", "Acquirer Error"),
    ("BLOCK_CARD", "5", "Blocked Card"),
    ("CARD_EXPIRED", "6", "Expired Card"),
    ("INVALID_AMOUNT", "7", "Invalid Amount"),
    ("INVALID_CARD_NUMBER", "8", "Invalid Card Number"),
    ("ISSUER_UNAVAILABLE", "9", "Issuer Unavailable"),
    ("NOT_SUPPORTED", "10", "Not supported"),
    ("NOT_3D_AUTHENTICATED", "11", "3D Not Authenticated"),
    ("NOT_ENOUGH_BALANCE", "12", "Not enough balance"),
    ("PENDING", "13", "Pending"),
    ("ACQUIRER_FRAUD", "14", "Acquirer Fraud"),
    ("CANCELLED", "15", "Cancelled"),
    ("SHOPPER_CANCELLED", "16", "Shopper Cancelled"),
    ("INVALID_PIN", "17", "Invalid Pin"),
    ("PIN_TRIES_EXCEEDED", "18", "Pin tries exceeded"),
    ("PIN_VALIDATION_NOT_POSSIBLE", "19", "Pin validation not possible"),
    ("FRAUD", "20", "FRAUD"),
    ("NOT_SUBMITTED", "21", "Not Submitted"),
    ("FRAUD_CANCELLED", "22", "FRAUD-CANCELLED"),
    ("TRANSACTION_NOT_PERMITTED", "23", "Transaction Not Permitted"),
    ("CVC_DECLINED", "24", "CVC Declined"),
    ("RESTRICTED_CARD", "25", "Restricted Card"),
    ("REVOCATION_OF_AUTH", "26", "Revocation Of Auth"),
    ("DECLINED_NON_GENERIC", "27", "Declined Non Generic"),
    ("WITHDRAWAL_AMOUNT_EXCEEDED", "28", "Withdrawal amount exceeded"),
    ("WITHDRAWAL_COUNT_EXCEEDED", "29", "Withdrawal count exceeded"),
    ("PARTIALLY_APPROVED", "30", "Partially Approved"),
    ("ISSUER_SUSPECTED_FRAUD", "31", "Issuer Suspected Fraud"),
    ("AVS_DECLINED", "32", "AVS Declined"),
    ("PIN_REQUIRED", "33", "Card requires online pin"),
    ("NO_CHECKING_ACCOUNT", "34", "No checking account available on Card"),
    ("NO_SAVINGS_ACCOUNT", "35", "No savings account available on Card"),
    ("MOBILE_PIN_REQUIRED", "36", "Mobile pin required"),
    ("CONTACTLESS_FALLBACK", "37", "Contactless fallback"),
    ("AUTHENTICATION_REQUIRED", "38", "Authentication required"),
    ("RREQ_NOT_RECEIVED", "39", "RReq not received from DS"),
    ("BAN_CURRENT_AID", "40", "Current AID is in Penalty Box"),
    ("CVM_REQUIRED", "41", "CVM Required Restart Payment"),
    ("THREED_SECURE_ERROR", "42", "3DS Authentication Error"),
    ("ONLINE_PIN_REQUIRED", "43", "Online PIN required"),
    ("TRY_ANOTHER_INTERFACE", "44", "Try another interface"),
    ("CHIP_DOWNGRADE_MODE", "45", "Chip downgrade mode"),
    (
        "ERPS_BLOCK",
        "46",
        "Transaction blocked by Adyen to prevent excessive retry fees",
    ),
];

/// Published cards that ask for 3-D Secure 2.
const CHALLENGED: [&str; 3] = ["4917610000000000", "5454545454545454", "4212345678901237"];

pub(super) fn reason(code: &str) -> &'static str {
    NAMES
        .iter()
        .find(|(_, known, _)| *known == code)
        .map_or("Refused", |(.., reason)| reason)
}

/// The `resultCode` of a refusal.
pub(super) fn result(code: &str) -> &'static str {
    match code {
        "0" | "4" => "Error",
        "15" | "22" => "Cancelled",
        _ => "Refused",
    }
}

fn by_code(code: &str) -> Option<Verdict> {
    let (_, code, _) = NAMES.iter().find(|(_, known, _)| *known == code)?;
    Some(match *code {
        "1" | "30" => Verdict::Authorised,
        "13" => Verdict::Received,
        code => Verdict::Refused(code),
    })
}

/// A field of a card, in clear or behind the prefix that the test environment takes for encrypted.
pub(super) fn card_field(method: &Map<String, Value>, clear: &str, encrypted: &str) -> Option<String> {
    let text = |name: &str| method.get(name).and_then(Value::as_str);
    text(clear)
        .or_else(|| text(encrypted).and_then(|value| value.strip_prefix("test_")))
        .map(str::to_owned)
}

pub(super) fn verdict(body: &Map<String, Value>, method: &Map<String, Value>) -> Verdict {
    let additional = |name: &str| {
        body.get("additionalData")
            .and_then(|data| data.get(name))
            .and_then(Value::as_str)
    };
    match additional("RequestedTestErrorResponseCode") {
        Some("NO_CONNECTION_AVAILABLE") => return Verdict::Transient,
        Some("IOEXCEPTION_RECEIVED") => return Verdict::Broken,
        _ => {}
    }
    if let Some(verdict) = additional("RequestedTestAcquirerResponseCode").and_then(by_code) {
        return verdict;
    }
    let holder = method.get("holderName").and_then(Value::as_str).unwrap_or_default();
    let named = NAMES
        .iter()
        .find(|(name, ..)| *name == holder)
        .and_then(|(_, code, _)| by_code(code));
    if let Some(verdict) = named {
        return verdict;
    }
    let stored = method
        .get("storedPaymentMethodId")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if let Some(verdict) = stored
        .strip_prefix("DECLINED")
        .map(|code| code.trim_start_matches('0'))
        .and_then(by_code)
    {
        return verdict;
    }
    let number = card_field(method, "number", "encryptedCardNumber").unwrap_or_default();
    let never = body
        .get("authenticationData")
        .and_then(|data| data.get("attemptAuthentication"));
    let authenticated = body.contains_key("mpiData") || never.and_then(Value::as_str) == Some("never");
    if CHALLENGED.contains(&number.as_str()) && !authenticated {
        return Verdict::Challenge;
    }
    Verdict::Authorised
}

pub(super) fn luhn(number: &str) -> bool {
    let digits: Option<Vec<u32>> = number.chars().rev().map(|c| c.to_digit(10)).collect();
    let Some(digits) = digits.filter(|digits| (12..=19).contains(&digits.len())) else {
        return false;
    };
    let doubled = |(at, digit): (usize, &u32)| match (at % 2, digit * 2) {
        (0, _) => *digit,
        (_, twice) if twice > 9 => twice - 9,
        (_, twice) => twice,
    };
    digits.iter().enumerate().map(doubled).sum::<u32>() % 10 == 0
}

pub(super) fn brand(number: &str) -> &'static str {
    match number.as_bytes() {
        [b'4', ..] => "visa",
        [b'5', b'1'..=b'5', ..] | [b'2', b'2'..=b'7', ..] => "mc",
        [b'3', b'4' | b'7', ..] => "amex",
        [b'6', b'0', b'1', b'1', ..] | [b'6', b'5', ..] => "discover",
        [b'3', b'6' | b'8', ..] => "diners",
        [b'3', b'5', ..] => "jcb",
        [b'6', b'2', ..] | [b'8', b'1', ..] => "cup",
        _ => "maestro",
    }
}

/// Adyen's own table of decimals: four currencies deviate from ISO 4217.
pub(super) fn exponent(currency: &str) -> Option<u8> {
    match currency {
        "CVE" | "DJF" | "GNF" | "IDR" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "VND" | "VUV" | "XAF"
        | "XOF" | "XPF" => Some(0),
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => Some(3),
        code if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) => Some(2),
        _ => None,
    }
}
