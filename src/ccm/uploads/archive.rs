//! A tar stream, entry by entry: the header blocks of ustar, GNU and pax, and whatever content is behind them.
//!
//! Nothing is believed: a block without the right checksum is no header, names and records are bounded before they
//! are read, and what could be something else than a file, a directory or a link is refused with its reason.

use crate::wire::assignment::{MODE_MASK, Mtime, RelPath};
use std::io::{self, Read};
use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// Longest records of one pax header.
const RECORDS_MAX: u64 = 64 << 10;
/// Longest name in a header of its own: what `RelPath` allows, and the zero behind it.
const NAME_MAX: u64 = 4_096;
/// Bits of a mode that have a program run as somebody else.
const SET_ID: u32 = 0o6000;

/// One entry, and what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `None`: the root of the tree.
    pub path: Option<RelPath>,
    pub what: What,
    pub mode: u32,
    pub mtime: Mtime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Directory,
    /// So many bytes follow, to be read with [`Archive::content`].
    File {
        size: u64,
    },
    Symlink {
        text: Vec<u8>,
    },
    /// Another name of a file that came before.
    Link {
        target: RelPath,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum BadArchive {
    #[error("the archive ends in the middle of {0}: send all of it, with its two blocks of zeros at the end")]
    Truncated(String),
    #[error("at byte {at} there is no header of a tar archive{}", hint(.start))]
    NoHeader { at: u64, start: [u8; 4] },
    #[error("{path}: {reason}")]
    Entry { path: String, reason: String },
    #[error("the archive cannot be read: {0}")]
    Read(io::Error),
}

/// What people send instead of a plain archive.
fn hint(start: &[u8; 4]) -> &'static str {
    match start {
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd] | [0x42, 0x5a, 0x68, _] | [0xfd, 0x37, 0x7a, 0x58] => {
            ": it is compressed; send a plain archive (`tar -cf - .`)"
        }
        [0x50, 0x4b, ..] => ": it is a ZIP archive; send a tar archive (`tar -cf - .`)",
        _ => ": send what `tar -cf - .` writes",
    }
}

/// Reads an archive from its beginning to its end.
pub struct Archive<R> {
    from: R,
    /// Bytes read so far.
    at: u64,
    /// Bytes of content of the present entry that were not read yet, and the zeros behind them.
    left: u64,
    padding: u64,
}

/// What headers before an entry's own say of it.
#[derive(Default)]
struct Ahead {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    mtime: Option<Mtime>,
    sparse: bool,
}

impl<R: Read> Archive<R> {
    pub const fn new(from: R) -> Self {
        Self { from, at: 0, left: 0, padding: 0 }
    }

    /// The next entry; `None` at the end of the archive. Content of the one before that was not read is passed over.
    ///
    /// # Errors
    /// What is no archive, and entries that content cannot hold.
    pub fn entry(&mut self) -> Result<Option<Entry>, BadArchive> {
        let mut ahead = Ahead::default();
        loop {
            self.pass_over()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = number(header.entry_size());
            let kind = header.entry_type();
            match kind {
                EntryType::XHeader => ahead.take(&self.records(size, RECORDS_MAX)?)?,
                // What it says of all entries is of no use here: comments, owners.
                EntryType::XGlobalHeader => drop(self.records(size, RECORDS_MAX)?),
                EntryType::GNULongName => ahead.path = Some(unterminated(self.records(size, NAME_MAX)?)),
                EntryType::GNULongLink => ahead.link = Some(unterminated(self.records(size, NAME_MAX)?)),
                _ => return self.finish(&header, size, ahead).map(Some),
            }
        }
    }

