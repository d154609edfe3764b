//! Nodes that come, go, lose their disks, damage their files and are asked at bad moments; whatever
//! happens, who runs the tasks of a slice has all of it.

use std::collections::BTreeSet;

use compute::FileInfo;
use parking_lot::Mutex as Shared;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use storage::deletion_vector::DeletionVectorInfo;
use storage::ids::{DeletionVectorId, SliceId, TableId};
use storage::statistics::SegmentInfo;

use super::*;
use crate::catalog::{DistributionStyle, SegmentList};

const TABLE: TableId = TableId(1);
const EVERYWHERE: TableId = TableId(2);

fn info(id: u64) -> Arc<SegmentInfo> {
    let (fingerprint, row_count, byte_count) = (id, 1, 100 + id);
    let id = SegmentId(id);
    Arc::new(SegmentInfo { id, fingerprint, row_count, byte_count, columns: Vec::new() })
}

fn table(id: TableId, layout: Layout) -> TableEntry {
    let distribution =
        if id == EVERYWHERE { DistributionStyle::All } else { DistributionStyle::Even };
    TableEntry {
        id,
        schema: "public".into(),
        name: "t".into(),
        owner: "nobody".into(),
        columns: Vec::new(),
        distribution,
        sort_key: Vec::new(),
        is_automatic: false,
        constraints: Vec::new(),
        placement_fingerprint: 0,
        slices: vec![SegmentList::new(); layout.slices()],
        deletions: Default::default(),
        numbers_taken: 0,
    }
}

/// A node as it really is.
#[derive(Default)]
struct Real {
    files: HashMap<SegmentId, HeldFile>,
    up: bool,
    /// Whether the leader has been told of all that has happened to the node.
    noticed: bool,
    /// An audit on its way: its generation and what the node has answered.
    audit: Option<(u64, Vec<HeldFile>)>,
    /// A copy on its way.
    copying: Option<CopyJob>,
    /// Files that could not be copied since the last audit.
    failed: HashSet<SegmentId>,
}

/// Segments that were written and wait for the end of their transaction.
struct Open {
    pieces: Vec<Piece>,
}

