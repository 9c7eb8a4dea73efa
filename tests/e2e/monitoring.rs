//! The monitoring kit names only what Sentinel exports: a dashboard of metrics that do not exist shows a calm that is none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sentinel::telemetry::Metrics;
use sentinel::telemetry::families::Type;
use serde_json::Value;

use crate::support::gateway::{Gateway, json};
use crate::support::sentinel::{Sentinel, free_port};
use crate::support::wire::{get, once};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config/monitoring")
        .join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap()
}

fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&text(name)).unwrap()
}

/// Every series name that a scrape can have, with its labels.
fn exported() -> BTreeMap<String, BTreeSet<String>> {
    let mut names = BTreeMap::new();
    for family in Metrics::new().unwrap().described() {
        let mut labels: BTreeSet<String> = family.labels.into_iter().collect();
        if family.kind == Type::Histogram {
            names.insert(format!("{}_sum", family.name), labels.clone());
            names.insert(format!("{}_count", family.name), labels.clone());
            labels.insert("le".into());
            names.insert(format!("{}_bucket", family.name), labels);
        } else {
            names.insert(family.name, labels);
        }
    }
    names
}

/// Labels that Prometheus puts there itself.
const TARGET: [&str; 2] = ["instance", "job"];

/// The words of a query with the character that follows each.
fn words(query: &str) -> Vec<(String, char)> {
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_') {
        rest = &rest[start..];
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
            .unwrap_or(rest.len());
        found.push((rest[..end].to_owned(), rest[end..].chars().next().unwrap_or(' ')));
        rest = &rest[end..];
    }
    found
}

/// Checks a query: every metric is exported or recorded, and has every label that the query names at it.
fn check(query: &str, exported: &BTreeMap<String, BTreeSet<String>>, recorded: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    // What stands in quotes is a value.
    let bare: String = query.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    let metrics: Vec<String> = words(&bare)
        .into_iter()
        .map(|(word, _)| word)
        .filter(|word| word.starts_with("sentinel") || word.starts_with("process_"))
        .collect();
    if metrics.is_empty() && !query.contains("up{") {
        problems.push(format!("no metric in: {query}"));
    }
    for metric in &metrics {
        if metric.contains(':') {
            if !recorded.contains(metric) {
                problems.push(format!("{metric} is not recorded: {query}"));
            }
        } else if !exported.contains_key(metric) {
            problems.push(format!("{metric} is not exported: {query}"));
        }
    }
    // Labels in braces belong to the metric before them.
    for (at, _) in bare.match_indices('{') {
        let metric = words(&bare[..at]).pop().unwrap().0;
        let braces = &bare[at + 1..at + bare[at..].find('}').unwrap()];
        for (label, _) in words(braces) {
            let known = exported.get(&metric).is_none_or(|labels| labels.contains(&label));
            if !known && !TARGET.contains(&label.as_str()) {
                problems.push(format!("{metric} has no label {label}: {query}"));
            }
        }
    }
    // Labels of an aggregation belong to some metric of the query.
    for (at, _) in bare.match_indices("by (") {
        let list = &bare[at + 4..at + bare[at..].find(')').unwrap()];
        for (label, _) in words(list) {
            let known = |metric: &String| exported.get(metric).is_none_or(|labels| labels.contains(&label));
            if !metrics.iter().any(known) && !TARGET.contains(&label.as_str()) {
                problems.push(format!("nothing has the label {label}: {query}"));
            }
        }
    }
    problems
}

