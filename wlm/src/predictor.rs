//! How long a query will run and how much memory it will use, learned while queries run.
//!
//! Two sources are combined, both in logarithms, because run times span seven orders of magnitude
//! and errors are ratios:
//!
//! * a linear regression over the features of the plan, kept up to date by recursive least squares
//!   with slow forgetting; it serves plans never seen before;
//! * a history per plan shape: mean, spread and mean features of earlier runs. A plan of a known
//!   shape is predicted by its history, moved along the regression by the difference of its
//!   features, so that the same report over ten times the rows is predicted to take longer.
//!
//! A prediction carries the typical value and one that four of five queries stay under, from the
//! spread of past errors: where the model is bad, it knows. [`PredictionError`] says how bad.
//!
//! A query that did not complete teaches only if it ran longer than was predicted.
//! Everything is plain arithmetic on what was passed in: the same history gives the same numbers.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::query::PlanFeatures;
use crate::time::micros;

/// Plan shapes whose history is kept; the one unused for longest makes place.
pub const SHAPES_MAX: usize = 4_096;

/// Standard deviations above the mean that four of five values stay under.
const UPPER_DEVIATIONS: f64 = 0.84;
/// Spread of the errors, in natural logarithms, before anything is learned: a factor of four.
const PRIOR_SPREAD: f64 = 1.4;
/// What one observation may at most move the model: a factor of e^3 is taken for an accident.
const RESIDUAL_MAX: f64 = 3.0;
/// How much of the past the regression keeps per observation.
const KEEP: f64 = 0.999;
/// Above this uncertainty nothing is forgotten: inputs that never vary would let it grow forever.
const UNCERTAINTY_MAX: f64 = 100.0;
/// The least weight of the newest run in the history of a shape.
const SHAPE_WEIGHT_MIN: f64 = 0.2;
/// Runs of a shape that count as much as the regression does.
const SHAPE_TRUST: f64 = 0.2;
/// Runs that the spread within other shapes counts for in a shape's history.
const SHAPE_SPREAD_RUNS: f64 = 2.0;
/// The weight of the newest observation in the running figures of the error.
const ERROR_WEIGHT: f64 = 1.0 / 64.0;

const TIME_US_MAX: f64 = 86_400.0e6;
const MEMORY_BYTES_MAX: f64 = 1.0e15;

const FEATURES: usize = 9;
type Vector = [f64; FEATURES];

/// Weights before anything is learned: logarithm of microseconds. An empty plan takes a
/// millisecond, ten times the rows and bytes three to ten times as long.
const PRIOR_TIME: Vector = [7.0, 0.5, 0.4, 0.1, 0.05, 0.1, 0.05, 0.05, 0.0];
/// The same for bytes: an empty plan uses a megabyte, other plans what the planner expects.
const PRIOR_MEMORY: Vector = [13.8, 0.1, 0.1, 0.6, 0.05, 0.2, 0.1, 0.1, 0.0];

/// What a query is expected to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prediction {
    /// Typical execution time.
    pub time: Duration,
    /// Execution time that four of five such queries stay under.
    pub time_upper: Duration,
    /// Typical peak of memory on one node.
    pub memory_bytes: u64,
    /// Peak of memory that four of five such queries stay under.
    pub memory_bytes_upper: u64,
    /// Whether a plan of this shape has run before.
    pub is_known_shape: bool,
}

/// How wrong predictions of execution time have been.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PredictionError {
    /// Completed queries that were compared with their prediction.
    pub queries: u64,
    /// Those that took between half and twice the predicted time.
    pub within_factor_two: u64,
    /// Those that took longer than the upper prediction.
    pub above_upper: u64,
    /// Mean of |ln(actual / predicted)|, the newest counting most: 0.69 is a factor of two.
    pub mean_log_error: f64,
    /// Mean of ln(actual / predicted), the newest counting most: above 0, queries take longer
    /// than predicted.
    pub mean_log_bias: f64,
}

/// The model.
#[derive(Debug, Clone)]
pub(crate) struct Predictor {
    time: Regression,
    memory: Regression,
    shapes: HashMap<u64, Shape>,
    /// When each shape was last used, to find the one unused for longest.
    uses: BTreeMap<u64, u64>,
    next_use: u64,
    error: PredictionError,
}

#[derive(Debug, Clone)]
struct Shape {
    runs: f64,
    features: Vector,
    time: Track,
    memory: Track,
    last_use: u64,
}

/// Mean and spread of a logarithm.
#[derive(Debug, Clone, Copy, Default)]
struct Track {
    mean: f64,
    /// Mean square of the error that the mean made, each time before it was updated.
    error_square: f64,
}

