//! The API: JSON over HTTP, one file per resource.

pub mod types;
