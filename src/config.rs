//! Configuration: what was typed ([`raw`]), what it means ([`model`]), and how one becomes the other ([`load`]).
//!
//! Nothing is guessed: an unknown field is an error with the nearest known name, and every error of a file is reported
//! at once. Secrets come from the environment or from files, after parsing, so that a secret's value can never change
//! the structure of the file; no error text repeats one.

pub mod defaults;
pub mod load;
pub mod model;
pub mod raw;
pub mod units;
