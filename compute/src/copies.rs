//! Which rows of a copy are meant: the copies of a table that is on every node have the same rows, but
//! not at the same places.
//!
//! A statement finds rows in one copy and sends their values to every node; each node looks for as
//! many equal rows in its own copy. Rows that are equal in all columns are the same to everybody, so
//! that any of them will do. If a copy does not have them the copies differ, which is an error.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use parking_lot::Mutex;
use storage::ids::{SegmentId, SliceId};
use storage::row_set::RowSet;
use storage::segment::Segment;

use crate::error::{storage_error, with_sqlstate};
use crate::node::Node;
use crate::table::TableVersion;

/// Collects the values of rows, and finds the rows of a copy that have them.
#[derive(Debug)]
pub(crate) struct CopyMatcher {
    converter: RowConverter,
    wanted: Mutex<Wanted>,
}

#[derive(Debug)]
struct Wanted {
    /// How many rows with these values.
    counts: HashMap<Box<[u8]>, u64>,
    reservation: MemoryReservation,
}

/// Roughly the bytes of an entry beside its values.
const ENTRY_BYTES: usize = 64;

impl CopyMatcher {
    /// No rows are wanted yet.
    pub(crate) fn new(version: &TableVersion, pool: &Arc<dyn MemoryPool>) -> Result<Self> {
        let columns = &version.schema.columns;
        let fields = columns.iter().map(|c| SortField::new(c.column_type.arrow_type()));
        let reservation = MemoryConsumer::new("rows of copies").register(pool);
        let wanted = Mutex::new(Wanted { counts: HashMap::new(), reservation });
        Ok(Self { converter: RowConverter::new(fields.collect())?, wanted })
    }

    /// Takes rows in: the columns of the table.
    pub(crate) fn add(&self, columns: &[ArrayRef]) -> Result<()> {
        let rows = self.converter.convert_columns(columns)?;
        let mut wanted = self.wanted.lock();
        for row in &rows {
            if let Some(count) = wanted.counts.get_mut(row.as_ref()) {
                *count += 1;
                continue;
            }
            wanted.reservation.try_grow(row.as_ref().len() + ENTRY_BYTES)?;
            wanted.counts.insert(Box::from(row.as_ref()), 1);
        }
        Ok(())
    }

    /// Finds the rows in the copy of a node. Blocks.
    ///
    /// # Errors
    /// When a segment cannot be read, and when the copy does not have all of them.
    pub(crate) fn find(
        &self,
        node: &Node,
        version: &TableVersion,
    ) -> Result<Vec<(SegmentId, RowSet)>> {
        let mut wanted = self.wanted.lock();
        let mut found = Vec::new();
        for slice in node.own_slices() {
            let segments = version.slices.get(slice).map_or(&[][..], Vec::as_slice);
            let slice = SliceId(u32::try_from(slice).map_err(to_internal)?);
            for info in segments {
                if wanted.counts.is_empty() {
                    break;
                }
                let vector = version.deletions.get(&info.id).map(Arc::as_ref);
                let (table, schema) = (version.table, &version.schema);
                let segment = node.live_segment(table, slice, info, vector, schema)?;
                let rows = self.find_in(&segment, &mut wanted)?;
                if !rows.is_empty() {
                    found.push((info.id, rows));
                }
            }
        }
        if !wanted.counts.is_empty() {
            let message = format!("the copies of table \"{}\" differ", version.name);
            return Err(with_sqlstate("XX001", message));
        }
        wanted.reservation.free();
        Ok(found)
    }

    fn find_in(&self, segment: &Segment, wanted: &mut Wanted) -> Result<RowSet> {
        let mut found = RowSet::new(segment.row_count());
        let columns = segment.schema().columns.len();
        for row_group in 0..segment.row_group_count() {
            let scan = segment.scan_row_group(row_group, &[]).map_err(storage_error)?;
            let Some(mut scan) = scan else { continue };
            while let Some(window) = scan.next_window().map_err(storage_error)? {
                let arrays: Vec<ArrayRef> = (0..columns)
                    .map(|column| window.decode(column).map_err(storage_error))
                    .collect::<Result<_>>()?;
                let rows = self.converter.convert_columns(&arrays)?;
                let numbers = window.row_numbers();
                if rows.num_rows() != numbers.len() {
                    return internal_err!("a window has rows without a number");
                }
                let mut hits = Vec::new();
                for (row, number) in rows.iter().zip(numbers) {
                    let Some(count) = wanted.counts.get_mut(row.as_ref()) else { continue };
                    hits.push(number);
                    *count -= 1;
                    if *count == 0 {
                        wanted.counts.remove(row.as_ref());
                    }
                }
                found.insert(&hits);
            }
        }
        Ok(found)
    }
}

fn to_internal(error: std::num::TryFromIntError) -> DataFusionError {
    DataFusionError::Internal(error.to_string())
}
