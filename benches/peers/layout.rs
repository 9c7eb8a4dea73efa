//! Which functions a start and a request run: `layout.ld`, by which the linker puts them beside each other (build.rs).
//!
//! callgrind counts the instructions of each function over two runs of the real binary, with TLS and without towards the
//! gateway. What costs more in the longer run belongs to a request, the rest to the start; the two do not mix, so that
//! the path of a request is as short as it can be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::proxies::{self, Out};

/// Requests of the two runs.
const RUNS: [usize; 2] = [400, 2400];

/// Writes `layout.ld`.
pub fn write() {
    let (mut requests, mut start) = (BTreeSet::new(), BTreeSet::new());
    for out in [Out::Tls, Out::Plain] {
        let [few, many] = RUNS.map(|count| costs(&proxies::called(out, count)));
        for (name, cost) in many {
            let more = cost.saturating_sub(few.get(&name).copied().unwrap_or(0));
            // At least once for every other request.
            match more >= (RUNS[1] - RUNS[0]) as u64 / 2 {
                true => requests.insert(name),
                false => start.insert(name),
            };
        }
    }
    start.retain(|name| !requests.contains(name));
    let shared = shared(&proxies::sentinel());
    let mut script = String::from(
        "/* Written by `benches/peers/run layout`: the functions of a request, then those of a start. build.rs says why. */\nSECTIONS {\n  .text : {\n",
    );
    for names in [&requests, &start] {
        let sections: BTreeSet<String> = names.iter().map(|name| section(name, &shared)).collect();
        script.push_str("    *(\n");
        for section in &sections {
            writeln!(script, "{section}").unwrap();
        }
        script.push_str("    )\n");
    }
    script.push_str("  }\n} INSERT BEFORE .fini;\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("layout.ld");
    std::fs::write(&path, script).unwrap();
    println!(
        "{}: {} functions of a request, {} of a start",
        path.display(),
        requests.len(),
        start.len()
    );
}

/// Instructions of each of the program's own functions, by its name in the object file.
fn costs(profile: &str) -> BTreeMap<String, u64> {
    // A name is written out once, and is a number from then on. What begins with `c` is about whom a line calls; the line
    // after `calls=` is what that cost there.
    let (mut names, mut costs) = (BTreeMap::new(), BTreeMap::new());
    let (mut function, mut ours, mut of_callee) = (String::new(), false, false);
    for line in profile.lines() {
        if line.starts_with("calls=") {
            of_callee = true;
        } else if let Some((key, value)) = line.split_once('=').filter(|(key, _)| key.len() <= 3) {
            let (number, name) = value.split_once(' ').unwrap_or((value, ""));
            let kind = key.trim_start_matches('c');
            if !name.is_empty() {
                names.insert((kind, number), name);
            }
            let known = names.get(&(kind, number)).copied().unwrap_or_default();
            match key {
                "fn" => function = known.to_owned(),
                "ob" => ours = known.ends_with("/sentinel"),
                _ => {}
            }
        } else if line.starts_with(['+', '-', '*']) || line.starts_with(|first: char| first.is_ascii_digit()) {
            let cost = line.rsplit(' ').next().and_then(|cost| cost.parse::<u64>().ok());
            if !std::mem::take(&mut of_callee) && ours && is_name(&function) {
                *costs.entry(plain(&function).to_owned()).or_default() += cost.unwrap_or(0);
            }
        }
    }
    costs
}

/// callgrind has names of its own for what has none.
fn is_name(function: &str) -> bool {
    function.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
}

/// Without what callgrind and LLVM add: how deep a recursion is, and whose copy of a function it is.
fn plain(function: &str) -> &str {
    let end = function.find(['\'', '@']).unwrap_or(function.len());
    let function = &function[..end];
    function.split_once(".llvm.").map_or(function, |(name, _)| name)
}

/// The name up to the hash that Rust puts at its end, where there is one.
fn unhashed(name: &str) -> Option<&str> {
    let (stem, hash) = name.rsplit_once("17h")?;
    (hash.len() == 17 && name.starts_with("_ZN")).then_some(stem)
}

/// What several functions are called but for their hashes.
fn shared(binary: &PathBuf) -> BTreeSet<String> {
    let listed = Command::new("nm").arg(binary).output().expect("nm runs").stdout;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let names: BTreeSet<&str> = listed
        .lines()
        .filter_map(|line| line.rsplit(' ').next().map(plain))
        .collect();
    let (mut once, mut shared) = (BTreeSet::new(), BTreeSet::new());
    for stem in names.into_iter().filter_map(unhashed) {
        if !once.insert(stem) {
            shared.insert(stem.to_owned());
        }
    }
    shared
}

/// The section of a function, also where the compiler took it for a rare one. The hash is left out where the name tells
/// which it is: hashes change with the compiler, and with the versions of dependencies.
fn section(name: &str, shared: &BTreeSet<String>) -> String {
    match unhashed(name) {
        Some(stem) if !shared.contains(stem) => format!(".text*.{stem}17h*"),
        _ => format!(".text*.{name}"),
    }
}
