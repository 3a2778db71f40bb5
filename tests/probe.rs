//! Prints what this machine can do, one capability a line: `io_uring yes` or `io_uring no: why`.
//!
//! `.ci/run` compares it with the SKIPPED lines of the tests.

use dunlin_tests::capability::Capability;

fn main() {
    for capability in Capability::ALL {
        match capability.probe() {
            Ok(()) => println!("{capability} yes"),
            Err(why) => println!("{capability} no: {}", why.replace('\n', " ")),
        }
    }
}
