//! Congestion marks (ECN): whether the path keeps them, and when the peer saw new ones.
//!
//! In:    packets sent with ECT(0), and the counts that come back (RFC 9000 section 13.4.2).
//! Out:   whether to go on marking; whether an acknowledgement tells of new CE marks.
//! Holds: counts that do not add up end marking on this path; a peer cannot use them to speed us up.
//!
//! spec: atp/congestion

use dunlin_codec::frame::EcnCounts;

/// Probe timeouts in a row, with no marked packet ever acknowledged, after which the path is taken to drop marked packets.
const TIMEOUTS_MAX: u32 = 3;

/// One path's marks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    is_refused: bool,
    is_proven: bool,
    /// Packets sent with ECT(0), over the session.
    sent: u64,
    seen: EcnCounts,
}

impl Marks {
    pub(super) const fn new() -> Self {
        Self { is_refused: false, is_proven: false, sent: 0, seen: EcnCounts { ect0: 0, ce: 0 } }
    }

    /// Whether packets should be sent with ECT(0).
    pub(super) const fn is_usable(&self) -> bool {
        !self.is_refused
    }

    /// Another path may treat marks otherwise. The counts are the session's and go on.
    pub(super) const fn on_path_changed(&mut self) {
        (self.is_refused, self.is_proven) = (false, false);
    }

    pub(super) const fn on_sent(&mut self) {
        self.sent += 1;
    }

    pub(super) const fn on_probe_timeout(&mut self, count: u32) {
        self.is_refused |= !self.is_proven && self.sent > 0 && count >= TIMEOUTS_MAX;
    }

    /// An acknowledgement whose largest number is new: `newly` marked packets in it, and the counts it carried. Whether it tells of congestion.
    pub(super) fn on_acked(&mut self, newly: u64, counts: Option<EcnCounts>) -> bool {
        let Some(counts) = counts else {
            // Bleached on the way, or a peer that cannot see marks.
            self.is_refused |= newly > 0;
            return false;
        };
        let (Some(ect0), Some(ce)) =
            (counts.ect0.checked_sub(self.seen.ect0), counts.ce.checked_sub(self.seen.ce))
        else {
            self.is_refused = true;
            return false;
        };
        let is_sound = ect0.saturating_add(ce) >= newly && counts.ect0.saturating_add(counts.ce) <= self.sent;
        self.seen = counts;
        self.is_refused |= !is_sound;
        self.is_proven |= newly > 0;
        is_sound && ce > 0 && !self.is_refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(sent: u64) -> Marks {
        let mut marks = Marks::new();
        (0..sent).for_each(|_| marks.on_sent());
        marks
    }

    fn counts(ect0: u64, ce: u64) -> Option<EcnCounts> {
        Some(EcnCounts { ect0, ce })
    }

    /// spec: atp/congestion
    #[test]
    fn new_marks_are_congestion() {
        let mut marks = marks(100);
        let told = [(10, counts(10, 0)), (10, counts(15, 5)), (10, counts(25, 5)), (5, counts(29, 6))];
        assert_eq!(told.map(|(newly, counts)| marks.on_acked(newly, counts)), [false, true, false, true]);
        assert!(marks.is_usable());
    }

    /// Bleached, erased, invented or swallowed: no more marks on this path.
    /// spec: atp/congestion
    #[test]
    fn counts_that_do_not_add_up_end_marking() {
        for (newly, counts) in
            [(1, None), (9, counts(4, 4)), (9, counts(60, 60)), (1, counts(u64::MAX, u64::MAX))]
        {
            let mut marks = marks(100);
            assert!(!marks.on_acked(newly, counts) && !marks.is_usable());
            marks.on_path_changed();
            assert!(marks.is_usable());
        }
        let mut falling = marks(100);
        falling.on_acked(9, counts(9, 0));
        falling.on_acked(9, counts(5, 50));
        assert!(!falling.is_usable());
        let mut swallowed = marks(3);
        swallowed.on_probe_timeout(2);
        assert!(swallowed.is_usable());
        swallowed.on_probe_timeout(3);
        assert!(!swallowed.is_usable());
    }
}
