use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

fn asking(id: &str, secret: &str) -> Head {
    let mut head = head(Method::POST, "/v1/oauth2/token");
    let basic = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    head.headers
        .insert("authorization", HeaderValue::from_str(&basic).unwrap());
    head
}

const BODY: &[u8] = b"grant_type=client_credentials";

fn bearer(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        "authorization",
        HeaderValue::from_str(&format!("Bearer {token}")).unwrap(),
    );
    headers
}

#[test]
fn a_token_is_asked_for_and_read() {
    let Ok(Auth::Token { request }) = Paypal.authentication(&account()) else {
        panic!()
    };
    assert_eq!(request.headers["authorization"], "Basic Y2xpZW50OmhpZGRlbg==");
    let answer = json!({"access_token": "A21AAx", "token_type": "Bearer", "expires_in": 32400});
    assert_eq!(
        Paypal.read_token(&incoming(200, &answer)).unwrap().value.as_str(),
        "A21AAx"
    );
    assert_eq!(Paypal.read_token(&incoming(401, &answer)), None);
    assert_eq!(
        Paypal.read_token(&incoming(
            200,
            &json!({"access_token": "", "token_type": "Bearer", "expires_in": 1})
        )),
        None
    );
}

#[test]
fn a_minted_token_is_known_again_until_it_expires_and_nobody_else_makes_one() {
    let reply = Paypal
        .mint_token(&asking("client", "hidden"), BODY, &account(), &[9; 16], 1000)
        .unwrap();
    let answer = Incoming {
        status: reply.status(),
        headers: HeaderMap::new(),
        body: reply.into_body(),
    };
    let token = Paypal.read_token(&answer).unwrap();
    let check = |token: &str, now| Paypal.credential(&bearer(token), &account(), now);
    assert_eq!(check(&token.value, 1000), Credential::Minted);
    assert_eq!(check(&token.value, 1900), Credential::Refused);
    assert_eq!(check("A21AAreal", 1000), Credential::Native);
    let (start, mac) = token.value.rsplit_once('.').unwrap();
    assert_eq!(
        check(
            &format!("{start}.{}", mac.replace(|c: char| c.is_ascii_digit(), "0")),
            1000
        ),
        Credential::Refused
    );
    assert_eq!(
        check(&token.value.replace(".1900.", ".9999."), 1000),
        Credential::Refused
    );
    let mut two = bearer("A21AAreal");
    two.append(
        "authorization",
        HeaderValue::from_str(&format!("Bearer {}", token.value.as_str())).unwrap(),
    );
    assert_eq!(Paypal.credential(&two, &account(), 1000), Credential::Refused);
    assert!(!format!("{:?}", token).contains("A21"));
}

#[test]
fn nobody_gets_a_token_without_the_accounts_own_credentials() {
    for (id, secret) in [("client", "guess"), ("other", "hidden"), ("", "")] {
        let reply = Paypal
            .mint_token(&asking(id, secret), BODY, &account(), &[9; 16], 0)
            .unwrap();
        assert_eq!(reply.status(), StatusCode::UNAUTHORIZED);
        assert!(String::from_utf8_lossy(reply.body()).contains("invalid_client"));
    }
    let reply = Paypal
        .mint_token(&asking("client", "hidden"), b"", &account(), &[9; 16], 0)
        .unwrap();
    assert_eq!(reply.status(), StatusCode::BAD_REQUEST);
}
