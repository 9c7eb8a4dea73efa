//! `sentinel tap`: requests as they pass, for people or as JSON lines for a script.

use std::io::Write as _;

use http_body_util::BodyExt as _;
use serde_json::Value;

use super::operator::{Access, AccessError, printable, runtime};

/// Arguments of `sentinel tap`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    access: Access,
    /// Only this route.
    #[arg(long)]
    route: Option<String>,
    /// Only this gateway.
    #[arg(long)]
    gateway: Option<String>,
    /// Only this method.
    #[arg(long)]
    method: Option<String>,
    /// Only answers with this status: 402, or 5xx.
    #[arg(long)]
    status: Option<String>,
    /// Only paths that begin so.
    #[arg(long)]
    path: Option<String>,
    /// Only this outcome: `forwarded`, or why Sentinel answered itself.
    #[arg(long)]
    outcome: Option<String>,
    /// Only this event: request, attempt, breaker, rejected, payment, failover, `failover_refused`, `in_doubt`.
    #[arg(long)]
    event: Option<String>,
    /// End after so many events.
    #[arg(long, short = 'n')]
    count: Option<u64>,
    /// How events are printed.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Prints until told to stop, until `--count`, or until the sidecar goes away.
///
/// # Errors
/// When the sidecar cannot be asked, or goes away.
pub fn run(args: &Args) -> Result<(), AccessError> {
    runtime()?.block_on(follow(args))
}

fn query(args: &Args) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in [
        ("route", &args.route),
        ("gateway", &args.gateway),
        ("method", &args.method),
        ("status", &args.status),
        ("path", &args.path),
        ("outcome", &args.outcome),
        ("event", &args.event),
    ] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    query.finish()
}

async fn follow(args: &Args) -> Result<(), AccessError> {
    let mut body = args.access.get(&format!("/tap?{}", query(args))).await?.into_body();
    let mut out = std::io::stdout().lock();
    let (mut rest, mut printed) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { break };
        rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            if line.is_empty() {
                continue;
            }
            let written = match args.output {
                Output::Json => writeln!(out, "{line}"),
                Output::Text => writeln!(out, "{}", text(line)),
            };
            // Whoever read this has seen enough (`| head`).
            if written.and_then(|()| out.flush()).is_err() {
                return Ok(());
            }
            printed += 1;
            if args.count.is_some_and(|count| printed >= count) {
                return Ok(());
            }
        }
    }
    Err(AccessError::Unreachable {
        admin: args.access.admin,
        cause: "it went away".into(),
    })
}

/// One line for people.
fn text(line: &str) -> String {
    let Ok(event) = serde_json::from_str::<Value>(line) else {
        return printable(line);
    };
    let of = |name: &str| event[name].as_str().unwrap_or("");
    if of("event") == "lost" {
        return format!(
            "... {} events lost: this terminal is too slow, narrow it down",
            event["lost"]
        );
    }
    let time = event["at"]
        .as_i64()
        .and_then(|at| jiff::Timestamp::from_millisecond(at).ok())
        .map(|at| at.strftime("%H:%M:%S%.3fZ").to_string())
        .unwrap_or_default();
    let mut words = vec![time, format!("{:<8}", of("event"))];
    if of("event") == "request" {
        words.push(format!("{:<6}", of("method")));
        words.push(match event["status"].as_u64() {
            Some(0) | None => "---".into(),
            Some(status) => status.to_string(),
        });
        words.push(of("path").to_owned());
    }
    for name in ["route", "gateway", "outcome", "payment", "note"] {
        if !of(name).is_empty() {
            words.push(of(name).to_owned());
        }
    }
    if let Some(took) = event["took_ms"].as_f64() {
        words.push(format!("{took:.1} ms"));
    }
    if let Some(overhead) = event["overhead_ms"].as_f64() {
        words.push(format!("(own {overhead:.2} ms)"));
    }
    if event["attempts"].as_u64().is_some_and(|attempts| attempts > 1) {
        words.push(format!("{} attempts", event["attempts"]));
    }
    printable(&words.join("  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_a_person_what_passed_and_cannot_move_the_terminal() {
        let line = r#"{"at":1700000000123,"event":"request","route":"checkout","gateway":"stripe","method":"POST","path":"/v1/charges","status":402,"outcome":"forwarded","attempts":2,"took_ms":81.24,"overhead_ms":0.061}"#;
        assert_eq!(
            text(line),
            "22:13:20.123Z  request   POST    402  /v1/charges  checkout  stripe  forwarded  81.2 ms  (own 0.06 ms)  2 attempts"
        );
        let hostile = r#"{"at":0,"event":"attempt","note":"\u001b[2Jgone\u009b1m"}"#;
        assert!(!text(hostile).contains(['\u{1b}', '\u{9b}']));
        assert!(text(r#"{"event":"lost","lost":7}"#).contains("7 events lost"));
    }
}
