//! Sentinel beside its peers, on the job users have: a 300-byte form POST answered by 1.5 KB of JSON, keep-alive both
//! sides, plaintext in, TLS (or plaintext) out. Every proxy takes its turn in the same run, on the same machine, so
//! that the ratios hold where the absolute figures do not.
//!
//! `benches/peers/run` builds and installs what this needs and calls it. Figures and their reading: benches/README.md.
//!
//! The proxy has core 0 to itself; the load generator and the gateway stub share core 1. Both are as cheap as they can
//! be made (blocking threads, canned bytes), so that the proxy is what saturates.

#![allow(
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a measuring program: real time, and any failure ends it"
)]

mod gateway;
mod layout;
mod load;
mod proxies;
mod report;

use std::collections::BTreeMap;
use std::time::Duration;

use load::Load;
use proxies::{Kind, Out, Proxy};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.first().map(String::as_str) {
        Some("gateway") => return gateway::run(&args[1..]),
        Some("load") => return load::child(&args[1..]),
        _ => {}
    }
    let options = Options::parse(&args);
    // The children look for their parent's certificates: they must be there before the first child is.
    gateway::certificates();
    if options.what == ["layout"] {
        return layout::write();
    }
    let mut report = report::Report::default();
    let kinds = proxies::available(&options.only);
    println!(
        "peers: {}",
        kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ")
    );
    println!("machine: {}", report::machine());

    if options.wants("instructions") {
        for out in [Out::Tls, Out::Plain] {
            for kind in &kinds {
                if let Some(count) = proxies::instructions(*kind, out) {
                    report.add(
                        "instructions a request",
                        &format!("{} out", out.name()),
                        *kind,
                        &[count],
                    );
                }
            }
        }
    }
    if options.wants("cpu") {
        measure_cpu(&options, &kinds, &mut report);
    }
    if options.wants("latency") {
        measure_latency(&options, &kinds, &mut report);
    }
    if options.wants("memory") {
        for kind in &kinds {
            let memory = proxies::memory(*kind);
            report.add("resident memory, MB", "at start", *kind, &[memory.start]);
            report.add(
                "resident memory, MB",
                "1,000 idle connections",
                *kind,
                &[memory.idle_1k],
            );
            report.add(
                "resident memory, MB",
                "9,900 idle connections",
                *kind,
                &[memory.idle_many],
            );
            report.add(
                "KiB an idle connection",
                "from 1,000 to 9,900",
                *kind,
                &[(memory.idle_many - memory.idle_1k) * 1024.0 / (proxies::MANY - 1000) as f64],
            );
        }
    }
    if options.wants("syscalls") {
        for out in [Out::Tls, Out::Http2] {
            for kind in kinds.iter().filter(|kind| kind.speaks(out)) {
                if let Some(count) = proxies::syscalls(*kind, out) {
                    let load = format!("{} out, 500/s", out.name());
                    report.add("system calls a request", &load, *kind, &[count]);
                }
            }
        }
    }
    report.print();
}

/// What to measure.
struct Options {
    rounds: usize,
    seconds: u64,
    only: Vec<String>,
    /// Text in the name of a load; empty for all.
    load: String,
    what: Vec<String>,
}

