//! A sale of Braintree's application without a key, at an account that has keys: nothing that is done under a key of
//! Sentinel's own says anything of a request that carried none.

use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};

use crate::support::metrics::scrape;
use crate::support::patience::until;
use crate::support::shop::{BRAINTREE_TOKEN, Setup, Shop};
use crate::support::wire::Message;

async fn sale(shop: &Shop) -> Message {
    let body = format!(
        "<transaction><amount>19.99</amount><payment_method_token>{BRAINTREE_TOKEN}</payment_method_token>\
         <merchant_account_id>sandbox_eur</merchant_account_id><order_id>order-1</order_id>\
         <options><submit_for_settlement type=\"boolean\">true</submit_for_settlement></options><type>sale</type></transaction>"
    );
    shop.braintree_send("POST", "transactions", &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_that_was_never_sent_comes_to_proves_nothing() {
    for failover in ["key: natural", "key: transparent"] {
        let shop = Shop::with(Setup {
            braintree: "braintree, stripe",
            failover,
            ..Setup::default()
        })
        .await;
        shop.gateway("braintree").set("search_lag", "600").unwrap();
        shop.gateway("braintree").fault(Rule::once(
            Match::path("POST", "/merchants/sandbox/transactions"),
            Fault::CutAnswer {
                byte: 0,
                cut: Cut::Rst,
                when: When::After,
            },
        ));
        let first = sale(&shop).await;
        let payment = first.header("sentinel-payment").unwrap().to_owned();
        assert_eq!(
            first.header("sentinel-gateway"),
            Some("braintree"),
            "{failover}: {}",
            first.text()
        );
        // It was executed. Nobody can find that out yet, and nobody concludes anything else.
        let mut asked = 0;
        until("it was asked about again and again", async || {
            scrape(shop.admin).await;
            asked += 1;
            if failover.ends_with("natural") && asked % 50 == 0 {
                sale(&shop).await;
            }
            (shop.timeline(&payment).contains("parked") && asked > 200).then_some(())
        })
        .await;
        let timeline = shop.timeline(&payment);
        assert!(!timeline.contains("\"fenced\""), "{failover}: {timeline}");
        assert!(!timeline.contains("failover_licensed"), "{failover}: {timeline}");
        assert!(!timeline.contains(r#""leg":"fence""#), "{failover}: {timeline}");
        assert!(!timeline.contains("attempt_resent"), "{failover}: {timeline}");
        let audit = shop.audit().await;
        assert!(audit.clean(), "{failover}: {audit:#?}");
        assert_eq!(audit.live("order-1").len(), 1, "{failover}: {audit:#?}");
    }
}
