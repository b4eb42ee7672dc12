//! The ring of [`SelectMode::ConsistentHash`](crate::SelectMode::ConsistentHash): the same key, the same server.
//!
//! ```text
//! 0 ──── b#7 ──── a#2 ──── c#0 ─────── a#9 ── b#1 ──── … ──── c#4 ── 2⁶⁴
//!                      ▲                                 behind the last
//!                   the key: it belongs to c             point: the first
//! ```

use crate::balance::discovery::Instance;

/// How many points each server has. With 100 the largest share is some 1.3 times the smallest of five servers, and 1.6
/// times that of fifty. With one point it would be ten times the smallest and more.
const POINTS: u32 = 100;

/// `(point, position in the list)`, sorted.
pub(super) struct Ring(Vec<(u64, usize)>);

impl Ring {
    pub(super) fn new(servers: &[Instance]) -> Ring {
        let points = servers.iter().enumerate().flat_map(|(position, server)| {
            let name = server.endpoint.to_string();
            (0..POINTS).map(move |point| (hash(&format!("{name}#{point}")), position))
        });
        let mut ring: Vec<_> = points.collect();
        ring.sort_unstable();
        Ring(ring)
    }

    /// The owner of a key, and then the servers behind it on the ring: where the key goes when those before are gone.
    /// It is the server with the first point at or after the key's own, exactly as in the README of day 6, The wire. A
    /// server comes once for each of its points; `skipped` of them are left out.
    pub(super) fn owners(&self, key: &str, skipped: usize) -> impl Iterator<Item = usize> {
        let key = hash(key);
        let (before, after) = self.0.split_at(self.0.partition_point(|(point, _)| *point < key));
        after.iter().chain(before).skip(skipped).map(|(_, position)| *position)
    }
}

/// FNV-1a with a final mix, exactly as in the README of day 6, The wire. All clients must agree on it, in all
/// versions; the standard library's hashers make no such promise.
fn hash(text: &str) -> u64 {
    let fnv = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // FNV's upper bits hardly change with the last bytes, and the ring is sorted by the upper bits.
    (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd)
}
