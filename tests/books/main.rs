//! The books: generated payments are driven through the production payment core into a real ledger, and overview, lists,
//! export and statements must agree to the minor unit with books that the generator kept by itself.
//!
//! `cargo test --test books` is the quick slice; `tests/books/run` generates a million and measures how fast the
//! questions are answered while more payments arrive.

mod generate;
mod served;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use generate::{Books, CURRENCIES, TENANTS};
use sentinel::analytics::Analytics;
use sentinel::analytics::billing::{After, Rate};
use sentinel::analytics::export::Format;
use sentinel::analytics::overview::Overview;
use sentinel::analytics::payments::Wanted;
use sentinel::analytics::period::{Period, month_of};
use sentinel::ledger::Ledger;
use sentinel::ledger::keys::Keys;
use sentinel::ledger::sqlite::{Options, SqliteLedger};
use tokio::time::Instant;

fn ledger(directory: &Path) -> Arc<dyn Ledger> {
    let options = Options {
        strict: false,
        ..Options::new(directory.join("ledger.db"))
    };
    Arc::new(SqliteLedger::open(&options, Keys::new(&[7; 32])).expect("a ledger"))
}

fn figures(directory: &Path, ledger: &Arc<dyn Ledger>) -> Arc<Analytics> {
    let path = Analytics::beside(&directory.join("ledger.db"));
    Arc::new(Analytics::open(&path, Arc::clone(ledger)).expect("a file for the figures"))
}

/// Overview, rows and statements of every tenant against the generator's books.
async fn agree(analytics: &Arc<Analytics>, books: &Books) {
    agree_of(analytics, books, &TENANTS).await;
}

async fn agree_of(analytics: &Arc<Analytics>, books: &Books, tenants: &[&str]) {
    for tenant in tenants.iter().copied() {
        let overview = analytics
            .overview(Some(tenant.to_owned()), Period::ALL)
            .await
            .expect("an overview");
        compare(&overview, books, &|of| of == tenant);
        // Row by row, in pages.
        let mut wanted = Wanted {
            tenant: Some(tenant.to_owned()),
            limit: 317,
            ..Wanted::default()
        };
        let (mut count, mut recovered, mut captured) = (0, 0, BTreeMap::<String, i64>::new());
        loop {
            let page = analytics.payments(wanted.clone()).await.expect("a page");
            for row in &page.rows {
                assert_eq!(row.tenant, tenant);
                count += 1;
                recovered += i64::from(row.recovered);
                *captured.entry(row.currency.clone().unwrap_or_default()).or_default() += row.captured;
            }
            match page.next {
                Some(next) => wanted.before = Some(next),
                None => break,
            }
        }
        assert_eq!((count, recovered), (overview.payments, overview.recovered));
        for (currency, money) in &overview.money {
            assert_eq!(
                captured.get(currency).copied().unwrap_or(0),
                money.captured,
                "{tenant} {currency}"
            );
        }
        // Statements, and their lines one by one.
        for statement in analytics.statements(tenant, Rate::DEFAULT).await.expect("statements") {
            let month = sentinel::analytics::period::Month::from_number(statement.month).expect("a month");
            let (mut sum, mut lines, mut after) = (0, 0, After::default());
            loop {
                let (entries, next) = analytics
                    .lines(tenant, month, &statement.currency, after, 211)
                    .await
                    .expect("lines");
                sum += entries.iter().map(|entry| entry.units).sum::<i64>();
                lines += i64::try_from(entries.len()).expect("a count");
                match next {
                    Some(next) => after = next,
                    None => break,
                }
            }
            assert_eq!((sum, lines), (statement.net, statement.lines));
            assert_eq!(
                statement.recovered - statement.refunded - statement.reversed,
                statement.net
            );
        }
        let statements = analytics.statements(tenant, Rate::DEFAULT).await.expect("statements");
        for currency in CURRENCIES {
            let billed: i64 = statements
                .iter()
                .filter(|s| s.currency == currency)
                .map(|s| s.net)
                .sum();
            let money = books.money(currency, &|of| of == tenant);
            assert_eq!(billed, money.revenue - money.refunded, "{tenant} {currency}");
        }
    }
    compare(
        &analytics.overview(None, Period::ALL).await.expect("an overview"),
        books,
        &|_| true,
    );
}

