//! The first process of a node: one loop.

pub mod console;
pub mod verbs;
