//! Live tests: real processes and real sockets over loopback, on both back ends.

mod nodes;
mod program;
mod transfer;
