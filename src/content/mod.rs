//! content

pub mod dir;
mod interpret;
mod journal;
pub mod site;
mod stage;
#[cfg(test)]
pub(crate) mod testing;
mod write;
