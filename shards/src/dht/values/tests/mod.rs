//! Values, told as stories: a holder with a disk, and what peers ask of it.

mod holder;
mod kit;
