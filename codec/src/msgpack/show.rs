//! A value as one line of text, the same for every encoding of it.
//!
//! In:    a checked value.
//! Out:   `nil`, `true`, `-1`, `1.0`, `NaN`, `"text"`, `0xbytes`, `[…]`, `{"key": …}`.
//! Holds: no line break and no control byte comes out, whatever the peer wrote. Maps keep their order.

use core::fmt;

use super::{Encoded, Value};

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value() {
            Value::Nil => f.write_str("nil"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Unsigned(value) => write!(f, "{value}"),
            Value::Negative(value) => write!(f, "{value}"),
            Value::Double(value) => write!(f, "{value:?}"),
            Value::Str(text) => write!(f, "{text:?}"),
            Value::Bin(bytes) => {
                f.write_str("0x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Value::Array(array) => {
                f.write_str("[")?;
                for (at, item) in array.into_iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { ", " })?;
                    write!(f, "{item}")?;
                }
                f.write_str("]")
            }
            Value::Map(map) => {
                f.write_str("{")?;
                for (at, (key, value)) in map.into_iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { ", " })?;
                    write!(f, "{key:?}: {value}")?;
                }
                f.write_str("}")
            }
        }
    }
}
