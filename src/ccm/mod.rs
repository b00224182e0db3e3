//! The Content Control Manager: composes assignments, hands them out, decides, and remembers (CM).
//!
//! The database says how things are (`db`, `model`); pure planners say what follows (`compose::plan`,
//! `distribute`, `rollout`, `groups`, `scheduler`, `policy`); `execute` does it; `intake` takes in what nodes send;
//! `api` speaks HTTP.

mod access;
pub mod api;
mod certificate;
mod checkpoints;
mod clock;
mod compare;
mod compose;
mod config;
mod controller;
mod db;
pub mod distribute;
mod echo;
mod execute;
mod filter;
mod flow;
mod forecast;
mod groups;
mod init;
mod intake;
mod issue;
mod keys;
mod lock;
mod meeting;
pub mod model;
mod notify;
mod parts;
mod permission;
mod policy;
mod reach;
mod remote;
mod restore;
pub mod rollout;
mod runlog;
pub mod sample;
mod scheduler;
mod scrub;
mod serve;
mod staging;
mod stale;
#[cfg(test)]
mod testing;
mod textport;
mod uploads;

pub use config::{Config, ConfigError, DEFAULT_SOCKET};
pub use init::{InitError, InitOptions, init};
pub use restore::{RestoreError, Restored, inspect, restore};
pub use serve::run;
