//! The queues from the inputs of a repartition to its outputs.
//!
//! A queue has no bound of its own: an output that is not read must not keep rows from one that is.
//! But no input adds to any queue while every output has rows to read. So an input waits only for
//! outputs that can go on, and an output only for inputs that can.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arrow::array::RecordBatch;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::SendableRecordBatchStream;
use parking_lot::Mutex;

use super::memory::Reserved;

/// A batch on its way to an output.
pub(super) enum Entry {
    /// In memory, with what is reserved for it.
    Held { batch: RecordBatch, _reserved: Option<Reserved> },
    /// On the disk, written whole: the next one that was written for this output.
    Spilled,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// In which the batches on the disk are read: from before the first of them on, and until it is
    /// taken.
    spilled: Option<SendableRecordBatchStream>,
    /// A batch that nothing was reserved for is there, or on its way.
    has_unreserved: bool,
    /// Nobody reads it any more.
    is_closed: bool,
    reader: Option<Waker>,
}

struct State {
    queues: Vec<Queue>,
    /// How many queues are open and empty. Inputs wait while this is 0.
    empty: usize,
    /// The inputs that wait.
    inputs: Vec<Waker>,
    is_finished: bool,
    failure: Option<Arc<DataFusionError>>,
}

impl State {
    fn wake_inputs(&mut self) {
        self.inputs.drain(..).for_each(Waker::wake);
    }

    fn wake_readers(&mut self) {
        self.queues.iter_mut().filter_map(|queue| queue.reader.take()).for_each(Waker::wake);
    }
}

/// One queue for each output.
pub(super) struct Queues {
    state: Mutex<State>,
}

impl Queues {
    pub(super) fn new(outputs: usize) -> Self {
        let queues = std::iter::repeat_with(Queue::default).take(outputs).collect();
        let state =
            State { queues, empty: outputs, inputs: Vec::new(), is_finished: false, failure: None };
        Self { state: Mutex::new(state) }
    }

    /// Whether an output that has nothing to read may have a batch that nothing is reserved for: one
    /// at a time. Who is told so pushes it.
    pub(super) fn may_hand_over(&self, output: usize) -> bool {
        let queue = &mut self.state.lock().queues[output];
        queue.entries.is_empty() && !std::mem::replace(&mut queue.has_unreserved, true)
    }

    /// From now on there may be batches of an output on the disk.
    pub(super) fn set_spilled(&self, output: usize, batches: SendableRecordBatchStream) {
        self.state.lock().queues[output].spilled = Some(batches);
    }

    /// What [`Self::set_spilled`] has set.
    pub(super) fn take_spilled(&self, output: usize) -> Option<SendableRecordBatchStream> {
        self.state.lock().queues[output].spilled.take()
    }

    /// Adds what is in `entry` when an output has nothing to read. False if this output is not read
    /// any more; the entry is dropped then.
    pub(super) fn poll_push(
        &self,
        output: usize,
        entry: &mut Option<Entry>,
        context: &Context<'_>,
    ) -> Poll<bool> {
        let mut state = self.state.lock();
        if state.failure.is_some() || state.queues[output].is_closed {
            drop(state);
            *entry = None;
            return Poll::Ready(false);
        }
        if state.empty == 0 {
            state.inputs.push(context.waker().clone());
            return Poll::Pending;
        }
        let state = &mut *state;
        let queue = &mut state.queues[output];
        if queue.entries.is_empty() {
            state.empty -= 1;
        }
        queue.entries.extend(entry.take());
        if let Some(reader) = queue.reader.take() {
            reader.wake();
        }
        Poll::Ready(true)
    }

    /// The next entry of an output; none when there will be no more.
    ///
    /// # Errors
    /// What an input failed with: before all that is still in the queue.
    pub(super) fn poll_pop(
        &self,
        output: usize,
        context: &Context<'_>,
    ) -> Poll<Option<Result<Entry>>> {
        let mut state = self.state.lock();
        if let Some(failure) = &state.failure {
            return Poll::Ready(Some(Err(DataFusionError::from(failure))));
        }
        let is_finished = state.is_finished;
        let queue = &mut state.queues[output];
        if queue.is_closed {
            return Poll::Ready(Some(internal_err!("an output that was closed is read")));
        }
        let Some(entry) = queue.entries.pop_front() else {
            if is_finished {
                return Poll::Ready(None);
            }
            queue.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        if matches!(entry, Entry::Held { _reserved: None, .. }) {
            queue.has_unreserved = false;
        }
        if queue.entries.is_empty() {
            state.empty += 1;
            state.wake_inputs();
        }
        Poll::Ready(Some(Ok(entry)))
    }

    /// An output is not read any more. True if no other is.
    pub(super) fn close(&self, output: usize) -> bool {
        let mut state = self.state.lock();
        let queue = &mut state.queues[output];
        let (entries, spilled) = (std::mem::take(&mut queue.entries), queue.spilled.take());
        if !std::mem::replace(&mut queue.is_closed, true) && entries.is_empty() {
            state.empty -= 1;
        }
        // Those that have a batch for this output need not wait.
        state.wake_inputs();
        let is_last = state.queues.iter().all(|queue| queue.is_closed);
        drop(state);
        drop((entries, spilled));
        is_last
    }

    /// All inputs have ended.
    pub(super) fn finish(&self) {
        let mut state = self.state.lock();
        state.is_finished = true;
        state.wake_readers();
    }

    /// An input has failed: every output gets the error, and no input goes on.
    pub(super) fn fail(&self, error: DataFusionError) {
        let mut state = self.state.lock();
        state.failure.get_or_insert_with(|| Arc::new(error));
        state.wake_readers();
        state.wake_inputs();
    }
}
