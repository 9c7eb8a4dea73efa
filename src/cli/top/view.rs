//! What two looks at a sidecar say: rates over the time between them, and the state at the later one.

use serde_json::{Value, json};

use super::sample::Sample;
use crate::cli::operator::printable;

/// The whole picture.
#[derive(Debug)]
pub struct View {
    totals: Totals,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Totals {
    version: String,
    config: String,
    connections: f64,
    cpu: f64,
    memory: f64,
    requests: f64,
    in_doubt: f64,
    owed: f64,
    failovers: f64,
    payments: f64,
    ledger_errors: f64,
    rejected_reloads: f64,
    log_dropped: f64,
}

/// A route at one gateway.
#[derive(Debug)]
struct Row {
    route: String,
    gateway: String,
    breaker: String,
    rate: f64,
    /// Attempts that failed, or were answered with 5xx, of all; `None` without attempts.
    errors: Option<f64>,
    p50: Option<f64>,
    p99: Option<f64>,
    overhead_p99: Option<f64>,
    in_flight: u64,
    limit: u64,
    waiting: f64,
    budget: u64,
    in_doubt: f64,
}

impl View {
    /// From two looks, the earlier first.
    pub fn between(before: &Sample, now: &Sample) -> Self {
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
        // A counter that went back belongs to a process that was started anew.
        let grown = |name: &str, labels: &[(&str, &str)]| {
            let (then, now) = (before.sum(name, labels), now.sum(name, labels));
            if now < then { now } else { now - then }
        };
        let rate = |name: &str, labels: &[(&str, &str)]| {
            if seconds > 0.0 {
                grown(name, labels) / seconds
            } else {
                0.0
            }
        };
        let label = |name: &str, label: &str| {
            let found = now
                .of(name, &[])
                .next()
                .and_then(|(labels, _)| labels.get(label).cloned());
            found.unwrap_or_default()
        };
        let totals = Totals {
            version: label("sentinel_build_info", "version"),
            config: label("sentinel_config_info", "hash"),
            connections: now.sum("sentinel_connections", &[]),
            cpu: rate("process_cpu_seconds_total", &[]) * 100.0,
            memory: now.sum("process_resident_memory_bytes", &[]),
            requests: rate("sentinel_requests_total", &[]),
            in_doubt: now.sum("sentinel_payments_in_doubt", &[]),
            owed: now.sum("sentinel_obligations_open", &[]),
            failovers: now.sum("sentinel_failovers_total", &[]),
            payments: now.sum("sentinel_payments_total", &[]),
            ledger_errors: now.sum("sentinel_ledger_errors_total", &[]),
            rejected_reloads: now.sum("sentinel_config_reload_total", &[("result", "rejected")]),
            log_dropped: now.sum("sentinel_log_lines_dropped_total", &[]),
        };
        let mut rows = Vec::new();
        for breaker in now.breakers.as_array().into_iter().flatten() {
            let (route, gateway) = (text(&breaker["route"]), text(&breaker["gateway"]));
            let at = [("route", route.as_str()), ("gateway", gateway.as_str())];
            let of_route = [("route", route.as_str())];
            let quantile = |family: &str, labels: &[(&str, &str)], q: f64| {
                quantile(&before.buckets(family, labels), &now.buckets(family, labels), q)
            };
            let attempts = grown("sentinel_upstream_attempts_total", &at);
            let answered = [at[0], at[1], ("result", "answered")];
            let failed = attempts - grown("sentinel_upstream_attempts_total", &answered);
            let bad: f64 = now
                .of("sentinel_requests_total", &[at[0], ("outcome", "forwarded")])
                .filter(|(labels, _)| labels.get("code").is_some_and(|code| code.starts_with('5')))
                .map(|(labels, _)| labels.get("code").cloned().unwrap_or_default())
                .map(|code| {
                    grown(
                        "sentinel_requests_total",
                        &[at[0], ("outcome", "forwarded"), ("code", &code)],
                    )
                })
                .fold(0.0, f64::max);
            let found = now
                .routes
                .as_array()
                .into_iter()
                .flatten()
                .find(|one| one["name"] == route.as_str());
            let number = |name: &str| found.and_then(|one| one[name].as_u64()).unwrap_or(0);
            let state = &breaker["breaker"];
            let opens_in = state["open_for_ms"]
                .as_u64()
                .map(|ms| format!(" {}s", ms.div_ceil(1000)));
            rows.push(Row {
                breaker: text(&state["state"]) + &opens_in.unwrap_or_default(),
                rate: rate("sentinel_upstream_attempts_total", &at),
                errors: (attempts > 0.0).then(|| ((failed + bad) / attempts).min(1.0) * 100.0),
                p50: quantile("sentinel_upstream_attempt_duration_seconds", &at, 0.5),
                p99: quantile("sentinel_upstream_attempt_duration_seconds", &at, 0.99),
                overhead_p99: quantile("sentinel_overhead_seconds", &of_route, 0.99),
                in_flight: number("in_flight"),
                limit: number("limit"),
                waiting: now.sum("sentinel_waiting", &of_route),
                budget: number("retry_budget_remaining"),
                in_doubt: now.sum("sentinel_payments_in_doubt", &of_route),
                route,
                gateway,
            });
        }
        Self { totals, rows }
    }

