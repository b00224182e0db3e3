//! The Content Control Manager.

pub mod api;
