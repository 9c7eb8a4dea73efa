//! Plots as SVG: bars over time. No script draws them and no style attribute is needed, so that they hold under a strict
//! content security policy; every bar says its own figure, and a table beside has all of them.

use maud::{Markup, PreEscaped, html};

/// The drawing's size in its own units; the page scales it.
const WIDTH: i64 = 720;
const HEIGHT: i64 = 180;
/// Room for the labels below.
const FOOT: i64 = 20;

/// One bar.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    /// When, in words.
    pub when: String,
    /// How high.
    pub value: i64,
    /// The part of it that is marked.
    pub marked: i64,
    /// What it says.
    pub says: String,
}

/// Bars, the first at the left.
pub(super) fn bars(title: &str, bars: &[Bar], class: &str) -> Markup {
    let top = bars.iter().map(|bar| bar.value).max().unwrap_or(0).max(1);
    let count = i64::try_from(bars.len()).unwrap_or(1).max(1);
    let scale = |value: i64| i64::try_from(i128::from(value) * i128::from(HEIGHT - 10) / i128::from(top)).unwrap_or(0);
    // A figure above nothing is at least visible.
    let height = |value: i64| if value > 0 { scale(value).max(2) } else { 0 };
    let place = |index: usize| i64::try_from(index).unwrap_or(0) * WIDTH / count;
    let wide = (WIDTH / count - if count > 200 { 0 } else { 2 }).max(1);
    let sum: i64 = bars.iter().map(|bar| bar.value).sum();
    html! {
        figure.plot {
            figcaption { (title) }
            @if sum == 0 {
                p.empty { "Nothing in this period yet." }
            } @else {
                svg class=(class) viewBox={"0 0 " (WIDTH) " " (HEIGHT + FOOT)} role="img" aria-label=(title) preserveAspectRatio="none" {
                    @for quarter in 1..=3 {
                        line class="grid" x1="0" x2=(WIDTH) y1=(HEIGHT - scale(top) * quarter / 4) y2=(HEIGHT - scale(top) * quarter / 4) {}
                    }
                    line class="base" x1="0" x2=(WIDTH) y1=(HEIGHT) y2=(HEIGHT) {}
                    @for (index, bar) in bars.iter().enumerate() {
                        @if bar.value > 0 || bar.marked > 0 {
                            g {
                                title { (bar.when) ": " (bar.says) }
                                rect class="hit" x=(place(index)) y="0" width=(wide) height=(HEIGHT) {}
                                rect class="bar" x=(place(index)) y=(HEIGHT - height(bar.value)) width=(wide) height=(height(bar.value)) rx="1.5" {}
                                @if bar.marked > 0 {
                                    rect class="mark" x=(place(index)) y=(HEIGHT - height(bar.marked)) width=(wide) height=(height(bar.marked)) rx="1.5" {}
                                }
                            }
                        }
                    }
                }
                div.axis aria-hidden="true" {
                    @if let (Some(first), Some(last)) = (bars.first(), bars.last()) {
                        span { (first.when) }
                        span { (last.when) }
                    }
                }
                details.data {
                    summary { "As a table" }
                    div.scroll tabindex="0" role="region" aria-label={(title) ", as a table"} {
                        table {
                            thead { tr { th scope="col" { "When (UTC)" } th scope="col" { "Figure" } } }
                            tbody {
                                @for bar in bars.iter().rev().filter(|bar| bar.value > 0) {
                                    tr { td { (bar.when) } td { (bar.says) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A share of a whole as a bar, with its words beside.
pub(super) fn share(part: i64, whole: i64) -> Markup {
    let percent = if whole > 0 {
        (part * 100 / whole).clamp(0, 100)
    } else {
        0
    };
    html! {
        svg.share viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
            rect.bar x="0" y="0" width="100" height="6" {}
            rect.mark x="0" y="0" width=(percent) height="6" {}
        }
    }
}

/// The product's sign.
pub(super) fn sign() -> Markup {
    PreEscaped(
        "<svg class=\"sign\" viewBox=\"0 0 24 24\" aria-hidden=\"true\"><path d=\"M12 2 4 5v6c0 5 3.4 9.3 8 11 4.6-1.7 8-6 8-11V5z\"/><path class=\"tick\" d=\"m8 12 3 3 5-6\"/></svg>"
            .to_owned(),
    )
}
