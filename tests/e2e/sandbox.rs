//! The sandbox over real sockets: every fault as the wire shows it, the books behind it, the control port, the command.

mod command;
mod control;
mod faults;
mod tls;

use sentinel::sandbox::Kind;
use sentinel::sandbox::server::{self, Gateway, Sandbox};

use crate::support::patience::PATIENCE;

/// A payment at Adyen, as its SDKs write it.
fn pay(reference: &str, key: Option<&str>) -> String {
    let body = format!(
        r#"{{"amount":{{"currency":"EUR","value":1000}},"reference":"{reference}","merchantAccount":"AcmeECOM","returnUrl":"https://shop.example/","additionalData":{{"manualCapture":"true"}},"paymentMethod":{{"type":"scheme","number":"4111111111111111","expiryMonth":"03","expiryYear":"2030","cvc":"737","holderName":"J. Smith"}}}}"#
    );
    let key = key.map(|key| format!("idempotency-key: {key}\r\n")).unwrap_or_default();
    format!(
        "POST /v71/payments HTTP/1.1\r\nHost: x\r\nx-api-key: sandbox\r\n{key}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn adyen() -> (Sandbox, Gateway) {
    let sandbox = server::start(&[Kind::Adyen]).await.expect("a sandbox");
    let gateway = sandbox.gateway("adyen").expect("adyen").clone();
    (sandbox, gateway)
}

/// Payments that were executed.
fn executed(sandbox: &Sandbox) -> usize {
    sandbox.books().audit().positions.len()
}

/// Fails a test that would hang.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens soon")
}
