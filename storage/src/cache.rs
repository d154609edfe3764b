//! Opened column chunks, kept in memory up to a number of bytes, shared by all segments of a node.
//!
//! The cache is cut into shards, each with its own lock and its share of the bytes. A shard evicts
//! by the clock (second chance) rule: a hand goes round the entries and removes the first one that
//! was not used since the hand last came by. A new entry starts as not used, so that one long scan
//! does not push out what others come back to.
//!
//! An evicted chunk lives on as long as somebody holds it; the limit is on what the cache itself
//! keeps alive.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::encoding::{ColumnChunk, SharedColumn};
use crate::ids::{ColumnId, SegmentId};

/// Number of shards; a power of two.
const SHARDS: usize = 16;

/// What is kept under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    pub(crate) segment: SegmentId,
    pub(crate) column: ColumnId,
    pub(crate) part: CachePart,
}

/// Which part of a column of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CachePart {
    /// What the chunks of the column share.
    Shared,
    /// The chunk of a row group.
    RowGroup(u32),
}

/// What is kept.
#[derive(Clone)]
pub(crate) enum CacheValue {
    Shared(Arc<SharedColumn>),
    Chunk(Arc<ColumnChunk>),
}

/// How often the cache helped, and how full it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheUsage {
    /// Look-ups that found their entry.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Bytes that the cache keeps alive now.
    pub bytes: u64,
    /// Bytes that it may keep alive.
    pub bytes_max: u64,
}

/// Opened column chunks, bounded in bytes.
pub struct ChunkCache {
    shards: [Mutex<Shard>; SHARDS],
    shard_bytes_max: usize,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl fmt::Debug for ChunkCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("ChunkCache").field(&self.usage()).finish()
    }
}

#[derive(Default)]
struct Shard {
    /// Positions in `entries`.
    positions: HashMap<CacheKey, usize>,
    entries: Vec<Entry>,
    bytes: usize,
    hand: usize,
}

struct Entry {
    key: CacheKey,
    value: CacheValue,
    bytes: usize,
    used: bool,
}

impl ChunkCache {
    /// A cache that keeps at most `bytes_max` bytes alive. A chunk of more than a sixteenth of
    /// that is never kept.
    pub fn new(bytes_max: usize) -> ChunkCache {
        ChunkCache {
            shards: Default::default(),
            shard_bytes_max: bytes_max / SHARDS,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// How it goes.
    pub fn usage(&self) -> CacheUsage {
        CacheUsage {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bytes: self.shards.iter().map(|shard| shard.lock().bytes as u64).sum(),
            bytes_max: (self.shard_bytes_max * SHARDS) as u64,
        }
    }

    /// Forgets a segment whose file is gone.
    pub fn forget(&self, segment: SegmentId) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let keys: Vec<_> =
                shard.positions.keys().filter(|key| key.segment == segment).copied().collect();
            for key in keys {
                shard.remove(&key);
            }
        }
    }

    pub(crate) fn get(&self, key: &CacheKey) -> Option<CacheValue> {
        let found = self.shard(key).lock().get(key);
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Whether a look-up would find the key; counts as no use.
    pub(crate) fn contains(&self, key: &CacheKey) -> bool {
        self.shard(key).lock().positions.contains_key(key)
    }

    /// Keeps a value of `bytes` bytes, if it fits at all.
    pub(crate) fn insert(&self, key: CacheKey, value: CacheValue, bytes: usize) {
        self.insert_as(key, value, bytes, false);
    }

    /// The same for a value that was read before anyone has asked for it: it is passed over once,
    /// so that it is still there when its reader comes.
    pub(crate) fn insert_ahead(&self, key: CacheKey, value: CacheValue, bytes: usize) {
        self.insert_as(key, value, bytes, true);
    }

    /// Bytes that may be read ahead at once: a small part, since several columns of several scans
    /// do so at the same time.
    pub(crate) fn ahead_bytes_max(&self) -> u64 {
        const PART: usize = 64;
        (self.shard_bytes_max * SHARDS / PART) as u64
    }

    fn insert_as(&self, key: CacheKey, value: CacheValue, bytes: usize, used: bool) {
        // The entry itself is not free: many tiny chunks must not add up unseen.
        let bytes = bytes + size_of::<Entry>() + size_of::<(CacheKey, usize)>();
        if bytes <= self.shard_bytes_max {
            let entry = Entry { key, value, bytes, used };
            self.shard(&key).lock().insert(entry, self.shard_bytes_max);
        }
    }

    fn shard(&self, key: &CacheKey) -> &Mutex<Shard> {
        let part = match key.part {
            CachePart::Shared => 0,
            CachePart::RowGroup(row_group) => u64::from(row_group) + 1,
        };
        // Odd multipliers spread neighbours over the shards.
        let mixed = key.segment.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ u64::from(key.column.0).wrapping_mul(0xbf58_476d_1ce4_e5b9)
            ^ part.wrapping_mul(0x94d0_49bb_1331_11eb);
        &self.shards[(mixed >> 32) as usize % SHARDS]
    }
}

impl Shard {
    fn get(&mut self, key: &CacheKey) -> Option<CacheValue> {
        let entry = &mut self.entries[*self.positions.get(key)?];
        entry.used = true;
        Some(entry.value.clone())
    }

