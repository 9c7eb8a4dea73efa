//! Which route and operation a request is. Pure.
