//! Bad input against real processes: every case ends in one clear line that says what to do, with the right
//! exit code, a counter where it was a packet, and with live untouched.
//!
//! A farm here is one controller and a few nodes on loopback multicast, as `farmcast demo` starts them.
#![cfg(all(feature = "node", feature = "ccm"))]
#![allow(clippy::disallowed_methods, reason = "who watches real processes looks at the clock and waits")]

mod access;
mod alone;
mod assignment;
mod checkpoints;
mod console;
mod control;
mod crashes;
mod database;
mod day;
mod diff;
mod disk;
mod doctor;
mod encryption;
mod filters;
mod forged;
mod garbage;
mod harness;
mod jobs;
mod joining;
mod membership;
mod mirror;
mod notify;
mod policy;
mod remote;
mod removal;
mod rollback;
mod schedule;
mod settings;
mod sources;
mod split;
mod steering;
mod synchronize;
mod taken;
mod torn;
mod uploads;
mod verify;
