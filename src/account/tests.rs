use std::net::Ipv4Addr;

use super::*;
use crate::ledger::keys::Keys;
use crate::ledger::sqlite::{Options, SqliteLedger};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PASSWORD: &str = "YourSecurePassword123!";

struct House {
    directory: tempfile::TempDir,
    accounts: Accounts,
}

impl House {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let accounts = open(&directory).await;
        Self { directory, accounts }
    }

    async fn restarted(self) -> Self {
        drop(self.accounts);
        let accounts = open(&self.directory).await;
        Self {
            directory: self.directory,
            accounts,
        }
    }

    async fn tenant(&self, email: &str) -> Registered {
        self.accounts.register(asked(email), HOME).await.expect("registers")
    }
}

async fn open(directory: &tempfile::TempDir) -> Accounts {
    let options = Options {
        strict: false,
        ..Options::new(directory.path().join("ledger.db"))
    };
    let ledger = SqliteLedger::open(&options, Keys::new(&[7; 32])).expect("ledger");
    Accounts::open(Arc::new(ledger)).await.expect("accounts")
}

fn asked(email: &str) -> Registration {
    Registration {
        email: email.to_owned(),
        password: PASSWORD.to_owned(),
        company_name: "Acme Payments of Nowhere".to_owned(),
    }
}

fn caller(accounts: &Accounts, session: &Session) -> Caller {
    accounts.session(&session.access).expect("a session")
}

#[tokio::test]
async fn a_registration_gives_a_live_key_and_a_session_that_outlive_a_restart() {
    let house = House::new().await;
    let registered = house.tenant("A@Example.com").await;
    assert!(registered.key.secret.starts_with("sk_snt_live_"));
    let house = house.restarted().await;
    let by_key = house
        .accounts
        .key(&registered.key.secret)
        .await
        .expect("the key is good");
    assert_eq!(by_key.tenant, registered.tenant.id);
    assert!(by_key.may(Scope::Payments));
    assert_eq!(
        caller(&house.accounts, &registered.session).tenant,
        registered.tenant.id
    );
    let (tenant, _) = house
        .accounts
        .login(" a@example.COM ", PASSWORD.to_owned(), HOME)
        .await
        .expect("logs in");
    assert_eq!(tenant.id, registered.tenant.id);
}

#[tokio::test]
async fn an_address_has_one_account_even_when_two_register_at_once() {
    let house = House::new().await;
    let (one, two) = tokio::join!(
        house.accounts.register(asked("a@example.com"), HOME),
        house.accounts.register(asked("A@EXAMPLE.com"), HOME)
    );
    let taken = [one.err(), two.err()];
    assert_eq!(taken.iter().flatten().collect::<Vec<_>>(), [&AccountError::Taken]);
}