struct World {
    random: StdRng,
    layout: Layout,
    copies: Copies,
    known: Known,
    committed: Arc<Shared<Vec<Arc<TableEntry>>>>,
    real: Vec<Real>,
    open: Vec<Open>,
    next_id: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let nodes = random.random_range(2..5);
        let layout = Layout::new(nodes, 2).unwrap();
        let tables = [TABLE, EVERYWHERE].map(|id| Arc::new(table(id, layout))).to_vec();
        let committed = Arc::new(Shared::new(tables));
        let shown = Arc::clone(&committed);
        let known: Known =
            Arc::new(move || Wanted { tables: shown.lock().clone(), held: Vec::new() });
        let copies = Copies::new(layout, random.random_range(1..=nodes.min(3)));
        let real = (0..nodes).map(|_| Real { up: true, ..Real::default() }).collect();
        let (open, next_id) = (Vec::new(), 1);
        Self { random, layout, copies, known, committed, real, open, next_id }
    }

    fn any_node(&mut self) -> usize {
        self.random.random_range(0..self.layout.nodes())
    }

    fn step(&mut self) {
        let node = self.any_node();
        match self.random.random_range(0..100) {
            0..6 => self.die(node),
            6..9 => self.damage(node),
            9..20 => self.notice(node),
            20..35 => self.begin_audit(node),
            35..50 => self.end_audit(node),
            50..62 => self.begin_copy(node),
            62..76 => self.end_copy(node),
            76..90 => self.write(),
            90..97 => self.end_transaction(),
            _ => self.truncate(),
        }
        self.check();
    }

    /// The process dies; at times its disk with it.
    fn die(&mut self, node: usize) {
        let wiped = self.random.random_bool(0.3);
        let real = &mut self.real[node];
        (real.up, real.noticed) = (false, false);
        (real.audit, real.copying) = (None, None);
        if wiped {
            real.files.clear();
        }
    }

    /// A bit of some file flips, which the node knows when it is asked the next time.
    fn damage(&mut self, node: usize) {
        let mut numbers: Vec<SegmentId> = self.real[node].files.keys().copied().collect();
        numbers.sort_unstable();
        if numbers.is_empty() {
            return;
        }
        let number = numbers[self.random.random_range(0..numbers.len())];
        self.real[node].files.get_mut(&number).unwrap().is_damaged = true;
    }

    /// The leader hears what has become of the node, which starts again some time.
    fn notice(&mut self, node: usize) {
        if !self.real[node].noticed {
            self.copies.lost(node);
        }
        if !self.real[node].up && self.random.random_bool(0.7) {
            self.real[node].up = true;
        }
        if self.real[node].up && !self.real[node].noticed {
            self.copies.opened(node);
        }
        self.real[node].noticed = true;
        if !self.real[node].up {
            // It will be opened when it is there.
            self.real[node].noticed = false;
        }
    }

    fn begin_audit(&mut self, node: usize) {
        let Some(generation) = self.copies.begin_audit(node) else { return };
        let real = &mut self.real[node];
        real.failed.clear();
        if real.up && real.noticed {
            real.audit = Some((generation, real.files.values().copied().collect()));
        }
    }

    fn end_audit(&mut self, node: usize) {
        if let Some((generation, files)) = self.real[node].audit.take() {
            self.copies.end_audit(node, generation, &files, &self.known);
        }
    }

    fn begin_copy(&mut self, node: usize) {
        if self.real[node].audit.is_none()
            && let NextBatch::Job(job) = self.copies.next_batch(node, &self.real[node].failed)
        {
            self.real[node].copying = Some(job);
        }
    }

    fn end_copy(&mut self, node: usize) {
        let Some(job) = self.real[node].copying.take() else { return };
        // Of a batch that fails each file is tried.
        for piece in &job.pieces {
            let one = CopyJob { pieces: vec![piece.clone()], ..job };
            if self.copy(&one) {
                self.copies.copied(&one);
            } else {
                self.real[node].failed.insert(piece.number());
            }
        }
    }

    /// Whether both nodes are there and the source has what it shall give, undamaged.
    fn copy(&mut self, job: &CopyJob) -> bool {
        let from = &self.real[job.from];
        let is_sound =
            |piece: &Piece| from.files.get(&piece.number()).is_some_and(|file| !file.is_damaged);
        let possible = from.up && self.real[job.to].up && job.pieces.iter().all(is_sound);
        if possible {
            job.pieces.iter().for_each(|piece| self.put(job.to, piece));
        }
        possible
    }

    fn put(&mut self, node: usize, piece: &Piece) {
        let file = HeldFile {
            is_damaged: false,
            table: piece.table,
            slice: piece.slice,
            number: piece.number(),
            byte_count: piece.file.byte_count(),
        };
        self.real[node].files.insert(piece.number(), file);
    }

    /// A segment, or at times rows that are deleted of one that is there.
    fn new_file(&mut self, table: TableId, slice: SliceId) -> FileInfo {
        let deletes = self.random.random_bool(0.4);
        let tables = self.committed.lock();
        let entry = tables.iter().find(|entry| entry.id == table).unwrap();
        match entry.slices[slice.0 as usize].iter().last() {
            Some(segment) if deletes => FileInfo::Deletions(Arc::new(DeletionVectorInfo {
                id: DeletionVectorId(self.next_id),
                segment: segment.id,
                fingerprint: self.next_id,
                deleted_rows: 1,
                byte_count: 50 + self.next_id,
            })),
            _ => FileInfo::Segment(info(self.next_id)),
        }
    }

    /// A write on the nodes that serve, with things that happen in between.
    fn write(&mut self) {
        let stand_ins = self.copies.stand_ins().borrow().clone();
        let generations = self.copies.generations();
        let everywhere = self.random.random_bool(0.3);
        let mut pieces = Vec::new();
        let mut acknowledged = Acknowledged::new();
        for slice in 0..if everywhere { 1 } else { self.layout.slices() } {
            let Some(writer) = stand_ins[self.layout.node_of(slice)] else { return };
            let table = if everywhere { EVERYWHERE } else { TABLE };
            let slice = SliceId(slice as u32);
            let file = self.new_file(table, slice);
            let piece = Piece { table, slice, everywhere, file };
            self.next_id += 1;
            if !self.real[writer].up {
                return;
            }
            self.put(writer, &piece);
            acknowledged.insert(piece.number(), vec![(writer, generations[writer])]);
            pieces.push(piece);
        }
        for round in 0..4 {
            if self.random.random_bool(0.15) {
                let node = self.any_node();
                self.die(node);
            }
            let node = self.any_node();
            match self.random.random_range(0..4) {
                0 => self.notice(node),
                1 => self.begin_audit(node),
                2 => self.end_audit(node),
                _ => {}
            }
            match self.copies.register(&pieces, &acknowledged, round == 3) {
                Registered::Done => {
                    self.open.push(Open { pieces });
                    return;
                }
                Registered::Lost => return,
                Registered::Copy(jobs) => {
                    for job in jobs {
                        if self.copy(&job) {
                            for piece in &job.pieces {
                                let nodes = acknowledged.entry(piece.number()).or_default();
                                nodes.push((job.to, job.generation));
                            }
                        }
                    }
                }
            }
        }
    }

    fn end_transaction(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.open.len());
        let open = self.open.swap_remove(at);
        if self.random.random_bool(0.2) {
            return;
        }
        let mut tables = self.committed.lock();
        for piece in open.pieces {
            let table = tables.iter_mut().find(|table| table.id == piece.table).unwrap();
            let table = Arc::make_mut(table);
            match piece.file {
                FileInfo::Segment(info) => table.slices[piece.slice.0 as usize].push(info),
                // The segment may have gone meanwhile.
                FileInfo::Deletions(info) if table.segment(info.segment).is_some() => {
                    Arc::make_mut(&mut table.deletions).insert(info.segment, info);
                }
                FileInfo::Deletions(_) => {}
            }
        }
    }

    fn truncate(&mut self) {
        let at = self.random.random_range(0..2);
        let mut tables = self.committed.lock();
        let table = Arc::make_mut(&mut tables[at]);
        table.slices.iter_mut().for_each(SegmentList::clear);
        Arc::make_mut(&mut table.deletions).clear();
    }

    /// Everything that a query could ask for now.
    fn wanted(&self) -> Vec<Piece> {
        let mut pieces: Vec<Piece> =
            self.open.iter().flat_map(|open| open.pieces.clone()).collect();
        for table in self.committed.lock().iter() {
            let everywhere = table.id == EVERYWHERE;
            for (slice, segments) in table.slices.iter().enumerate() {
                let slice = SliceId(slice as u32);
                for info in segments {
                    let vector = table.deletions.get(&info.id).map(Arc::clone);
                    let files = [Some(FileInfo::Segment(Arc::clone(info)))];
                    let files = files.into_iter().chain([vector.map(FileInfo::Deletions)]);
                    let piece = |file| Piece { table: table.id, slice, everywhere, file };
                    pieces.extend(files.flatten().map(piece));
                }
            }
        }
        pieces
    }

    fn check(&self) {
        let stand_ins = self.copies.stand_ins().borrow().clone();
        for (node, stand_in) in stand_ins.iter().enumerate() {
            let Some(stand_in) = *stand_in else { continue };
            let real = &self.real[stand_in];
            // Of what the leader has not heard yet a query finds out by itself.
            if !real.up || !real.noticed {
                continue;
            }
            for piece in self.wanted() {
                if piece.everywhere || self.layout.node_of(piece.slice.0 as usize) == node {
                    let has = real.files.contains_key(&piece.number());
                    assert!(has, "node {stand_in} for {node} lacks {:?}", piece.number());
                }
            }
        }
    }

    /// All nodes are there and nothing happens but repair.
    fn settle(&mut self) {
        for _ in 0..20 {
            for node in 0..self.layout.nodes() {
                while !(self.real[node].up && self.real[node].noticed) {
                    self.notice(node);
                }
                self.begin_audit(node);
                self.end_audit(node);
                for _ in 0..50 {
                    self.begin_copy(node);
                    self.end_copy(node);
                }
                self.check();
            }
        }
    }
}