impl Options {
    fn parse(args: &[String]) -> Self {
        let mut options = Self {
            rounds: 5,
            seconds: 4,
            only: Vec::new(),
            load: String::new(),
            what: Vec::new(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().cloned().unwrap_or_default();
            match arg.as_str() {
                "--rounds" => options.rounds = value().parse().expect("--rounds N"),
                "--seconds" => options.seconds = value().parse().expect("--seconds N"),
                "--only" => options.only = value().split(',').map(str::to_owned).collect(),
                "--load" => options.load = value(),
                "--quick" => (options.rounds, options.seconds) = (1, 2),
                "instructions" | "cpu" | "latency" | "memory" | "syscalls" | "layout" => options.what.push(arg.clone()),
                other => panic!("{other:?} is nothing that is measured here: benches/peers/run says what is"),
            }
        }
        options
    }

    fn wants(&self, what: &str) -> bool {
        self.what.is_empty() || self.what.iter().any(|wanted| wanted == what)
    }
}

/// Processor time a request, saturated and at a fixed rate, and requests a second at saturation.
fn measure_cpu(options: &Options, kinds: &[Kind], report: &mut report::Report) {
    let length = Duration::from_secs(options.seconds);
    let cases: [(&str, Out, usize, Option<f64>, u64); 6] = [
        ("TLS out, 1 worker, saturated", Out::Tls, 1, None, 0),
        ("TLS out, 2 workers, saturated", Out::Tls, 2, None, 0),
        ("TLS out, 1 worker, 5,000/s", Out::Tls, 1, Some(5000.0), 0),
        (
            "TLS out, 1 worker, 1,000/s, 50 ms gateway",
            Out::Tls,
            1,
            Some(1000.0),
            50,
        ),
        ("TLS+h2 out, 1 worker, saturated", Out::Http2, 1, None, 0),
        ("plaintext out, 1 worker, saturated", Out::Plain, 1, None, 0),
    ];
    for (name, out, workers, rate, delay) in cases.into_iter().filter(|case| case.0.contains(&options.load)) {
        let mut cpu: BTreeMap<Kind, Vec<f64>> = BTreeMap::new();
        let mut rates: BTreeMap<Kind, Vec<f64>> = BTreeMap::new();
        for _ in 0..options.rounds {
            for kind in kinds.iter().filter(|kind| kind.speaks(out)) {
                let gateway = gateway::Gateway::start(out, delay);
                let proxy = Proxy::start(*kind, out, workers, gateway.port);
                let load = Load {
                    port: proxy.port,
                    connections: 64,
                    rate,
                    length: Duration::from_secs(1),
                };
                load.run();
                let before = proxy.cpu();
                let result = Load { length, ..load }.run();
                let spent = proxy.cpu() - before;
                cpu.entry(*kind)
                    .or_default()
                    .push(spent.as_secs_f64() * 1e6 / result.requests as f64);
                rates
                    .entry(*kind)
                    .or_default()
                    .push(result.requests as f64 / result.took.as_secs_f64());
            }
        }
        for kind in kinds.iter().filter(|kind| kind.speaks(out)) {
            report.add("processor us a request", name, *kind, &cpu[kind]);
            if rate.is_none() {
                report.add("requests a second", name, *kind, &rates[kind]);
            }
        }
        // What is spent on being a proxy: the rest is the machine's, and differs from one to the next.
        let Some(floor) = cpu.get(&Kind::Relay) else {
            continue;
        };
        for (kind, spent) in cpu.iter().filter(|(kind, _)| **kind != Kind::Relay) {
            let beyond: Vec<f64> = spent.iter().zip(floor).map(|(spent, floor)| spent - floor).collect();
            report.add("processor us a request beyond the byte copy", name, *kind, &beyond);
        }
    }
}

/// Latency at fixed, open-loop rates: half of HAProxy's saturation, and the rates of the bars. The direct line without
/// a proxy is measured in the same round, so that what a proxy adds can be read off.
fn measure_latency(options: &Options, kinds: &[Kind], report: &mut report::Report) {
    let length = Duration::from_secs(options.seconds);
    let saturation = kinds.iter().find(|kind| **kind == Kind::Haproxy).map(|kind| {
        let gateway = gateway::Gateway::start(Out::Tls, 0);
        let proxy = Proxy::start(*kind, Out::Tls, 1, gateway.port);
        let load = Load {
            port: proxy.port,
            connections: 64,
            rate: None,
            length,
        };
        let result = load.run();
        result.requests as f64 / result.took.as_secs_f64()
    });
    let half = saturation.map_or(12_000.0, |rate| (rate / 2.0).round());
    let cases = [
        ("5,000/s".to_owned(), 5000.0, 0),
        ("12,000/s".to_owned(), 12_000.0, 0),
        (format!("half of HAProxy's saturation, {half}/s"), half, 0),
        ("1,000/s, 50 ms gateway".to_owned(), 1000.0, 50),
    ];
    for (name, rate, delay) in cases.into_iter().filter(|case| case.0.contains(&options.load)) {
        let mut all: BTreeMap<Kind, Vec<[f64; 3]>> = BTreeMap::new();
        let everyone: Vec<Kind> = std::iter::once(Kind::Direct).chain(kinds.iter().copied()).collect();
        for _ in 0..options.rounds {
            for kind in &everyone {
                all.entry(*kind)
                    .or_default()
                    .push(latencies(*kind, rate, delay, length));
            }
        }
        for (index, quantile) in ["p50", "p99", "p99.9"].iter().enumerate() {
            let series = |kind: &Kind| -> Vec<f64> { all[kind].iter().map(|values| values[index] * 1e3).collect() };
            let direct = series(&Kind::Direct);
            report.add(&format!("latency {quantile}, ms"), &name, Kind::Direct, &direct);
            for kind in kinds {
                report.add(&format!("latency {quantile}, ms"), &name, *kind, &series(kind));
            }
            for kind in kinds {
                let added: Vec<f64> = series(kind)
                    .iter()
                    .zip(&direct)
                    .map(|(own, direct)| own - direct)
                    .collect();
                report.add(&format!("added {quantile}, ms"), &name, *kind, &added);
            }
        }
    }
}

/// p50, p99 and p99.9, in seconds, at a fixed rate.
fn latencies(kind: Kind, rate: f64, delay: u64, length: Duration) -> [f64; 3] {
    let out = if kind == Kind::Direct { Out::Plain } else { Out::Tls };
    let gateway = gateway::Gateway::start(out, delay);
    let proxy = Proxy::start(kind, Out::Tls, 1, gateway.port);
    let load = Load {
        port: proxy.port,
        connections: 128,
        rate: Some(rate),
        length: Duration::from_secs(1),
    };
    load.run();
    let result = Load { length, ..load }.run();
    [result.quantile(0.5), result.quantile(0.99), result.quantile(0.999)]
}
