//! What an operator reads: scrapes of `/metrics`, and waiting for what they say.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::patience::PATIENCE;
use super::wire::{Client, get};

/// All samples of one scrape, by name with labels.
pub type Samples = BTreeMap<String, f64>;

/// One scrape.
pub async fn scrape(admin: SocketAddr) -> Samples {
    let mut client = Client::connect(admin).await;
    let answer = client.exchange(get("/metrics", "")).await;
    assert_eq!(answer.status(), 200);
    let text = answer.text();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a sample");
            (name.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

/// The sum of a family's samples.
pub fn sum(samples: &Samples, family: &str) -> f64 {
    matching(samples, family, &[])
}

/// The sum of a family's samples that have all these labels, each as `name="value"`.
pub fn matching(samples: &Samples, family: &str, labels: &[&str]) -> f64 {
    let of = |name: &str| name.split('{').next() == Some(family);
    samples
        .iter()
        .filter(|(name, _)| of(name) && labels.iter().all(|label| name.contains(label)))
        .map(|(_, value)| value)
        .sum()
}

/// Scrapes until the samples are as wanted: each scrape is a round trip through the process under test, so that waiting
/// makes progress there.
pub async fn until(admin: SocketAddr, what: &str, wanted: impl Fn(&Samples) -> bool) -> Samples {
    let patience = tokio::time::Instant::now() + PATIENCE;
    loop {
        let samples = scrape(admin).await;
        if wanted(&samples) {
            return samples;
        }
        assert!(tokio::time::Instant::now() < patience, "not in time: {what}");
    }
}

/// Scrapes until nothing is in flight: an answer is counted when its end was seen, a moment after its last byte.
pub async fn settled(admin: SocketAddr) -> Samples {
    until(admin, "nothing in flight", |samples| {
        sum(samples, "sentinel_inflight") == 0.0
    })
    .await
}