    /// As lines of text: the totals, then a table whose most urgent lines come first.
    pub fn lines(&self, most: usize) -> Vec<String> {
        let t = &self.totals;
        let share = if t.payments > 0.0 {
            t.failovers / t.payments * 100.0
        } else {
            0.0
        };
        let mut lines = vec![
            format!(
                "sentinel {}   configuration {}   {:.1} requests/s   {} connections   cpu {:.1} %   memory {:.1} MiB",
                t.version,
                t.config.get(..12).unwrap_or(&t.config),
                t.requests,
                t.connections,
                t.cpu,
                t.memory / f64::from(1 << 20)
            ),
            format!(
                "in doubt {}   owed {}   failovers {} ({share:.1} %)   ledger errors {}   rejected reloads {}   lost log lines {}",
                t.in_doubt, t.owed, t.failovers, t.ledger_errors, t.rejected_reloads, t.log_dropped
            ),
            String::new(),
        ];
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        // What needs a person comes first; the sort is stable, so the rest stays in the configuration's order.
        rows.sort_by_key(|row| (row.breaker == "closed", row.in_doubt == 0.0));
        let mut table = vec![
            [
                "ROUTE", "GATEWAY", "BREAKER", "REQ/S", "ERR %", "P50", "P99", "OWN P99", "FLIGHT", "WAIT", "BUDGET",
                "DOUBT",
            ]
            .map(str::to_owned),
        ];
        table.extend(rows.iter().map(|row| {
            [
                row.route.clone(),
                row.gateway.clone(),
                row.breaker.clone(),
                format!("{:.1}", row.rate),
                row.errors.map_or("-".into(), |errors| format!("{errors:.1}")),
                seconds(row.p50),
                seconds(row.p99),
                seconds(row.overhead_p99),
                format!("{}/{}", row.in_flight, row.limit),
                row.waiting.to_string(),
                row.budget.to_string(),
                row.in_doubt.to_string(),
            ]
        }));
        let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..12).map(width).collect();
        for row in &table {
            let cells = row.iter().zip(&widths).enumerate();
            let line: Vec<String> = cells
                .map(|(at, (cell, width))| match at {
                    // Words to the left, numbers to the right.
                    0..=2 => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                })
                .collect();
            lines.push(line.join("  ").trim_end().to_owned());
        }
        lines.truncate(most);
        lines.iter().map(|line| printable(line)).collect()
    }

    /// As JSON, for scripts. Durations are seconds.
    pub fn json(&self) -> Value {
        let t = &self.totals;
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "route": row.route, "gateway": row.gateway, "breaker": row.breaker, "rate": row.rate,
                    "error_percent": row.errors, "p50": row.p50, "p99": row.p99, "overhead_p99": row.overhead_p99,
                    "in_flight": row.in_flight, "limit": row.limit, "waiting": row.waiting,
                    "retry_budget": row.budget, "in_doubt": row.in_doubt,
                })
            })
            .collect();
        json!({
            "version": t.version, "config": t.config, "connections": t.connections, "cpu_percent": t.cpu,
            "memory_bytes": t.memory, "rate": t.requests, "in_doubt": t.in_doubt, "owed": t.owed,
            "failovers": t.failovers, "ledger_errors": t.ledger_errors, "rejected_reloads": t.rejected_reloads,
            "log_lines_dropped": t.log_dropped, "routes": rows,
        })
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("").to_owned()
}