    fn insert(&mut self, entry: Entry, bytes_max: usize) {
        // Two readers may have opened the same chunk at once; the later one stays.
        self.remove(&entry.key);
        while self.bytes + entry.bytes > bytes_max {
            self.evict_one();
        }
        self.bytes += entry.bytes;
        self.positions.insert(entry.key, self.entries.len());
        self.entries.push(entry);
        debug_assert!(self.bytes <= bytes_max);
    }

    /// Removes the next entry that was not used for a round of the hand. The shard is not empty.
    fn evict_one(&mut self) {
        assert!(!self.entries.is_empty(), "an empty shard has room for every entry that fits");
        loop {
            self.hand %= self.entries.len();
            let entry = &mut self.entries[self.hand];
            if !entry.used {
                let key = entry.key;
                self.remove(&key);
                return;
            }
            entry.used = false;
            self.hand += 1;
        }
    }

    fn remove(&mut self, key: &CacheKey) {
        let Some(position) = self.positions.remove(key) else { return };
        let entry = self.entries.swap_remove(position);
        self.bytes -= entry.bytes;
        if let Some(moved) = self.entries.get(position) {
            self.positions.insert(moved.key, position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::ColumnType;

    fn key(column: u32) -> CacheKey {
        CacheKey { segment: SegmentId(1), column: ColumnId(column), part: CachePart::RowGroup(0) }
    }

    fn value() -> CacheValue {
        CacheValue::Shared(Arc::new(SharedColumn::open(ColumnType::BigInt, &[]).unwrap()))
    }

    #[test]
    fn the_limit_holds_whatever_is_inserted() {
        let cache = ChunkCache::new(SHARDS * 10_000);
        for column in 0..5000 {
            cache.insert(key(column), value(), (column as usize * 37) % 12_000);
            let usage = cache.usage();
            assert!(usage.bytes <= usage.bytes_max);
        }
        assert!(cache.usage().bytes > cache.usage().bytes_max / 2);
        cache.forget(SegmentId(2));
        assert!(cache.usage().bytes > 0);
        cache.forget(SegmentId(1));
        assert_eq!(cache.usage().bytes, 0);
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let cache = ChunkCache::new(SHARDS * 1000);
        cache.insert(key(1), value(), 1001);
        assert!(cache.get(&key(1)).is_none());
        cache.insert(key(1), value(), 100);
        assert!(cache.get(&key(1)).is_some());
        assert_eq!((cache.usage().hits, cache.usage().misses), (1, 1));
    }

    #[test]
    fn a_key_is_kept_once() {
        let cache = ChunkCache::new(SHARDS * 1000);
        cache.insert(key(1), value(), 100);
        let bytes = cache.usage().bytes;
        cache.insert(key(1), value(), 100);
        assert_eq!(cache.usage().bytes, bytes);
    }

    #[test]
    fn what_is_used_outlives_a_long_scan() {
        let cache = ChunkCache::new(SHARDS * 10_000);
        cache.insert(key(0), value(), 1000);
        for column in 1..5000 {
            assert!(cache.get(&key(0)).is_some(), "evicted after {column}");
            cache.insert(key(column), value(), 1000);
        }
        assert!(cache.contains(&key(0)));
    }
}
