//! The ledger alone, beside the disk it stands on.
//!
//! `cargo bench --bench ledger [-- --dir DIR --seconds N]`
//!
//! Measures, in one run on one disk: a 700-byte append with fdatasync to a preallocated file (what any durable record
//! costs at least), then the ledger's two kinds of write (a payment opened with its attempt, and a change with its
//! event; about 700 bytes each), at 1, 16, 64 and 256 in flight. Prints the ratios that have a bar: p50 at 16 in
//! flight against one append (3 at most), and p99 at 64 in flight against the append's p99 (15 at most). Rounds of disk
//! and ledger alternate, because a shared disk's mood changes from minute to minute; figures are medians over rounds.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sentinel::ledger::Ledger;
use sentinel::ledger::keys::Keys;
use sentinel::ledger::rows::{Change, Id, NewAttempt, NewEvent, Open, Opened, Position, Scope};
use sentinel::ledger::sqlite::{Options, SqliteLedger};
use tokio::time::Instant;
use uuid::Uuid;

const IN_FLIGHT: [usize; 4] = [1, 16, 64, 256];
const ROUNDS: usize = 3;
const RECORD: usize = 700;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (mut directory, mut seconds) = (PathBuf::from(env!("CARGO_TARGET_TMPDIR")), 1.0_f64);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--dir", Some(value)) => directory = PathBuf::from(value),
            ("--seconds", Some(value)) => seconds = value.parse().expect("--seconds takes a number"),
            _ => {}
        }
    }
    let directory = tempfile::tempdir_in(directory).expect("a directory to write in");
    let length = Duration::from_secs_f64(seconds);
    println!(
        "{} rounds of {seconds} s each; SQLite {}; times in microseconds\n",
        ROUNDS,
        rusqlite::version()
    );
    let mut table: Vec<Vec<Figures>> = vec![Vec::new(); 1 + 2 * IN_FLIGHT.len()];
    for round in 0..ROUNDS {
        table[0].push(disk(directory.path(), length));
        for (at, in_flight) in IN_FLIGHT.into_iter().enumerate() {
            let path = directory.path().join(format!("{round}-{in_flight}.db"));
            let [open, append] = ledger(&path, in_flight, length);
            table[1 + at].push(open);
            table[1 + IN_FLIGHT.len() + at].push(append);
        }
    }
    let rows: Vec<Figures> = table.iter().map(|rounds| median(rounds)).collect();
    println!(
        "{:<34} {:>9} {:>8} {:>8} {:>8} {:>10}",
        "", "ops/s", "p50", "p99", "max", "cpu us/op"
    );
    row("append + fdatasync, preallocated", &rows[0]);
    for (at, in_flight) in IN_FLIGHT.iter().enumerate() {
        row(&format!("open a payment, {in_flight} in flight"), &rows[1 + at]);
    }
    for (at, in_flight) in IN_FLIGHT.iter().enumerate() {
        row(
            &format!("change a payment, {in_flight} in flight"),
            &rows[1 + IN_FLIGHT.len() + at],
        );
    }
    println!();
    for (name, at) in [("open", 1), ("change", 1 + IN_FLIGHT.len())] {
        bar(
            &format!("{name}: p50 at 16 in flight / append p50"),
            rows[at + 1].p50 / rows[0].p50,
            3.0,
            2.0,
        );
        bar(
            &format!("{name}: p99 at 64 in flight / append p99"),
            rows[at + 2].p99 / rows[0].p99,
            15.0,
            8.0,
        );
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    per_second: f64,
    p50: f64,
    p99: f64,
    max: f64,
    cpu: f64,
}

fn row(name: &str, figures: &Figures) {
    let Figures {
        per_second,
        p50,
        p99,
        max,
        cpu,
    } = figures;
    println!("{name:<34} {per_second:>9.0} {p50:>8.0} {p99:>8.0} {max:>8.0} {cpu:>10.1}");
}

fn bar(name: &str, ratio: f64, bar: f64, beyond: f64) {
    let verdict = if ratio <= beyond {
        "beyond"
    } else if ratio <= bar {
        "met"
    } else {
        "MISSED"
    };
    println!("{name:<44} {ratio:>6.2}   bar {bar:>4.1}, beyond {beyond:>4.1}: {verdict}");
}

/// The median of each figure over the rounds.
fn median(rounds: &[Figures]) -> Figures {
    let of = |figure: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Figures {
        per_second: of(|f| f.per_second),
        p50: of(|f| f.p50),
        p99: of(|f| f.p99),
        max: of(|f| f.max),
        cpu: of(|f| f.cpu),
    }
}

fn figures(mut latencies: Vec<u64>, wall: Duration, cpu: Duration) -> Figures {
    latencies.sort_unstable();
    let at = |quantile: f64| latencies[((latencies.len() - 1) as f64 * quantile) as usize] as f64 / 1000.0;
    let operations = latencies.len() as f64;
    Figures {
        per_second: operations / wall.as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
        max: at(1.0),
        cpu: cpu.as_secs_f64() * 1e6 / operations,
    }
}

/// User and system time of this process so far.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

