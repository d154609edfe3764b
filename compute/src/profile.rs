//! What kind of machine a node is on. A profile is a set of choices, each of which changes what the
//! node does; `docs/profiles.md` says what each trades.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use storage::io::DiskTraits;

/// A node's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Flash: many reads at once, encodings that decode fast, a slice for each core.
    #[default]
    DenseCompute,
    /// Spinning disks: one reader that reads far ahead, the smallest encodings, fewer slices with
    /// more memory each, and a larger cache.
    DenseStorage,
}

impl Profile {
    /// How the disk with the segments is used.
    pub fn disk(self) -> DiskTraits {
        match self {
            Self::DenseCompute => DiskTraits::FAST,
            Self::DenseStorage => DiskTraits::SEQUENTIAL,
        }
    }

    /// Slices of a node with so many cores.
    pub fn slices(self, cores: usize) -> usize {
        match self {
            Self::DenseCompute => cores.max(1),
            Self::DenseStorage => (cores / 2).max(1),
        }
    }

    /// The part of a machine's memory, in bytes, that queries may hold.
    pub fn query_bytes(self, machine_bytes: u64) -> u64 {
        match self {
            Self::DenseCompute => machine_bytes / 3,
            Self::DenseStorage => machine_bytes / 4,
        }
    }

    /// The part of a machine's memory, in bytes, that keeps column chunks.
    pub fn cache_bytes(self, machine_bytes: u64) -> u64 {
        match self {
            Self::DenseCompute => machine_bytes / 8,
            Self::DenseStorage => machine_bytes / 4,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DenseCompute => "dense-compute",
            Self::DenseStorage => "dense-storage",
        })
    }
}

/// The name of no profile.
#[derive(Debug, thiserror::Error)]
#[error("a profile is dense-compute or dense-storage")]
pub struct UnknownProfile;

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        let all = [Self::DenseCompute, Self::DenseStorage];
        all.into_iter().find(|profile| profile.to_string() == name).ok_or(UnknownProfile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_slices_have_more_memory_each() {
        for cores in [4, 8, 32] {
            let each =
                |profile: Profile| profile.query_bytes(1 << 36) / profile.slices(cores) as u64;
            assert!(each(Profile::DenseStorage) > each(Profile::DenseCompute), "{cores} cores");
        }
        assert_eq!("dense-storage".parse::<Profile>().unwrap(), Profile::DenseStorage);
        assert!("dense".parse::<Profile>().is_err());
    }
}
