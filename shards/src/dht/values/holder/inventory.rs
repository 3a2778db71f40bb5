//! What a holder keeps, counted, for whoever runs the node.
//!
//! Holds: numbers of this moment; counting them changes nothing.

use super::Holder;

/// How much a holder keeps.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Inventory {
    /// Values that every holder keeps for itself, those that were deleted among them.
    pub values: usize,
    /// Copies beside the path of somebody who read them: they are in memory alone.
    pub copies: usize,
    /// Keys and groups about which majorities decide.
    pub registers: usize,
    /// Leases of keys, those among them that have run out and that nobody has taken since.
    pub leases: usize,
    /// Nodes in the network's roll, as far as this holder has been told.
    pub roll: usize,
    /// Bytes of all values and registers with their keys; copies and the roll are not counted.
    pub len: u64,
}

impl Inventory {
    /// These and others.
    #[must_use]
    pub const fn with(&self, other: &Self) -> Self {
        Self {
            values: self.values + other.values,
            copies: self.copies + other.copies,
            registers: self.registers + other.registers,
            leases: self.leases + other.leases,
            roll: self.roll + other.roll,
            len: self.len + other.len,
        }
    }
}

impl Holder {
    /// How much it keeps.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        let copies = self.caches.len();
        Inventory {
            values: self.plain.len().saturating_sub(copies),
            copies,
            registers: self.registers.len(),
            leases: self.leases.count(),
            roll: self.roll.count(),
            len: self.ledger.len(),
        }
    }
}
