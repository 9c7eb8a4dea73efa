//! Which documents there are, as far as memory tells.
//!
//! Every payment asks whether its token has an instrument, and most have none. A hash of each key is enough to say no
//! without asking a reader; where it says maybe, the reader is asked. A space is read once, when first asked about, and
//! everything that is put is noted before it is written, so that "no" is never wrong. There is one process on a file.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

/// Keys remembered of one space: some megabytes. With more, readers are asked as if nothing was known.
pub(super) const MOST: usize = 200_000;

/// What is known of every space.
#[derive(Debug, Default)]
pub(super) struct Names {
    hasher: RandomState,
    spaces: Mutex<HashMap<&'static str, Space>>,
}

#[derive(Debug, Default)]
struct Space {
    keys: HashSet<u64>,
    /// Whether all that was in the file has been noted.
    read: Read,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Read {
    #[default]
    Never,
    /// Somebody is at it.
    Now,
    Whole,
    /// There are too many.
    Not,
}

/// What memory tells of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// There is no such document.
    Absent,
    /// The file has to be asked.
    Perhaps,
    /// The file has to be asked, and whoever asks reads the space.
    Unread,
}

impl Names {
    /// Whether there may be such a document.
    pub fn look(&self, space: &'static str, key: &str) -> Known {
        let hash = self.hasher.hash_one(key);
        self.with(space, |space| match space.read {
            Read::Whole if !space.keys.contains(&hash) => Known::Absent,
            Read::Never => {
                space.read = Read::Now;
                Known::Unread
            }
            _ => Known::Perhaps,
        })
    }

    /// A document is about to be put.
    pub fn note(&self, space: &'static str, key: &str) {
        let hash = self.hasher.hash_one(key);
        self.with(space, |space| space.add([hash]));
    }

    /// The space was read: all its keys, or `None` when there are too many, or it could not be read.
    pub fn were_read(&self, space: &'static str, keys: Option<Vec<String>>) {
        self.with(space, |space| {
            match keys {
                Some(keys) => space.add(keys.iter().map(|key| self.hasher.hash_one(key))),
                None => space.give_up(),
            }
            if space.read == Read::Now {
                space.read = Read::Whole;
            }
        });
    }

    fn with<T>(&self, space: &'static str, what: impl FnOnce(&mut Space) -> T) -> T {
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        what(spaces.entry(space).or_default())
    }
}

impl Space {
    fn add(&mut self, hashes: impl IntoIterator<Item = u64>) {
        if self.read != Read::Not {
            self.keys.extend(hashes);
        }
        if self.keys.len() > MOST {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        self.read = Read::Not;
        self.keys = HashSet::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_neither_read_nor_put_is_absent() {
        let names = Names::default();
        names.note("a", "put early");
        assert_eq!(names.look("a", "never"), Known::Unread);
        assert_eq!(names.look("a", "never"), Known::Perhaps, "not before it was read");
        names.note("a", "put meanwhile");
        names.were_read("a", Some(vec!["read".to_owned()]));
        for key in ["put early", "put meanwhile", "read"] {
            assert_eq!(names.look("a", key), Known::Perhaps, "{key}");
        }
        assert_eq!(names.look("a", "never"), Known::Absent);
        assert_eq!(names.look("b", "never"), Known::Unread, "another space is another");
        names.were_read("b", None);
        assert_eq!(names.look("b", "never"), Known::Perhaps, "too many to know");
    }
}