fn rules() -> Vec<Value> {
    let groups = yaml("rules.yaml");
    let groups = groups["groups"].as_array().unwrap();
    groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

fn recorded() -> BTreeSet<String> {
    let names = rules()
        .into_iter()
        .filter_map(|rule| rule["record"].as_str().map(str::to_owned));
    names.collect()
}

#[test]
fn every_rule_names_exported_metrics_and_every_alert_is_tested_both_ways() {
    let (exported, recorded) = (exported(), recorded());
    let tested = yaml("rules-test.yaml");
    let cases: Vec<Value> = tested["tests"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|test| test["alert_rule_test"].as_array().cloned().unwrap_or_default())
        .collect();
    // The scene in which all is well expects no alert whatever.
    assert!(text("rules-test.yaml").contains(r#"expr: "ALERTS", eval_time: 25m, exp_samples: []"#));
    let mut problems = Vec::new();
    for rule in rules() {
        problems.extend(check(rule["expr"].as_str().unwrap(), &exported, &recorded));
        let Some(alert) = rule["alert"].as_str() else { continue };
        let fires =
            |case: &&Value| case["alertname"] == alert && case["exp_alerts"].as_array().is_some_and(|a| !a.is_empty());
        if !cases.iter().any(|case| fires(&case)) {
            problems.push(format!("no test fires {alert}"));
        }
        for part in ["summary", "description"] {
            if rule["annotations"][part].as_str().is_none_or(str::is_empty) {
                problems.push(format!("{alert} has no {part}"));
            }
        }
        if !["info", "warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap_or("")) {
            problems.push(format!("{alert} has no severity"));
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn every_query_of_the_dashboard_names_exported_metrics() {
    let (exported, recorded) = (exported(), recorded());
    let dashboard: Value = serde_json::from_str(&text("grafana-dashboard.json")).unwrap();
    let mut queries = Vec::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels have one id");
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push(target["expr"].as_str().unwrap().to_owned());
            assert_eq!(target["datasource"]["uid"], "${datasource}");
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        queries.push(annotation["expr"].as_str().unwrap().to_owned());
    }
    assert!(queries.len() > 40, "{}", queries.len());
    let problems: Vec<String> = queries
        .iter()
        .flat_map(|query| check(query, &exported, &recorded))
        .collect();
    assert!(problems.is_empty(), "{problems:#?}");

    // And the other way: what is exported is on the dashboard, or left out on purpose.
    let all = queries.join(" ");
    for family in Metrics::new().unwrap().described() {
        let left_out = [
            "sentinel_build_info",
            "sentinel_config_info",
            "sentinel_faults_injected_total",
            "sentinel_payment_recovery_seconds",
        ];
        let shown =
            all.contains(&family.name) || family.name.starts_with("process_") || left_out.contains(&&*family.name);
        assert!(shown, "{} is on no panel", family.name);
    }
}

#[test]
fn the_check_itself_finds_what_it_should() {
    let (exported, recorded) = (exported(), recorded());
    for wrong in [
        "sum(rate(sentinel_request_total[5m]))",
        "sentinel:nothing:rate5m > 1",
        r#"sentinel_requests_total{gateway="x"}"#,
        "sum by (leg) (rate(sentinel_requests_total[5m]))",
        "sentinel_request_duration_seconds",
        "vector(1)",
    ] {
        assert!(!check(wrong, &exported, &recorded).is_empty(), "{wrong}");
    }
    let right = r#"sum by (route, le, instance) (rate(sentinel_request_duration_seconds_bucket{outcome!="x y"}[5m]))"#;
    assert_eq!(check(right, &exported, &recorded), Vec::<String>::new());
}

#[test]
fn the_scrape_configurations_fit_the_sidecar_and_its_manifests() {
    let local = yaml("prometheus.yaml");
    let config = sentinel::config::load::load(&file("../sentinel.yaml")).unwrap();
    let target = local["scrape_configs"][0]["static_configs"][0]["targets"][0]
        .as_str()
        .unwrap();
    assert_eq!(Some(target.parse().unwrap()), config.listeners.admin);
    let kubernetes = text("prometheus-kubernetes.yaml");
    let manifest = std::fs::read_to_string(file("../../examples/kubernetes/native-sidecar.yaml")).unwrap();
    assert!(kubernetes.contains("regex: sentinel-admin") && manifest.contains("name: sentinel-admin"));
    for scrape in [local, serde_yaml::from_str(&kubernetes).unwrap()] {
        assert_eq!(scrape["rule_files"][0], "rules.yaml");
        // The alert on a sidecar that is gone asks for this job.
        assert_eq!(scrape["scrape_configs"][0]["job_name"], "sentinel");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraper_gets_the_format_that_it_prefers_and_is_told_which() {
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let (admin, listen) = (free_port(), free_port());
    let _sentinel = Sentinel::start(&format!(
        "listeners: {{ admin: '{admin}' }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://{}', allow_private: true }}
routes:
  - {{ name: checkout, listen: '{listen}', dialect: stripe, gateways: [stripe] }}
",
        gateway.address
    ));
    assert_eq!(once(listen, get("/v1/balance", "")).await.status(), 200);
    let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.5\r\n";
    let open = once(admin, get("/metrics", accept)).await;
    assert_eq!(
        open.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let text = open.text();
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    assert!(text.contains("\n# TYPE sentinel_requests counter\n"), "{text}");
    assert!(text.contains("\nsentinel_requests_total{"), "{text}");
    let answer = once(admin, get("/metrics", "Accept: text/plain\r\n")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert!(!answer.text().contains("# EOF"), "that would be OpenMetrics");
    // The type line of every family comes once and before its series.
    let mut types = BTreeSet::new();
    for line in answer.text().lines() {
        if let Some(name) = line.strip_prefix("# TYPE ") {
            assert!(types.insert(name.split(' ').next().unwrap().to_owned()), "{line}");
        }
    }
    assert!(
        types.contains("sentinel_overhead_seconds") && types.len() > 15,
        "{types:?}"
    );
}
