//! Choosing among nodes so that nobody's addresses fill the choice (T9).
//!
//! In:    nodes by rising distance, and the network that each is in.
//! Out:   so many of them, by rising distance: one of each network as far as that suffices, then the closest of the others.
//! Holds: who is on a private address is of no network, and counts alone.
//!
//! A table lets ten nodes of a /24 in, so that whoever has a hundred addresses in ten such networks could be all sixteen that
//! are closest to a place: asked, it tells of nobody else. One of each network leaves room for those who were there before.
//!
//! spec: p2p/diverse

use super::table::Prefix;

/// A choice in the making. Its room is kept for the next.
#[derive(Clone, Debug)]
pub(in crate::dht) struct Choice<T> {
    chosen: Vec<T>,
    prefixes: Vec<Prefix>,
    /// Those whose network is there already.
    others: Vec<T>,
}

impl<T> Default for Choice<T> {
    fn default() -> Self {
        Self { chosen: Vec::new(), prefixes: Vec::new(), others: Vec::new() }
    }
}

impl<T: Copy + Ord> Choice<T> {
    /// Begins anew.
    pub(in crate::dht) fn clear(&mut self) {
        self.chosen.clear();
        self.prefixes.clear();
        self.others.clear();
    }

    /// The next node in order. Whether that makes `count`, so that all that come after are too far.
    pub(in crate::dht) fn offer(&mut self, item: T, prefix: Option<Prefix>, count: usize) -> bool {
        match prefix {
            Some(prefix) if self.prefixes.contains(&prefix) => {
                // More than these are never needed.
                if self.others.len() < count {
                    self.others.push(item);
                }
            }
            prefix => {
                self.prefixes.extend(prefix);
                self.chosen.push(item);
            }
        }
        self.chosen.len() >= count
    }

    /// At most `count` were chosen; in order.
    pub(in crate::dht) fn finish(&mut self, count: usize) {
        let room = count.saturating_sub(self.chosen.len());
        if room > 0 && !self.others.is_empty() {
            self.chosen.extend(self.others.drain(..).take(room));
            self.chosen.sort_unstable();
        }
    }

    /// Who was chosen.
    pub(in crate::dht) fn chosen(&self) -> &[T] {
        &self.chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(nodes: &[(u32, Option<&str>)], count: usize) -> Vec<u32> {
        let mut choice = Choice::default();
        for (number, address) in nodes {
            let prefix = address.and_then(|address| Prefix::of(address.parse().unwrap()));
            if choice.offer(*number, prefix, count) {
                break;
            }
        }
        choice.finish(count);
        choice.chosen().to_vec()
    }

    /// One of each network, then the closest of the rest; nobody on a private address is left out.
    /// spec: p2p/diverse
    #[test]
    fn one_of_each_network_comes_first() {
        let nodes = [
            (1, Some("9.9.9.1")),
            (2, Some("9.9.9.2")),
            (3, None),
            (4, Some("9.9.9.3")),
            (5, Some("8.8.8.1")),
        ];
        assert_eq!(choose(&nodes, 2), [1, 3]);
        assert_eq!(choose(&nodes, 3), [1, 3, 5]);
        assert_eq!(choose(&nodes, 4), [1, 2, 3, 5]);
        assert_eq!(choose(&nodes, 9), [1, 2, 3, 4, 5]);
        assert_eq!(choose(&[(1, Some("10.0.0.1")), (2, Some("10.0.0.2"))], 2), [1, 2], "private ones");
        assert_eq!(
            choose(&[(1, Some("2a00:1:2:3::1")), (2, Some("2a00:1:2:4::1")), (3, None)], 2),
            [1, 3],
            "a /48"
        );
    }
}
