//! Families of metrics, and how their series are taken away again.
//!
//! Prometheus' own vectors never forget a series by one label: what belonged to a route that is gone would be scraped
//! for ever (linkerd2#12916). [`Family::forget`] finds such series by looking at what the family would export.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

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

impl Family<IntCounterVec> {
    /// Shows every series' count, with its labels' values by their names.
    pub fn each(&self, mut shown: impl FnMut(&dyn Fn(&str) -> Option<String>, u64)) {
        for family in self.vec.collect() {
            for metric in family.get_metric() {
                let of = |name: &str| {
                    let pair = metric.get_label().iter().find(|pair| pair.name() == name);
                    pair.map(|pair| pair.value().to_owned())
                };
                // Counted one by one, so that it is whole.
                shown(&of, metric.get_counter().get_value() as u64);
            }
        }
    }
}

/// What a family is, for dashboards and rules to be checked against: a family without series is in no scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The whole name.
    pub name: String,
    /// Its type.
    pub kind: Type,
    /// Its labels.
    pub labels: Vec<String>,
}

/// A family's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Seconds in buckets: `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// The registry, and a description of everything in it.
#[derive(Debug, Default)]
pub struct Catalogue {
    registry: Registry,
    described: Mutex<Vec<Described>>,
}

impl Catalogue {
    /// Registers a collector under its description.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn register(&self, collector: Box<dyn Collector>, kind: Type) -> Result<(), prometheus::Error> {
        let described: Vec<Described> = collector
            .desc()
            .into_iter()
            .map(|desc| Described {
                name: desc.fq_name.clone(),
                kind,
                labels: desc.variable_labels.clone(),
            })
            .collect();
        self.registry.register(collector)?;
        self.described
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(described);
        Ok(())
    }

    /// Everything that was registered.
    pub fn described(&self) -> Vec<Described> {
        self.described.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is exported now.
    pub fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }
}

fn name(short: &str) -> String {
    format!("sentinel_{short}")
}

/// Registers a family of counters; the name gets its prefix here.
pub fn counters(
    registry: &Catalogue,
    short: &str,
    help: &str,
    labels: &'static [&'static str],
) -> Result<Counters, prometheus::Error> {
    let vec = IntCounterVec::new(Opts::new(name(short), help), labels)?;
    registry.register(Box::new(vec.clone()), Type::Counter)?;
    Ok(Family { vec, labels })
}

/// Registers a family of gauges.
pub fn gauges(
    registry: &Catalogue,
    short: &str,
    help: &str,
    labels: &'static [&'static str],
) -> Result<Gauges, prometheus::Error> {
    let vec = IntGaugeVec::new(Opts::new(name(short), help), labels)?;
    registry.register(Box::new(vec.clone()), Type::Gauge)?;
    Ok(Family { vec, labels })
}

/// Registers a family of histograms, in seconds.
pub fn histograms(
    registry: &Catalogue,
    short: &str,
    help: &str,
    labels: &'static [&'static str],
    buckets: &[f64],
) -> Result<Histograms, prometheus::Error> {
    let vec = HistogramVec::new(HistogramOpts::new(name(short), help).buckets(buckets.to_vec()), labels)?;
    registry.register(Box::new(vec.clone()), Type::Histogram)?;
    Ok(Family { vec, labels })
}

/// Registers one counter.
pub fn counter(registry: &Catalogue, short: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let one = IntCounter::new(name(short), help)?;
    registry.register(Box::new(one.clone()), Type::Counter)?;
    Ok(one)
}

/// Registers one gauge.
pub fn gauge(registry: &Catalogue, short: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let one = IntGauge::new(name(short), help)?;
    registry.register(Box::new(one.clone()), Type::Gauge)?;
    Ok(one)
}

/// Registers one histogram, in seconds.
pub fn histogram(
    registry: &Catalogue,
    short: &str,
    help: &str,
    buckets: &[f64],
) -> Result<prometheus::Histogram, prometheus::Error> {
    let one = prometheus::Histogram::with_opts(HistogramOpts::new(name(short), help).buckets(buckets.to_vec()))?;
    registry.register(Box::new(one.clone()), Type::Histogram)?;
    Ok(one)
}
