//! The command `dunlin`.

fn main() {}
