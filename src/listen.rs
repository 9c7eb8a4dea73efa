//! Sockets, admission, and the strict guard over HTTP heads.