fn compare(overview: &Overview, books: &Books, of: &dyn Fn(&str) -> bool) {
    let counted = books.counts(of);
    assert_eq!(
        (overview.payments, overview.failed, overview.recovered),
        (counted.payments, counted.failed, counted.recovered)
    );
    assert_eq!(overview.outcomes.values().sum::<i64>(), overview.payments);
    for currency in CURRENCIES {
        let money = books.money(currency, of);
        let told = overview.money.get(currency).copied().unwrap_or_default();
        assert_eq!(
            (told.captured, told.recoveries, told.revenue, told.refunded),
            (money.captured, money.recoveries, money.revenue, money.refunded),
            "{currency}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overview_rows_and_statements_agree_with_the_books_to_the_minor_unit() {
    let directory = tempfile::tempdir().expect("a directory");
    let ledger = ledger(directory.path());
    let analytics = figures(directory.path(), &ledger);
    let books = generate::payments(&ledger, 3000, 1).await;
    analytics.caught_up().await;
    let counted = books.counts(&|_| true);
    assert!(
        counted.recovered > 100 && counted.failed > counted.recovered,
        "the generator walks every path"
    );
    agree(&analytics, &books).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_counted_twice_however_often_the_follower_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let ledger = ledger(directory.path());
    let mut books = Books::default();
    for round in 0..6 {
        let analytics = figures(directory.path(), &ledger);
        let writing = generate::payments(&ledger, 200, 100 + round);
        // It ends somewhere in the middle of what is being written.
        let ending = async {
            let mut news = analytics.news();
            let _ = news.changed().await;
            drop(news);
            drop(analytics);
        };
        let (written, ()) = tokio::join!(writing, ending);
        books.add(&written);
    }
    let analytics = figures(directory.path(), &ledger);
    analytics.caught_up().await;
    agree(&analytics, &books).await;
    let before = analytics.overview(None, Period::ALL).await.expect("an overview");
    let rows = analytics
        .payments(Wanted {
            limit: 1000,
            ..Wanted::default()
        })
        .await
        .expect("a page");
    drop(analytics);
    // Made again from the ledger alone, it says the same.
    std::fs::remove_file(Analytics::beside(&directory.path().join("ledger.db"))).expect("the file is there");
    let analytics = figures(directory.path(), &ledger);
    analytics.caught_up().await;
    assert_eq!(
        analytics.overview(None, Period::ALL).await.expect("an overview"),
        before
    );
    let again = analytics
        .payments(Wanted {
            limit: 1000,
            ..Wanted::default()
        })
        .await
        .expect("a page");
    assert_eq!(again.next, rows.next);
    for (one, other) in rows.rows.iter().zip(&again.rows) {
        let other = sentinel::analytics::payments::Listed {
            updated_at: one.updated_at,
            ..other.clone()
        };
        assert_eq!(*one, other);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_stays_good_while_payments_arrive() {
    let directory = tempfile::tempdir().expect("a directory");
    let ledger = ledger(directory.path());
    let analytics = figures(directory.path(), &ledger);
    generate::payments(&ledger, 90, 7).await;
    analytics.caught_up().await;
    let mut wanted = Wanted {
        limit: 20,
        ..Wanted::default()
    };
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let page = analytics.payments(wanted.clone()).await.expect("a page");
        for row in &page.rows {
            assert!(seen.insert(row.id), "{} came twice", row.id);
        }
        generate::payments(&ledger, 10, seen.len() as u64).await;
        analytics.caught_up().await;
        match page.next {
            Some(next) => wanted.before = Some(next),
            None => break,
        }
    }
    assert_eq!(seen.len(), 90);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_is_closed_once_and_only_when_it_is_over() {
    // Once more where a month ended meanwhile.
    let (directory, ledger, analytics, now) = loop {
        let directory = tempfile::tempdir().expect("a directory");
        let ledger = ledger(directory.path());
        let analytics = figures(directory.path(), &ledger);
        let begun = month_of(ledger.now());
        generate::payments(&ledger, 400, 3).await;
        analytics.caught_up().await;
        let now = ledger.now();
        if month_of(now) == begun {
            break (directory, ledger, analytics, now);
        }
    };
    let (tenant, currency) = (TENANTS[0], CURRENCIES[0]);
    let month = month_of(now);
    let early = analytics.close(tenant, month, currency, Rate::DEFAULT, now).await;
    assert!(early.is_err(), "it is not over yet");
    let after = month.period().to + 120_000;
    let open = analytics
        .statement(tenant, month, currency, Rate::DEFAULT)
        .await
        .unwrap()
        .expect("a statement");
    assert_eq!(open.closed_at, None);
    let closed = analytics
        .close(tenant, month, currency, Rate::DEFAULT, after)
        .await
        .unwrap()
        .expect("it closes");
    assert_eq!((closed.net, closed.fee, closed.lines), (open.net, open.fee, open.lines));
    // Again, under another rate, and from a file made anew: the same statement.
    let again = analytics
        .close(tenant, month, currency, Rate(50_000), after + 1)
        .await
        .unwrap();
    assert_eq!(again.as_ref(), Some(&closed));
    drop(analytics);
    std::fs::remove_file(Analytics::beside(&directory.path().join("ledger.db"))).expect("the file is there");
    let analytics = figures(directory.path(), &ledger);
    analytics.caught_up().await;
    assert_eq!(
        analytics
            .statements(tenant, Rate(50_000))
            .await
            .unwrap()
            .iter()
            .find(|s| s.currency == currency),
        Some(&closed)
    );
    // Another tenant's is another statement, and nobody else's is found under this name.
    assert_eq!(
        analytics
            .statement("nobody", month, currency, Rate::DEFAULT)
            .await
            .unwrap(),
        None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_export_tell_of_the_same_payments() {
    let directory = tempfile::tempdir().expect("a directory");
    let ledger = ledger(directory.path());
    let analytics = figures(directory.path(), &ledger);
    let books = generate::payments(&ledger, 600, 11).await;
    analytics.caught_up().await;
    let tenant = TENANTS[1].to_owned();
    let wanted = Wanted {
        tenant: Some(tenant.clone()),
        failed: true,
        ..Wanted::default()
    };
    for (format, head) in [(Format::Ndjson, 0), (Format::Csv, 1)] {
        let mut pieces = analytics.export(wanted.clone(), format);
        let mut file = Vec::new();
        while let Some(piece) = pieces.recv().await {
            file.extend_from_slice(&piece.expect("a piece"));
        }
        let lines = String::from_utf8(file).expect("text").lines().count() - head;
        assert_eq!(i64::try_from(lines).unwrap(), books.counts(&|of| of == tenant).failed);
    }
    let all = analytics
        .payments(Wanted {
            limit: 1000,
            ..Wanted::default()
        })
        .await
        .unwrap()
        .rows;
    for currency in CURRENCIES {
        let some = Wanted {
            currency: Some(currency.to_owned()),
            gateway: Some("adyen".to_owned()),
            limit: 1000,
            ..Wanted::default()
        };
        let found = analytics.payments(some).await.unwrap().rows;
        let expected = all.iter().filter(|row| {
            row.currency.as_deref() == Some(currency) && (row.gateway == "adyen" || row.first_gateway == "adyen")
        });
        assert!(found.iter().eq(expected), "{currency}");
    }
    let compared = analytics.gateways(None, Period::ALL).await.unwrap();
    let (stripe, adyen) = (&compared["stripe"], &compared["adyen"]);
    let counted = books.counts(&|_| true);
    assert_eq!(stripe.lost.values().sum::<i64>(), counted.failed);
    assert_eq!(adyen.recovered, counted.recovered);
    assert!(stripe.latency(95) >= stripe.latency(50) && stripe.latency(50).is_some());
    for currency in CURRENCIES {
        let revenue = adyen.revenue.get(currency).copied().unwrap_or(0);
        assert_eq!(revenue, books.money(currency, &|_| true).revenue, "{currency}");
    }
}

/// The quantile of some measurements, in milliseconds.
fn quantile(took: &mut [Duration], percent: usize) -> f64 {
    took.sort_unstable();
    took[(took.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a million payments: tests/books/run"]
async fn a_million_payments_agree_and_are_answered_fast() {
    let number = std::env::var("BOOKS_PAYMENTS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1_000_000);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    // One of the tenants is a real account of the binary's, which is asked at the end.
    let stage = served::Stage::set(directory.path()).await;
    let running = stage.run().await;
    let account = running.register().await;
    running.stop().await;
    let tenants = [account.id.clone(), TENANTS[1].to_owned(), TENANTS[2].to_owned()];
    let keys = || Keys::load_or_create(&directory.path().join("ledger.db.key")).expect("its key");
    let options = Options {
        strict: false,
        ..Options::new(directory.path().join("ledger.db"))
    };
    let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(&options, keys()).expect("its ledger"));
    let begun = Instant::now();
    let mut books = generate::payments_of(&ledger, &tenants, number, 42).await;
    println!(
        "{number} payments generated in {:.0} s, {} events",
        begun.elapsed().as_secs_f64(),
        ledger.health().position
    );
    let begun = Instant::now();
    let analytics = figures(directory.path(), &ledger);
    analytics.caught_up().await;
    println!("counted from nothing in {:.0} s", begun.elapsed().as_secs_f64());
    // Questions while payments arrive.
    let writing = {
        let (ledger, tenants) = (Arc::clone(&ledger), tenants.clone());
        tokio::spawn(async move { generate::trickle(&ledger, &tenants, 2000, 43, Duration::from_millis(5)).await })
    };
    let tenant = || Some(tenants[0].clone());
    let mut table: Vec<(&str, Vec<Duration>)> = Vec::new();
    let asked = |wanted: Wanted| Wanted {
        tenant: tenant(),
        limit: 100,
        ..wanted
    };
    let middle = analytics.payments(asked(Wanted::default())).await.unwrap().rows[0].n / 2;
    let lists = [
        (
            "events, first page",
            asked(Wanted {
                failed: true,
                ..Wanted::default()
            }),
        ),
        (
            "events, a page in the middle",
            asked(Wanted {
                failed: true,
                before: Some(middle),
                ..Wanted::default()
            }),
        ),
        (
            "payments by outcome",
            asked(Wanted {
                outcome: sentinel::analytics::fold::PaymentOutcome::parse("in_doubt"),
                ..Wanted::default()
            }),
        ),
        (
            "payments by currency",
            asked(Wanted {
                currency: Some("KWD".to_owned()),
                ..Wanted::default()
            }),
        ),
        (
            "payments by gateway and currency",
            asked(Wanted {
                gateway: Some("adyen".to_owned()),
                currency: Some("JPY".to_owned()),
                ..Wanted::default()
            }),
        ),
        (
            "payments by a route that has none",
            asked(Wanted {
                route: Some("nothing".to_owned()),
                ..Wanted::default()
            }),
        ),
    ];
    for (name, wanted) in lists {
        let mut took = Vec::new();
        for _ in 0..100 {
            let begun = Instant::now();
            analytics.payments(wanted.clone()).await.expect("a page");
            took.push(begun.elapsed());
        }
        table.push((name, took));
    }
    let (mut thirty, mut all, mut gateways) = (Vec::new(), Vec::new(), Vec::new());
    let period = Period::read(None, None, None, ledger.now()).unwrap();
    for _ in 0..100 {
        let begun = Instant::now();
        analytics.overview(tenant(), period).await.expect("an overview");
        thirty.push(begun.elapsed());
        let begun = Instant::now();
        analytics.overview(tenant(), Period::ALL).await.expect("an overview");
        all.push(begun.elapsed());
        let begun = Instant::now();
        analytics.gateways(tenant(), period).await.expect("gateways");
        gateways.push(begun.elapsed());
    }
    table.extend([
        ("overview, 30 days", thirty),
        ("overview, all of time", all),
        ("gateways, 30 days", gateways),
    ]);
    println!("{:<36} {:>9} {:>9} {:>9}", "milliseconds", "p50", "p95", "max");
    for (name, took) in &mut table {
        println!(
            "{name:<36} {:>9.2} {:>9.2} {:>9.2}",
            quantile(took, 50),
            quantile(took, 95),
            quantile(took, 100)
        );
    }
    books.add(&writing.await.expect("payments arrive"));
    analytics.caught_up().await;
    let names: Vec<&str> = tenants.iter().map(String::as_str).collect();
    agree_of(&analytics, &books, &names).await;
    let counted = books.counts(&|_| true);
    println!(
        "{} payments, {} failed over, {} recovered: overview, rows, statements and books agree",
        counted.payments, counted.failed, counted.recovered
    );
    // The binary takes the ledger over, and says the same over HTTP.
    drop(analytics);
    drop(ledger);
    let begun = Instant::now();
    let running = stage.run().await;
    println!("the binary is ready on it in {:.1} s", begun.elapsed().as_secs_f64());
    let mut client = served::Client::to(running.shared).await.expect("connects");
    let counted = books.counts(&|of| of == account.id);
    let told = client.json("/api/v1/metrics/overview?period=all", &account.key).await;
    assert_eq!(told["totalEvents"], counted.failed, "{told}");
    assert_eq!(told["successfulRecoveries"], counted.recovered, "{told}");
    running.time(&account).await;
    running.stop().await;
}
