//! The predictor against synthetic work whose law it does not know.

use super::*;

/// Random numbers without a crate: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Logarithmically even between the two.
    fn spread(&mut self, min: f64, max: f64) -> f64 {
        (min.ln() + self.unit() * (max.ln() - min.ln())).exp()
    }
}

/// A plan of one of `shapes` shapes.
fn plan(random: &mut Random, shapes: u64) -> PlanFeatures {
    let shape = 1 + random.next() % shapes;
    let joins = u32::try_from(shape % 5).unwrap();
    let rows = random.spread(1e3, 1e8) as u64;
    let bytes = rows * 40;
    PlanFeatures { shape, rows, bytes, scans: joins + 1, joins, ..PlanFeatures::default() }
}

/// How long a plan takes: by rows and joins, times a factor of its shape that no feature shows,
/// times noise.
fn law(random: &mut Random, plan: &PlanFeatures) -> Duration {
    let hidden = [0.1, 1.0, 6.0][usize::try_from(plan.shape % 3).unwrap()];
    let base_us = 2_000.0 + plan.rows as f64 * 0.2 * f64::from(1 + plan.joins);
    let noise = random.spread(0.8, 1.25);
    Duration::from_micros((base_us * hidden * noise) as u64)
}

/// Mean of |ln(actual / predicted)| over the last of `count` queries.
fn mean_error(count: u32, shapes: u64) -> f64 {
    let (mut random, mut predictor) = (Random(7), Predictor::new());
    let mut errors = Vec::new();
    for number in 0..count {
        let plan = plan(&mut random, shapes);
        let actual = law(&mut random, &plan);
        let predicted = predictor.predict(&plan);
        if number >= count - 500 {
            errors.push((ln_time(actual) - ln_time(predicted.time)).abs());
        }
        predictor.learn(&plan, &predicted, actual, Some(plan.rows));
    }
    errors.iter().sum::<f64>() / errors.len() as f64
}

#[test]
fn known_shapes_are_predicted_within_a_quarter_or_so() {
    let error = mean_error(4_000, 30);
    assert!(error < 0.25, "mean error e^{error:.2}");
}

#[test]
fn unknown_shapes_are_predicted_far_better_than_by_the_mean() {
    // Every shape is new. A constant would err by 2.9 on average: times span five decades.
    let error = mean_error(4_000, u64::MAX - 1);
    assert!(error < 1.4, "mean error e^{error:.2}; the hidden factor alone makes 1.36");
}

#[test]
fn the_upper_prediction_holds_for_about_four_of_five() {
    let (mut random, mut predictor) = (Random(3), Predictor::new());
    for _ in 0..6_000 {
        let plan = plan(&mut random, 50);
        let actual = law(&mut random, &plan);
        let predicted = predictor.predict(&plan);
        assert!(predicted.time <= predicted.time_upper);
        predictor.learn(&plan, &predicted, actual, None);
    }
    let error = predictor.error();
    let above = error.above_upper as f64 / error.queries as f64;
    assert!((0.1..0.3).contains(&above), "{error:?}");
    assert!(error.within_factor_two > error.queries * 3 / 4, "{error:?}");
    assert!(error.mean_log_error < 0.4 && error.mean_log_bias.abs() < 0.2, "{error:?}");
}

#[test]
fn a_shape_is_known_after_one_run_and_scales_with_its_rows() {
    let mut random = Random(1);
    let mut predictor = Predictor::new();
    for _ in 0..2_000 {
        let plan = plan(&mut random, 20);
        let actual = law(&mut random, &plan);
        predictor.learn(&plan, &predictor.predict(&plan), actual, Some(1 << 20));
    }
    // A shape of its own, a hundred times slower than its features suggest.
    let odd = PlanFeatures {
        shape: 99,
        rows: 10_000,
        bytes: 400_000,
        scans: 1,
        ..PlanFeatures::default()
    };
    let before = predictor.predict(&odd);
    assert!(!before.is_known_shape && before.time < Duration::from_millis(100), "{before:?}");
    for _ in 0..3 {
        let predicted = predictor.predict(&odd);
        predictor.learn(&odd, &predicted, Duration::from_secs(4), Some(1 << 30));
    }
    let after = predictor.predict(&odd);
    assert!(after.is_known_shape && after.time > Duration::from_secs(1), "{after:?}");
    assert!(after.memory_bytes > 1 << 27, "{after:?}");
    let larger = PlanFeatures { rows: 1_000_000, bytes: 40_000_000, ..odd };
    assert!(predictor.predict(&larger).time > after.time * 10);
}

#[test]
fn a_stopped_query_teaches_only_that_it_takes_longer() {
    let plan = PlanFeatures { shape: 5, rows: 1_000, ..PlanFeatures::default() };
    let mut predictor = Predictor::new();
    let first = predictor.predict(&plan);
    predictor.learn_at_least(&plan, &first, first.time / 2);
    assert_eq!(predictor.predict(&plan), first);
    predictor.learn_at_least(&plan, &first, Duration::from_secs(60));
    assert!(predictor.predict(&plan).time > Duration::from_secs(5));
    assert_eq!(predictor.error().queries, 0, "there is nothing to compare with");
}

#[test]
fn the_history_is_bounded_and_forgets_the_unused() {
    let mut predictor = Predictor::new();
    let run = |predictor: &mut Predictor, shape: u64| {
        let plan = PlanFeatures { shape, rows: 10, ..PlanFeatures::default() };
        let predicted = predictor.predict(&plan);
        predictor.learn(&plan, &predicted, Duration::from_millis(10), None);
    };
    for shape in 1..=SHAPES_MAX as u64 {
        run(&mut predictor, shape);
    }
    run(&mut predictor, 1);
    run(&mut predictor, 1_000_000);
    assert_eq!(predictor.shapes.len(), SHAPES_MAX);
    assert!(predictor.shapes.contains_key(&1) && !predictor.shapes.contains_key(&2));
}

#[test]
fn extremes_stay_finite() {
    let mut predictor = Predictor::new();
    let most = PlanFeatures {
        shape: 1,
        rows: u64::MAX,
        bytes: u64::MAX,
        working_bytes: u64::MAX,
        scans: u32::MAX,
        joins: u32::MAX,
        aggregates: u32::MAX,
        sorts: u32::MAX,
    };
    let least = PlanFeatures { shape: 2, ..PlanFeatures::default() };
    for (plan, time) in
        [(most, Duration::MAX), (least, Duration::ZERO)].into_iter().cycle().take(4_000)
    {
        let predicted = predictor.predict(&plan);
        predictor.learn(&plan, &predicted, time, Some(u64::MAX));
    }
    assert!(predictor.predict(&least).time < Duration::from_millis(1));
    assert!(predictor.predict(&most).time > Duration::from_secs(3_600));
    // One plan over and over: nothing new comes in, and the model must not lose its footing.
    for _ in 0..30_000 {
        let predicted = predictor.predict(&least);
        predictor.learn(&least, &predicted, Duration::from_millis(1), None);
    }
    assert!(predictor.time.weights.iter().all(|weight| weight.abs() < 1_000.0));
}
