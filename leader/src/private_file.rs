//! Small files that the server makes for itself: keys, passwords, the shape of a cluster. Only the
//! operator can read them, and each is there whole and durably, or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use storage::io::temporary_path;

/// Writes such a file; what had its name before is gone.
///
/// # Errors
/// When the disk refuses. There is then what there was, or all of the new file.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let temporary = temporary_path(path);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_directory(directory_of(path))
}

/// Makes a directory and its missing parents, durably. One that is there is fine.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = directory_of(path);
    make_directory(parent)?;
    match fs::create_dir(path) {
        // Somebody else was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    sync_directory(parent)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_only_the_operator_can_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("a/b/c");
        make_directory(&folder).unwrap();
        make_directory(&folder).unwrap();
        let path = folder.join("file");
        write(&path, "first, and longer").unwrap();
        write(&path, "second").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing else is left");
        assert!(write(&folder, "a directory has the name").is_err());
    }
}
