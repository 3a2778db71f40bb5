//! Linearizability of a register's history, after Wing and Gong: is there an order of all operations, in which each one that
//! returned before another began comes first, and which a single register would have answered the same way?

use std::collections::BTreeSet;

/// What was done, and what was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Done {
    Write(u64),
    Cas {
        from: Option<u64>,
        to: u64,
    },
    /// A compare-and-set that was refused, and what was told to be there.
    Refused {
        from: Option<u64>,
        there: Option<u64>,
    },
    Read(Option<u64>),
}

/// From when to when. `returned` is none for what nobody knows of: it may have happened at any time since, or never.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Operation {
    pub(super) invoked: u64,
    pub(super) returned: Option<u64>,
    pub(super) done: Done,
}

/// What the register is afterwards; none: it would have answered otherwise.
fn step(there: Option<u64>, done: Done) -> Option<Option<u64>> {
    match done {
        Done::Write(value) => Some(Some(value)),
        Done::Cas { from, to } => (there == from).then_some(Some(to)),
        Done::Refused { from, there: told } => (there == told && there != from).then_some(there),
        Done::Read(told) => (there == told).then_some(there),
    }
}

/// Whether there is such an order, from an empty register on.
pub(super) fn is_linearizable(history: &[Operation]) -> bool {
    assert!(history.len() <= 128, "a history fits into a set of bits");
    let all = history.iter().enumerate().filter(|(_, it)| it.returned.is_some());
    let must = all.fold(0_u128, |set, (at, _)| set | 1 << at);
    let mut seen = BTreeSet::new();
    let mut open = vec![(0_u128, None)];
    while let Some((past, there)) = open.pop() {
        if past & must == must {
            return true;
        }
        if !seen.insert((past, there)) {
            continue;
        }
        let left = || history.iter().enumerate().filter(|(at, _)| past >> at & 1 == 0);
        // Whatever began after something that is left had returned must wait for it.
        let first_return = left().filter_map(|(_, it)| it.returned).min().unwrap_or(u64::MAX);
        let next = left().filter(|(_, it)| it.invoked <= first_return);
        open.extend(next.filter_map(|(at, it)| Some((past | 1 << at, step(there, it.done)?))));
    }
    false
}

fn operation(invoked: u64, returned: u64, done: Done) -> Operation {
    Operation { invoked, returned: (returned > 0).then_some(returned), done }
}

/// What no register answers is found, and what one may answer is not.
#[test]
fn the_checker_knows_a_register() {
    let write = operation(0, 10, Done::Write(1));
    let cas = operation(20, 30, Done::Cas { from: Some(1), to: 2 });
    assert!(is_linearizable(&[write, cas, operation(40, 50, Done::Read(Some(2)))]));
    assert!(!is_linearizable(&[write, cas, operation(40, 50, Done::Read(Some(1)))]), "a stale read");
    assert!(is_linearizable(&[write, cas, operation(25, 50, Done::Read(Some(1)))]), "at the same time");
    let twice = operation(22, 28, Done::Cas { from: Some(1), to: 3 });
    assert!(!is_linearizable(&[write, cas, twice]), "two winners");
    let refused = operation(22, 28, Done::Refused { from: Some(1), there: Some(2) });
    assert!(is_linearizable(&[write, cas, refused]));
    assert!(!is_linearizable(&[
        write,
        operation(12, 15, Done::Refused { from: Some(1), there: Some(2) }),
        cas
    ]));
    let unknown = operation(12, 0, Done::Write(9));
    assert!(is_linearizable(&[write, unknown, cas]), "perhaps never");
    assert!(is_linearizable(&[write, unknown, operation(90, 99, Done::Read(Some(9)))]), "perhaps late");
    assert!(!is_linearizable(&[
        write,
        unknown,
        operation(40, 50, Done::Read(Some(9))),
        operation(60, 70, Done::Read(Some(1)))
    ]));
}
