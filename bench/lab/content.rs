//! What is sent, and whether it arrived.

use std::path::Path;

/// Bytes that nothing compresses, the same for the same seed and name: files of two names have nothing in common, or
/// the second would not be sent.
pub fn write_noise(path: &Path, seed: u64, len: u64) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = std::fs::File::create(path).map_err(cannot)?;
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let mut source = blake3::Hasher::new().update(&seed.to_be_bytes()).update(name).finalize_xof();
    let mut piece = vec![0; 1 << 20];
    let mut left = len;
    while left > 0 {
        let now = left.min(piece.len() as u64) as usize;
        source.fill(&mut piece[..now]);
        std::io::Write::write_all(&mut file, &piece[..now]).map_err(cannot)?;
        left -= now as u64;
    }
    Ok(())
}

/// Whether two files hold the same bytes.
pub fn same(one: &Path, other: &Path) -> bool {
    let hash = |path: &Path| {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(std::fs::File::open(path).ok()?).ok().map(|hasher| hasher.finalize())
    };
    hash(one).is_some_and(|hash_one| hash(other) == Some(hash_one))
}
