//! The charter of the segment, kept in the state directory: a node that starts goes by what was decided before it
//! hears of it anew.

use super::state_file::{self, StateError};
use crate::wire::charter::Charter;
use crate::wire::id::Name;
use crate::wire::seal::PublicKey;
use std::path::Path;

const FILE: &str = "charter";

/// The charter that the node kept, with its bytes. One that is damaged, of another farm or of another segment is
/// left out with a warning: the leader gives the present one to whoever registers without.
pub fn load(state_dir: &Path, segment: &Name, director: &PublicKey) -> Option<(Charter, Vec<u8>)> {
    let path = state_dir.join(FILE);
    let bytes = match state_file::read(&path) {
        Ok(bytes) => bytes?,
        Err(error) => {
            log::warn!("{error}: the node starts without a charter of its segment");
            return None;
        }
    };
    match Charter::open(&bytes, director) {
        Ok(charter) if charter.segment == *segment => Some((charter, bytes)),
        Ok(charter) => {
            log::warn!("{}: is of segment {}, and not used in {segment}", path.display(), charter.segment);
            None
        }
        Err(error) => {
            log::warn!("{}: {error}: the node starts without a charter of its segment", path.display());
            None
        }
    }
}

/// # Errors
/// Those of the system.
pub fn keep(state_dir: &Path, bytes: &[u8]) -> Result<(), StateError> {
    state_file::write(&state_dir.join(FILE), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::CharterId;
    use crate::wire::seal::SigningKey;

    #[test]
    fn only_a_charter_of_this_segment_and_farm_is_taken_up() {
        let dir = tempfile::tempdir().unwrap();
        let (director, other) = (SigningKey::from_seed([1; 32]), SigningKey::from_seed([2; 32]));
        let name = |text| Name::new(text).unwrap();
        let load = |segment, key: &SigningKey| load(dir.path(), &name(segment), &key.public());
        assert_eq!(load("boston", &director), None);
        let charter = Charter {
            number: CharterId(3),
            segment: name("boston"),
            title: name("East"),
            channel: None,
            leaders: None,
        };
        let bytes = charter.sign(&director);
        keep(dir.path(), &bytes).unwrap();
        assert_eq!(load("boston", &director), Some((charter, bytes)));
        assert_eq!(load("tokyo", &director), None);
        assert_eq!(load("boston", &other), None);
        std::fs::write(dir.path().join(FILE), b"rubbish").unwrap();
        assert_eq!(load("boston", &director), None);
    }
}
