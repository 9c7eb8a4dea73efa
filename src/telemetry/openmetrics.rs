//! The same metrics as OpenMetrics 1.0, for whoever asks for it: the exposition of Prometheus with families named
//! without their counters' suffix, and an end that tells a whole scrape from one that broke off.

use std::fmt::Write as _;

/// Its media type.
pub const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether an `Accept` field likes it at least as much as the older text format.
pub fn wanted(accept: &str) -> bool {
    let quality = |wanted: &str| {
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next()?.eq_ignore_ascii_case(wanted);
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
            named.then(|| quality.unwrap_or(1.0))
        });
        ranges.fold(0.0, f32::max)
    };
    let ours = quality("application/openmetrics-text");
    ours > 0.0 && ours >= quality("text/plain")
}

/// Rewrites a scrape in the older text format.
pub fn from_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut help = "";
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(of) = line.strip_prefix("# HELP ") {
            help = of.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|of| of.split_once(' ')) {
            let (family, kind) = match (kind, name.strip_suffix("_total")) {
                ("counter", Some(family)) => (family, "counter"),
                // A counter's samples must end in `_total`.
                ("counter", None) | ("untyped", _) => (name, "unknown"),
                _ => (name, kind),
            };
            let help = help.replace('"', "\\\"");
            let _ = writeln!(out, "# HELP {family} {help}\n# TYPE {family} {kind}");
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out.push_str("# EOF\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_lose_their_counters_suffix_and_the_end_is_told() {
        let text = "# HELP a_total Says \"a\".\n# TYPE a_total counter\na_total{x=\"1\"} 2\n# HELP b B.\n# TYPE b gauge\nb 1\n\n# HELP c C.\n# TYPE c counter\nc 3\n";
        assert_eq!(
            from_text(text),
            "# HELP a Says \\\"a\\\".\n# TYPE a counter\na_total{x=\"1\"} 2\n# HELP b B.\n# TYPE b gauge\nb 1\n# HELP c C.\n# TYPE c unknown\nc 3\n# EOF\n"
        );
    }

    #[test]
    fn it_is_for_whoever_likes_it_as_much() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,*/*;q=0.2";
        assert!(wanted(prometheus));
        assert!(wanted("application/openmetrics-text"));
        for other in [
            "",
            "*/*",
            "text/plain",
            "application/openmetrics-text;q=0",
            "text/plain, application/openmetrics-text;q=0.9",
        ] {
            assert!(!wanted(other), "{other}");
        }
    }

    #[test]
    fn every_family_of_ours_has_a_name_that_fits_its_type() {
        let metrics = std::sync::Arc::new(crate::telemetry::Metrics::new().expect("metrics"));
        let route = metrics.route("checkout");
        route.answered("POST", 200, "forwarded");
        route.finished("forwarded", std::time::Duration::from_millis(3));
        let (text, open) = (metrics.text(), from_text(&metrics.text()));
        let types = |text: &str| text.matches("# TYPE ").count();
        assert!(types(&text) > 2 && types(&text) == types(&open), "{open}");
        assert!(!open.contains(" unknown\n"), "{open}");
        assert!(open.contains("\nsentinel_requests_total{"), "{open}");
    }
}
