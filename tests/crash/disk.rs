//! A disk whose power can be cut: a file system in a file, mounted through a loop device. The cut is
//! the ioctl by which file systems are tested for it (ext4's `EXT4_IOC_SHUTDOWN`, from XFS's
//! `GOINGDOWN`; see xfstests): from that moment nothing reaches the disk any more, and what was not
//! synced before is lost when it is mounted again. Needs root.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// `_IOR('X', 125, __u32)`.
const SHUTDOWN: libc::Ioctl = 0x8004_587d_u32 as libc::Ioctl;
/// Without writing out the journal first.
const NO_LOG_FLUSH: u32 = 2;
const FREE_WITHIN: Duration = Duration::from_secs(20);

/// A mounted disk. Dropping it unmounts it.
pub(crate) struct Disk {
    image: PathBuf,
    mount: PathBuf,
    options: &'static str,
    mounted: bool,
}

impl Disk {
    /// An empty disk of that size in a directory. A forgetful one keeps no order between data and
    /// names: ext4 forgives some missing syncs otherwise.
    pub(crate) fn new(directory: &Path, bytes: u64, forgetful: bool) -> Disk {
        let (image, mount) = (directory.join("disk.img"), directory.join("disk"));
        File::create(&image).unwrap().set_len(bytes).unwrap();
        std::fs::create_dir_all(&mount).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
        let options = if forgetful { "loop,noauto_da_alloc,data=writeback" } else { "loop" };
        let mut disk = Disk { image, mount, options, mounted: false };
        disk.mount();
        disk
    }

    /// Where its files are.
    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    fn mount(&mut self) {
        run(Command::new("mount").args(["-o", self.options]).arg(&self.image).arg(&self.mount));
        self.mounted = true;
    }

    /// Cuts the power.
    #[expect(unsafe_code, reason = "an ioctl that no crate wraps")]
    pub(crate) fn cut(&self) {
        let (root, how) = (File::open(&self.mount).unwrap(), NO_LOG_FLUSH);
        // SAFETY: the descriptor is open, and the kernel reads four bytes at the address.
        let result = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &raw const how) };
        assert_eq!(result, 0, "power cannot be cut: {}", std::io::Error::last_os_error());
    }

    /// Gives it power again: it is as the cut has left it. Nobody may have a file of it open.
    pub(crate) fn restore(&mut self) {
        let deadline = Instant::now() + FREE_WITHIN;
        loop {
            self.unmount();
            self.mount();
            // Another program may hold a copy of all mounts for a while, one that makes a namespace
            // for instance: then this is still the disk without power.
            if File::open(&self.mount).and_then(|root| root.sync_all()).is_ok() {
                return;
            }
            assert!(Instant::now() < deadline, "{} stays cut", self.mount.display());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn unmount(&mut self) {
        let deadline = Instant::now() + FREE_WITHIN;
        // A process that has just ended may still be closing its files.
        while !Command::new("umount")
            .arg(&self.mount)
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
        {
            assert!(Instant::now() < deadline, "{} stays in use", self.mount.display());
            std::thread::sleep(Duration::from_millis(2));
        }
        self.mounted = false;
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _it_goes_with_the_machine =
                Command::new("umount").arg("-l").arg(&self.mount).status();
        }
    }
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?} (needs root): {said}");
}
