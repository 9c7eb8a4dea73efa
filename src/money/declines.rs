//! The decline taxonomy: what a gateway's refusal means, and what it allows.
//!
//! `declines.csv` maps each gateway's codes to a canonical name and a class. A code may carry a prefix that says which
//! field it came from (`code:` Stripe error code, `error:` and `result:` Adyen, `rejection:` Braintree, `http:` a bare
//! status, ...), may be a range (`2109-2999`), or `other` for the rest. The card networks' own rules stand above the
//! gateways' (Mastercard merchant advice codes, Visa categories): they can only make a verdict stricter.
//!
//! An unknown code is a hard decline: a second gateway is tried only on a reason that is known to allow it.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::config::model::Dialect;

const TABLE: &str = include_str!("declines.csv");

/// What a decline allows. The classes of `declines.csv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeclineClass {
    /// Stop: the card, the data or the customer must change.
    Hard,
    /// Another gateway may approve.
    Soft,
    /// The issuer or gateway was busy; not a verdict on the card.
    RetryLater,
    /// The merchant's account at this gateway is at fault.
    Config,
    /// Stop, and do not show the reason to the customer.
    Fraud,
    /// Not a decline at all: find out first.
    Ambiguous,
}

impl DeclineClass {
    /// The word in `declines.csv`, labels and the ledger.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
            Self::RetryLater => "retry_later",
            Self::Config => "config",
            Self::Fraud => "fraud",
            Self::Ambiguous => "ambiguous",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [
            Self::Hard,
            Self::Soft,
            Self::RetryLater,
            Self::Config,
            Self::Fraud,
            Self::Ambiguous,
        ]
        .into_iter()
        .find(|class| class.name() == word)
    }

    /// Whether it forbids another try with the same card and data.
    pub const fn stops(self) -> bool {
        matches!(self, Self::Hard | Self::Fraud | Self::Ambiguous)
    }

    /// How strict: of several verdicts on one attempt the strictest holds.
    const fn strictness(self) -> u8 {
        match self {
            Self::Ambiguous => 5,
            Self::Fraud => 4,
            Self::Hard => 3,
            Self::Config => 2,
            Self::RetryLater => 1,
            Self::Soft => 0,
        }
    }
}

/// A verdict on one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The canonical name, e.g. `insufficient_funds`.
    pub canonical: &'static str,
    /// What it allows.
    pub class: DeclineClass,
    /// Whether the code was in the table.
    pub known: bool,
}

impl Verdict {
    /// The stricter of two; the first when they are equal.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if other.class.strictness() > self.class.strictness() {
            other
        } else {
            self
        }
    }

    /// Whether another gateway may be tried although the code is not a soft decline: the gateway itself was busy. A
    /// busy *issuer* follows the card, not the gateway.
    pub fn gateway_side(self) -> bool {
        self.class == DeclineClass::RetryLater && matches!(self.canonical, "rate_limited" | "gateway_unavailable")
    }
}

/// The card network, where the answer names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Visa: categories by the issuer's code.
    Visa,
    /// Mastercard: merchant advice codes.
    Mastercard,
    /// Any other.
    Other,
}

/// What stands beside the gateway's own code in an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Advice<'a> {
    /// The network.
    pub network: Option<Network>,
    /// The issuer's raw response code (ISO 8583 field 39), e.g. `05`.
    pub issuer_code: Option<&'a str>,
    /// The merchant advice code, e.g. `03`.
    pub advice_code: Option<&'a str>,
    /// The gateway's own word that this must not be tried again.
    pub do_not_retry: bool,
}

