//! Prints what was measured: figures, and ratios to HAProxy from the same run.

use std::collections::BTreeMap;

use crate::proxies::Kind;

/// Figures by what they are and under which load; each is a series, one value a round.
#[derive(Default)]
pub struct Report {
    order: Vec<(String, String)>,
    figures: BTreeMap<(String, String), BTreeMap<Kind, Vec<f64>>>,
}

impl Report {
    pub fn add(&mut self, what: &str, load: &str, kind: Kind, rounds: &[f64]) {
        let key = (what.to_owned(), load.to_owned());
        if !self.order.contains(&key) {
            self.order.push(key.clone());
        }
        eprintln!("  {what}, {load}: {} {:.3}", kind.name(), median(rounds));
        self.figures.entry(key).or_default().insert(kind, rounds.to_vec());
    }

    /// The medians; the ratio to HAProxy as the median of the rounds' own ratios, with the smallest and the largest, which
    /// is the machine's noise.
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
        println!(" Sentinel / HAProxy, median (smallest to largest of the rounds) |");
        println!("|---|---|{}", "---|".repeat(kinds.len() + 1));
        for key in &self.order {
            let row = &self.figures[key];
            print!("| {} | {} |", key.0, key.1);
            for kind in &kinds {
                match row.get(kind).map(|rounds| median(rounds)) {
                    Some(figure) if figure >= 1000.0 => print!(" {figure:.0} |"),
                    Some(figure) => print!(" {figure:.2} |"),
                    None => print!(" - |"),
                }
            }
            match (row.get(&Kind::Sentinel), row.get(&Kind::Haproxy)) {
                (Some(own), Some(peer)) => {
                    let mut ratios: Vec<f64> = own.iter().zip(peer).map(|(own, peer)| own / peer).collect();
                    ratios.sort_by(f64::total_cmp);
                    match ratios.as_slice() {
                        [only] => println!(" {only:.2} |"),
                        [least, .., most] => println!(" {:.2} ({least:.2} to {most:.2}) |", median(&ratios)),
                        [] => println!(" - |"),
                    }
                }
                _ => println!(" - |"),
            }
        }
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
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