#[tokio::test]
async fn unknown_addresses_and_wrong_passwords_answer_alike_and_lock_alike() {
    let house = House::new().await;
    house.tenant("a@example.com").await;
    for email in ["a@example.com", "nobody@example.com"] {
        for attempt in 1..=5 {
            let wrong = house.accounts.login(email, "wrong password".to_owned(), HOME).await;
            assert_eq!(
                wrong,
                Err(AccountError::Unauthorised("wrong e-mail address or password")),
                "{email}, attempt {attempt}"
            );
        }
        let locked = house.accounts.login(email, PASSWORD.to_owned(), HOME).await;
        assert!(
            matches!(locked, Err(AccountError::TooMany { .. })),
            "{email}: {locked:?}"
        );
    }
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_its_reuse_ends_the_session() {
    let house = House::new().await;
    let first = house.tenant("a@example.com").await.session;
    let second = house.accounts.refresh(&first.refresh, HOME).await.expect("refreshes");
    assert!(house.accounts.session(&second.access).is_ok());
    assert!(
        house.accounts.refresh(&first.refresh, HOME).await.is_err(),
        "used twice"
    );
    assert!(
        house.accounts.refresh(&second.refresh, HOME).await.is_err(),
        "its family ended"
    );
    assert!(house.accounts.session(&second.access).is_err(), "at once");
    let house = house.restarted().await;
    assert!(house.accounts.session(&second.access).is_err(), "and after a restart");
}

#[tokio::test]
async fn logging_out_ends_one_session_and_a_new_password_ends_all() {
    let house = House::new().await;
    let first = house.tenant("a@example.com").await.session;
    let (_, second) = house
        .accounts
        .login("a@example.com", PASSWORD.to_owned(), HOME)
        .await
        .expect("logs in");
    house
        .accounts
        .logout(&caller(&house.accounts, &second), HOME)
        .await
        .expect("logs out");
    assert!(house.accounts.session(&second.access).is_err());
    let me = caller(&house.accounts, &first);
    let new = "another long password".to_owned();
    let wrong = house
        .accounts
        .change_password(&me, "not it at all".to_owned(), new.clone(), HOME)
        .await;
    assert!(matches!(wrong, Err(AccountError::Unauthorised(_))));
    let third = house
        .accounts
        .change_password(&me, PASSWORD.to_owned(), new.clone(), HOME)
        .await
        .expect("changes");
    assert!(house.accounts.session(&first.access).is_err());
    assert!(house.accounts.session(&third.access).is_ok());
    assert!(
        house
            .accounts
            .login("a@example.com", PASSWORD.to_owned(), HOME)
            .await
            .is_err()
    );
    assert!(house.accounts.login("a@example.com", new, HOME).await.is_ok());
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
    let house = House::new().await;
    let token = house.tenant("a@example.com").await.session.access;
    let parts: Vec<&str> = token.split('.').collect();
    let header: serde_json::Value = serde_json::from_slice(&B64.decode(parts[0]).expect("base64")).expect("a header");
    let kid = header["kid"].as_str().expect("a key id");
    let with = |header: &str, claims: &str, signature: &str| {
        format!("{}.{claims}.{signature}", B64.encode(header.replace("KID", kid)))
    };
    let mut claims: serde_json::Value = serde_json::from_slice(&B64.decode(parts[1]).expect("base64")).expect("claims");
    claims["sub"] = "tn_somebodyelse".into();
    let other = B64.encode(claims.to_string());
    let flipped = format!("{}A", &parts[2][..parts[2].len() - 2]);
    for forged in [
        with(r#"{"alg":"none","kid":"KID"}"#, parts[1], ""),
        with(r#"{"alg":"none","kid":"KID"}"#, parts[1], parts[2]),
        with(r#"{"alg":"HS512","kid":"KID"}"#, parts[1], parts[2]),
        with(r#"{"alg":"RS256","kid":"KID"}"#, parts[1], parts[2]),
        with(r#"{"alg":"HS256","kid":"../../etc/passwd"}"#, parts[1], parts[2]),
        with(r#"{"alg":"HS256"}"#, parts[1], parts[2]),
        format!("{}.{other}.{}", parts[0], parts[2]),
        format!("{}.{}.{flipped}", parts[0], parts[1]),
        format!("{}.{}.", parts[0], parts[1]),
        "x".repeat(1_000_000),
        String::new(),
    ] {
        let shown: String = forged.chars().take(60).collect();
        assert!(house.accounts.session(&forged).is_err(), "{shown}");
    }
    assert!(house.accounts.session(&token).is_ok());
}

#[tokio::test]
async fn tokens_end_on_the_second_and_need_every_claim_in_its_type() {
    let house = House::new().await;
    let token = house.tenant("a@example.com").await.session.access;
    let now = house.accounts.ledger.now();
    assert!(
        house
            .accounts
            .tokens
            .verify(&token, now + token::ACCESS - 60_000)
            .is_ok()
    );
    assert!(
        house
            .accounts
            .tokens
            .verify(&token, now + token::ACCESS + 60_000)
            .is_err()
    );
    assert!(
        house.accounts.tokens.verify(&token, now - 120_000).is_err(),
        "not yet good"
    );
    let sign = |claims: serde_json::Value| house.accounts.tokens.sign_for_test(&claims);
    let base = serde_json::json!({
        "iss": "api-sentinel", "aud": "api-sentinel", "sub": "tn_x", "sid": "tn_x/f",
        "iat": now / 1000, "nbf": now / 1000, "exp": now / 1000 + 60
    });
    assert!(house.accounts.session(&sign(base.clone())).is_ok());
    for (field, value) in [
        ("aud", serde_json::Value::Null),
        ("iss", "someone".into()),
        ("nbf", "0".into()),
        ("exp", serde_json::Value::Null),
        ("sid", "tn_y/f".into()),
    ] {
        let mut claims = base.clone();
        if value.is_null() {
            claims.as_object_mut().expect("an object").remove(field);
        } else {
            claims[field] = value;
        }
        assert!(house.accounts.session(&sign(claims)).is_err(), "{field}");
    }
}

#[tokio::test]
async fn keys_rotate_with_an_overlap_and_are_revoked_at_once() {
    let house = House::new().await;
    let registered = house.tenant("a@example.com").await;
    let (tenant, first) = (&registered.tenant.id, &registered.key);
    let keys = house.accounts.keys();
    assert!(keys.verify(&first.secret).await.is_ok());
    let second = keys.rotate(tenant, &first.key.id, 24).await.expect("rotates");
    assert!(keys.verify(&first.secret).await.is_ok(), "good for the overlap");
    assert!(keys.verify(&second.secret).await.is_ok());
    assert!(keys.rotate(tenant, &first.key.id, 1).await.is_err(), "already replaced");
    let third = keys.rotate(tenant, &second.key.id, 0).await.expect("rotates");
    assert!(
        keys.verify(&second.secret).await.is_err(),
        "without an overlap it ends at once"
    );
    keys.revoke(tenant, &first.key.id).await.expect("revokes");
    assert!(keys.verify(&first.secret).await.is_err());
    let listed = keys.list(tenant).await.expect("lists");
    assert_eq!(listed.len(), 3);
    let used = listed.iter().find(|key| key.id == first.key.id).expect("listed");
    assert!(used.last_used_at.is_some() && used.revoked_at.is_some());
    assert!(keys.verify(&third.secret).await.is_ok());
    let shown = format!("{third:?} {listed:?}");
    assert!(!shown.contains(third.secret.rsplit_once('_').expect("a secret").1));
}

#[tokio::test]
async fn a_key_is_refused_whichever_part_of_it_is_changed() {
    let house = House::new().await;
    let secret = house.tenant("a@example.com").await.key.secret;
    let mut changed: Vec<String> = (0..secret.len())
        .map(|at| {
            let mut bytes = secret.clone().into_bytes();
            bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
            String::from_utf8(bytes).expect("ASCII")
        })
        .collect();
    changed.extend([
        secret.replace("_live_", "_test_"),
        format!("{secret}a"),
        secret[..secret.len() - 1].to_owned(),
        "sk_live_51H".to_owned(),
        "sk_snt_live_".to_owned(),
        "sk_snt_live_é".repeat(9),
    ]);
    for key in changed {
        assert!(house.accounts.key(&key).await.is_err(), "{key}");
    }
    assert!(house.accounts.key(&secret).await.is_ok());
}

#[tokio::test]
async fn tenants_do_not_see_each_other() {
    let house = House::new().await;
    let (a, b) = (house.tenant("a@example.com").await, house.tenant("b@example.com").await);
    let ledger = &**house.accounts.ledger();
    let theirs = credentials::GatewayCredentials([("secret_key".to_owned(), "sk_live_a".to_owned())].into());
    credentials::store(ledger, &a.tenant.id, Mode::Live, "stripe", &theirs)
        .await
        .expect("stores");
    assert_eq!(
        credentials::load(ledger, &b.tenant.id, Mode::Live, "stripe").await,
        Ok(None)
    );
    assert_eq!(credentials::list(ledger, &b.tenant.id).await, Ok(Vec::new()));
    let listed = credentials::list(ledger, &a.tenant.id).await.expect("lists");
    assert_eq!(listed[0].fields, ["secret_key"]);
    let keys = house.accounts.keys();
    let foreign = keys.revoke(&b.tenant.id, &a.key.key.id).await;
    assert_eq!(foreign, Err(AccountError::NotFound("key")));
    assert!(keys.rotate(&b.tenant.id, &a.key.key.id, 0).await.is_err());
    assert!(keys.verify(&a.key.secret).await.is_ok());
    let trail = audit::lines(ledger, &b.tenant.id, None, 10).await.expect("reads");
    assert_eq!(trail.len(), 1);
    assert_eq!(trail[0].1.action, Action::Registered);
}

#[tokio::test]
async fn no_secret_is_in_the_file() {
    let house = House::new().await;
    let registered = house.tenant("a@example.com").await;
    let stored = credentials::GatewayCredentials([("secret_key".to_owned(), "rk_canary_secret".to_owned())].into());
    credentials::store(
        &**house.accounts.ledger(),
        &registered.tenant.id,
        Mode::Live,
        "stripe",
        &stored,
    )
    .await
    .expect("stores");
    let canaries = [
        PASSWORD.to_owned(),
        "rk_canary_secret".to_owned(),
        "a@example.com".to_owned(),
        registered.key.secret.rsplit_once('_').expect("a secret").1.to_owned(),
        registered
            .session
            .refresh
            .rsplit_once('/')
            .expect("a secret")
            .1
            .to_owned(),
        "Acme Payments of Nowhere".to_owned(),
    ];
    let House { directory, accounts } = house;
    drop(accounts);
    for entry in std::fs::read_dir(directory.path()).expect("reads") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("reads");
        for canary in &canaries {
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{canary} is in the file");
        }
    }
}

#[test]
fn addresses_and_passwords_that_cannot_be_are_refused() {
    for good in ["a@b.co", "first.last+tag@sub.example.com", "ü@exämple.com"] {
        assert!(Email::parse(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "a",
        "@b.co",
        "a@",
        "a@b",
        "a b@c.co",
        "a@b..co",
        "a@-b.co",
        "a\n@b.co",
        "a@b@c.co",
        "<a@b.co>",
        "a@b.co,c@d.co",
        ".a@b.co",
        "a..b@c.co",
    ] {
        assert!(Email::parse(bad).is_err(), "{bad:?}");
    }
    assert!(Email::parse(&format!("{}@b.co", "a".repeat(250))).is_err());
    for bad in [
        "short",
        "aaaaaaaaaaaaaaaa",
        "123456789012",
        "someone@example.com",
        "PasswordPassword",
    ] {
        assert!(
            tenant::check_password("password", bad, "someone@example.com", "Acme").is_err(),
            "{bad}"
        );
    }
    assert!(tenant::check_password("password", &"ab".repeat(200), "a@b.co", "Acme").is_err());
    assert!(tenant::check_password("password", PASSWORD, "a@b.co", "Acme").is_ok());
}

#[test]
fn a_client_may_try_so_often_and_then_at_its_rate() {
    let limiter = Limiter::new();
    for attempt in 0..10 {
        assert_eq!(limiter.take(Kind::Register, "c", 1_000_000), Ok(()), "{attempt}");
    }
    assert_eq!(
        limiter.take(Kind::Register, "c", 1_000_000),
        Err(AccountError::TooMany {
            retry_in: Duration::from_secs(360)
        })
    );
    assert_eq!(limiter.take(Kind::Register, "other", 1_000_000), Ok(()));
    assert_eq!(limiter.take(Kind::Login, "c", 1_000_000), Ok(()), "counted apart");
    assert_eq!(limiter.take(Kind::Register, "c", 1_000_000 + 360_000), Ok(()));
    assert!(limiter.take(Kind::Register, "c", 1_000_000 + 360_000).is_err());
}

#[test]
fn locks_grow_with_every_further_failure_and_end() {
    let limiter = Limiter::new();
    let mut now = 0;
    for _ in 0..4 {
        assert!(!limiter.failed("a", now));
    }
    let mut locks = Vec::new();
    for _ in 0..6 {
        assert!(limiter.failed("a", now));
        let Err(AccountError::TooMany { retry_in }) = limiter.locked("a", now) else {
            panic!("not locked")
        };
        locks.push(retry_in.as_secs());
        now += i64::try_from(retry_in.as_millis()).expect("small");
        assert_eq!(limiter.locked("a", now), Ok(()));
    }
    assert_eq!(locks, [60, 120, 240, 480, 900, 900]);
    limiter.succeeded("a");
    assert!(!limiter.failed("a", now));
}
