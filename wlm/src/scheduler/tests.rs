//! The scheduler by hand: the documented scenarios, and one test per promise. What happens when
//! everything happens at once is the simulation's part, in `tests/sim`.

mod auto;
mod ends;
mod harness;
mod hops;
mod reconfigure;
mod rules;
mod scenarios;
mod short;
