//! `sentinel sandbox` as a process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::pay;
use crate::support::sentinel::command;
use crate::support::wire::once;

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(args: &[&str], dir: &std::path::Path) -> Process {
    Process(
        Command::new(env!("CARGO_BIN_EXE_sentinel"))
            .arg("sandbox")
            .args(args)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sentinel starts"),
    )
}

#[tokio::test]
async fn programs_read_one_line_and_ctrl_c_ends_it_well() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = start(
        &[
            "--free-ports",
            "--json",
            "-g",
            "adyen",
            "--fault",
            "adyen:500-after",
            "--set",
            "adyen.capture=manual",
        ],
        dir.path(),
    );
    let mut line = String::new();
    let mut output = BufReader::new(process.0.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    let address: SocketAddr = line["gateways"]["adyen"]["address"].as_str().unwrap().parse().unwrap();
    assert_eq!(once(address, pay("order-1", None)).await.status(), 500);
    assert_eq!(once(address, pay("order-2", None)).await.status(), 200);
    let control: SocketAddr = line["control"]
        .as_str()
        .unwrap()
        .trim_start_matches("http://")
        .parse()
        .unwrap();
    let audit = once(control, "GET /audit HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let audit: Value = serde_json::from_slice(&audit.body).unwrap();
    assert_eq!(audit["positions"].as_array().unwrap().len(), 2);
    let done = Command::new("kill")
        .args(["-INT", &process.0.id().to_string()])
        .status();
    assert!(done.unwrap().success());
    assert!(process.0.wait().unwrap().success());
}

#[tokio::test]
async fn people_read_addresses_keys_cards_and_lines_to_paste() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = start(&["--free-ports", "--tls", "tls"], dir.path());
    let mut output = BufReader::new(process.0.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("-X DELETE") {
        assert!(output.read_line(&mut text).unwrap() > 0, "{text}");
    }
    for expected in [
        "adyen",
        "https://127.0.0.1:",
        "AcmeECOM",
        "allow_private: true, ca: 'tls/ca.pem'",
        "/audit",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(dir.path().join("tls/ca.pem").exists());
    let _ = Command::new("kill")
        .args(["-TERM", &process.0.id().to_string()])
        .status();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("No payment was taken twice."), "{rest}");
    assert!(process.0.wait().unwrap().success());
}

#[test]
fn wrong_arguments_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for (args, word) in [
        (vec!["--free-ports", "--fault", "adyen:explode"], "unknown fault"),
        (vec!["--free-ports", "--fault", "nobody:lost"], "runs no nobody"),
        (vec!["--free-ports", "--set", "adyen.colour=red"], "merchant_account"),
        (vec!["-g", "nobody"], "no simulator"),
    ] {
        let all: Vec<&str> = std::iter::once("sandbox").chain(args).collect();
        let (code, _, error) = command(&all, dir.path());
        assert_eq!(code, 64, "{error}");
        assert!(error.contains(word), "{error}");
    }
}
