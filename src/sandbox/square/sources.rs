//! What comes of a source, and what Square knows of currencies.

/// Decimals of a currency that some seller of Square has.
pub(super) fn exponent(currency: &str) -> Option<u8> {
    match currency {
        "USD" | "CAD" | "GBP" | "AUD" | "EUR" => Some(2),
        "JPY" => Some(0),
        _ => None,
    }
}

/// What comes of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Approved; what may be edited afterwards.
    Approved(&'static [&'static str]),
    /// Declined with this code.
    Declined(&'static str),
    /// No source at all.
    Unknown,
}

const EDITABLE: &[&str] = &[
    "EDIT_AMOUNT_UP",
    "EDIT_AMOUNT_DOWN",
    "EDIT_TIP_AMOUNT_UP",
    "EDIT_TIP_AMOUNT_DOWN",
];

/// Square's page of sandbox values. Another `ccof:` is a saved card that is good.
pub(super) fn verdict(source: &str) -> Verdict {
    match source {
        "cnon:card-nonce-ok" | "cnon:gift-card-nonce-ok" => Verdict::Approved(EDITABLE),
        "cnon:card-edit-not-allowed" => Verdict::Approved(&[]),
        "cnon:card-edit-down-only" => Verdict::Approved(&["EDIT_AMOUNT_DOWN", "EDIT_TIP_AMOUNT_DOWN"]),
        "cnon:card-nonce-rejected-cvv" => Verdict::Declined("CVV_FAILURE"),
        "cnon:card-nonce-rejected-postalcode" | "ccof:customer-card-id-rejected-postalcode" => {
            Verdict::Declined("ADDRESS_VERIFICATION_FAILURE")
        }
        "cnon:card-nonce-rejected-expiration" | "ccof:customer-card-id-rejected-expiration" => {
            Verdict::Declined("INVALID_EXPIRATION")
        }
        "cnon:card-nonce-declined" | "ccof:customer-card-id-declined" => Verdict::Declined("GENERIC_DECLINE"),
        "cnon:card-nonce-already-used" => Verdict::Declined("CARD_TOKEN_USED"),
        "cnon:gift-card-nonce-insufficient-funds" => Verdict::Declined("INSUFFICIENT_FUNDS"),
        "cnon:gift-card-nonce-insufficient-permission" => Verdict::Declined("INSUFFICIENT_PERMISSIONS"),
        "ccof:customer-card-id-requires-verification" => Verdict::Declined("CARD_DECLINED_VERIFICATION_REQUIRED"),
        source if source.strip_prefix("ccof:").is_some_and(|id| !id.is_empty()) => Verdict::Approved(EDITABLE),
        _ => Verdict::Unknown,
    }
}

/// Whether the refusal comes before any payment is made.
pub(super) fn without_payment(code: &str) -> bool {
    matches!(code, "CARD_TOKEN_USED" | "INSUFFICIENT_PERMISSIONS")
}
