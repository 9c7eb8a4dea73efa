//! What comes of an instrument, and decimals of currencies.

/// Why a payment fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Why {
    pub(super) code: &'static str,
    pub(super) reason: &'static str,
}

const fn why(reason: &'static str) -> Why {
    Why {
        code: "BAD_REQUEST_ERROR",
        reason,
    }
}

const fn gateway(reason: &'static str) -> Why {
    Why {
        code: "GATEWAY_ERROR",
        reason,
    }
}

/// What comes of a test card once its shopper has confirmed; `None` for success. The vendor's page of error cards.
pub(super) fn card(number: &str) -> Option<Why> {
    Some(match number {
        "4100280000090000" | "5305620000060000" => why("payment_timed_out"),
        "4100280000080001" | "5305620000050001" => why("insufficient_funds"),
        "4100280000070002" | "5305620000040002" => why("payment_cancelled"),
        "4100280000060003" | "5305620000030003" => why("card_declined"),
        "4100280000030006" | "5305620000000006" => why("card_disabled_for_online_payments"),
        "4100280000020007" | "5305620000090007" => gateway("gateway_technical_error"),
        "4100280000010008" | "5305620000080008" => why("card_number_invalid"),
        "4100280000000009" | "5305620000070009" => gateway("authentication_failed"),
        _ => return None,
    })
}

/// What comes of a mandate's token.
pub(super) fn mandate(token: &str) -> Option<Why> {
    match token.strip_prefix("token_").unwrap_or(token) {
        id if id.starts_with("Declined") => Some(why("card_declined")),
        id if id.starts_with("TimedOut") => Some(gateway("payment_timed_out")),
        _ => None,
    }
}

/// Decimals of a currency on the wire.
pub(super) fn exponent(currency: &str) -> Option<u8> {
    match currency {
        "INR" | "USD" | "EUR" | "GBP" | "SGD" | "AED" => Some(2),
        "JPY" => Some(0),
        "KWD" => Some(3),
        _ => None,
    }
}