fn disk(directory: &Path, length: Duration) -> Figures {
    let path = directory.join("append");
    let file = std::fs::File::create(&path).expect("a file");
    let size = 64 << 20;
    file.write_all_at(&vec![0; size], 0).expect("preallocated");
    file.sync_all().expect("synced");
    let record = [b'r'; RECORD];
    let (begun, cpu, mut latencies, mut offset) = (Instant::now(), processor(), Vec::new(), 0);
    while begun.elapsed() < length {
        let started = Instant::now();
        file.write_all_at(&record, offset).expect("written");
        file.sync_data().expect("synced");
        latencies.push(started.elapsed().as_nanos() as u64);
        offset = (offset + RECORD as u64) % (size - RECORD) as u64;
    }
    let figures = figures(latencies, begun.elapsed(), processor() - cpu);
    std::fs::remove_file(path).expect("removed");
    figures
}

fn opening(n: u64) -> Open {
    let key = n.to_be_bytes();
    let keys = Uuid::now_v7();
    let mut key_hash = [0; 32];
    // As spread as a keyed hash, so that the index is written all over.
    key_hash[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key_hash[8..16].copy_from_slice(&key);
    key_hash[16..].copy_from_slice(keys.as_bytes());
    Open {
        payment: Uuid::now_v7(),
        op_id: Uuid::now_v7(),
        tenant: "local".to_owned(),
        route: "checkout".to_owned(),
        key_hash,
        amount: Some(2000),
        currency: Some("USD".to_owned()),
        gateway: "stripe".to_owned(),
        lease_ms: 30_000,
        state: "trying".to_owned(),
        folded: "f".repeat(350),
        events: vec![event("intent_opened", 180), event("attempt_planned", 120)],
        attempts: vec![NewAttempt {
            n: 1,
            gateway: "stripe".to_owned(),
            leg: "charge".to_owned(),
            gateway_key: keys.to_string(),
        }],
        ..Open::default()
    }
}

fn event(kind: &str, length: usize) -> NewEvent {
    NewEvent {
        kind: kind.to_owned(),
        payload: "p".repeat(length),
    }
}

fn changing(payment: Uuid, position: Position) -> Change {
    Change {
        payment,
        op_id: Uuid::now_v7(),
        version: position.version,
        epoch: position.epoch,
        state: "succeeded".to_owned(),
        folded: "f".repeat(350),
        gateway: "stripe".to_owned(),
        terminal: true,
        events: vec![event("attempt_observed", 300)],
        ids: vec![Id {
            scope: Scope::Gateway {
                name: "stripe".to_owned(),
            },
            id: format!("pi_{}", payment.simple()),
            kind: "payment".to_owned(),
        }],
        ..Change::default()
    }
}

/// Opens, then changes, `in_flight` at a time for the length each. The callers share one thread, as a worker's do.
fn ledger(path: &Path, in_flight: usize, length: Duration) -> [Figures; 2] {
    let options = Options {
        strict: false,
        ..Options::new(path)
    };
    let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(&options, Keys::new(&[7; 32])).expect("starts"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let tasks = tokio::task::LocalSet::new();
    let open = {
        let (begun, cpu) = (Instant::now(), processor());
        let callers: Vec<_> = (0..in_flight)
            .map(|caller| {
                let ledger = Arc::clone(&ledger);
                tasks.spawn_local(async move {
                    let (mut latencies, mut opened) = (Vec::new(), Vec::new());
                    for n in 0.. {
                        let open = opening((caller as u64) << 40 | n);
                        let (id, started) = (open.payment, Instant::now());
                        let Ok(Opened::New(position)) = ledger.open(open).await else {
                            panic!("not new")
                        };
                        latencies.push(started.elapsed().as_nanos() as u64);
                        opened.push((id, position));
                        if begun.elapsed() >= length {
                            break;
                        }
                    }
                    (latencies, opened)
                })
            })
            .collect();
        let (latencies, opened) = collect(&runtime, &tasks, callers);
        (figures(latencies, begun.elapsed(), processor() - cpu), opened)
    };
    let (begun, cpu) = (Instant::now(), processor());
    let callers: Vec<_> = open
        .1
        .into_iter()
        .map(|opened: Vec<(Uuid, Position)>| {
            let ledger = Arc::clone(&ledger);
            tasks.spawn_local(async move {
                let mut latencies = Vec::new();
                for (payment, position) in opened {
                    let started = Instant::now();
                    ledger.append(changing(payment, position)).await.expect("appends");
                    latencies.push(started.elapsed().as_nanos() as u64);
                    if begun.elapsed() >= length {
                        break;
                    }
                }
                (latencies, ())
            })
        })
        .collect();
    let (latencies, _) = collect(&runtime, &tasks, callers);
    [open.0, figures(latencies, begun.elapsed(), processor() - cpu)]
}

fn collect<T: 'static>(
    runtime: &tokio::runtime::Runtime,
    tasks: &tokio::task::LocalSet,
    callers: Vec<tokio::task::JoinHandle<(Vec<u64>, T)>>,
) -> (Vec<u64>, Vec<T>) {
    let (mut latencies, mut rest) = (Vec::new(), Vec::new());
    for caller in callers {
        let (own, more) = tasks.block_on(runtime, caller).expect("a caller panicked");
        latencies.extend(own);
        rest.push(more);
    }
    (latencies, rest)
}
