//! The overview of a period: the sums, and the same over time.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::period::Period;
use super::{Analytics, AnalyticsError, EVERYONE};

/// The figures of a period. A payment belongs to the hour in which it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// Payments opened.
    pub payments: i64,
    /// Of them, failed at their first gateway (see [`super::fold`]).
    pub failed: i64,
    /// Of those, recovered.
    pub recovered: i64,
    /// The sum of their recovery times, in milliseconds.
    pub recovery_ms: i64,
    /// Payments by what became of them.
    pub outcomes: BTreeMap<String, i64>,
    /// Money by currency.
    pub money: BTreeMap<String, Money>,
}

/// Money of a currency, in its units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Money {
    /// Captured of all payments.
    pub captured: i64,
    /// Recovered payments.
    pub recoveries: i64,
    /// Captured of recovered payments.
    pub revenue: i64,
    /// Refunded of recovered payments.
    pub refunded: i64,
}

impl Overview {
    /// The share of payments that failed at their first gateway, as in `2.3%`: rounded half up to a tenth.
    pub fn failover_rate(&self) -> String {
        let tenths = match self.payments {
            0 => 0,
            payments => (i128::from(self.failed) * 2000 + i128::from(payments)) / (2 * i128::from(payments)),
        };
        format!("{}.{}%", tenths / 10, tenths % 10)
    }

    /// The mean recovery time in tenths of a millisecond, rounded half up; `None` where nothing was recovered.
    pub fn recovery_tenths(&self) -> Option<i64> {
        let n = self.recovered;
        (n > 0).then(|| (self.recovery_ms * 20 + n) / (2 * n))
    }

    /// The currency with the most recovered payments.
    pub fn main_currency(&self) -> Option<&str> {
        let busiest = self
            .money
            .iter()
            .max_by_key(|(code, money)| (money.recoveries, money.captured > 0, std::cmp::Reverse((*code).clone())));
        busiest.map(|(code, _)| code.as_str())
    }

    fn add(&mut self, figure: &str, label: &str, n: i64) {
        match figure {
            "payments" => self.payments += n,
            "failed" => self.failed += n,
            "recovered" => self.recovered += n,
            "recovery_ms" => self.recovery_ms += n,
            "outcome" => *self.outcomes.entry(label.to_owned()).or_default() += n,
            "captured" | "recovered_in" | "revenue" | "refunded" => {
                let money = self.money.entry(label.to_owned()).or_default();
                match figure {
                    "captured" => money.captured += n,
                    "recovered_in" => money.recoveries += n,
                    "revenue" => money.revenue += n,
                    _ => money.refunded += n,
                }
            }
            _ => {}
        }
    }
}

/// One step of a plot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its first millisecond.
    pub start: i64,
    /// Its figures.
    pub figures: Overview,
}

impl Analytics {
    /// The sums of a period.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn overview(
        self: &Arc<Self>,
        tenant: Option<String>,
        period: Period,
    ) -> Result<Overview, AnalyticsError> {
        let width = period.width(self.ledger().now());
        self.ask(move |connection| read(connection, tenant.as_deref(), period, width))
            .await
    }

    /// The sums of each step of a period, oldest first; steps in which nothing was opened are there, too. The width is a
    /// multiple of an hour.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn over_time(
        self: &Arc<Self>,
        tenant: Option<String>,
        period: Period,
        width: i64,
    ) -> Result<Vec<Step>, AnalyticsError> {
        let now = self.ledger().now();
        let kept = if width % super::DAY == 0 {
            super::DAY
        } else {
            super::HOUR
        };
        self.ask(move |connection| {
            let from = period.from.div_euclid(width) * width;
            let to = period.to.min(now + 1);
            let mut steps: BTreeMap<i64, Overview> = BTreeMap::new();
            let mut statement = connection.prepare_cached(
                "SELECT start, figure, label, n FROM figures
                 WHERE tenant = ?1 AND width = ?2 AND about = '' AND start >= ?3 AND start < ?4",
            )?;
            let mut rows = statement.query(params![tenant.as_deref().unwrap_or(EVERYONE), kept, from, to])?;
            while let Some(row) = rows.next()? {
                let start: i64 = row.get(0)?;
                let step = steps.entry(start.div_euclid(width) * width).or_default();
                step.add(
                    row.get_ref(1)?.as_str().unwrap_or(""),
                    row.get_ref(2)?.as_str().unwrap_or(""),
                    row.get(3)?,
                );
            }
            let first = steps.keys().next().copied();
            let start = if period.from <= 0 {
                first.unwrap_or(to - 1)
            } else {
                from
            };
            let start = start.div_euclid(width) * width;
            Ok((0..)
                .map(|index| start + index * width)
                .take_while(|start| *start < to)
                // A plot of more steps than this has no more to say.
                .take(5000)
                .map(|start| Step {
                    start,
                    figures: steps.remove(&start).unwrap_or_default(),
                })
                .collect())
        })
        .await
    }
}

fn read(connection: &Connection, tenant: Option<&str>, period: Period, width: i64) -> Result<Overview, AnalyticsError> {
    let mut overview = Overview::default();
    let mut statement = connection.prepare_cached(
        "SELECT figure, label, sum(n) FROM figures
         WHERE tenant = ?1 AND width = ?2 AND about = '' AND start >= ?3 AND start < ?4 GROUP BY figure, label HAVING sum(n) <> 0",
    )?;
    let from = period.from.div_euclid(width) * width;
    let mut rows = statement.query(params![tenant.unwrap_or(EVERYONE), width, from, period.to])?;
    while let Some(row) = rows.next()? {
        overview.add(
            row.get_ref(0)?.as_str().unwrap_or(""),
            row.get_ref(1)?.as_str().unwrap_or(""),
            row.get(2)?,
        );
    }
    Ok(overview)
}

#[cfg(test)]
mod tests {
    use super::Overview;

    #[test]
    fn shares_and_means_are_rounded_without_floats() {
        let overview = |payments, failed, recovered, recovery_ms| Overview {
            payments,
            failed,
            recovered,
            recovery_ms,
            ..Overview::default()
        };
        assert_eq!(overview(10_739, 247, 198, 366_399).failover_rate(), "2.3%");
        assert_eq!(overview(2, 2, 2, 3701).recovery_tenths(), Some(18_505));
        assert_eq!(overview(3, 1, 0, 0).failover_rate(), "33.3%");
        assert_eq!(overview(3, 2, 0, 0).failover_rate(), "66.7%");
        assert_eq!(overview(0, 0, 0, 0).failover_rate(), "0.0%");
        assert_eq!(overview(0, 0, 0, 0).recovery_tenths(), None);
    }
}