fn seconds(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(seconds) if seconds.is_infinite() => ">30s".into(),
        Some(seconds) if seconds >= 1.0 => format!("{seconds:.1}s"),
        Some(seconds) if seconds >= 0.001 => format!("{:.0}ms", seconds * 1e3),
        Some(seconds) => format!("{:.0}us", seconds * 1e6),
    }
}

/// A quantile of what came between two looks, by linear interpolation in its bucket, as Prometheus' `histogram_quantile`;
/// of everything so far where nothing came between. `None` where nothing ever came.
fn quantile(before: &[(f64, f64)], now: &[(f64, f64)], q: f64) -> Option<f64> {
    let grown: Vec<(f64, f64)> = now
        .iter()
        .map(|(bound, count)| {
            let then = before
                .iter()
                .find(|(known, _)| known == bound)
                .map_or(0.0, |(_, count)| *count);
            (*bound, count - then)
        })
        .collect();
    let usable = grown.last().is_some_and(|(_, all)| *all > 0.0) && grown.iter().all(|(_, count)| *count >= 0.0);
    let buckets = if usable { grown.as_slice() } else { now };
    let all = buckets.last().map(|(_, all)| *all).filter(|all| *all > 0.0)?;
    let rank = q * all;
    let (mut below, mut counted) = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= rank {
            let share = if *count > counted {
                (rank - counted) / (count - counted)
            } else {
                1.0
            };
            return Some(if bound.is_infinite() {
                *bound
            } else {
                below + (bound - below) * share
            });
        }
        (below, counted) = (*bound, *count);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn quantiles_are_of_what_came_between() {
        let (before, now) = ([(0.1, 10.0), (1.0, 10.0)], [(0.1, 10.0), (1.0, 14.0)]);
        assert_eq!(quantile(&before, &now, 0.5), Some(0.55));
        assert!(quantile(&now, &now, 0.5).is_some_and(|of_all| (of_all - 0.07).abs() < 1e-9));
        assert_eq!(quantile(&[], &[(0.1, 0.0)], 0.5), None);
        assert_eq!(
            quantile(&now, &[(0.1, 1.0), (1.0, 1.0)], 1.0),
            Some(0.1),
            "the process is new"
        );
    }

    #[test]
    fn the_picture_has_rates_and_what_is_urgent_first() {
        let metrics = |requests: u32, failed: u32| {
            format!(
                r#"sentinel_requests_total{{route="b",method="POST",code="200",outcome="forwarded"}} {requests}
sentinel_upstream_attempts_total{{route="b",gateway="adyen",kind="first",result="answered"}} {requests}
sentinel_upstream_attempts_total{{route="b",gateway="adyen",kind="first",result="connect"}} {failed}
sentinel_payments_in_doubt{{route="b"}} 2
sentinel_build_info{{version="1.0.0"}} 1
sentinel_config_info{{hash="0123456789abcdef"}} 1"#
            )
        };
        let breakers = json!([
            { "route": "a", "gateway": "stripe", "breaker": { "state": "closed", "open_for_ms": null } },
            { "route": "b", "gateway": "adyen", "breaker": { "state": "open", "open_for_ms": 4200 } },
        ]);
        let routes = json!([{ "name": "b", "in_flight": 3, "limit": 1024, "retry_budget_remaining": 10 }]);
        let then = Instant::now();
        let before = Sample::new(&metrics(100, 0), Value::Null, Value::Null, then);
        let now = Sample::new(&metrics(130, 10), breakers, routes, then + Duration::from_secs(2));
        let view = View::between(&before, &now);
        let lines = view.lines(usize::MAX);
        assert!(
            lines[0].starts_with("sentinel 1.0.0   configuration 0123456789ab   15.0 requests/s"),
            "{lines:#?}"
        );
        assert!(lines[1].starts_with("in doubt 2   owed 0"), "{lines:#?}");
        let row: Vec<&str> = lines[4].split_whitespace().collect();
        assert_eq!(
            row,
            [
                "b", "adyen", "open", "5s", "20.0", "25.0", "-", "-", "-", "3/1024", "0", "10", "2"
            ],
            "{lines:#?}"
        );
        assert!(lines[5].starts_with("a "), "{lines:#?}");
        assert_eq!(view.json()["routes"][1]["error_percent"], 25.0);
    }
}