#[test]
fn who_serves_a_slice_has_all_of_it() {
    let seed = std::env::var("BLUESHIFT_SEED").ok().map(|text| text.parse().unwrap());
    let first = seed.unwrap_or_else(|| rand::rng().random_range(0..u64::MAX / 2));
    eprintln!("BLUESHIFT_SEED={first}");
    let (mut served, mut settled) = (0, 0);
    for seed in first..first + 300 {
        let mut world = World::new(seed);
        for _ in 0..300 {
            world.step();
            served += usize::from(world.copies.stand_ins().borrow().iter().all(Option::is_some));
        }
        world.settle();
        // What some node still has comes to all that shall have it.
        let files = world.real.iter().flat_map(|real| real.files.values());
        let sound = files.filter(|file| !file.is_damaged);
        let somewhere: BTreeSet<SegmentId> = sound.map(|file| file.number).collect();
        let lost = world.wanted().iter().any(|piece| !somewhere.contains(&piece.number()));
        for status in world.copies.status(&world.known) {
            assert!(status.missing == 0 || lost, "seed {seed}: {status:?}");
        }
        assert!(lost || !*world.copies.reads_damaged().borrow(), "seed {seed}");
        settled += usize::from(!lost);
    }
    assert!(served > 10_000, "the nodes serve now and then: {served}");
    assert!(settled > 50, "now and then nothing is lost: {settled}");
}

