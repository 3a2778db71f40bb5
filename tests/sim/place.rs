//! A node's name in its world.

/// Nodes are numbered from 0, in the order in which they were added.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct NodeIndex(pub usize);
