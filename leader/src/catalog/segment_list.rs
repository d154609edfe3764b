//! The segments of a slice of a table.
//!
//! Each version of a table has such a list, and a version comes with every commit: so lists share
//! what they have in common, and a copy costs little however long it is.

use std::iter::{Chain, FlatMap};
use std::slice;
use std::sync::Arc;

use storage::statistics::SegmentInfo;

/// Segments in a part that lists share.
const PART_SEGMENTS: usize = 64;

type Part = Arc<Vec<Arc<SegmentInfo>>>;

/// Segments in the order in which they were written.
#[derive(Debug, Clone, Default)]
pub struct SegmentList {
    /// Of [`PART_SEGMENTS`] each.
    parts: Vec<Part>,
    /// Fewer.
    rest: Vec<Arc<SegmentInfo>>,
}

impl SegmentList {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.parts.len() * PART_SEGMENTS + self.rest.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in their order.
    pub fn iter(&self) -> Iter<'_> {
        let of_part: fn(&Part) -> slice::Iter<'_, Arc<SegmentInfo>> = |part| part.iter();
        self.parts.iter().flat_map(of_part).chain(&self.rest)
    }

    /// Adds one at the end.
    pub fn push(&mut self, segment: Arc<SegmentInfo>) {
        self.rest.push(segment);
        if self.rest.len() == PART_SEGMENTS {
            self.parts.push(Arc::new(std::mem::take(&mut self.rest)));
        }
    }

    /// Leaves none.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Leaves those that are wanted. Parts before the first that is not stay shared.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(&Arc<SegmentInfo>) -> bool) {
        let Some(first) = self.iter().position(|segment| !is_wanted(segment)) else { return };
        let whole = (first / PART_SEGMENTS).min(self.parts.len());
        let left = Self { parts: self.parts[..whole].to_vec(), rest: Vec::new() };
        let before = std::mem::replace(self, left);
        let rest = before.iter().enumerate().skip(whole * PART_SEGMENTS);
        self.extend(
            rest.filter(|(position, segment)| {
                // Each is asked about once.
                *position < first || (*position > first && is_wanted(segment))
            })
            .map(|(_, segment)| Arc::clone(segment)),
        );
    }
}

/// Goes over the segments of a list.
pub type Iter<'a> = Chain<
    FlatMap<
        slice::Iter<'a, Part>,
        slice::Iter<'a, Arc<SegmentInfo>>,
        fn(&'a Part) -> slice::Iter<'a, Arc<SegmentInfo>>,
    >,
    slice::Iter<'a, Arc<SegmentInfo>>,
>;

impl<'a> IntoIterator for &'a SegmentList {
    type Item = &'a Arc<SegmentInfo>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Extend<Arc<SegmentInfo>> for SegmentList {
    fn extend<I: IntoIterator<Item = Arc<SegmentInfo>>>(&mut self, segments: I) {
        segments.into_iter().for_each(|segment| self.push(segment));
    }
}

impl FromIterator<Arc<SegmentInfo>> for SegmentList {
    fn from_iter<I: IntoIterator<Item = Arc<SegmentInfo>>>(segments: I) -> Self {
        let mut list = Self::default();
        list.extend(segments);
        list
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use storage::ids::SegmentId;

    use super::*;

    fn segment(id: u64) -> Arc<SegmentInfo> {
        let columns = Vec::new();
        let id = SegmentId(id);
        Arc::new(SegmentInfo { id, fingerprint: 0, row_count: 1, byte_count: 1, columns })
    }

    #[derive(Debug, Clone)]
    enum Step {
        Extend(u64),
        /// Leaves those that this does not divide.
        Thin(u64),
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..150_u64).prop_map(Step::Extend),
            3 => (2..5_u64).prop_map(Step::Thin),
            1 => Just(Step::Clear),
        ]
    }

    fn ids(list: &SegmentList) -> Vec<u64> {
        list.iter().map(|segment| segment.id.0).collect()
    }

    proptest! {
        #[test]
        fn a_list_is_as_a_vector(steps in prop::collection::vec(step(), 1..12)) {
            let (mut list, mut model, mut next) = (SegmentList::new(), Vec::new(), 0);
            for step in steps {
                let (before, model_before) = (list.clone(), model.clone());
                match step {
                    Step::Extend(count) => {
                        list.extend((next..next + count).map(segment));
                        model.extend(next..next + count);
                        next += count;
                    }
                    Step::Thin(divisor) => {
                        list.retain(|segment| segment.id.0 % divisor != 0);
                        model.retain(|id| id % divisor != 0);
                    }
                    Step::Clear => {
                        list.clear();
                        model.clear();
                    }
                }
                prop_assert_eq!(ids(&list), model.clone());
                prop_assert_eq!((list.len(), list.is_empty()), (model.len(), model.is_empty()));
                // A copy is a list of its own.
                prop_assert_eq!(ids(&before), model_before);
            }
        }
    }
}
