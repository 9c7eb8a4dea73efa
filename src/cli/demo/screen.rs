//! What the demo shows: a table that grows by a row an act. On a terminal the row of the act that is going on is redrawn
//! and has colours; anywhere else a row is printed once, when its act is over.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use super::shop::{Order, Tally};

/// The width of the line on which payments run by.
const RIBBON: usize = 46;

/// Where it is shown.
#[derive(Debug)]
pub struct Screen {
    live: bool,
    drawn: bool,
}

/// One row of the table.
#[derive(Debug)]
pub struct Row<'a> {
    /// Since the shop opened.
    pub at: Duration,
    /// What is going on.
    pub what: &'a str,
    /// The act's orders, added up.
    pub tally: Tally,
    /// The act's orders.
    pub orders: &'a [Order],
}

impl Screen {
    /// Standard output.
    pub fn stdout() -> Self {
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            live: std::io::stdout().is_terminal() && colours,
            drawn: false,
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match self.live {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// Bold on a terminal.
    pub fn strong(&self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Green on a terminal.
    pub fn good(&self, text: &str) -> String {
        self.paint("1;32", text)
    }

    /// Red on a terminal.
    pub fn bad(&self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Prints a line.
    ///
    /// # Errors
    /// When the output is closed.
    pub fn line(&self, text: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout();
        writeln!(out, "{text}")?;
        out.flush()
    }

    /// The head of the table.
    ///
    /// # Errors
    /// When the output is closed.
    pub fn head(&self) -> std::io::Result<()> {
        self.line(&self.paint(
            "2",
            &format!(
                "{:>6}  {:<44} {:>7} {:>7} {:>9} {:>6} {:>16}",
                "", "", "Stripe", "Adyen", "declined", "open", "median, longest"
            ),
        ))
    }

    /// Shows a row; `last` when it will not change any more.
    ///
    /// # Errors
    /// When the output is closed.
    pub fn row(&mut self, row: &Row<'_>, last: bool) -> std::io::Result<()> {
        if !self.live && !last {
            return Ok(());
        }
        let mut out = std::io::stdout();
        if self.drawn {
            // Up over the ribbon, and over what was there.
            write!(out, "\x1b[1A\r\x1b[J")?;
        }
        let text = self.text(row);
        if last {
            self.drawn = false;
            writeln!(out, "{text}")?;
        } else {
            self.drawn = true;
            write!(out, "{text}\n        {}", self.ribbon(row.orders))?;
        }
        out.flush()
    }

    fn text(&self, row: &Row<'_>) -> String {
        let Tally {
            stripe,
            elsewhere,
            declined,
            open,
        } = row.tally;
        let number = |count: usize, width: usize, code: &str| {
            let text = format!("{count:>width$}");
            if count == 0 { text } else { self.paint(code, &text) }
        };
        format!(
            "{:>5}s  {:<44} {} {} {} {} {:>16}",
            tenths(row.at),
            row.what,
            number(stripe, 7, "36"),
            number(elsewhere, 7, "32"),
            number(declined, 9, "2"),
            number(open, 6, "33"),
            waits(row.orders),
        )
    }

    /// The latest payments, a sign each.
    fn ribbon(&self, orders: &[Order]) -> String {
        use super::shop::Told;
        let shown = orders.len().saturating_sub(RIBBON);
        let signs = orders.iter().skip(shown).map(|order| match &order.told {
            Told::Paid(gateway) if gateway == "stripe" => self.paint("36", "s"),
            Told::Paid(_) => self.paint("32", "A"),
            Told::Declined => self.paint("2", "x"),
            Told::Nothing | Told::NotTaken | Told::InDoubt => self.paint("33", "?"),
            Told::Strange(_) => self.paint("31", "!"),
        });
        signs.collect()
    }
}

/// Seconds with one decimal place.
fn tenths(time: Duration) -> String {
    let tenths = time.as_millis() / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// How long customers waited for a final answer.
fn waits(orders: &[Order]) -> String {
    let mut waits: Vec<Duration> = orders.iter().map(|order| order.waited).collect();
    waits.sort_unstable();
    match (waits.get(waits.len() / 2), waits.last()) {
        (Some(median), Some(longest)) => format!("{} ms, {}s", median.as_millis(), tenths(*longest)),
        _ => String::new(),
    }
}

/// Cents as euros.
pub fn euros(cents: i64) -> String {
    let whole = (cents / 100).to_string();
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped}.{:02} EUR", cents % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_well() {
        assert_eq!(euros(5), "0.05 EUR");
        assert_eq!(euros(123_456_789), "1,234,567.89 EUR");
        assert_eq!(euros(100_000), "1,000.00 EUR");
        assert_eq!(tenths(Duration::from_millis(12_399)), "12.3");
    }

    #[test]
    fn nothing_but_text_goes_where_no_terminal_is() {
        let screen = Screen {
            live: false,
            drawn: false,
        };
        let row = Row {
            at: Duration::from_secs(1),
            what: "business as usual",
            tally: Tally {
                stripe: 3,
                elsewhere: 2,
                declined: 1,
                open: 1,
            },
            orders: &[],
        };
        assert!(!screen.text(&row).contains('\x1b') && !screen.bad("x").contains('\x1b'));
    }
}
