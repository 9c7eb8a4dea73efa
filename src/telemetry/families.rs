//! Families of metrics, and how their series are taken away again.
//!
//! Prometheus' own vectors never forget a series by one label: what belonged to a route that is gone would be scraped
//! for ever (linkerd2#12916). [`Family::forget`] finds such series by looking at what the family would export.

use std::collections::HashMap;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// What Prometheus' vectors have in common; their builders have no public names.
pub trait Vector: Collector {
    /// One series.
    type Series;
    /// The series with these label values; made when it is not there.
    fn series(&self, values: &[&str]) -> Self::Series;
    /// Takes one series away. It can only be absent when another thread was faster.
    fn remove(&self, values: &[&str]);
}

impl<B: MetricVecBuilder> Vector for MetricVec<B>
where
    Self: Collector,
{
    type Series = B::M;

    fn series(&self, values: &[&str]) -> B::M {
        self.with_label_values(values)
    }

    fn remove(&self, values: &[&str]) {
        let _ = self.remove_label_values(values);
    }
}

/// A family with labels.
#[derive(Debug)]
pub struct Family<V> {
    vec: V,
    labels: &'static [&'static str],
}

/// Labelled counters.
pub type Counters = Family<IntCounterVec>;
/// Labelled gauges.
pub type Gauges = Family<IntGaugeVec>;
/// Labelled histograms.
pub type Histograms = Family<HistogramVec>;

impl<V: Vector> Family<V> {
    /// The series with these label values, in the order of the family's labels; made when it is not there.
    pub fn with(&self, values: &[&str]) -> V::Series {
        self.vec.series(values)
    }

    /// Takes away every series for which `gone` says so, given a label's value by its name.
    pub fn forget(&self, gone: impl Fn(&dyn Fn(&str) -> Option<String>) -> bool) {
        for family in self.vec.collect() {
            for metric in family.get_metric() {
                let pairs: HashMap<&str, &str> = metric
                    .get_label()
                    .iter()
                    .map(|pair| (pair.name(), pair.value()))
                    .collect();
                if gone(&|name| pairs.get(name).map(|value| (*value).to_owned())) {
                    let values: Vec<&str> = self
                        .labels
                        .iter()
                        .map(|label| pairs.get(label).copied().unwrap_or_default())
                        .collect();
                    self.vec.remove(&values);
                }
            }
        }
    }

    /// Whether the family has this label.
    pub fn has(&self, label: &str) -> bool {
        self.labels.contains(&label)
    }
}

fn name(short: &str) -> String {
    format!("sentinel_{short}")
}

/// Registers a family of counters; the name gets its prefix here.
pub fn counters(
    registry: &Registry,
    short: &str,
    help: &str,
    labels: &'static [&'static str],
) -> Result<Counters, prometheus::Error> {
    let vec = IntCounterVec::new(Opts::new(name(short), help), labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(Family { vec, labels })
}

/// Registers a family of gauges.
pub fn gauges(
    registry: &Registry,
    short: &str,
    help: &str,
    labels: &'static [&'static str],
) -> Result<Gauges, prometheus::Error> {
    let vec = IntGaugeVec::new(Opts::new(name(short), help), labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(Family { vec, labels })
}

/// Registers a family of histograms, in seconds.
pub fn histograms(
    registry: &Registry,
    short: &str,
    help: &str,
    labels: &'static [&'static str],
    buckets: &[f64],
) -> Result<Histograms, prometheus::Error> {
    let vec = HistogramVec::new(HistogramOpts::new(name(short), help).buckets(buckets.to_vec()), labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(Family { vec, labels })
}

/// Registers one counter.
pub fn counter(registry: &Registry, short: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let one = IntCounter::new(name(short), help)?;
    registry.register(Box::new(one.clone()))?;
    Ok(one)
}

/// Registers one gauge.
pub fn gauge(registry: &Registry, short: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let one = IntGauge::new(name(short), help)?;
    registry.register(Box::new(one.clone()))?;
    Ok(one)
}

/// Registers one histogram, in seconds.
pub fn histogram(
    registry: &Registry,
    short: &str,
    help: &str,
    buckets: &[f64],
) -> Result<prometheus::Histogram, prometheus::Error> {
    let one = prometheus::Histogram::with_opts(HistogramOpts::new(name(short), help).buckets(buckets.to_vec()))?;
    registry.register(Box::new(one.clone()))?;
    Ok(one)
}
