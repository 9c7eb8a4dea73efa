//! One look at a running sidecar: its series by name and labels, its breakers, its routes.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use tokio::time::Instant;

use crate::cli::operator::{Access, AccessError};

/// The labels of a series.
pub type Labels = BTreeMap<String, String>;

/// One look.
#[derive(Debug)]
pub struct Sample {
    /// When.
    pub at: Instant,
    series: HashMap<String, Vec<(Labels, f64)>>,
    /// `/breakers`.
    pub breakers: Value,
    /// `/routes`.
    pub routes: Value,
}

impl Sample {
    /// Looks.
    ///
    /// # Errors
    /// When the sidecar cannot be asked.
    pub async fn take(access: &Access) -> Result<Self, AccessError> {
        let metrics = access.text("/metrics").await?;
        let json = |text: String| serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Self::new(
            &metrics,
            json(access.text("/breakers").await?),
            json(access.text("/routes").await?),
            Instant::now(),
        ))
    }

    /// From the three answers.
    pub fn new(metrics: &str, breakers: Value, routes: Value, at: Instant) -> Self {
        let mut series: HashMap<String, Vec<(Labels, f64)>> = HashMap::new();
        for line in metrics.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, labels, value)) = parse(line) {
                series.entry(name).or_default().push((labels, value));
            }
        }
        Self {
            at,
            series,
            breakers,
            routes,
        }
    }

    /// The sum of a family's series with these labels.
    pub fn sum(&self, name: &str, wanted: &[(&str, &str)]) -> f64 {
        // From plain zero: the sum of nothing would be a negative one.
        self.of(name, wanted).fold(0.0, |sum, (_, value)| sum + value)
    }

    /// A family's series with these labels.
    pub fn of<'a>(&'a self, name: &str, wanted: &'a [(&str, &str)]) -> impl Iterator<Item = (&'a Labels, f64)> {
        let all = self.series.get(name).map_or(&[][..], Vec::as_slice);
        all.iter()
            .filter(|(labels, _)| {
                wanted
                    .iter()
                    .all(|(name, value)| labels.get(*name).is_some_and(|found| found == value))
            })
            .map(|(labels, value)| (labels, *value))
    }

    /// The buckets of a histogram with these labels, summed over all others: upper bound and count of calls up to it.
    pub fn buckets(&self, name: &str, wanted: &[(&str, &str)]) -> Vec<(f64, f64)> {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (labels, count) in self.of(&format!("{name}_bucket"), wanted) {
            let Some(bound) = labels.get("le").and_then(|bound| bound.parse().ok()) else {
                continue;
            };
            match buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, sum)) => *sum += count,
                None => buckets.push((bound, count)),
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }
}

/// `name{label="value",...} number` (text format 0.0.4).
fn parse(line: &str) -> Option<(String, Labels, f64)> {
    let (head, value) = line.trim_end().rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, rest)) = head.split_once('{') else {
        return Some((head.to_owned(), Labels::new(), value));
    };
    let mut labels = Labels::new();
    let mut rest = rest.strip_suffix('}')?;
    while let Some((label, after)) = rest.split_once("=\"") {
        let (mut text, mut end) = (String::new(), None);
        let mut letters = after.char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => {
                    end = Some(at);
                    break;
                }
                '\\' => text.push(match letters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                other => text.push(other),
            }
        }
        labels.insert(label.trim_start_matches(',').to_owned(), text);
        rest = &after[end? + 1..];
    }
    Some((name.to_owned(), labels, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_read_with_their_labels_and_escapes() {
        let (name, labels, value) = parse(r#"m_total{a="x, y=\"1\"",b="back\\slash\n"} 3"#).unwrap();
        assert_eq!((name.as_str(), value), ("m_total", 3.0));
        assert_eq!(labels["a"], "x, y=\"1\"");
        assert_eq!(labels["b"], "back\\slash\n");
        assert_eq!(parse("up 1").unwrap().0, "up");
        assert!(parse("m{a=\"open} 1").is_none());
        assert!(parse("nonsense").is_none());
    }

    #[test]
    fn buckets_are_summed_over_what_was_not_asked_for() {
        let text = r#"d_bucket{route="a",outcome="x",le="0.1"} 1
d_bucket{route="a",outcome="x",le="+Inf"} 3
d_bucket{route="a",outcome="y",le="0.1"} 2
d_bucket{route="a",outcome="y",le="+Inf"} 2
d_bucket{route="b",outcome="y",le="0.1"} 9"#;
        let sample = Sample::new(text, Value::Null, Value::Null, Instant::now());
        assert_eq!(
            sample.buckets("d", &[("route", "a")]),
            [(0.1, 3.0), (f64::INFINITY, 5.0)]
        );
    }
}