/// The verdict on a gateway's code, with what the networks say beside it.
///
/// A code that is no decline at all (`ambiguous`) stays so, whatever stands beside it. Otherwise the strictest of the
/// gateway's class, the issuer's code, the Visa category and the Mastercard advice holds; the canonical name is the one
/// of the strictest, and of the gateway where they are equal. Mastercard 03, 21 and 99, Visa category 1 and the
/// gateway's own *do not retry* are at least hard.
pub fn classify(gateway: Dialect, raw_code: &str, advice: &Advice<'_>) -> Verdict {
    let base = look_up(gateway.name(), raw_code).unwrap_or_else(|| unknown(raw_code));
    if base.class == DeclineClass::Ambiguous {
        return base;
    }
    let mut verdict = base;
    if let Some(issuer) = advice.issuer_code.map(issuer_code) {
        verdict = verdict.and_stop(look_up("iso8583", issuer));
        if advice.network == Some(Network::Visa) {
            verdict = verdict.and_class(look_up("visa_category", issuer));
        }
    }
    if matches!(advice.network, None | Some(Network::Mastercard)) {
        let code = advice.advice_code.map(str::trim);
        verdict = verdict.and_stop(code.and_then(|code| look_up("mastercard_mac", code)));
    }
    if advice.do_not_retry {
        verdict = verdict.and(Verdict {
            canonical: "do_not_retry",
            class: DeclineClass::Hard,
            known: true,
        });
    }
    verdict
}

impl Verdict {
    /// The stricter, where an ambiguous network code only stops: the gateway's definite decline stands.
    fn and_stop(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other.class == DeclineClass::Ambiguous => self.and(Self {
                class: DeclineClass::Hard,
                ..other
            }),
            Some(other) => self.and(other),
            None => self,
        }
    }

    /// The stricter class under the name that the gateway gave: a network's category is no reason.
    fn and_class(self, category: Option<Self>) -> Self {
        match category {
            Some(category) => Self {
                class: self.and(category).class,
                ..self
            },
            None => self,
        }
    }
}

/// The strictest verdict on several codes of one answer (Square answers a list of errors). `None` for no code.
pub fn classify_all<'a>(gateway: Dialect, codes: impl IntoIterator<Item = &'a str>) -> Option<Verdict> {
    codes
        .into_iter()
        .map(|code| classify(gateway, code, &Advice::default()))
        .reduce(Verdict::and)
}

/// The code with which the dialect tells a decline of this name and class: its own code for the name, else one of the same
/// kind, and among those one that allows as much as the class does. Never a prefixed code (those come from other fields
/// than the decline code).
///
/// A decline that forbids another try is never told under a code that allows one: where the network forbade it, but the
/// dialect's code for the reason does not, it is the dialect's plain *stop*. So is every decline for fraud: whoever holds
/// the card must not learn that it is known as stolen.
pub fn code_for(gateway: Dialect, canonical: &str, class: DeclineClass) -> &'static str {
    let reason = reason_for(gateway, canonical, class);
    match class {
        DeclineClass::Fraud => stop(gateway),
        _ if class.stops() && !code_stops(gateway, reason) => stop(gateway),
        _ => reason,
    }
}

/// The code for the reason alone, for dialects that say elsewhere in the answer that it must not be tried again.
pub fn reason_for(gateway: Dialect, canonical: &str, class: DeclineClass) -> &'static str {
    if canonical == "generic_decline" || class == DeclineClass::Fraud {
        return generic(gateway);
    }
    let names = std::iter::once(canonical).chain(kin(canonical).iter().copied());
    let mut codes = names.filter_map(|name| tables().codes.get(gateway.name())?.get(name));
    let Some(first) = codes.next() else {
        return generic(gateway);
    };
    let alike = std::iter::once(first)
        .chain(codes)
        .flatten()
        .find(|(_, allows)| allows.stops() == class.stops());
    alike
        .or_else(|| first.first())
        .map_or_else(|| generic(gateway), |(code, _)| *code)
}

/// Whether an application that knows the code stops at it.
pub fn code_stops(gateway: Dialect, code: &str) -> bool {
    look_up(gateway.name(), code).is_some_and(|verdict| verdict.class.stops())
}

