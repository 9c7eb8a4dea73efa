//! The whole binary, through its front door: real sockets, real TLS, a real ledger on disk.
