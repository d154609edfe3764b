//! The leader's epoch: a number that grows with each start of a leader of a cluster, kept in its
//! data directory.

use std::path::Path;
use std::{fs, io};

use crate::error::{Error, Result};
use crate::private_file;

const FILE: &str = "epoch";

/// The epoch of the leader that starts now.
pub(crate) fn next(data_dir: &Path) -> Result<u64> {
    let path = data_dir.join(FILE);
    let last: u64 = match fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .parse()
            .map_err(|_| Error::Config(format!("{} does not hold a number", path.display())))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(source) => return Err(failed(&path, source)),
    };
    write(data_dir, last + 1)?;
    Ok(last + 1)
}

/// Makes durable that this epoch was the last.
pub(super) fn write(data_dir: &Path, epoch: u64) -> Result<()> {
    let path = data_dir.join(FILE);
    private_file::write(&path, &format!("{epoch}\n")).map_err(|source| failed(&path, source))
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Io { action: format!("use {}", path.display()), source }
}
