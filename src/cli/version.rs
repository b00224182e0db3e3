//! `farmcast version`

use super::failure::Failure;
use super::output::Output;
use crate::ccm::api::types::Version;

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
pub const REVISION: &str = env!("FARMCAST_REVISION");

/// Version and revision in one line.
pub const LINE: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("FARMCAST_REVISION"), ")");

pub fn show(output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.value(&Version {
            schema: "farmcast.version/1".to_owned(),
            version: VERSION.to_owned(),
            revision: REVISION.to_owned(),
            api: "v1".to_owned(),
        });
    }
    output.line(&format!("farmcast {LINE}"))
}
