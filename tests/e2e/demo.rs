//! `sentinel demo` as a process: the whole story on ports of its own, and the verdict of its audit.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::support::metrics::scrape;
use crate::support::wire::once;

/// The last address that a line has behind a word.
fn address(text: &str, before: &str) -> SocketAddr {
    let rest = &text[text.rfind(before).expect("the word is there") + before.len()..];
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')
        .unwrap_or(rest.len());
    rest[..end].parse().expect("an address")
}

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn payments_are_saved_in_an_outage_and_all_books_agree_with_what_the_shop_was_told() {
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_sentinel"))
        .args(["demo", "--seconds", "5", "--keep-running"])
        .env("TMPDIR", dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Process(child);
    let mut output = BufReader::new(child.0.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("-X DELETE") {
        assert!(output.read_line(&mut text).unwrap() > 0, "{text}");
    }
    assert!(!text.contains('\x1b'), "no terminal, no colours: {text}");
    let verdict = "Every order is as the shop was told, and nobody was charged twice.";
    assert!(text.contains(verdict), "{text}");
    assert!(text.contains("declined, 0 open"), "{text}");
    for gateway in ["stripe", "adyen"] {
        assert!(text.contains(&format!("given back at {gateway}")), "{text}");
        assert!(!text.contains("NOT given back"), "{text}");
    }

    // Everything that runs can be looked at, and broken by hand.
    let metrics = scrape(address(&text, "top --admin ")).await;
    let saved: f64 = metrics
        .iter()
        .filter(|(name, _)| name.starts_with("sentinel_failovers_total"))
        .map(|(_, count)| count)
        .sum();
    assert!(saved > 0.0, "{metrics:#?}");
    let control = address(&text, "faults http://");
    let refuse = r#"{"fault":"refuse"}"#;
    let post = format!(
        "POST /gateways/stripe/faults HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{refuse}",
        refuse.len()
    );
    let set = once(control, post).await;
    assert!((200..300).contains(&set.status()), "{} {}", set.start, set.text());

    let done = Command::new("kill").args(["-INT", &child.0.id().to_string()]).status();
    assert!(done.unwrap().success());
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    let mut errors = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(child.0.wait().unwrap().success(), "{rest}\n{errors}");
    assert!(rest.contains(verdict), "{rest}");
    assert_eq!(dir.path().read_dir().unwrap().count(), 0, "nothing stays behind");
}
