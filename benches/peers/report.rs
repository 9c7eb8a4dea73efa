//! Prints what was measured: figures, and ratios to HAProxy from the same run.

use std::collections::BTreeMap;

use crate::proxies::Kind;

/// Figures by what they are and under which load.
#[derive(Default)]
pub struct Report {
    order: Vec<(String, String)>,
    figures: BTreeMap<(String, String), BTreeMap<Kind, f64>>,
}

impl Report {
    pub fn add(&mut self, what: &str, load: &str, kind: Kind, figure: f64) {
        let key = (what.to_owned(), load.to_owned());
        if !self.order.contains(&key) {
            self.order.push(key.clone());
        }
        eprintln!("  {what}, {load}: {} {figure:.3}", kind.name());
        self.figures.entry(key).or_default().insert(kind, figure);
    }

    pub fn print(&self) {
        let kinds: Vec<Kind> = {
            let mut kinds: Vec<Kind> = self.figures.values().flat_map(|row| row.keys().copied()).collect();
            kinds.sort_unstable();
            kinds.dedup();
            kinds
        };
        println!();
        print!("| figure | load |");
        for kind in &kinds {
            print!(" {} |", kind.name());
        }
        println!(" Sentinel / HAProxy |");
        println!("|---|---|{}", "---|".repeat(kinds.len() + 1));
        for key in &self.order {
            let row = &self.figures[key];
            print!("| {} | {} |", key.0, key.1);
            for kind in &kinds {
                match row.get(kind) {
                    Some(figure) if *figure >= 1000.0 => print!(" {figure:.0} |"),
                    Some(figure) => print!(" {figure:.2} |"),
                    None => print!(" - |"),
                }
            }
            match (row.get(&Kind::Sentinel), row.get(&Kind::Haproxy)) {
                (Some(own), Some(peer)) => println!(" {:.2} |", own / peer),
                _ => println!(" - |"),
            }
        }
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The processor and kernel, for the reader of the figures.
pub fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':']));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}
