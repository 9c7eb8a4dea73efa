//! Payments as text for a terminal: plain words, times in UTC, and nothing that could move the cursor.

use crate::cli::operator::printable;
use crate::payment::timeline::{AttemptView, EventView, ResolutionView, Summary, Timeline};

/// A table of payments.
pub(super) fn list(payments: &[Summary], now: i64) -> String {
    if payments.is_empty() {
        return "no payments\n".to_owned();
    }
    let mut rows = vec![["PAYMENT", "AGE", "AMOUNT", "STATE", "GATEWAY", "ROUTE", ""].map(str::to_owned)];
    rows.extend(payments.iter().map(|payment| {
        [
            payment.id.to_string(),
            span(now.saturating_sub(payment.created_at)),
            money(payment),
            payment.state.replace('_', " "),
            way(payment),
            printable(&payment.route),
            flags(payment),
        ]
    }));
    table(&rows, &[2])
}

/// Rows in columns; those of the given numbers end at the right.
fn table<const N: usize>(rows: &[[String; N]], right: &[usize]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(index, cell)| match right.contains(&index) {
                true => format!("{cell:>width$}", width = widths[index]),
                false => format!("{cell:<width$}", width = widths[index]),
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn money(payment: &Summary) -> String {
    match (&payment.amount, &payment.currency) {
        (Some(amount), Some(currency)) => format!("{amount} {currency}"),
        _ => "-".to_owned(),
    }
}

fn way(payment: &Summary) -> String {
    match payment.first_gateway == payment.gateway {
        true => printable(&payment.gateway),
        false => printable(&format!("{} -> {}", payment.first_gateway, payment.gateway)),
    }
}

fn flags(payment: &Summary) -> String {
    let mut flags = Vec::new();
    if payment.manual {
        flags.push("needs a person".to_owned());
    } else if payment.in_doubt {
        flags.push("in doubt".to_owned());
    }
    if payment.owes > 0 {
        flags.push(format!("owes {}", payment.owes));
    }
    if payment.erased {
        flags.push("erased".to_owned());
    }
    flags.join(", ")
}

/// What is known of a payment, in a few lines.
pub(super) fn head(timeline: &Timeline, now: i64) -> String {
    let payment = &timeline.summary;
    let mut lines = vec![
        format!("payment {}", payment.id),
        format!(
            "  {}, {}{}",
            money(payment),
            payment.state.replace('_', " "),
            match flags(payment).as_str() {
                "" => String::new(),
                flags => format!(" ({flags})"),
            }
        ),
        format!(
            "  route {}, {}, mode {}; opened {} ({} ago)",
            printable(&payment.route),
            way(payment),
            timeline.mode,
            stamp(payment.created_at, "%Y-%m-%d %H:%M:%S UTC"),
            span(now.saturating_sub(payment.created_at)),
        ),
    ];
    let told = timeline.told.as_deref().unwrap_or("nothing for good yet");
    lines.push(format!("  the application was told: {}", printable(told)));
    lines.extend(timeline.says.iter().map(|says| format!("  {}", printable(says))));
    lines.join("\n") + "\n"
}

/// The whole story.
pub(super) fn timeline(timeline: &Timeline, now: i64) -> String {
    let mut text = head(timeline, now);
    if !timeline.attempts.is_empty() {
        text.push_str("\nattempts\n");
        let rows: Vec<[String; 6]> = timeline.attempts.iter().map(attempt).collect();
        text.push_str(&table(&rows, &[0]));
    }
    text.push_str("\nhistory (UTC)\n");
    let mut rows = Vec::new();
    for event in &timeline.events {
        rows.push([
            format!("  {}", stamp(event.at, "%H:%M:%S%.3f")),
            format!("+{}", span(event.at.saturating_sub(timeline.summary.created_at))),
            printable(&event.text),
        ]);
        rows.extend(evidence(event));
    }
    text.push_str(&table(&rows, &[1]));
    if !timeline.ids.is_empty() {
        text.push_str("\nids\n");
        let rows: Vec<[String; 3]> = timeline
            .ids
            .iter()
            .map(|id| {
                let whose = id.gateway.as_deref().unwrap_or("application");
                [
                    format!("  {}", printable(whose)),
                    printable(&id.kind),
                    printable(&id.id),
                ]
            })
            .collect();
        text.push_str(&table(&rows, &[]));
    }
    text.push_str(&format!(
        "  requests that Sentinel wrote carry the reference {}\n",
        timeline.summary.id
    ));
    text.push_str(&resolutions(timeline));
    text
}

fn attempt(attempt: &AttemptView) -> [String; 6] {
    let what = match attempt.of {
        Some(of) => format!("{} of {of}", attempt.leg),
        None => attempt.leg.clone(),
    };
    let mut notes = Vec::new();
    for (note, holds) in [
        ("the payment's", attempt.winner),
        ("released", attempt.released),
        ("release owed", attempt.owed),
    ] {
        if holds {
            notes.push(note.to_owned());
        }
    }
    if attempt.sends > 1 {
        notes.push(format!("sent {} times", attempt.sends));
    }
    notes.extend(attempt.decline.clone());
    notes.extend(attempt.ids.iter().cloned());
    [
        format!("  {}", attempt.n),
        printable(&attempt.gateway),
        what,
        attempt.amount.clone().unwrap_or_default(),
        attempt.outcome.clone(),
        printable(&notes.join(", ")),
    ]
}

fn evidence(event: &EventView) -> Option<[String; 3]> {
    let evidence = event.evidence.as_deref()?;
    Some([
        String::new(),
        String::new(),
        format!("  evidence: {}", printable(evidence)),
    ])
}

/// What may be said of it, as commands.
fn resolutions(timeline: &Timeline) -> String {
    if timeline.resolutions.is_empty() {
        return String::new();
    }
    let (open, shut): (Vec<_>, Vec<_>) = timeline.resolutions.iter().partition(|one| one.objection.is_none());
    let mut text = String::new();
    if !open.is_empty() {
        text.push_str("\nif you know better from the gateways' own books\n");
        for one in open {
            text.push_str(&format!(
                "  sentinel payments resolve {} {} --reason '...'\n",
                timeline.summary.id,
                option(one)
            ));
        }
    }
    for one in shut {
        let why = one.objection.as_deref().unwrap_or_default();
        text.push_str(&format!("  not {}: {}\n", option(one), printable(why)));
    }
    text
}

fn option(one: &ResolutionView) -> String {
    match one.attempt {
        Some(n) => format!("--{} {n}", one.resolution),
        None => format!("--{}", one.resolution),
    }
}

fn stamp(at: i64, format: &str) -> String {
    jiff::Timestamp::from_millisecond(at).map_or_else(|_| "?".to_owned(), |at| at.strftime(format).to_string())
}

/// A span of milliseconds in the unit that a person would name.
fn span(ms: i64) -> String {
    let ms = ms.max(0);
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_in_the_unit_a_person_would_name() {
        for (ms, text) in [
            (-5, "0 ms"),
            (999, "999 ms"),
            (1_999, "1.9 s"),
            (61_000, "1 min 1 s"),
            (3_660_000, "1 h 1 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn what_a_gateway_wrote_cannot_move_the_terminal() {
        let summary = Summary {
            id: uuid::Uuid::nil(),
            route: "\u{1b}[2J".to_owned(),
            tenant: "local".to_owned(),
            state: "in_doubt".to_owned(),
            in_doubt: true,
            manual: false,
            owes: 1,
            finished: false,
            erased: false,
            amount: Some("19.99".to_owned()),
            currency: Some("EUR".to_owned()),
            first_gateway: "stripe".to_owned(),
            gateway: "ad\u{9b}yen".to_owned(),
            created_at: 0,
            updated_at: 0,
        };
        let text = list(&[summary], 5_000);
        assert!(!text.contains(['\u{1b}', '\u{9b}']), "{text}");
        assert!(text.contains("5.0 s") && text.contains("in doubt, owes 1"), "{text}");
    }
}
