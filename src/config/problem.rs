//! What is wrong with a file, told so that it can be repaired without a second try: place, excerpt, hint.
//!
//! An excerpt shows what stands at keys and at values that the schema knows and that are no secrets; every other letter
//! and digit is masked. A key that was pasted into the wrong place, or an old one in a comment, is therefore never
//! repeated; a long word with digits in it is masked wherever it stands.

use std::fmt;
use std::path::{Path, PathBuf};

use super::yaml::{Place, Span};

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Where in the text, where known.
    pub place: Option<Place>,
    /// Where in the structure, e.g. `routes[0].limits.queue`; empty when the text itself is unreadable.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
    /// The line of the file, masked.
    pub excerpt: Option<Excerpt>,
}

/// A line of a file, and the part of it that a problem is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The line, masked, without indentation that exceeds a screen.
    pub line: String,
    /// Characters before the part.
    pub before: usize,
    /// Characters of the part, 1 at least.
    pub length: usize,
}

impl Problem {
    /// One that concerns the file as a whole.
    pub fn whole(file: &Path, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            place: None,
            path: String::new(),
            message: message.into(),
            hint: String::new(),
            excerpt: None,
        }
    }
}

/// One line; with `{:#}` the excerpt too.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(place) = self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        let excerpt = self.excerpt.as_ref().zip(self.place).filter(|_| f.alternate());
        if let Some((excerpt, place)) = excerpt {
            let number = place.line.to_string();
            let margin = " ".repeat(number.len());
            let (before, carets) = (" ".repeat(excerpt.before), "^".repeat(excerpt.length));
            let gap = if self.hint.is_empty() { "" } else { " " };
            return write!(
                f,
                "\n {number} | {}\n {margin} | {before}{carets}{gap}{}",
                excerpt.line, self.hint
            );
        }
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

/// What of a text may be shown.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Keys, and values that are no secrets.
    pub(super) spans: Vec<Span>,
    /// Where the text could not be read: the words that are shown all the same, because every configuration has them.
    pub(super) words: Vec<String>,
}

/// The longest part of a line that is shown, in characters.
const WIDTH: usize = 160;

impl Shown {
    /// The masked line of a span.
    pub(super) fn excerpt(&self, text: &str, span: Span) -> Option<Excerpt> {
        let line: Vec<char> = text.lines().nth(span.start.line.checked_sub(1)?)?.chars().collect();
        let at = span.start.line;
        let mut visible: Vec<bool> = line.iter().map(|character| !character.is_alphanumeric()).collect();
        let mut last = 0;
        for shown in self
            .spans
            .iter()
            .filter(|shown| shown.start.line <= at && at <= shown.end.line)
        {
            let from = if shown.start.line == at {
                shown.start.column - 1
            } else {
                0
            };
            let to = if shown.end.line == at {
                shown.end.column - 1
            } else {
                line.len()
            };
            for visible in visible.iter_mut().take(to).skip(from) {
                *visible = true;
            }
            last = last.max(to.min(line.len()));
        }
        for (start, word) in words(&line) {
            if self.words.contains(&word) {
                let length = word.chars().count();
                visible[start..start + length].fill(true);
            }
        }
        // Whatever looks like a key is one, wherever it was pasted.
        for (start, word) in words(&line) {
            let digits = word.bytes().filter(u8::is_ascii_digit).count();
            if word.len() >= 16 && digits > 0 {
                visible[start..start + word.chars().count()].fill(false);
            }
        }
        let begin = span.start.column.saturating_sub(1).min(line.len());
        let end = match span.end.line == at {
            true => span.end.column.saturating_sub(1).clamp(begin, line.len()),
            false => line.len(),
        };
        // Indentation costs width and says nothing; a comment may say too much.
        let indent = line
            .iter()
            .take(begin)
            .take_while(|character| character.is_whitespace())
            .count();
        let indent = indent.saturating_sub(4);
        let until = match self.spans.is_empty() {
            true => line.len(),
            false => comment(&line, last.max(end)),
        };
        let from = match until <= indent + WIDTH {
            true => indent,
            false => begin.saturating_sub(WIDTH / 2).max(indent),
        };
        let until = until.max(end).min(from + WIDTH);
        let masked = line[from..until.max(from)]
            .iter()
            .zip(&visible[from..until.max(from)])
            .map(|(character, visible)| match (character, visible) {
                ('\t', _) => ' ',
                (character, true) if !character.is_control() => *character,
                _ => '*',
            })
            .collect::<String>();
        Some(Excerpt {
            line: masked.trim_end().to_owned(),
            before: begin - from,
            length: (end.min(until) - begin.min(until)).max(1),
        })
    }
}

/// Where the line's comment begins, at or after `from`.
fn comment(line: &[char], from: usize) -> usize {
    (from..line.len()).find(|at| line[*at] == '#').unwrap_or(line.len())
}

fn words(line: &[char]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < line.len() {
        let word: String = line[at..]
            .iter()
            .take_while(|character| character.is_alphanumeric() || **character == '_')
            .collect();
        let length = word.chars().count();
        if length > 0 {
            found.push((at, word));
        }
        at += length.max(1);
    }
    found
}
