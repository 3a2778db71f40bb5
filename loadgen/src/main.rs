//! The command `dunlin-loadgen`.

fn main() {}
