//! What a publish would change: staging against what is live, without writing anything (ST-7..ST-9).

use super::api::types::{Changes, DiffEntry, SiteDiff};
use super::filter::{BadFilter, Picker};
use super::model::Site;
use crate::content::diff::{Change, join};
use crate::content::tree::Opener;
use crate::content::walk::{Entry, EntryKind, Walk, WalkError};
use crate::wire::assignment::RelPath;
use similar::TextDiff;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// Differences that are named; the rest is counted.
pub const ENTRIES_MAX: usize = 10_000;
/// Files whose text is shown, all in all.
const PATCHES_MAX: usize = 100;
/// Bytes of either version of a file whose text is shown.
const TEXT_MAX: u64 = 256 * 1024;
/// Bytes of all patches, after which no more is shown.
const PATCH_BYTES_MAX: usize = 4 << 20;
/// After so long a patch need not be the smallest any more.
const PATCH_TIME: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error("{0}; `farmcast site filter`")]
    Filter(#[from] BadFilter),
    #[error("staging: {0}")]
    Staging(WalkError),
    #[error("the shadow of what is live: {0}")]
    Live(WalkError),
}

/// Compares staging with `live`, the shadow's tree; with nothing where no version is live yet. As a publish without
/// `--checksum` does, it takes files of the same size and time for the same. `patches` shows the text of files.
///
/// # Errors
/// A tree cannot be read, or somebody writes to it.
pub fn compare(site: &Site, live: &Path, patches: bool) -> Result<SiteDiff, CompareError> {
    let picker = Picker::new(&site.filter)?;
    let picks = |path: &RelPath, is_directory: bool| picker.pick(path, is_directory);
    let mut old = match site.version {
        Some(_) => Some(Walk::open(live).map_err(CompareError::Live)?),
        None => None,
    };
    let mut new = Walk::picking(&site.staging, &picks).map_err(CompareError::Staging)?;
    let mut previews = match patches {
        true => Some(Previews {
            old: match site.version {
                Some(_) => Some(Opener::new(live).map_err(CompareError::Live)?),
                None => None,
            },
            new: Opener::new(&site.staging).map_err(CompareError::Staging)?,
            shown: 0,
            bytes: 0,
        }),
        false => None,
    };
    let mut diff = SiteDiff {
        schema: "farmcast.diff/1".to_owned(),
        site: site.name.to_string(),
        version: site.version.map_or(0, |version| version.0),
        changes: Changes::default(),
        entries: Vec::new(),
        more: 0,
    };
    let old = old.as_mut().into_iter().flatten().map(|entry| entry.map_err(CompareError::Live));
    for pair in join(old, new.by_ref().map(|entry| entry.map_err(CompareError::Staging))) {
        let Some(change) = pair?.change() else { continue };
        match &change {
            Change::Added(_) => diff.changes.added += 1,
            Change::Removed(_) => diff.changes.removed += 1,
            Change::Metadata { .. } => diff.changes.metadata += 1,
            Change::Content { .. } | Change::Replaced { .. } => diff.changes.changed += 1,
        }
        if diff.entries.len() < ENTRIES_MAX {
            diff.entries.push(entry(&change, previews.as_mut()));
        } else {
            diff.more += 1;
        }
    }
    diff.changes.left_out = new.left_out_count();
    Ok(diff)
}

fn entry(change: &Change, previews: Option<&mut Previews>) -> DiffEntry {
    let (word, old, new) = match change {
        Change::Added(new) => ("added", None, Some(new)),
        Change::Removed(old) => ("removed", Some(old), None),
        Change::Content { old, new } => ("changed", Some(old), Some(new)),
        Change::Metadata { old, new } => ("metadata", Some(old), Some(new)),
        Change::Replaced { old, new } => ("replaced", Some(old), Some(new)),
    };
    let named = new.or(old).expect("a change has a side");
    let kind = match named.kind {
        EntryKind::Directory => "directory",
        EntryKind::File { .. } => "file",
        EntryKind::Symlink { .. } => "symlink",
    };
    let size = |entry: Option<&Entry>| match entry?.kind {
        EntryKind::File { size, .. } => Some(size),
        _ => None,
    };
    let mode = |entry: Option<&Entry>| entry.map(|entry| entry.mode);
    let (patch, note) = match previews {
        Some(previews) if word != "metadata" && word != "replaced" && kind == "file" => previews.of(old, new),
        _ => (String::new(), String::new()),
    };
    DiffEntry {
        path: named.path.to_string(),
        change: word.to_owned(),
        kind: kind.to_owned(),
        old_bytes: size(old),
        new_bytes: size(new),
        old_mode: mode(old),
        new_mode: mode(new),
        patch,
        note,
    }
}

/// The texts of files that differ, and how many were shown.
struct Previews {
    old: Option<Opener>,
    new: Opener,
    shown: usize,
    bytes: usize,
}

