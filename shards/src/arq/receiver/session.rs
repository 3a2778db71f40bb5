//! What the channels of a session share: the session's own credit, and the window that all limits follow.
//!
//! In:    charges, returns, progress, round trips.
//! Out:   limits; the SESSION_CREDIT frame.
//! Holds: no limit ever goes back; nothing is granted while the shard is short of memory.

use core::time::Duration;

use dunlin_codec::bytes::Writer;
use dunlin_codec::frame::Frame;

use super::ReceiverLimits;
use super::channel::{Channel, Credit};
use super::credit::{SESSION_CREDIT_INITIAL, Window, channel_span, charge, session_span};
use crate::limits::INITIAL_RTT;
use crate::time::Instant;

/// A limit is told when it grew by this part of the window.
const TOLD_PART: u64 = 8;

/// The session's account.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) limits: ReceiverLimits,
    pub(super) credit: Credit,
    pub(super) window: Window,
    pub(super) round_trip: Duration,
    /// What messages cost that nobody can take yet, of `credit.used`: those partly here, and those behind a gap of their channel. A path
    /// that loses packets makes them, not a slow application.
    pub(super) pending_charge: u64,
    /// The shard is short of memory.
    pub(super) is_short: bool,
    /// The session's limit is to be told.
    pub(super) is_due: bool,
    /// The writing in which it was told last.
    pub(super) told_in: u32,
    writing: u32,
}

impl Session {
    pub(super) fn new(limits: ReceiverLimits) -> Self {
        let mut session = Self {
            limits,
            credit: Credit::new(SESSION_CREDIT_INITIAL),
            window: Window::new(limits.window_len_max),
            round_trip: INITIAL_RTT,
            pending_charge: 0,
            is_short: false,
            is_due: false,
            told_in: 0,
            writing: 0,
        };
        session.check();
        session
    }

    /// The limit that may be told for the session.
    #[inline]
    pub(super) fn limit(&self) -> u64 {
        if self.is_short {
            return self.credit.told;
        }
        let len_max = self.limits.message_len_max;
        self.credit.limit(session_span(self.window.len(), len_max), charge(len_max))
    }

    /// The limit that may be told for a channel.
    #[inline]
    pub(super) fn channel_limit(&self, channel: &Channel) -> u64 {
        if self.is_short {
            return channel.credit.told;
        }
        let len_max = self.limits.message_len_max;
        channel.credit.limit(channel_span(self.window.len(), len_max), charge(len_max))
    }

    /// Makes the session's limit due when it grew enough.
    #[inline]
    pub(super) fn check(&mut self) {
        if self.limit() - self.credit.told >= self.window.len() / TOLD_PART {
            self.is_due = true;
        }
    }

    /// Whether a channel's limit grew enough to be told.
    #[inline]
    pub(super) fn is_worth_telling(&self, channel: &Channel) -> bool {
        self.channel_limit(channel) - channel.credit.told >= self.window.len() / TOLD_PART
    }

    /// `bytes` more are here without a gap. The window grows when they come fast and the application keeps up.
    #[inline]
    pub(super) fn on_progress(&mut self, now: Instant, bytes: u64) {
        if !self.window.count(bytes) {
            return;
        }
        let backlog = self.credit.used - self.credit.returned;
        let keeps_up = backlog.saturating_sub(self.pending_charge) <= self.window.len() / 2;
        if self.window.adjust(now, self.round_trip, keeps_up && !self.is_short) {
            self.check();
        }
    }

    /// The number of a new writing of credit; never 0.
    pub(super) fn next_writing(&mut self) -> u32 {
        self.writing = self.writing.checked_add(1).unwrap_or(1);
        self.writing
    }

    /// Writes the session's credit if it is due. False when it does not fit.
    pub(super) fn write_credit(&mut self, out: &mut Writer<'_>, writing: u32) -> bool {
        if !self.is_due {
            return true;
        }
        let limit = self.limit();
        if (Frame::SessionCredit { limit }).write(out).is_err() {
            return false;
        }
        self.credit.told = limit;
        self.told_in = writing;
        self.is_due = false;
        true
    }
}