#[derive(Debug, Clone)]
struct Regression {
    weights: Vector,
    uncertainty: [Vector; FEATURES],
    /// Mean square of its errors.
    error_square: f64,
    /// Mean square of the errors that the histories of known shapes made: how alike runs of one
    /// shape are in general.
    within_shape_square: f64,
}

impl Predictor {
    pub(crate) fn new() -> Self {
        Self {
            time: Regression::new(PRIOR_TIME),
            memory: Regression::new(PRIOR_MEMORY),
            shapes: HashMap::new(),
            uses: BTreeMap::new(),
            next_use: 0,
            error: PredictionError::default(),
        }
    }

    pub(crate) fn predict(&self, features: &PlanFeatures) -> Prediction {
        let x = vector(features);
        let shape = self.shapes.get(&features.shape).filter(|_| features.shape != 0);
        let (time, time_spread) = combine(&self.time, shape, |shape| shape.time, &x);
        let (memory, memory_spread) = combine(&self.memory, shape, |shape| shape.memory, &x);
        let upper = |mean: f64, spread: f64| mean + UPPER_DEVIATIONS * spread;
        Prediction {
            time: to_duration(time),
            time_upper: to_duration(upper(time, time_spread)),
            memory_bytes: to_bytes(memory),
            memory_bytes_upper: to_bytes(upper(memory, memory_spread)),
            is_known_shape: shape.is_some(),
        }
    }

    /// A query completed.
    pub(crate) fn learn(
        &mut self,
        features: &PlanFeatures,
        predicted: &Prediction,
        time: Duration,
        memory_bytes: Option<u64>,
    ) {
        self.measure(predicted, time);
        self.update(features, ln_time(time), memory_bytes.map(ln_bytes));
    }

    /// A query was stopped after `time`: all that is known is that it takes longer.
    pub(crate) fn learn_at_least(
        &mut self,
        features: &PlanFeatures,
        predicted: &Prediction,
        time: Duration,
    ) {
        if time > predicted.time {
            self.update(features, ln_time(time), None);
        }
    }

    pub(crate) fn error(&self) -> PredictionError {
        self.error
    }

    fn measure(&mut self, predicted: &Prediction, time: Duration) {
        let log = ln_time(time) - ln_time(predicted.time);
        let error = &mut self.error;
        error.queries += 1;
        error.within_factor_two += u64::from(log.abs() <= std::f64::consts::LN_2);
        error.above_upper += u64::from(time > predicted.time_upper);
        let weight = ERROR_WEIGHT.max(1.0 / error.queries as f64);
        error.mean_log_error += weight * (log.abs() - error.mean_log_error);
        error.mean_log_bias += weight * (log - error.mean_log_bias);
    }

    fn update(&mut self, features: &PlanFeatures, time: f64, memory: Option<f64>) {
        let x = vector(features);
        self.update_shape(features.shape, &x, time, memory);
        self.time.learn(&x, time);
        if let Some(memory) = memory {
            self.memory.learn(&x, memory);
        }
    }

    fn update_shape(&mut self, id: u64, x: &Vector, time: f64, memory: Option<f64>) {
        if id == 0 {
            return;
        }
        let stamp = self.next_use;
        self.next_use += 1;
        if let Some(shape) = self.shapes.get_mut(&id) {
            self.uses.remove(&shape.last_use);
            shape.update(x, (&mut self.time, time), (&mut self.memory, memory));
            shape.last_use = stamp;
        } else {
            self.forget_one_if_full();
            let memory = memory.unwrap_or_else(|| self.memory.estimate(x));
            let track = |mean, regression: &Regression| Track {
                mean,
                error_square: regression.within_shape_square,
            };
            let (time, memory) = (track(time, &self.time), track(memory, &self.memory));
            let shape = Shape { runs: 1.0, features: *x, time, memory, last_use: stamp };
            self.shapes.insert(id, shape);
        }
        self.uses.insert(stamp, id);
        assert_eq!(self.shapes.len(), self.uses.len(), "each shape has one last use");
    }

    fn forget_one_if_full(&mut self) {
        if self.shapes.len() >= SHAPES_MAX
            && let Some((_, oldest)) = self.uses.pop_first()
        {
            self.shapes.remove(&oldest);
        }
    }
}

/// Mean and spread of the prediction, from the regression and what history there is.
fn combine(
    regression: &Regression,
    shape: Option<&Shape>,
    track: impl Fn(&Shape) -> Track,
    x: &Vector,
) -> (f64, f64) {
    let general = regression.estimate(x);
    let Some(shape) = shape else { return (general, regression.error_square.sqrt()) };
    let history = track(shape);
    let moved = history.mean + general - regression.estimate(&shape.features);
    let weight = shape.runs / (shape.runs + SHAPE_TRUST);
    let mean = weight * moved + (1.0 - weight) * general;
    let square = (shape.runs * history.error_square
        + SHAPE_SPREAD_RUNS * regression.within_shape_square)
        / (shape.runs + SHAPE_SPREAD_RUNS);
    (mean, square.sqrt())
}

