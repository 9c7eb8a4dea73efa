//! Gateways compared: how often they took a payment, how fast, why they declined, and what others saved for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::params;

use super::period::Period;
use super::{Analytics, AnalyticsError, DAY, EVERYONE};

/// One gateway's figures. Attempts are those made to take a payment, in payments opened in the period; it is rounded down
/// to whole days.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Attempts by what became of them.
    pub attempts: BTreeMap<String, i64>,
    /// Its declines by class.
    pub declines: BTreeMap<String, i64>,
    /// Payments that failed here first, by why.
    pub lost: BTreeMap<String, i64>,
    /// Payments recovered here.
    pub recovered: i64,
    /// Captured of payments recovered here, by currency.
    pub revenue: BTreeMap<String, i64>,
    /// Attempts that were answered, by the lower bound of how long it took in milliseconds.
    latency: BTreeMap<i64, i64>,
}

impl Compared {
    /// Attempts about which something is known or should be.
    pub fn tried(&self) -> i64 {
        self.attempts.values().sum()
    }

    /// Attempts that held or took the money.
    pub fn took(&self) -> i64 {
        ["succeeded", "authorised"]
            .iter()
            .filter_map(|word| self.attempts.get(*word))
            .sum()
    }

    /// The share of attempts that held or took the money, in tenths of a percent, rounded half up.
    pub fn success_tenths(&self) -> Option<i64> {
        let tried = self.tried();
        (tried > 0).then(|| (self.took() * 2000 + tried) / (2 * tried))
    }

    /// Attempts that were answered.
    pub fn answered(&self) -> i64 {
        self.latency.values().sum()
    }

    /// The quantile (in percent) of how long an answer took, in milliseconds, an eighth too small at most.
    pub fn latency(&self, percent: i64) -> Option<i64> {
        let rank = (self.answered() * percent + 99) / 100;
        let mut seen = 0;
        self.latency.iter().find_map(|(ms, n)| {
            seen += n;
            (seen >= rank && *n > 0).then_some(*ms)
        })
    }
}

impl Analytics {
    /// The gateways of a period by name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn gateways(
        self: &Arc<Self>,
        tenant: Option<String>,
        period: Period,
    ) -> Result<BTreeMap<String, Compared>, AnalyticsError> {
        self.ask(move |connection| {
            let mut gateways: BTreeMap<String, Compared> = BTreeMap::new();
            let mut statement = connection.prepare_cached(
                "SELECT about, figure, label, sum(n) FROM figures
                 WHERE tenant = ?1 AND width = ?2 AND about > '' AND start >= ?3 AND start < ?4 GROUP BY about, figure, label",
            )?;
            let from = period.from.div_euclid(DAY) * DAY;
            let mut rows = statement.query(params![tenant.as_deref().unwrap_or(EVERYONE), DAY, from, period.to])?;
            while let Some(row) = rows.next()? {
                let (about, label, n): (String, String, i64) = (row.get(0)?, row.get(2)?, row.get(3)?);
                if n == 0 {
                    continue;
                }
                let gateway = gateways.entry(about).or_default();
                match row.get_ref(1)?.as_str().unwrap_or("") {
                    "attempts" => *gateway.attempts.entry(label).or_default() += n,
                    "declines" => *gateway.declines.entry(label).or_default() += n,
                    "lost" => *gateway.lost.entry(label).or_default() += n,
                    "recovered" => gateway.recovered += n,
                    "revenue" => *gateway.revenue.entry(label).or_default() += n,
                    "latency" => *gateway.latency.entry(label.parse().unwrap_or(0)).or_default() += n,
                    _ => {}
                }
            }
            Ok(gateways)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::Compared;

    #[test]
    fn quantiles_are_read_from_the_buckets() {
        let gateway = Compared {
            latency: [(100, 50), (200, 45), (1000, 5)].into(),
            ..Compared::default()
        };
        assert_eq!(gateway.latency(50), Some(100));
        assert_eq!(gateway.latency(95), Some(200));
        assert_eq!(gateway.latency(99), Some(1000));
        assert_eq!(Compared::default().latency(50), None);
    }
}
