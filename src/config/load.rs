//! From a file to a validated [`Config`]: every problem at once, each with its place in the file and a hint.
//!
//! text -> tree with places ([`yaml`]) -> values from elsewhere ([`expand`]) -> shape ([`shape`]) -> types ([`raw`]) ->
//! meaning ([`Reader`]). Only a text that is no YAML ends the way early; what has the wrong shape is left out, and the
//! meaning of the rest is still checked.

mod custom;
mod gateway;
mod notify;
mod process;
mod route;

pub use gateway::{needed, optional};

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::files::{self, Files};
use super::model::Config;
pub use super::problem::Problem;
use super::problem::Shown;
use super::yaml::{Flaw, Node};
use super::{expand, raw, shape, units, yaml};

/// More problems than this are not told: nobody reads them, and the first ones often made the others.
const MAX_PROBLEMS: usize = 50;

/// Reads and validates a file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(file: &Path) -> Result<Config, Vec<Problem>> {
    parse(file, &text(file)?)
}

fn text(file: &Path) -> Result<String, Vec<Problem>> {
    let content = files::read(file).map_err(|message| vec![Problem::whole(file, message)])?;
    String::from_utf8(content).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        vec![Problem::whole(file, format!("is not UTF-8 text, from line {line} on"))]
    })
}

/// The [`Config::hash`] that the file and the files named by `config` have now; `None` while one cannot be read.
pub fn fingerprint(file: &Path, config: &Config) -> Option<String> {
    files::sum_now(&text(file).ok()?, &config.files)
}

/// Validates a text; `file` is for messages.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(file: &Path, text: &str) -> Result<Config, Vec<Problem>> {
    let tree = yaml::read(text).map_err(|flaws| {
        let words = shape::words();
        let shown = Shown {
            words,
            ..Shown::default()
        };
        problems(file, text, flaws, &shown)
    })?;
    let mut expanded = tree.clone();
    let (mut files, mut flaws) = (Files::default(), Vec::new());
    expand::expand(&mut expanded, "", &mut files, &mut flaws);
    let checked = shape::check(&expanded);
    flaws.extend(checked.flaws);
    let mut reader = Reader {
        tree: &tree,
        flaws,
        files,
        routes: checked.routes,
    };
    let config = match serde_yaml::from_value::<raw::File>(with_top_level(checked.value)) {
        Ok(raw) => Some(reader.config(raw, text)),
        Err(_) if !reader.flaws.is_empty() => None,
        // The shape was right, so this is a defect; the error may quote a value, so it is not told.
        Err(_) => {
            reader.problem("", "cannot be read, although its shape is right: please report this");
            None
        }
    };
    match config {
        Some(config) if reader.flaws.is_empty() => Ok(config),
        _ => Err(problems(file, text, reader.flaws, &checked.shown)),
    }
}

/// What is missing at the top was told; with it empty the rest can be read.
fn with_top_level(mut value: serde_yaml::Value) -> serde_yaml::Value {
    if let Some(top) = value.as_mapping_mut() {
        for (name, empty) in [
            ("gateways", serde_yaml::Value::Mapping(serde_yaml::Mapping::new())),
            ("routes", serde_yaml::Value::Sequence(Vec::new())),
        ] {
            top.entry(name.into()).or_insert(empty);
        }
    }
    value
}

/// Flaws as problems, in the order of the text.
fn problems(file: &Path, text: &str, mut flaws: Vec<Flaw>, shown: &Shown) -> Vec<Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    flaws.sort_by_key(|flaw| flaw.span.map(|span| span.start));
    let more = flaws.len().saturating_sub(MAX_PROBLEMS);
    flaws.truncate(MAX_PROBLEMS);
    let mut problems: Vec<Problem> = flaws
        .into_iter()
        .map(|flaw| Problem {
            file: file.to_owned(),
            place: flaw.span.map(|span| span.start),
            path: flaw.path,
            message: flaw.message,
            hint: flaw.hint,
            excerpt: flaw.span.and_then(|span| shown.excerpt(text, span)),
        })
        .collect();
    if more > 0 {
        problems.push(Problem::whole(file, format!("has {more} more problem(s)")));
    }
    problems
}

struct Reader<'a> {
    /// As typed, without values from elsewhere.
    tree: &'a Node,
    flaws: Vec<Flaw>,
    files: Files,
    /// The index in the text of each route.
    routes: Vec<usize>,
}

impl Reader<'_> {
    fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.hinted(path, message, "");
    }

    fn hinted(&mut self, path: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        let path = path.into();
        self.flaws.push(Flaw {
            span: Some(self.tree.locate(&path)),
            path,
            message: message.into(),
            hint: hint.into(),
        });
    }

    /// Whether something at or below a path is wrong already: what depends on it is then not told too.
    fn broken(&self, path: &str) -> bool {
        let below = |flaw: &Flaw| {
            flaw.path
                .strip_prefix(path)
                .is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
        };
        self.flaws.iter().any(below)
    }

    /// How a message names a value: as it was typed, and not at all where it came from elsewhere.
    fn named(&self, path: &str, otherwise: &str) -> String {
        self.tree
            .typed(path)
            .map_or_else(|| otherwise.to_owned(), |typed| format!("`{typed}`"))
    }

    fn unit<T>(
        &mut self,
        path: String,
        text: Option<String>,
        default: T,
        read: impl Fn(&str) -> Result<T, units::Wrong>,
    ) -> T {
        match text.as_deref().map(read) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(wrong)) => {
                self.hinted(path, wrong.message, wrong.hint);
                default
            }
        }
    }

    fn duration(&mut self, path: &str, text: Option<String>, default: Duration) -> Duration {
        self.unit(path.to_owned(), text, default, units::duration)
    }

    fn address(&mut self, path: String, text: Option<&str>) -> Option<SocketAddr> {
        let address = text?.parse().ok();
        if address.is_none() {
            self.hinted(
                path,
                "is not an address and port",
                "write as in 127.0.0.1:8081 or [::1]:8081",
            );
        }
        address
    }
}

#[cfg(test)]
mod tests;
