//! Typed events: one event emits its log line and its metric.
