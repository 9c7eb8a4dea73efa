//! The rooms of the house, and the arrows between them: a room may use what stands below it, never what stands above.
//!
//! Read from the source: every `crate::...` that is code, and every `super` that leaves its room. Tests beside the code
//! may look anywhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// From the door to the ground.
const ROOMS: [&str; 21] = [
    "cli",
    "app",
    "listen",
    "proxy",
    "payment",
    "gateway",
    "money",
    "ledger",
    "upstream",
    "resilience",
    "route",
    "account",
    "analytics",
    "admin",
    "dashboard",
    "telemetry",
    "config",
    "reload",
    "sandbox",
    "arrival",
    "failpoint",
];

/// The arrows that go up, each with its reason. A path stands for itself and all below it.
const UPWARDS: &[(&str, &str, &str)] = &[
    (
        "proxy",
        "listen",
        "what a listener tells of a request and of its own refusals is the listener's",
    ),
    ("account", "ledger", "a tenant is rows of the ledger's database"),
    ("analytics", "ledger", "a read model over the ledger"),
    ("analytics", "money", "sums of amounts"),
    ("analytics", "account", "whose they are"),
    ("analytics", "payment::core", "the ledger's events are the core's"),
    (
        "analytics",
        "gateway::outcome",
        "what a payment came to, in the one set of words",
    ),
    ("analytics", "gateway::Leg", "what an attempt was for, likewise"),
    ("analytics", "upstream::Progress", "how far a request got, likewise"),
    (
        "admin",
        "app::control",
        "commands go through the one door that there is",
    ),
    ("admin", "app::liveness", "which workers turn is read there"),
    (
        "admin",
        "resilience::fault",
        "a fault is asked for in the words it strikes by",
    ),
    (
        "admin",
        "resilience::breaker::State",
        "a gateway's health is told in the breaker's words",
    ),
    ("admin", "proxy::runtime", "what is in force is read from its snapshot"),
    (
        "admin",
        "listen::ConnectionInfo",
        "who asks on a shared listener is what the listener knows",
    ),
    ("admin", "ledger", "payments are read from it"),
    ("admin", "money", "amounts that are read"),
    ("admin", "account", "who may ask"),
    ("admin", "analytics", "figures that are read"),
    (
        "admin",
        "payment::core",
        "what the ledger says of a payment, in the core's words",
    ),
    (
        "admin",
        "payment::announce::outbox",
        "what applications have not taken is read there",
    ),
    ("admin", "payment::timeline", "one payment's story, for whoever asks"),
    ("admin", "payment::engine", "a person's word goes to the engine"),
    ("admin", "gateway", "the dialects' names and what a gateway can do"),
    ("dashboard", "app::control", "snapshots come through the same door"),
    ("dashboard", "app::collect", "so does an operator's word on a fee"),
    ("dashboard", "analytics", "figures that are shown"),
    (
        "dashboard",
        "payment::core",
        "what the ledger says of a payment, in the core's words",
    ),
    (
        "dashboard",
        "payment::timeline",
        "one payment's story, in the one set of words",
    ),
    ("dashboard", "gateway::outcome", "what a payment came to, likewise"),
    ("dashboard", "account", "whose they are"),
    ("dashboard", "ledger", "payments are read from it"),
    ("dashboard", "money", "amounts that are shown"),
    ("dashboard", "admin", "one way to refuse and to check who asks"),
    ("config", "money", "the amounts that an account takes"),
    (
        "sandbox",
        "telemetry::scrub",
        "what the simulators write down is cleaned by the same rules",
    ),
    (
        "sandbox",
        "config::model::custom",
        "the simulator of a custom gateway does what its description says",
    ),
];

/// Rooms that are pure: they decide, and others act. What they must not know.
const PURE: [&str; 5] = ["resilience", "route", "money", "payment::core", "config::model"];
const WORLD: [&str; 14] = [
    "hyper",
    "prometheus",
    "rusqlite",
    "std::fs",
    "std::process",
    "std::thread",
    "tokio::fs",
    "tokio::io",
    "tokio::net",
    "tokio::process",
    "tokio::spawn",
    "tokio::task",
    "crate::telemetry",
    "crate::upstream::Client",
];

/// One mention of another place: where, from which module, what.
#[derive(Debug)]
struct Mention {
    at: String,
    from: String,
    to: String,
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file without comments and without its tests.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines().enumerate();
    lines.filter_map(|(number, line)| {
        let code = line.split("//").next().unwrap_or_default();
        (!code.trim().is_empty()).then_some((number + 1, code))
    })
}

