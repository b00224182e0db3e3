//! Several segments behind a router: the very farm of `tests/lab`, measured.
#![allow(dead_code, reason = "the tests use the rest")]

#[path = "../../tests/lab/delay.rs"]
pub mod delay;
#[path = "../../tests/lab/farm.rs"]
pub mod farm;
#[path = "../../tests/farm/harness.rs"]
pub mod harness;
#[path = "../../tests/lab/spread.rs"]
pub mod spread;
#[path = "../../tests/lab/world.rs"]
pub mod world;
