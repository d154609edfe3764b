//! Named places in the server where a test lets it die, and defects that a test plants in it to see
//! whether the suites find them. Only with the feature `enabled`; without it every function here is
//! empty and the compiler removes its calls.
//!
//! A process reads what to do from its environment:
//!
//! * `BLUESHIFT_FAULT_KILL=place:n` ends it with SIGKILL when it comes to the place for the n-th time.
//!   With `BLUESHIFT_FAULT_MARK=file` only the first process that makes the file does so: one that is
//!   started again with the same environment lives, and the file says where it was.
//! * `BLUESHIFT_FAULT_PLANT=defect` makes it defective in that way.
//! * `BLUESHIFT_FAULT_CALLS=file` counts messages to nodes, over all processes, and loses one of them;
//!   the file says which, and is made by the test:
//!
//! ```text
//! word 0      1 + the number of the call in Call::ALL, 0 for none; words have 64 bits, little-endian
//! word 1      the moment: 0 before the node hears of it, 1 after it has done it
//! word 2      which one, from 1 on
//! word 3      how many were lost
//! word 4+2k+m how often call k came to moment m
//! ```

#[cfg(feature = "enabled")]
mod enabled;

#[cfg(feature = "enabled")]
pub use enabled::{loses, planted, point};

/// False, without the feature.
#[cfg(not(feature = "enabled"))]
#[inline(always)]
pub fn loses(_call: Call, _moment: Moment) -> bool {
    false
}

/// When a message is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the node hears of it.
    Before = 0,
    /// After the node has done it, so that nobody hears the answer. A stream is cut off after its first
    /// message.
    After = 1,
}

/// Nothing, without the feature.
#[cfg(not(feature = "enabled"))]
#[inline(always)]
pub fn point(_place: Place) {}

/// False, without the feature.
#[cfg(not(feature = "enabled"))]
#[inline(always)]
pub fn planted(_defect: Defect) -> bool {
    false
}

/// Makes an enum whose values have a name and can be listed.
macro_rules! named {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $value:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$doc])* $value,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$value,)+];

            /// As it is written in the environment.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)+
                }
            }

            /// The one of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == name)
            }
        }
    };
}

named! {
    /// A place that a server passes on the way of a commit, or of its recovery.
    Place {
        /// A file of rows is written under its temporary name, and not synced.
        FileWritten = "file-written",
        /// It is synced, and has its temporary name.
        FileSynced = "file-synced",
        /// It has its name, and the directory is not synced.
        FileRenamed = "file-renamed",
        /// It is durable.
        FileDurable = "file-durable",
        /// Segment ids are noted as taken, and nobody has been given them.
        IdsNoted = "ids-noted",
        /// A node has received a file that it copies, and not given it its name.
        CopyReceived = "copy-received",
        /// A node has a durable copy, and has not said so.
        CopyDurable = "copy-durable",
        /// All that a write needs is durable on every node, and belongs to no transaction.
        WriteDurable = "write-durable",
        /// A transaction is about to be written to the log.
        CommitBegun = "commit-begun",
        /// Everything is in the log's transaction, which has not ended.
        CommitWritten = "commit-written",
        /// The commit is durable, nobody has a copy, nobody sees it.
        CommitLogged = "commit-logged",
        /// A node has written a record of the log, or all of it, and not said so.
        CatalogCopied = "catalog-copied",
        /// Copies are where they have to be; nobody sees the commit.
        CommitCopied = "commit-copied",
        /// Others see the commit; the client has not been told.
        CommitPublished = "commit-published",
        /// A file that nobody needs any more is about to be removed.
        FileUnneeded = "file-unneeded",
        /// A file is removed, and the directory is not synced.
        FileRemoved = "file-removed",
        /// VACUUM has written its segments, and has not committed.
        VacuumWritten = "vacuum-written",
        /// A starting server has its catalog, and has not swept what nobody names.
        StartRead = "start-read",
        /// A starting server has swept, and takes no connections yet.
        StartSwept = "start-swept",
    }
}

named! {
    /// Something that is wrong on purpose. Each takes away one thing that the server promises.
    Defect {
        /// A file of rows gets its name without a sync.
        SkipFileSync = "skip-file-sync",
        /// A name is not made durable.
        SkipDirectorySync = "skip-directory-sync",
        /// The log is written and not synced.
        SkipLogSync = "skip-log-sync",
        /// The client is told of a commit that goes on behind its back.
        AcknowledgeBeforeCommit = "acknowledge-before-commit",
        /// A write does not wait for its copies on other nodes.
        AcknowledgeBeforeCopies = "acknowledge-before-copies",
        /// Others see a commit before it is in the log.
        PublishBeforeLog = "publish-before-log",
        /// A write forgets what it has written of the last slice.
        ForgetSlice = "forget-slice",
        /// A transaction reads what others have committed since it began.
        ReadLatest = "read-latest",
        /// The row after the one that was meant is deleted.
        DeleteNextRow = "delete-next-row",
        /// Two transactions may delete or update the same row.
        SkipRowConflicts = "skip-row-conflicts",
        /// A serializable transaction commits whatever it has read.
        SkipReadCheck = "skip-read-check",
        /// Going back to a savepoint leaves the last change.
        KeepRolledBack = "keep-rolled-back",
        /// After a sync that failed, writes go on.
        SkipFence = "skip-fence",
        /// A start removes a file that the catalog names.
        SweepNeeded = "sweep-needed",
        /// The first change of a transaction is committed before the others.
        SplitCommit = "split-commit",
        /// A block is decoded whatever its checksum says.
        SkipChecksum = "skip-checksum",
        /// VACUUM brings back rows that were deleted while it ran.
        ForgetLateDeletions = "forget-late-deletions",
    }
}

named! {
    /// What a node is asked over the cluster's port.
    Call {
        /// To open a task of a query.
        Task = "task",
        /// For the rows of a partition.
        Rows = "rows",
        /// To copy files from another node.
        Copy = "copy",
        /// For a file, by another node.
        File = "file",
        /// To belong to a leader.
        Open = "open",
        /// Whether it lives.
        Heartbeat = "heartbeat",
        /// Which files it has.
        Inventory = "inventory",
        /// To remove files.
        Remove = "remove",
        /// To give up a write.
        Abandon = "abandon",
        /// To keep a commit.
        StoreCatalog = "store-catalog",
        /// For its copy of the catalog.
        FetchCatalog = "fetch-catalog",
        /// To write deletion vectors.
        WriteDeletions = "write-deletions",
        /// To rewrite segments.
        Rewrite = "rewrite",
    }
}