/// The paths that begin at each place where `start` stands, as far as they are written there; a group is one each.
fn paths(line: &str, start: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices(start) {
        let whole = |c: char| c.is_alphanumeric() || c == '_';
        if line[..at].ends_with(whole) {
            continue;
        }
        let rest = &line[at + start.len()..];
        let inside = match rest.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or_default(),
            None => rest.split(|c: char| !(whole(c) || c == ':')).next().unwrap_or_default(),
        };
        found.extend(
            inside
                .split(',')
                .map(|path| path.trim().trim_end_matches(':').to_owned()),
        );
    }
    found
}

/// Every mention of another room in `src`.
fn mentions() -> Vec<Mention> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut mentions = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&root).expect("below src").with_extension("");
        let module: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module.iter().any(|part| part == "tests") || matches!(module[0].as_str(), "main" | "lib") {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("a file");
        for (number, line) in code(&text) {
            let mention = |to: String| Mention {
                at: format!("{}.rs:{number}", inside.display()),
                from: module.join("::"),
                to,
            };
            mentions.extend(paths(line, "crate::").into_iter().map(mention));
            // As many `super` as the module is deep lead to the root, from where every room is a neighbour.
            let climb = "super::".repeat(module.len());
            let inline = line.starts_with(' ');
            if !inline {
                mentions.extend(paths(line, &climb).into_iter().map(mention));
            }
        }
    }
    mentions
}

fn within(path: &str, place: &str) -> bool {
    path == place || path.strip_prefix(place).is_some_and(|rest| rest.starts_with("::"))
}

fn rank(room: &str) -> Option<usize> {
    ROOMS.iter().position(|known| *known == room)
}

#[test]
fn arrows_between_rooms_go_down() {
    let mentions = mentions();
    assert!(mentions.len() > 300, "the source was not found: {}", mentions.len());
    let mut wrong = BTreeSet::new();
    for Mention { at, from, to } in &mentions {
        let room = |path: &str| path.split("::").next().unwrap_or_default().to_owned();
        let (here, there) = (room(from), room(to));
        if here == there {
            continue;
        }
        match (rank(&here), rank(&there)) {
            (Some(above), Some(below)) if above < below => {}
            (Some(_), Some(_)) => {
                let allowed = |(who, what, _): &(&str, &str, &str)| *who == here && within(to, what);
                if !UPWARDS.iter().any(allowed) {
                    wrong.insert(format!("{at}: {here} looks up at {to}"));
                }
            }
            (None, _) => drop(wrong.insert(format!("{at}: {here} is no room"))),
            (_, None) => drop(wrong.insert(format!("{at}: {to} is in no room"))),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_decides_knows_nothing_of_the_world() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let (mut wrong, mut looked) = (BTreeSet::new(), 0);
    for file in files {
        let inside = file.strip_prefix(&root).expect("below src").with_extension("");
        let module: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
        let name = module.join("::");
        if module.iter().any(|part| part == "tests") || !PURE.iter().any(|pure| within(&name, pure)) {
            continue;
        }
        looked += 1;
        let text = std::fs::read_to_string(&file).expect("a file");
        for (number, line) in code(&text) {
            for known in WORLD.iter().filter(|known| {
                line.match_indices(**known).any(|(at, found)| {
                    let whole = |c: char| c.is_alphanumeric() || c == '_';
                    !line[..at].ends_with(whole) && !line[at + found.len()..].starts_with(whole)
                })
            }) {
                wrong.insert(format!("{}.rs:{number}: {known}", inside.display()));
            }
        }
    }
    assert!(looked > 20, "the source was not found: {looked}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_reader_of_this_source_sees_what_it_must() {
    assert_eq!(paths("use crate::config::model::{A, B};", "crate::"), ["config::model"]);
    assert_eq!(
        paths("use crate::{ledger, money::Amount};", "crate::"),
        ["ledger", "money::Amount"]
    );
    assert_eq!(
        paths("    let x = crate::upstream::Sent::No;", "crate::"),
        ["upstream::Sent::No"]
    );
    assert!(paths("pub(crate) fn my_crate::x()", "crate::").is_empty());
    let text = "use crate::a; // crate::b\n/// [`crate::c`]\n#[cfg(test)]\nmod tests {\n    use crate::d;\n}\n";
    assert_eq!(
        code(text).map(|(_, line)| line.trim()).collect::<Vec<_>>(),
        ["use crate::a;"]
    );
}