/// Names close enough that an application would act alike on them.
fn kin(canonical: &str) -> &'static [&'static str] {
    match canonical {
        "blocked_card" | "pickup_card" | "card_not_activated" => &["restricted_card"],
        "closed_account" => &["invalid_account", "restricted_card"],
        "invalid_data" => &["invalid_number"],
        "token_expired" | "token_used" => &["token_invalid"],
        "customer_action_required" | "authentication_failed" => &["authentication_required"],
        "do_not_retry" | "excessive_retries" => &["do_not_honor"],
        "gateway_limit" => &["limit_exceeded"],
        "invalid_account" => &["invalid_number"],
        "try_again_later" | "gateway_unavailable" => &["issuer_unavailable", "processing_error"],
        _ => &[],
    }
}

/// A code that forbids another try and says nothing of fraud.
const fn stop(gateway: Dialect) -> &'static str {
    match gateway {
        Dialect::Stripe | Dialect::Custom => "do_not_try_again",
        Dialect::Paypal => "PAYER_ACCOUNT_RESTRICTED",
        Dialect::Braintree => "2043",
        Dialect::Square => "CARDHOLDER_INSUFFICIENT_PERMISSIONS",
        Dialect::Razorpay => "debit_instrument_blocked",
        Dialect::Adyen => "25",
    }
}

/// The code that says no more than *declined*.
const fn generic(gateway: Dialect) -> &'static str {
    match gateway {
        Dialect::Stripe | Dialect::Custom => "generic_decline",
        Dialect::Paypal => "5100",
        Dialect::Braintree => "2000",
        Dialect::Square => "GENERIC_DECLINE",
        Dialect::Razorpay => "card_declined",
        Dialect::Adyen => "2",
    }
}

/// A code outside the table. A bare 5xx or 408 is no decline at all.
fn unknown(raw_code: &str) -> Verdict {
    let status = raw_code.strip_prefix("http:");
    if status.is_some_and(|status| status.starts_with('5') || status == "408") {
        return Verdict {
            canonical: "outcome_unknown",
            class: DeclineClass::Ambiguous,
            known: false,
        };
    }
    Verdict {
        canonical: "generic_decline",
        class: DeclineClass::Hard,
        known: false,
    }
}

/// `05`, or the beginning of `05 : Do not honor` as Adyen passes it on.
fn issuer_code(raw: &str) -> &str {
    raw.split([':', ' ']).next().unwrap_or_default()
}

fn look_up(source: &str, raw_code: &str) -> Option<Verdict> {
    let source = tables().sources.get(source)?;
    if let Some(verdict) = source.exact.get(raw_code) {
        return Some(*verdict);
    }
    let number = raw_code.parse::<u32>().ok();
    let ranged = number.and_then(|number| source.ranges.iter().find(|(range, _)| range.contains(&number)));
    ranged.map(|(_, verdict)| *verdict).or(source.other)
}

#[derive(Default)]
struct Source {
    exact: HashMap<&'static str, Verdict>,
    ranges: Vec<(std::ops::RangeInclusive<u32>, Verdict)>,
    other: Option<Verdict>,
}

/// A code and what it allows.
type Code = (&'static str, DeclineClass);

struct Tables {
    sources: HashMap<&'static str, Source>,
    /// Gateway, then canonical name, to its unprefixed codes in the order of the table; without those that tell of fraud, of
    /// the merchant's account, or of nothing definite.
    codes: HashMap<&'static str, HashMap<&'static str, Vec<Code>>>,
}

/// One row of the table.
#[derive(Debug)]
struct Row {
    source: &'static str,
    raw_code: &'static str,
    verdict: Verdict,
}

fn tables() -> &'static Tables {
    static TABLES: LazyLock<Tables> = LazyLock::new(|| {
        let mut tables = Tables {
            sources: HashMap::new(),
            codes: HashMap::new(),
        };
        for row in rows().into_iter().flatten() {
            let source = tables.sources.entry(row.source).or_default();
            match (row.raw_code, range(row.raw_code)) {
                ("other", _) => source.other = Some(row.verdict),
                (_, Some(range)) => source.ranges.push((range, row.verdict)),
                (code, None) => {
                    source.exact.insert(code, row.verdict);
                    let class = row.verdict.class;
                    let hidden = matches!(
                        class,
                        DeclineClass::Fraud | DeclineClass::Ambiguous | DeclineClass::Config
                    );
                    if !code.contains(':') && !hidden {
                        let names = tables.codes.entry(row.source).or_default();
                        let codes = names.entry(row.verdict.canonical).or_default();
                        codes.push((code, row.verdict.class));
                    }
                }
            }
        }
        tables
    });
    &TABLES
}