#[test]
fn a_write_waits_for_copies_and_not_for_nodes_that_are_away() {
    let layout = Layout::new(3, 2).unwrap();
    let copies = Copies::new(layout, 2);
    let known: Known = Arc::new(Wanted::default);
    for node in 0..3 {
        copies.opened(node);
        let generation = copies.begin_audit(node).unwrap();
        copies.end_audit(node, generation, &[], &known);
    }
    let file = FileInfo::Segment(info(7));
    let piece = Piece { table: TABLE, slice: SliceId(2), everywhere: false, file };
    let pieces = [piece];
    let generations = copies.generations();
    let mut acknowledged = Acknowledged::from([(SegmentId(7), vec![(1, generations[1])])]);
    let Registered::Copy(jobs) = copies.register(&pieces, &acknowledged, false) else { panic!() };
    assert_eq!(jobs.iter().map(|job| (job.from, job.to)).collect::<Vec<_>>(), [(1, 2)]);
    // The node that shall have the copy dies: the write goes on without it.
    copies.lost(2);
    assert!(matches!(copies.register(&pieces, &acknowledged, false), Registered::Done));
    // It comes back with nothing, and does not serve before it has what it lacks.
    copies.opened(2);
    let generation = copies.begin_audit(2).unwrap();
    assert_eq!(copies.end_audit(2, generation, &[], &known), Some(1));
    copies.lost(1);
    assert_eq!(**copies.stand_ins().borrow(), [Some(0), None, Some(2)]);
    // A write whose node was lost and came back is not believed.
    copies.opened(1);
    assert!(matches!(copies.register(&pieces, &acknowledged, false), Registered::Lost));
    acknowledged.insert(SegmentId(7), vec![(1, copies.generations()[1])]);
    assert!(matches!(copies.register(&pieces, &acknowledged, false), Registered::Copy(_)));
}

/// Two nodes that keep two copies; each has said what it has.
fn audited(files: [&[HeldFile]; 2], table: TableEntry) -> (Copies, Known) {
    let copies = Copies::new(Layout::new(2, 2).unwrap(), 2);
    let tables = vec![Arc::new(table)];
    let known: Known = Arc::new(move || Wanted { tables: tables.clone(), held: Vec::new() });
    for (node, files) in files.into_iter().enumerate() {
        copies.opened(node);
        let generation = copies.begin_audit(node).unwrap();
        copies.end_audit(node, generation, files, &known);
    }
    (copies, known)
}

#[test]
fn a_damaged_file_is_read_elsewhere_and_copied_anew() {
    let mut table = table(TABLE, Layout::new(2, 2).unwrap());
    for id in [7, 8] {
        table.slices[0].push(info(id));
    }
    let file = |id: u64, is_damaged| HeldFile {
        table: TABLE,
        slice: SliceId(0),
        number: SegmentId(id),
        byte_count: 100 + id,
        is_damaged,
    };
    let sound = [file(7, false), file(8, false)];
    let damaged = [file(7, true), file(8, false)];
    let other = [file(7, false), file(8, true)];
    let served = |copies: &Copies| (**copies.stand_ins().borrow()).to_vec();
    let (copies, known) = audited([&damaged, &sound], table.clone());
    assert_eq!(served(&copies), [Some(1), Some(1)]);
    assert!(!*copies.reads_damaged().borrow());
    assert!(copies.lacks_only_damaged(0));
    let NextBatch::Job(job) = copies.next_batch(0, &HashSet::new()) else { panic!() };
    assert_eq!((job.from, job.pieces.len(), job.pieces[0].number()), (1, 1, SegmentId(7)));
    copies.copied(&job);
    assert_eq!(served(&copies), [Some(0), Some(1)]);
    assert!(copies.status(&known).iter().all(|status| status.missing == 0));
    // Each has what the other has not: the first is read until they have helped each other.
    let (copies, _) = audited([&damaged, &other], table.clone());
    assert_eq!(served(&copies), [Some(0), Some(1)]);
    assert!(*copies.reads_damaged().borrow());
    let NextBatch::Job(job) = copies.next_batch(1, &HashSet::new()) else { panic!() };
    copies.copied(&job);
    assert_eq!(served(&copies), [Some(1), Some(1)]);
    assert!(!*copies.reads_damaged().borrow());
    // The same file is damaged on both: all the others can be read nevertheless.
    let (copies, _) = audited([&damaged, &damaged], table.clone());
    assert_eq!(served(&copies), [Some(0), Some(1)]);
    assert!(matches!(copies.next_batch(0, &HashSet::new()), NextBatch::NoSource));
    // One is damaged and the other is not there: none is read that is not there.
    let (copies, _) = audited([&[file(8, false)], &damaged], table);
    assert_eq!(served(&copies), [Some(1), Some(1)]);
}
