//! Configuration: what was typed ([`raw`]), what it means ([`model`]), and how one becomes the other ([`load`]).
//!
//! Nothing is guessed: an unknown field is an error with the nearest known name, and every error of a file is reported
//! at once. Secrets come from the environment or from files, after parsing, so that a secret's value can never change
//! the structure of the file; no error text repeats one.

pub mod defaults;
pub mod diff;
mod expand;
mod files;
pub mod load;
pub mod model;
pub mod problem;
pub mod raw;
pub mod schema;
mod shape;
pub mod units;
pub mod yaml;

/// The known name that was most likely meant.
fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(typed, name), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