    /// Content of the present entry; 0 bytes at its end.
    ///
    /// # Errors
    /// The archive ends before.
    pub fn content(&mut self, buffer: &mut [u8]) -> Result<usize, BadArchive> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.from.read(&mut buffer[..wanted]).map_err(BadArchive::Read)?;
        if count == 0 {
            return Err(BadArchive::Truncated("a file".to_owned()));
        }
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }

    /// Whatever is behind the end, which is not looked at.
    pub fn into_rest(self) -> R {
        self.from
    }

    fn pass_over(&mut self) -> Result<(), BadArchive> {
        let mut buffer = [0; 8 << 10];
        while self.content(&mut buffer)? > 0 {}
        self.left = std::mem::take(&mut self.padding);
        while self.content(&mut buffer)? > 0 {}
        Ok(())
    }

    /// The next block as a header; `None` for one of zeros, which ends the archive.
    fn header(&mut self) -> Result<Option<Header>, BadArchive> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        match self.from.read_exact(block) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(BadArchive::Truncated("its entries".to_owned()));
            }
            Err(error) => return Err(BadArchive::Read(error)),
        }
        let at = self.at;
        self.at += BLOCK as u64;
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let start = [block[0], block[1], block[2], block[3]];
        // The field of the checksum counts as spaces.
        let sum: u32 = block[..148].iter().chain(&block[156..]).map(|&byte| u32::from(byte)).sum();
        if header.cksum().ok() != Some(sum + 8 * u32::from(b' ')) {
            return Err(BadArchive::NoHeader { at, start });
        }
        Ok(Some(header))
    }

    /// What a header that stands before another one holds.
    fn records(&mut self, size: u64, max: u64) -> Result<Vec<u8>, BadArchive> {
        if size > max {
            let reason = format!("a header of {size} bytes before it; a name has at most 4,095");
            return Err(BadArchive::Entry { path: "an entry".to_owned(), reason });
        }
        self.hold(size);
        let mut bytes = vec![0; size as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += self.content(&mut bytes[filled..])?;
        }
        Ok(bytes)
    }

    const fn hold(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn finish(&mut self, header: &Header, size: u64, ahead: Ahead) -> Result<Entry, BadArchive> {
        let spelled = ahead.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let bad = |reason: &str| BadArchive::Entry { path: shown(&spelled), reason: reason.to_owned() };
        let path = below(&spelled).map_err(&bad)?;
        let size = ahead.size.unwrap_or(size);
        let link = || ahead.link.clone().or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
        let mode = header.mode().map_err(|_| bad("its mode is no number"))?;
        let kind = header.entry_type();
        if ahead.sparse || kind == EntryType::GNUSparse {
            return Err(bad("a sparse file; send it with its zeros (`tar` without --sparse)"));
        }
        // Old archives know directories by the end of their names.
        let is_directory = kind == EntryType::Directory || (kind.is_file() && spelled.ends_with(b"/"));
        let is_file = (kind.is_file() || kind.is_contiguous()) && !is_directory;
        if !is_file && size > 0 {
            return Err(bad("it has content and is no file"));
        }
        let what = match kind {
            _ if is_directory => What::Directory,
            _ if is_file && mode & SET_ID != 0 => {
                return Err(bad("a set-user-ID or set-group-ID file; take the bits off (`chmod a-s`)"));
            }
            _ if is_file => What::File { size },
            EntryType::Symlink => {
                let text = link().unwrap_or_default();
                inside(path.as_ref(), &text).map_err(bad)?;
                What::Symlink { text }
            }
            EntryType::Link => {
                let target = below(&link().unwrap_or_default());
                let target = target.ok().flatten();
                What::Link { target: target.ok_or_else(|| bad("a link to a name that is none below it"))? }
            }
            EntryType::Char | EntryType::Block => return Err(bad("a device; content cannot hold one")),
            EntryType::Fifo => return Err(bad("a FIFO; content cannot hold one")),
            _ => return Err(bad("an entry of a kind that is not known here")),
        };
        if path.is_none() && !is_directory {
            return Err(bad("a file needs a name"));
        }
        if is_file {
            self.hold(size);
        }
        let seconds = || i64::try_from(number(header.mtime())).unwrap_or(i64::MAX);
        let mtime = ahead.mtime.unwrap_or_else(|| seconds().saturating_mul(1_000_000_000));
        Ok(Entry { path, what, mode: mode & MODE_MASK, mtime })
    }
}

impl Ahead {
    /// Records of pax: `LENGTH KEY=VALUE\n`, the length that of all of it.
    fn take(&mut self, mut records: &[u8]) -> Result<(), BadArchive> {
        let bad = || BadArchive::Entry {
            path: "an entry".to_owned(),
            reason: "its extended header is none of pax".to_owned(),
        };
        while !records.is_empty() {
            let space = records.iter().position(|&byte| byte == b' ').ok_or_else(bad)?;
            let len = std::str::from_utf8(&records[..space]).ok().and_then(|text| text.parse::<usize>().ok());
            let len = len.filter(|&len| len > space + 1 && len <= records.len()).ok_or_else(bad)?;
            let record = records[space + 1..len].strip_suffix(b"\n").ok_or_else(bad)?;
            let equals = record.iter().position(|&byte| byte == b'=').ok_or_else(bad)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let text = std::str::from_utf8(value);
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(text.ok().and_then(|text| text.parse().ok()).ok_or_else(bad)?),
                b"mtime" => self.mtime = Some(text.ok().and_then(instant).ok_or_else(bad)?),
                key if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
            records = &records[len..];
        }
        Ok(())
    }
}

/// A number of a header; what cannot be read is more than anything allows.
fn number(read: io::Result<u64>) -> u64 {
    read.unwrap_or(u64::MAX)
}

/// `1700000000.25` as nanoseconds since 1970.
fn instant(text: &str) -> Option<Mtime> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = part.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanos: i64 = digits.parse().ok()?;
    let nanos = if whole.starts_with('-') { -nanos } else { nanos };
    Some(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

fn unterminated(mut name: Vec<u8>) -> Vec<u8> {
    while name.last() == Some(&0) {
        name.pop();
    }
    name
}

/// A name as it may stand in a message.
pub fn shown(path: &[u8]) -> String {
    let text = path.escape_ascii().to_string();
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The path below the root that a name of an archive stands for; `None` for the root itself.
fn below(name: &[u8]) -> Result<Option<RelPath>, &'static str> {
    if name.starts_with(b"/") {
        return Err("an absolute path; make the archive from within the directory (`tar -C DIR -cf - .`)");
    }
    if name.contains(&0) {
        return Err("a zero byte in its name");
    }
    let parts: Vec<&[u8]> =
        name.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err("`..` in its path; name what lies below the directory that is sent");
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let path = RelPath::new(&parts.join(&b'/'));
    path.map(Some).map_err(|_| "longer than 4,095 bytes, 255 of one name, or deeper than 64 directories")
}

/// Whether what a symbolic link points to lies below the root, as far as the names tell.
fn inside(path: Option<&RelPath>, text: &[u8]) -> Result<(), &'static str> {
    if text.is_empty() || text.contains(&0) || text.len() > 4_095 {
        return Err("a symbolic link to no name");
    }
    if text.starts_with(b"/") {
        return Err(
            "a symbolic link to an absolute path; make it relative, so that it means the same on a node",
        );
    }
    let mut depth = path.map_or(0, |path| path.components().count() as i64 - 1);
    for part in text.split(|&byte| byte == b'/') {
        depth += match part {
            b"" | b"." => 0,
            b".." => -1,
            _ => 1,
        };
        if depth < 0 {
            return Err("a symbolic link that leads outside");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