/// The rows; one result each, so that a test can name the one that does not parse. No cell of this table is quoted.
fn rows() -> Vec<Result<Row, &'static str>> {
    TABLE
        .lines()
        .skip(1)
        .map(|line| {
            let mut cells = line.splitn(5, ',');
            let (source, raw_code) = (cells.next().ok_or(line)?, cells.next().ok_or(line)?);
            let (canonical, class) = (cells.next().ok_or(line)?, cells.next().ok_or(line)?);
            let class = DeclineClass::parse(class).ok_or(line)?;
            Ok(Row {
                source,
                raw_code,
                verdict: Verdict {
                    canonical,
                    class,
                    known: true,
                },
            })
        })
        .collect()
}

fn range(raw_code: &str) -> Option<std::ops::RangeInclusive<u32>> {
    let (first, last) = raw_code.split_once('-')?;
    Some(first.parse().ok()?..=last.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAYS: [Dialect; 6] = [
        Dialect::Stripe,
        Dialect::Paypal,
        Dialect::Braintree,
        Dialect::Square,
        Dialect::Razorpay,
        Dialect::Adyen,
    ];

    fn plain(gateway: Dialect, code: &str) -> (&'static str, DeclineClass) {
        let verdict = classify(gateway, code, &Advice::default());
        (verdict.canonical, verdict.class)
    }

    #[test]
    fn every_row_reaches_the_class_it_names() {
        let rows = rows();
        assert_eq!(rows.len(), 900);
        for row in rows {
            let row = row.expect("row parses");
            let verdicts = match (row.raw_code, range(row.raw_code)) {
                ("other", _) => vec![look_up(row.source, "ZZ")],
                (_, Some(range)) => range.map(|code| look_up(row.source, &code.to_string())).collect(),
                (code, None) => vec![look_up(row.source, code)],
            };
            assert!(
                verdicts.iter().all(|verdict| *verdict == Some(row.verdict)),
                "{row:?}: {verdicts:?}"
            );
            let dialect = GATEWAYS.into_iter().find(|dialect| dialect.name() == row.source);
            if let Some(dialect) = dialect.filter(|_| range(row.raw_code).is_none()) {
                assert_eq!(plain(dialect, row.raw_code), (row.verdict.canonical, row.verdict.class));
            }
        }
    }

    #[test]
    fn an_unknown_code_stops_and_an_unknown_5xx_is_no_decline() {
        assert_eq!(plain(Dialect::Stripe, "brand_new_code").1, DeclineClass::Hard);
        assert_eq!(
            plain(Dialect::Stripe, "http:520"),
            ("outcome_unknown", DeclineClass::Ambiguous)
        );
        assert_eq!(
            plain(Dialect::Braintree, "2555"),
            ("generic_decline", DeclineClass::Soft)
        );
        assert_eq!(plain(Dialect::Braintree, "3999").1, DeclineClass::Hard);
    }

    #[test]
    fn network_advice_only_makes_a_verdict_stricter() {
        let soft = |advice: Advice<'_>| classify(Dialect::Stripe, "do_not_honor", &advice);
        assert_eq!(soft(Advice::default()).class, DeclineClass::Soft);
        for (code, class) in [
            ("03", DeclineClass::Hard),
            ("21", DeclineClass::Hard),
            ("99", DeclineClass::Hard),
            ("24", DeclineClass::RetryLater),
            ("42", DeclineClass::Fraud),
            ("40", DeclineClass::Soft),
        ] {
            assert_eq!(
                soft(Advice {
                    advice_code: Some(code),
                    ..Advice::default()
                })
                .class,
                class,
                "{code}"
            );
        }
        let visa = |code| Advice {
            network: Some(Network::Visa),
            issuer_code: Some(code),
            ..Advice::default()
        };
        assert_eq!(soft(visa("14 : Invalid card")).class, DeclineClass::Hard);
        assert_eq!(
            soft(visa("57")).class,
            DeclineClass::Hard,
            "category 1, soft by its ISO meaning"
        );
        assert_eq!(soft(visa("62")).class, DeclineClass::RetryLater, "category 2");
        assert_eq!(soft(visa("05")).class, DeclineClass::Soft, "category 4");
        assert_eq!(
            soft(visa("94")).class,
            DeclineClass::Hard,
            "a duplicate at the issuer stops"
        );
        assert_eq!(
            soft(Advice {
                do_not_retry: true,
                ..Advice::default()
            })
            .canonical,
            "do_not_retry"
        );
        let fraud = classify(
            Dialect::Stripe,
            "stolen_card",
            &Advice {
                advice_code: Some("03"),
                ..Advice::default()
            },
        );
        assert_eq!(fraud.class, DeclineClass::Fraud, "the reason stays hidden");
        let unsettled = classify(
            Dialect::Stripe,
            "http:500",
            &Advice {
                do_not_retry: true,
                ..Advice::default()
            },
        );
        assert_eq!(
            unsettled.class,
            DeclineClass::Ambiguous,
            "advice does not settle what is not known"
        );
    }

    #[test]
    fn of_several_errors_the_strictest_holds() {
        let both = classify_all(Dialect::Square, ["GENERIC_DECLINE", "CVV_FAILURE"]);
        assert_eq!(both.map(|verdict| verdict.canonical), Some("invalid_cvc"));
        assert_eq!(classify_all(Dialect::Square, []), None);
    }

    #[test]
    fn every_row_has_a_code_in_every_dialect_that_classifies_back_and_forbids_what_it_forbids() {
        use DeclineClass::{Ambiguous, Fraud, Hard, RetryLater, Soft};
        for row in rows().into_iter().flatten() {
            let name = row.verdict.canonical;
            // Every class that a network's word can make of it, too.
            for class in [row.verdict.class, Hard, Fraud] {
                for gateway in GATEWAYS {
                    let code = code_for(gateway, name, class);
                    let back = classify(gateway, code, &Advice::default());
                    assert!(back.known && !code.contains(':'), "{gateway:?} {code}");
                    assert!(
                        back.class.stops() || !class.stops(),
                        "{gateway:?} {name} {class:?}: {code}"
                    );
                    assert!(class == Ambiguous || back.class != Ambiguous, "{gateway:?} {code}");
                    assert_ne!(back.class, Fraud, "{gateway:?} {name}: {code} tells the reason");
                    // What may be tried again is not forbidden, where the dialect has a word for it.
                    let lenient = matches!(class, Soft | RetryLater);
                    let own = tables().codes[gateway.name()].get(name);
                    let has = own.is_some_and(|own| own.iter().any(|(_, allows)| !allows.stops()));
                    assert!(!lenient || !has || !back.class.stops(), "{gateway:?} {name}: {code}");
                }
            }
        }
        assert_eq!(code_for(Dialect::Adyen, "insufficient_funds", Hard), "12");
        assert_eq!(code_for(Dialect::Stripe, "blocked_card", Hard), "restricted_card");
        assert_eq!(code_for(Dialect::Paypal, "no_such_name", Soft), "5100");
        assert_eq!(code_for(Dialect::Stripe, "do_not_honor", Soft), "do_not_honor");
        assert_eq!(code_for(Dialect::Stripe, "do_not_honor", Hard), "do_not_try_again");
        assert_eq!(code_for(Dialect::Braintree, "call_issuer", Hard), "2011");
        assert_eq!(reason_for(Dialect::Stripe, "do_not_honor", Hard), "do_not_honor");
    }

    #[test]
    fn only_a_busy_gateway_is_the_gateways_side() {
        assert!(classify(Dialect::Stripe, "http:429", &Advice::default()).gateway_side());
        assert!(!classify(Dialect::Stripe, "issuer_not_available", &Advice::default()).gateway_side());
    }
}
