//! One channel as its receiver sees it: which message is next, what arrived ahead of it, what the peer may still send.
//!
//! In:    places of messages that opened, completed or were skipped; charges and returns.
//! Out:   the next place in order; the limit to tell.
//! Holds: `ahead[i]` is the place of message `next + i`; the first place is never `Done` between two calls, and on an ordered channel
//!        never `Complete`.

use std::collections::VecDeque;

use dunlin_codec::ids::ChannelId;

use super::credit::{CHANNEL_CREDIT_INITIAL, MESSAGE_CHARGE_MIN};
use crate::blocks::Block;
use crate::time::Instant;

/// What is known of a reliable message that has not left the window.
#[derive(Debug)]
pub(super) enum Place {
    /// A later one was seen, this one was not.
    Missing,
    /// Partly here: its place in the table of open messages.
    Open(u8),
    /// Here, and waiting for those before it.
    Complete(Block),
    /// Delivered or skipped.
    Done,
}

/// In which order a channel delivers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// No segment has said it yet.
    Unknown,
    /// By number.
    Ordered,
    /// By arrival.
    Unordered,
}

/// One limit's account, in bytes of credit, each figure cumulative but the last two.
#[derive(Debug)]
pub(super) struct Credit {
    /// Charged for messages seen, and for those that must lie between them.
    pub(super) used: u64,
    /// Of that: given back, since the application took the message or it was skipped.
    pub(super) returned: u64,
    /// The highest limit that the peer was told.
    pub(super) told: u64,
    /// Contiguous bytes of open messages: credited before they are returned.
    pub(super) early: u64,
    /// Overhead of returned messages whose places still stand behind a missing one.
    pub(super) withheld: u64,
}

impl Credit {
    pub(super) fn new(told: u64) -> Self {
        Self { used: 0, returned: 0, told, early: 0, withheld: 0 }
    }

    /// Whether the peer may spend so much more.
    #[inline]
    pub(super) fn affords(&self, charge: u64) -> bool {
        self.used.saturating_add(charge) <= self.told
    }

    /// The limit that may be told now, with `span` outstanding and at most one largest message credited early.
    #[inline]
    pub(super) fn limit(&self, span: u64, early_max: u64) -> u64 {
        let returned = self.returned.saturating_sub(self.withheld);
        self.told.max(returned + self.early.min(early_max) + span)
    }

    #[inline]
    pub(super) fn give_back(&mut self, charge: u64) {
        self.returned = self.used.min(self.returned + charge);
    }
}

/// A complete unreliable message that came before the reliable ones that it follows.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: u64,
    pub(super) after: u64,
    pub(super) since: Instant,
    pub(super) block: Block,
}

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: ChannelId,
    pub(super) order: Order,
    /// The peer gave it up: nothing more is delivered.
    pub(super) is_closed: bool,
    /// It stands in the list of channels whose credit is to be told.
    pub(super) is_due: bool,
    /// The writing in which `credit.told` was told last.
    pub(super) told_in: u32,
    pub(super) next: u64,
    pub(super) unreliable_next: u64,
    pub(super) ahead: VecDeque<Place>,
    /// Ascending by id.
    pub(super) held: Vec<Held>,
    pub(super) credit: Credit,
}

impl Channel {
    pub(super) fn new(id: ChannelId) -> Self {
        Self {
            id,
            order: Order::Unknown,
            is_closed: false,
            is_due: false,
            told_in: 0,
            next: 0,
            unreliable_next: 0,
            ahead: VecDeque::new(),
            held: Vec::new(),
            credit: Credit::new(CHANNEL_CREDIT_INITIAL),
        }
    }

    /// Where message `next + index` stands, if it has a place.
    #[inline]
    pub(super) fn place(&self, index: u64) -> Option<&Place> {
        self.ahead.get(usize::try_from(index).ok()?)
    }

    /// What it costs to give message `next + index` a place: every message before it has been started, so each pays its least.
    #[inline]
    pub(super) fn places_charge(&self, index: u64) -> u64 {
        index.saturating_add(1).saturating_sub(self.ahead.len() as u64).saturating_mul(MESSAGE_CHARGE_MIN)
    }

    /// Puts `place` at message `next + index`; `places_charge` was affordable, so the window is bounded by credit.
    pub(super) fn set_place(&mut self, index: u64, place: Place) -> Place {
        let index = usize::try_from(index).expect("credit bounds the window");
        if index >= self.ahead.len() {
            self.ahead.resize_with(index + 1, || Place::Missing);
        }
        core::mem::replace(&mut self.ahead[index], place)
    }
}
