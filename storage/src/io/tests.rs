//! What the forms of [`Io`] promise, checked on the real and the memory form alike.

use super::*;
use std::sync::Arc;

fn check_contract(io: &dyn Io, directory: &Path) {
    let path = directory.join("a");
    assert_eq!(io.len(&path).unwrap(), None);
    write_file_whole(io, &path, [&b"hello "[..], b"world"]).unwrap();
    assert_eq!(io.len(&path).unwrap(), Some(11));
    assert_eq!(io.list(directory).unwrap(), vec![path.clone()]);
    let mut buffer = [0; 5];
    io.read_at(&path, 6, &mut buffer).unwrap();
    assert_eq!(&buffer, b"world");
    assert!(io.read_at(&path, 7, &mut buffer).is_err(), "a short read must not look whole");
    assert!(io.read_at(&path, u64::MAX, &mut buffer).is_err());
    io.will_need(&path, 0, 11);
    let other = directory.join("b");
    io.rename(&path, &other).unwrap();
    assert_eq!(io.list(directory).unwrap(), vec![other.clone()]);
    io.remove(&other).unwrap();
    assert!(io.list(directory).unwrap().is_empty());
    assert!(io.remove(&other).is_err());
    assert!(io.read_at(&other, 0, &mut buffer).is_err());
}

#[test]
fn memory_keeps_the_contract() {
    check_contract(&MemoryIo::new(), Path::new("/data"));
}

#[test]
fn real_files_keep_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let nested = directory.path().join("x/y/z");
    RealIo.create_directory(&nested).unwrap();
    RealIo.create_directory(&nested).unwrap();
    check_contract(&RealIo, &nested);
}

#[test]
fn a_power_cut_drops_what_was_not_synced() {
    let io = MemoryIo::new();
    let path = Path::new("/data/a");
    let mut file = io.create(path).unwrap();
    file.append(b"one").unwrap();
    file.sync().unwrap();
    io.sync_directory(Path::new("/data")).unwrap();
    file.append(b"two").unwrap();
    io.rename(path, Path::new("/data/b")).unwrap();
    io.power_cut(PowerCut::Lost);
    assert_eq!(io.contents(path).unwrap(), b"one");
    assert_eq!(io.len(Path::new("/data/b")).unwrap(), None);
    assert!(file.append(b"three").is_err(), "the writer died with the power");
}

#[test]
fn a_name_is_lost_when_only_the_file_was_synced() {
    let io = MemoryIo::new();
    let mut file = io.create(Path::new("/data/a")).unwrap();
    file.append(b"one").unwrap();
    file.sync().unwrap();
    io.power_cut(PowerCut::Lost);
    assert_eq!(io.len(Path::new("/data/a")).unwrap(), None);
}

#[test]
fn torn_writes_leave_a_prefix_with_holes() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let io = MemoryIo::new();
        let path = Path::new("/data/a");
        let mut file = io.create(path).unwrap();
        io.sync_directory(Path::new("/data")).unwrap();
        file.append(&[1; 700]).unwrap();
        file.sync().unwrap();
        file.append(&[2; 2000]).unwrap();
        io.power_cut(PowerCut::Torn(seed));
        let bytes = io.contents(path).unwrap();
        assert!(bytes.len() >= 700 && bytes.len() <= 2700);
        assert!(bytes[..700].iter().all(|byte| *byte == 1));
        assert!(bytes[700..].iter().all(|byte| *byte == 2 || *byte == 0));
        lengths.insert(bytes.len());
    }
    assert!(lengths.len() > 100);
}

#[test]
fn a_file_is_not_trusted_after_a_failed_sync() {
    let fault = Fault {
        kind: Some(CallKind::Sync),
        call: 0,
        lasting: false,
        effect: FaultEffect::Nothing,
        os_error: 5,
    };
    let io = FaultyIo::new(Arc::new(MemoryIo::new()), fault);
    let mut file = io.create(Path::new("/data/a")).unwrap();
    file.append(b"one").unwrap();
    assert!(matches!(file.sync(), Err(Error::SyncFailed { .. })));
    assert!(file.sync().is_err(), "a second sync would claim what it cannot know");
    assert!(file.append(b"two").is_err());
    assert_eq!(io.failures(), 1);
}

fn fault(kind: CallKind, effect: FaultEffect, os_error: i32) -> Fault {
    Fault { kind: Some(kind), call: 0, lasting: false, effect, os_error }
}

/// Each kind of call tells the caller what to do: fence, make room, or something else.
#[test]
fn errors_say_who_must_act() {
    for kind in [
        CallKind::Create,
        CallKind::Append,
        CallKind::Sync,
        CallKind::Rename,
        CallKind::SyncDirectory,
    ] {
        for (os_error, full) in [(libc::EIO, false), (libc::ENOSPC, true), (libc::EDQUOT, true)] {
            let memory = Arc::new(MemoryIo::new());
            let io = FaultyIo::new(memory, fault(kind, FaultEffect::Nothing, os_error));
            let error = write_file_whole(&io, Path::new("/data/a"), [&b"one"[..]]).unwrap_err();
            let fences = matches!(kind, CallKind::Sync | CallKind::SyncDirectory);
            assert_eq!(matches!(error, Error::SyncFailed { .. }), fences, "{error}");
            assert_eq!(error.is_storage_full(), full && !fences, "{error}");
        }
    }
}

/// Not every file system of a test machine can be filled; `/dev/full` can.
#[test]
fn a_real_full_disk_is_reported_as_one() {
    let Ok(file) = File::options().write(true).open("/dev/full") else { return };
    let path = PathBuf::from("/dev/full");
    let mut file = RealOutputFile { file, path, broken: false };
    assert!(file.append(b"one").unwrap_err().is_storage_full());
    let error = file.append(b"two").unwrap_err();
    assert!(!error.is_storage_full(), "the file is given up, whatever becomes of the disk");
}

/// A device has nothing to sync and says so.
#[test]
fn a_real_failed_sync_is_one() {
    let Ok(file) = File::options().write(true).open("/dev/full") else { return };
    let path = PathBuf::from("/dev/full");
    let mut file = RealOutputFile { file, path, broken: false };
    assert!(matches!(file.sync(), Err(Error::SyncFailed { .. })));
    assert!(matches!(file.sync(), Err(Error::Io { .. })), "it is not tried again");
}

#[test]
fn a_directory_that_is_not_there_cannot_be_synced() {
    let directory = tempfile::tempdir().unwrap();
    let error = RealIo.sync_directory(&directory.path().join("none")).unwrap_err();
    assert!(matches!(error, Error::Io { action: "open", .. }), "nothing was to be synced: {error}");
}
