//! Configuration: what was typed (`raw`), what it means ([`model`]), and how one becomes the other.

pub mod model;
