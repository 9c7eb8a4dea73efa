//! What the process uses, read from `/proc/self` when scraped: the six metrics that every Prometheus client offers.
//! Own code of one page, because the prometheus crate's collector brings `procfs` and `libc` along for them.
//!
//! Elsewhere than on Linux, and for a file that cannot be read, a metric is left out, never zero.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, Opts};

/// Clock ticks a second in `/proc`: fixed at 100 in the ABI of every architecture that Rust's Linux targets have.
const TICKS: f64 = 100.0;

/// The collector.
#[derive(Debug)]
pub struct Process {
    descriptions: Vec<Desc>,
}

#[derive(Default, Debug, PartialEq)]
struct Usage {
    cpu_seconds: Option<f64>,
    resident_bytes: Option<f64>,
    virtual_bytes: Option<f64>,
    threads: Option<f64>,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
    start_time: Option<f64>,
}

const CPU: (&str, &str) = (
    "process_cpu_seconds_total",
    "Total user and system CPU time spent in seconds.",
);
const GAUGES: [(&str, &str); 6] = [
    ("process_resident_memory_bytes", "Resident memory size in bytes."),
    ("process_virtual_memory_bytes", "Virtual memory size in bytes."),
    ("process_threads", "Number of OS threads in the process."),
    ("process_open_fds", "Number of open file descriptors."),
    ("process_max_fds", "Maximum number of open file descriptors."),
    (
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
    ),
];

impl Process {
    /// Describes the metrics.
    ///
    /// # Errors
    /// Never in practice: only for an invalid metric name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let describe = |(name, help): (&str, &str)| Desc::new(name.into(), help.into(), vec![], Default::default());
        let descriptions = std::iter::once(CPU)
            .chain(GAUGES)
            .map(describe)
            .collect::<Result<_, _>>()?;
        Ok(Self { descriptions })
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let usage = Usage::read();
        let mut families = Vec::new();
        if let Some(seconds) = usage.cpu_seconds
            && let Ok(counter) = Counter::with_opts(Opts::new(CPU.0, CPU.1))
        {
            counter.inc_by(seconds);
            families.extend(counter.collect());
        }
        let values = [
            usage.resident_bytes,
            usage.virtual_bytes,
            usage.threads,
            usage.open_fds,
            usage.max_fds,
            usage.start_time,
        ];
        for ((name, help), value) in GAUGES.into_iter().zip(values) {
            if let (Some(value), Ok(gauge)) = (value, Gauge::with_opts(Opts::new(name, help))) {
                gauge.set(value);
                families.extend(gauge.collect());
            }
        }
        families
    }
}

impl Usage {
    fn read() -> Self {
        let text = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let mut usage = Self::parse(
            &text("/proc/self/stat"),
            &text("/proc/self/status"),
            &text("/proc/self/limits"),
            &text("/proc/stat"),
        );
        // The directory's own descriptor is among the entries.
        usage.open_fds = fs::read_dir("/proc/self/fd")
            .ok()
            .map(|entries| entries.count().saturating_sub(1) as f64);
        usage
    }

    fn parse(stat: &str, status: &str, limits: &str, system: &str) -> Self {
        // The command may contain spaces and parentheses; fields count from the last one (proc_pid_stat(5)).
        let fields: Vec<&str> = stat
            .rsplit_once(") ")
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        let field = |n: usize| fields.get(n - 3).and_then(|text| text.parse::<f64>().ok());
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim_start_matches(':')
                .trim()
                .trim_end_matches(" kB")
                .parse::<f64>()
                .ok()
        };
        let boot = system.lines().find_map(|line| line.strip_prefix("btime "));
        let boot = boot.and_then(|seconds| seconds.trim().parse::<f64>().ok());
        let max_fds = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        Self {
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS),
            resident_bytes: kib("VmRSS").map(|kib| kib * 1024.0),
            virtual_bytes: kib("VmSize").map(|kib| kib * 1024.0),
            threads: kib("Threads"),
            open_fds: None,
            max_fds: max_fds.and_then(|rest| rest.split_whitespace().next()?.parse().ok()),
            start_time: boot.zip(field(22)).map(|(boot, ticks)| boot + ticks / TICKS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_also_behind_a_command_full_of_parentheses() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194304 100 0 0 0 250 150 0 0 20 0 7 0 5000 123 456 1 2 3";
        let status = "Name:\tx\nVmSize:\t   2048 kB\nVmRSS:\t   1024 kB\nThreads:\t7\n";
        let limits = "Limit   Soft Limit   Hard Limit   Units\nMax open files            1024                 4096                 files\n";
        let usage = Usage::parse(stat, status, limits, "cpu 1 2\nbtime 1000\n");
        assert_eq!(
            usage,
            Usage {
                cpu_seconds: Some(4.0),
                resident_bytes: Some(1_048_576.0),
                virtual_bytes: Some(2_097_152.0),
                threads: Some(7.0),
                open_fds: None,
                max_fds: Some(1024.0),
                start_time: Some(1050.0),
            }
        );
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(Usage::parse("", "", "", ""), Usage::default());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_and_descriptors() {
        let usage = Usage::read();
        assert!(usage.resident_bytes.unwrap() > 100_000.0);
        assert!(usage.open_fds.unwrap() >= 3.0);
        assert_eq!(Process::new().unwrap().collect().len(), 7);
    }
}
