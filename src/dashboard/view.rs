//! The frame of every page, and the small parts that pages share. Everything from outside goes through maud's escaping.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::plot;
use super::session::{Viewer, Who};
use super::{SCRIPT, STYLE};
use crate::account::api_key::Mode;
use crate::analytics::decimal;
use crate::analytics::payments::Listed;

/// A page.
pub(super) struct Page<'a> {
    pub title: &'a str,
    /// The entry of the navigation that it belongs to.
    pub at: &'a str,
    pub viewer: Option<&'a Viewer>,
    /// Where its live fragments come from.
    pub live: Option<String>,
    pub body: Markup,
}

impl Page<'_> {
    pub fn show(self) -> Response {
        self.show_as(StatusCode::OK)
    }

    pub fn show_as(self, status: StatusCode) -> Response {
        let markup = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="referrer" content="same-origin";
                    title { (self.title) " · API Sentinel" }
                    link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                    link rel="stylesheet" href={"/assets/style.css?" (STYLE.version())};
                    script src={"/assets/script.js?" (SCRIPT.version())} defer {}
                }
                body data-live=[self.live.as_deref()] {
                    a.skip href="#main" { "Skip to the content" }
                    (self.head())
                    main #main tabindex="-1" { (self.body) }
                    footer {
                        span { "API Sentinel " (env!("CARGO_PKG_VERSION")) }
                        span { "All times are UTC" }
                    }
                }
            }
        };
        (
            status,
            [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
            markup.into_string(),
        )
            .into_response()
    }

    fn head(&self) -> Markup {
        let Some(viewer) = self.viewer else {
            return html! { header.bar { a.brand href="/" { (plot::sign()) "API Sentinel" } } };
        };
        let entries: &[(&str, &str)] = match viewer.who {
            Who::Operator => &[
                ("/", "Overview"),
                ("/payments", "Payments"),
                ("/gateways", "Gateways"),
                ("/doubt", "In doubt"),
                ("/billing", "Billing"),
                ("/configuration", "Configuration"),
            ],
            Who::Tenant { .. } => &[
                ("/", "Overview"),
                ("/payments", "Payments"),
                ("/gateways", "Gateways"),
                ("/doubt", "In doubt"),
                ("/billing", "Billing"),
                ("/account", "Keys and profile"),
            ],
        };
        html! {
            header.bar {
                a.brand href="/" { (plot::sign()) "API Sentinel" }
                nav aria-label="Main" {
                    @for (path, name) in entries {
                        a href=(path) aria-current=[(self.at == *path).then_some("page")] { (name) }
                    }
                }
                div.who {
                    @if self.live.is_some() {
                        span.live #live role="status" { span.dot {} span.word { "connecting" } }
                    }
                    @match &viewer.who {
                        Who::Operator => span { "Operator" },
                        Who::Tenant { company, .. } => {
                            span { (company) }
                            form method="post" action="/mode" {
                                (csrf(viewer))
                                @let other = if viewer.mode == Mode::Live { Mode::Test } else { Mode::Live };
                                input type="hidden" name="mode" value=(other.label());
                                button.quiet type="submit" title={"Show " (other.label()) " payments instead"} {
                                    "Showing " strong { (viewer.mode.label()) }
                                }
                            }
                        },
                    }
                    form method="post" action="/logout" {
                        (csrf(viewer))
                        button.quiet type="submit" { "Log out" }
                    }
                }
            }
        }
    }
}

/// The hidden field that shows a form to be this session's.
pub(super) fn csrf(viewer: &Viewer) -> Markup {
    html! { input type="hidden" name="csrf" value=(viewer.csrf); }
}

/// A page that says what is wrong and what to do.
pub(super) fn sorry(viewer: Option<&Viewer>, status: StatusCode, title: &str, says: &str) -> Response {
    let body = html! {
        section.sorry {
            h1 { (title) }
            p { (says) }
            p { a.button href="/" { "To the overview" } }
        }
    };
    Page {
        title,
        at: "",
        viewer,
        live: None,
        body,
    }
    .show_as(status)
}

/// A section with nothing in it, and what would bring something.
pub(super) fn empty(title: &str, says: &str) -> Markup {
    html! { div.nothing { strong { (title) } p { (says) } } }
}

