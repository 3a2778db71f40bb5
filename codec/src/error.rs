//! Why bytes were refused.

/// Bytes that are not what they claim to be. Always the sender's fault; nothing was changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WireError {
    /// The bytes end before the layout does.
    #[error("the bytes end too early")]
    Truncated,
    /// Bytes are left over behind the layout.
    #[error("bytes are left over at the end")]
    Trailing,
    /// A type, version, suite or flag that this version does not know.
    #[error("unknown type, version or flag")]
    Unknown,
    /// A field holds a value outside its range.
    #[error("a field holds a value outside its range")]
    OutOfRange,
    /// A reserved field is not zero.
    #[error("a reserved field is not zero")]
    Reserved,
}

/// The caller's buffer is too small for what was to be written. Nothing was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no room: {needed} bytes needed, {left} left")]
pub struct NoRoom {
    /// Bytes that the value takes.
    pub needed: usize,
    /// Bytes that were left.
    pub left: usize,
}