impl Shape {
    /// Another run: with each figure comes the regression that its errors are measured by.
    fn update(
        &mut self,
        x: &Vector,
        (time_model, time): (&mut Regression, f64),
        (memory_model, memory): (&mut Regression, Option<f64>),
    ) {
        self.runs += 1.0;
        let weight = SHAPE_WEIGHT_MIN.max(1.0 / self.runs);
        let moved = time_model.estimate(x) - time_model.estimate(&self.features);
        time_model.learn_within(self.time.update(time, moved, weight));
        if let Some(memory) = memory {
            let moved = memory_model.estimate(x) - memory_model.estimate(&self.features);
            memory_model.learn_within(self.memory.update(memory, moved, weight));
        }
        for (mean, value) in self.features.iter_mut().zip(x) {
            *mean += weight * (value - *mean);
        }
    }
}

impl Track {
    /// Answers with the error that the mean, moved along the regression, has made.
    fn update(&mut self, value: f64, moved: f64, weight: f64) -> f64 {
        let error = value - (self.mean + moved);
        self.error_square += weight * (error * error - self.error_square);
        self.mean += weight * (value - self.mean);
        error
    }
}

impl Regression {
    fn new(weights: Vector) -> Self {
        let mut uncertainty = [[0.0; FEATURES]; FEATURES];
        for (index, row) in uncertainty.iter_mut().enumerate() {
            row[index] = 0.3;
        }
        let prior = PRIOR_SPREAD * PRIOR_SPREAD;
        Self { weights, uncertainty, error_square: prior, within_shape_square: prior }
    }

    fn estimate(&self, x: &Vector) -> f64 {
        dot(&self.weights, x)
    }

    /// The history of a known shape erred by so much.
    fn learn_within(&mut self, error: f64) {
        self.within_shape_square += ERROR_WEIGHT * (error * error - self.within_shape_square);
    }

    /// One step of recursive least squares.
    fn learn(&mut self, x: &Vector, value: f64) {
        let error = (value - self.estimate(x)).clamp(-RESIDUAL_MAX, RESIDUAL_MAX);
        self.error_square += ERROR_WEIGHT * (error * error - self.error_square);
        let mut direction = [0.0; FEATURES];
        for (slot, row) in direction.iter_mut().zip(&self.uncertainty) {
            *slot = dot(row, x);
        }
        let scale = KEEP + dot(&direction, x);
        let trace: f64 = (0..FEATURES).map(|index| self.uncertainty[index][index]).sum();
        let grow = if trace < UNCERTAINTY_MAX { 1.0 / KEEP } else { 1.0 };
        for row in 0..FEATURES {
            self.weights[row] += direction[row] / scale * error;
            // The upper triangle is computed and mirrored, so that the matrix stays symmetric.
            for column in row..FEATURES {
                let reduced = direction[row] * direction[column] / scale;
                let value = (self.uncertainty[row][column] - reduced) * grow;
                self.uncertainty[row][column] = value;
                self.uncertainty[column][row] = value;
            }
        }
        assert!(self.weights.iter().all(|weight| weight.is_finite()), "the regression is finite");
    }
}

fn dot(left: &Vector, right: &Vector) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

/// Features in the scale in which run time is roughly linear. All are bounded.
fn vector(features: &PlanFeatures) -> Vector {
    let log = |value: u64, unit: f64| (value as f64 / unit).ln_1p();
    let count = |value: u32| f64::from(value.min(50)).sqrt();
    let rows = log(features.rows, 1_000.0);
    [
        1.0,
        rows,
        log(features.bytes, 1.0e6),
        log(features.working_bytes, 1.0e6),
        count(features.scans),
        count(features.joins),
        count(features.aggregates),
        count(features.sorts),
        rows * count(features.joins) / 10.0,
    ]
}

fn ln_time(time: Duration) -> f64 {
    (micros(time).max(1) as f64).min(TIME_US_MAX).ln()
}

fn ln_bytes(bytes: u64) -> f64 {
    (bytes.max(1) as f64).min(MEMORY_BYTES_MAX).ln()
}

fn to_duration(ln_us: f64) -> Duration {
    Duration::from_micros(ln_us.exp().clamp(1.0, TIME_US_MAX) as u64)
}

fn to_bytes(ln_bytes: f64) -> u64 {
    ln_bytes.exp().clamp(1.0, MEMORY_BYTES_MAX) as u64
}