/// A time for people and for programs.
pub(super) fn time(ms: i64) -> Markup {
    let exact = crate::analytics::period::rfc3339(ms);
    let shown = exact.get(..19).unwrap_or(&exact).replace('T', " ");
    html! { time datetime=(exact) { (shown) } }
}

/// How long, in the largest unit that says enough.
pub(super) fn long(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Milliseconds.
pub(super) fn millis(ms: i64) -> String {
    if ms < 10_000 {
        format!("{} ms", grouped(&ms.to_string()))
    } else {
        long(ms)
    }
}

/// An amount with its currency, thousands set apart.
pub(super) fn money(units: i64, currency: &str) -> Markup {
    html! { span.money { (grouped(&decimal(units, currency))) " " span.currency { (currency) } } }
}

/// A number with its thousands set apart by commas.
pub(super) fn grouped(number: &str) -> String {
    let (sign, rest) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, fraction) = rest
        .split_once('.')
        .map_or((rest, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut out = String::from(sign);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// An outcome as a badge: never by colour alone.
pub(super) fn outcome(word: &str) -> Markup {
    let tone = match word {
        "succeeded" | "authorised" | "closed" | "forced_closed" => "good",
        "declined" | "failed" | "half_open" => "warning",
        "in_doubt" | "manual" | "open" | "forced_open" => "bad",
        _ => "plain",
    };
    html! { span class={"badge " (tone)} { (word.replace('_', " ")) } }
}

/// Why a payment failed at its first gateway, in words.
pub(super) fn failure(word: &str) -> &'static str {
    match word {
        "not_sent" => "was not reached",
        "gateway_busy" => "was busy",
        "account_refused" => "refused the account",
        "no_answer_fenced" => "did not answer, and was fenced",
        "no_answer" => "did not answer",
        "contradiction" => "contradicted itself",
        _ => "failed",
    }
}

/// Rows of payments as a table; on a phone each is a card.
pub(super) fn payments(rows: &[Listed], tenants: bool) -> Markup {
    html! {
        table.cards {
            thead {
                tr {
                    th scope="col" { "Opened" }
                    th scope="col" { "Payment" }
                    @if tenants { th scope="col" { "Tenant" } }
                    th scope="col" { "Amount" }
                    th scope="col" { "Outcome" }
                    th scope="col" { "Gateway" }
                }
            }
            tbody {
                @for row in rows {
                    tr {
                        td data-label="Opened" { (time(row.opened_at)) }
                        td data-label="Payment" { a.id href={"/payments/" (row.id)} { (short(&row.id.to_string())) } }
                        @if tenants { td data-label="Tenant" { (row.tenant) } }
                        td.number data-label="Amount" {
                            @match (row.amount, &row.currency) {
                                (Some(units), Some(currency)) => (money(units, currency)),
                                _ => span.faint { "not known" },
                            }
                            @if row.refunded > 0 {
                                @if let Some(currency) = &row.currency { br; small { "refunded " (money(row.refunded, currency)) } }
                            }
                        }
                        td data-label="Outcome" {
                            (outcome(&row.outcome))
                            @if row.recovered { " " span.badge.saved { "recovered" } }
                        }
                        td data-label="Gateway" {
                            @if row.gateway != row.first_gateway {
                                span.from { (row.first_gateway) } " → " strong { (row.gateway) }
                            } @else { (row.gateway) }
                            @if let Some(word) = &row.failure { br; small { (row.first_gateway) " " (failure(word)) } }
                        }
                    }
                }
            }
        }
    }
}

/// The end of an id is what differs.
pub(super) fn short(id: &str) -> String {
    match id.len() {
        36 => format!("{}…{}", &id[..8], &id[28..]),
        _ => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (number, shown) in [
            ("0", "0"),
            ("999", "999"),
            ("1000", "1,000"),
            ("-1234567.89", "-1,234,567.89"),
        ] {
            assert_eq!(grouped(number), shown);
        }
    }

    #[test]
    fn what_comes_from_outside_is_escaped() {
        let shown = outcome("<script>alert(1)</script>").into_string();
        assert!(!shown.contains("<script>"), "{shown}");
    }
}