impl Previews {
    /// A unified diff, or why there is none.
    fn of(&mut self, old: Option<&Entry>, new: Option<&Entry>) -> (String, String) {
        if self.shown == PATCHES_MAX || self.bytes >= PATCH_BYTES_MAX {
            return (String::new(), "not shown: enough is".to_owned());
        }
        let before = text(self.old.as_ref(), old);
        let after = text(Some(&self.new), new);
        let (before, after) = match (before, after) {
            (Ok(before), Ok(after)) => (before, after),
            (Err(note), _) | (_, Err(note)) => return (String::new(), note.to_owned()),
        };
        let name = |side: &str, entry: Option<&Entry>| {
            entry.map_or_else(|| "/dev/null".to_owned(), |entry| format!("{side}/{}", entry.path))
        };
        let diff = TextDiff::configure().timeout(PATCH_TIME).diff_lines(before.as_str(), after.as_str());
        let patch = diff.unified_diff().header(&name("a", old), &name("b", new)).to_string();
        self.shown += 1;
        self.bytes += patch.len();
        let note = if before == after { "the same content, with another time" } else { "" };
        (patch, note.to_owned())
    }
}

/// The text of a file, which may be changing: this is a preview.
fn text(opener: Option<&Opener>, entry: Option<&Entry>) -> Result<String, &'static str> {
    let (Some(opener), Some(entry)) = (opener, entry) else { return Ok(String::new()) };
    let unreadable = "cannot be read now";
    let (file, entry) = opener.open(&entry.path).map_err(|_| unreadable)?;
    if matches!(entry.kind, EntryKind::File { size, .. } if size > TEXT_MAX) {
        return Err("larger than 256 KiB");
    }
    let mut bytes = Vec::new();
    file.take(TEXT_MAX).read_to_end(&mut bytes).map_err(|_| unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| "binary")?;
    if text.contains('\0') { Err("binary") } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::filter::Filter;
    use crate::ccm::testing::name;
    use crate::wire::id::AssignmentId;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::SystemTime;

    struct Trees(tempfile::TempDir);

    impl Trees {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("staging")).unwrap();
            fs::create_dir(dir.path().join("live")).unwrap();
            Self(dir)
        }

        /// Writes a file of one tree, with a time that is a number of seconds.
        fn write(&self, path: &str, content: impl AsRef<[u8]>, seconds: u64) {
            let path = self.0.path().join(path);
            fs::write(&path, content).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        }

        fn compare(&self, version: Option<u64>, patches: bool) -> SiteDiff {
            let site = Site {
                name: name("www"),
                staging: self.0.path().join("staging"),
                version: version.map(AssignmentId),
                files: 0,
                bytes: 0,
                group: name("www"),
                filter: Filter::default(),
            };
            compare(&site, &self.0.path().join("live"), patches).unwrap()
        }
    }

    fn words(diff: &SiteDiff) -> Vec<String> {
        diff.entries.iter().map(|entry| format!("{} {}", entry.change, entry.path)).collect()
    }

    #[test]
    fn every_kind_of_difference_is_named_and_text_is_shown() {
        let trees = Trees::new();
        for tree in ["live", "staging"] {
            trees.write(&format!("{tree}/same"), "same", 1);
            trees.write(&format!("{tree}/mode"), "mode", 1);
        }
        trees.write("live/text", "a\nb\nc\n", 1);
        trees.write("staging/text", "a\nB\nc\n", 2);
        trees.write("live/binary", b"a\0b", 1);
        trees.write("staging/binary", b"a\0c", 2);
        trees.write("live/gone", "gone\n", 1);
        trees.write("staging/large", vec![b'x'; TEXT_MAX as usize + 1], 1);
        trees.write("staging/new", "new", 1);
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(trees.0.path().join("staging/mode"), mode).unwrap();

        let diff = trees.compare(Some(7), true);
        let expected =
            ["changed binary", "removed gone", "added large", "metadata mode", "added new", "changed text"];
        assert_eq!(words(&diff), expected);
        let counts = Changes { added: 2, changed: 2, metadata: 1, removed: 1, left_out: 0 };
        assert_eq!((diff.version, diff.changes, diff.more), (7, counts, 0));
        let notes: Vec<&str> = diff.entries.iter().map(|entry| entry.note.as_str()).collect();
        assert_eq!(notes, ["binary", "", "larger than 256 KiB", "", "", ""]);
        assert_eq!(diff.entries[1].patch, "--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n");
        assert_eq!(diff.entries[3].new_mode, Some(0o600));
        assert_eq!(diff.entries[5].patch, "--- a/text\n+++ b/text\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n");
        assert!(trees.compare(Some(7), false).entries.iter().all(|entry| entry.patch.is_empty()));
        assert_eq!(trees.compare(None, false).changes.added, 6);
    }

    #[test]
    fn equal_trees_have_no_difference_and_many_differences_are_counted() {
        let trees = Trees::new();
        assert_eq!(trees.compare(Some(1), true).entries, []);
        for number in 0..=ENTRIES_MAX {
            fs::write(trees.0.path().join(format!("staging/{number}")), "x\n").unwrap();
        }
        let diff = trees.compare(Some(1), true);
        assert_eq!((diff.entries.len(), diff.more), (ENTRIES_MAX, 1));
        assert_eq!(diff.changes.added, ENTRIES_MAX as u64 + 1);
        let shown = diff.entries.iter().filter(|entry| !entry.patch.is_empty()).count();
        assert_eq!(shown, PATCHES_MAX);
        assert_eq!(diff.entries[PATCHES_MAX].note, "not shown: enough is");
    }
}
