//! Small files of the server itself, such as keys: readable by the operator only, and whole. One that is
//! there has all that it was to hold; what a crash or a full disk leaves has another name.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Result, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use storage::io::temporary_path;

/// Writes the file durably. On an error the file before it is there, or none, or this one without
/// being durable.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let temporary = temporary_path(path);
    let written = write_temporary(&temporary, text).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // It has failed already, and what is left is written over by the next try.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_directory(directory_of(path))
}

/// Makes a directory and its missing parents, durably. One that is there is fine; whoever made it
/// may not have come to make its name durable.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    let parent = directory_of(path);
    if !path.is_dir() {
        make_directory(parent)?;
        match fs::create_dir(path) {
            // Somebody else was quicker.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
            made => made?,
        }
    }
    match sync_directory(parent) {
        // A parent that only others may read is theirs.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

fn sync_directory(path: &Path) -> Result<()> {
    File::open(path)?.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn write_temporary(path: &Path, text: &str) -> Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_one_before() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        make_directory(&folder.path().join("a/b")).unwrap();
        let folder = folder.path().join("a/b");
        make_directory(&folder).unwrap();
        let path = folder.join("key");
        write(&path, "one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // A directory in the way of the temporary file.
        fs::create_dir(temporary_path(&path)).unwrap();
        write(&path, "two").unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        fs::remove_dir(temporary_path(&path)).unwrap();
        write(&path, "three").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }
}
