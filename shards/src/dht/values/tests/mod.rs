//! Values, told as stories: a holder with a disk, holders that decide while they crash, come and go, and readers.

mod checker;
mod cluster;
mod decisions;
mod handing;
mod holder;
mod kit;
mod leaves;
mod limits;
mod overlap;
mod reading;
mod roll;
mod stories;
mod trio;
