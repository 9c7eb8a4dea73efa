//! The snapshot that requests run by, and how it is replaced.
