//! The leader's epoch: a number that grows with each start of a leader of a cluster, kept in its
//! data directory.

use std::path::Path;
use std::{fs, io};

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::private_file;

const FILE: &str = "epoch";

/// The epoch of the leader that starts now.
pub(crate) fn next(data_dir: &Path) -> Result<u64> {
    let epoch = last(data_dir)?.unwrap_or(0) + 1;
    write(data_dir, epoch)?;
    Ok(epoch)
}

/// The epoch of the leader that was started last; none if there was no leader of several nodes.
///
/// # Errors
/// If the file is damaged or cannot be read.
pub(crate) fn last(data_dir: &Path) -> Result<Option<u64>> {
    let path = data_dir.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(&path, source)),
    };
    let epoch = std::str::from_utf8(&bytes).ok().and_then(parse);
    epoch.map(Some).ok_or_else(|| {
        Error::Config(format!("{} does not hold a number, or is damaged", path.display()))
    })
}

/// Makes durable that this epoch was the last.
pub(super) fn write(data_dir: &Path, epoch: u64) -> Result<()> {
    let path = data_dir.join(FILE);
    private_file::write(&path, &text(epoch)).map_err(|source| failed(&path, source))
}

/// The number, and a checksum of it: nodes refuse a leader whose epoch is too low.
fn text(epoch: u64) -> String {
    format!("{epoch}\n{:016x}\n", xxh3_64(&epoch.to_le_bytes()))
}

fn parse(found: &str) -> Option<u64> {
    let epoch = found.lines().next()?.parse().ok()?;
    // Earlier servers wrote no checksum.
    (found == text(epoch) || found == format!("{epoch}\n")).then_some(epoch)
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Io { action: format!("use {}", path.display()), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_an_epoch_is_found() {
        assert_eq!(parse("12\n"), Some(12));
        for epoch in [0, 9, 12, u64::MAX] {
            let mut bytes = text(epoch).into_bytes();
            assert_eq!(parse(&text(epoch)), Some(epoch));
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                let read = std::str::from_utf8(&bytes).ok().and_then(parse);
                assert_eq!(read, None, "bit {bit} of {epoch}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}
