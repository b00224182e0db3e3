//! Grammar of the text control port `farmcast-ctl/1` (docs/PROTOCOL.md).
//!
//! ```text
//! request = [ tag SP ] word *( SP word ) *( SP arg ) [ SP "json" ] LF
//! tag     = "@" 1*8( ALPHA / DIGIT )         echoed in front of every line of that reply
//! word    = LOWER *( LOWER / DIGIT / "-" )   "show members"
//! arg     = key "=" value / value
//! value   = 1*bare / DQUOTE *( char / "\" ( DQUOTE / "\" / "n" / "t" / "x" 2HEX ) ) DQUOTE
//! reply   = *( [ tag SP ] code "-" fields LF ) [ tag SP ] code SP fields LF
//! event   = code "+" fields LF
//! fields  = keyword *( SP key "=" value )    or, where the request ends in "json", one JSON object
//! ```
//!
//! A CR before the LF is ignored. What we print is ASCII: any other byte of a value is `\xNN`, so that no
//! file name can forge a line. A request may carry bytes above 0x7f inside quotes, as a terminal sends them.

mod event;
mod line;
mod reply;
mod request;

pub use event::{EVENT, Event};
pub use line::{Body, Line, Mark};
pub use reply::{Code, Fields, GREETING, Reply, Row, Value, greeting, json_text};
pub use request::{Argument, Refused, Request};

use std::fmt;

/// Name and version of the grammar, first word of every greeting.
pub const PROTOCOL: &str = "farmcast-ctl/1";
/// Longest request in bytes, without its LF.
pub const LINE_MAX: usize = 4096;
/// Most words and arguments of one request.
pub const ARGS_MAX: usize = 64;
/// Longest line of a reply that [`Line::parse`] takes, in bytes, without its LF.
pub const REPLY_LINE_MAX: usize = 65_536;

/// What a client puts before a request to know the lines of its reply.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl Tag {
    /// Most letters and digits after the `@`.
    pub const MAX: usize = 8;

    /// A tag of these letters and digits, without the `@`.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=Self::MAX).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric());
        fits.then(|| {
            let mut bytes = [0; Self::MAX];
            bytes[..text.len()].copy_from_slice(text.as_bytes());
            Self { bytes, len: text.len() as u8 }
        })
    }

    /// The letters and digits, without the `@`.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("new() takes only ASCII")
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.as_str())
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// How the fields of a reply are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// `key=value`, for people and scripts.
    #[default]
    Logfmt,
    /// One JSON object per line; the keyword is its member `kind`.
    Json,
}

/// Why a line does not follow the grammar. Offsets count bytes from the start of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the line is longer than {0} bytes")]
    TooLong(usize),
    #[error("more than {ARGS_MAX} words and arguments")]
    TooMany,
    #[error("no command on the line")]
    NoCommand,
    #[error("a tag is @ and 1 to 8 letters or digits")]
    Tag,
    #[error("byte 0x{byte:02x} at {at} must stand in quotes, written as \\x{byte:02x} unless it is a space")]
    Byte { at: usize, byte: u8 },
    #[error("the quote opened at {at} is not closed")]
    Unclosed { at: usize },
    #[error("after the backslash at {at} only \" \\ n t and xNN may follow")]
    Escape { at: usize },
    #[error("a space must follow the closing quote at {at}")]
    Glued { at: usize },
    #[error("no value at {at}; an empty one is written \"\"")]
    Empty { at: usize },
    #[error("a command begins with a word of a-z, 0-9 and -")]
    Word,
    #[error("a line of a reply begins with three digits and one of - + or space")]
    Code,
    #[error("the value at {at} has no key")]
    NoKey { at: usize },
}

/// One piece of a line between spaces.
#[derive(Debug, PartialEq, Eq)]
struct Piece<'a> {
    at: usize,
    key: Option<&'a str>,
    value: Vec<u8>,
    quoted: bool,
}

/// Cuts a line into pieces. Linear in the line's length.
struct Pieces<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Pieces<'a> {
    fn new(line: &'a [u8]) -> Self {
        Self { line, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn skip_spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    fn next(&mut self) -> Result<Option<Piece<'a>>, Unreadable> {
        self.skip_spaces();
        let start = self.at;
        let Some(first) = self.peek() else { return Ok(None) };
        let key = self.key();
        let quoted = self.peek() == Some(b'"');
        let value = if quoted { self.quoted()? } else { self.bare()?.to_vec() };
        debug_assert!(
            key.is_some() || quoted || value.first() == Some(&first),
            "a bare piece is its own text"
        );
        Ok(Some(Piece { at: start, key, value, quoted }))
    }

    /// Takes `key=` where the piece begins with one.
    fn key(&mut self) -> Option<&'a str> {
        let rest = &self.line[self.at..];
        let end = rest.iter().position(|c| !is_key_byte(*c))?;
        let key = std::str::from_utf8(&rest[..end]).expect("key bytes are ASCII");
        if rest[end] != b'=' || !is_key(key) {
            return None;
        }
        self.at += end + 1;
        Some(key)
    }

    fn bare(&mut self) -> Result<&'a [u8], Unreadable> {
        let start = self.at;
        while let Some(byte) = self.peek() {
            match byte {
                b' ' => break,
                b'"' | b'\\' => return Err(Unreadable::Byte { at: self.at, byte }),
                _ if byte.is_ascii_graphic() => self.at += 1,
                _ => return Err(Unreadable::Byte { at: self.at, byte }),
            }
        }
        if self.at == start { Err(Unreadable::Empty { at: start }) } else { Ok(&self.line[start..self.at]) }
    }

    fn quoted(&mut self) -> Result<Vec<u8>, Unreadable> {
        let open = self.at;
        self.at += 1;
        let mut value = Vec::new();
        loop {
            let at = self.at;
            let byte = self.peek().ok_or(Unreadable::Unclosed { at: open })?;
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' => value.push(self.escape(at)?),
                b' '..=b'~' | 0x80.. => value.push(byte),
                _ => return Err(Unreadable::Byte { at, byte }),
            }
        }
        match self.peek() {
            None | Some(b' ') => Ok(value),
            Some(_) => Err(Unreadable::Glued { at: self.at - 1 }),
        }
    }

    /// The byte meant by the escape whose backslash, at `at`, has been taken.
    fn escape(&mut self, at: usize) -> Result<u8, Unreadable> {
        let bad = Unreadable::Escape { at };
        let letter = self.peek().ok_or(bad)?;
        self.at += 1;
        match letter {
            b'"' | b'\\' => Ok(letter),
            b'n' => Ok(b'\n'),
            b't' => Ok(b'\t'),
            b'x' => {
                let digits = self.line.get(self.at..self.at + 2).ok_or(bad)?;
                self.at += 2;
                let digit = |c: u8| (c as char).to_digit(16).ok_or(bad);
                Ok((digit(digits[0])? * 16 + digit(digits[1])?) as u8)
            }
            _ => Err(bad),
        }
    }
}

fn is_key_byte(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_')
}

/// Whether a text may stand before a `=`.
fn is_key(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(is_key_byte)
}

fn is_word(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_lowercase)
        && text.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-')
}

/// Writes a value, in quotes where it would not read back without.
fn print_value(out: &mut impl fmt::Write, value: &[u8]) -> fmt::Result {
    let plain = |c: &u8| c.is_ascii_graphic() && !matches!(c, b'"' | b'\\' | b'=' | b'{' | b'}');
    if !value.is_empty() && value.iter().all(plain) {
        return value.iter().try_for_each(|c| out.write_char(char::from(*c)));
    }
    print_quoted(out, value)
}

fn print_quoted(out: &mut impl fmt::Write, value: &[u8]) -> fmt::Result {
    out.write_char('"')?;
    for &byte in value {
        match byte {
            b'"' => out.write_str("\\\"")?,
            _ => print_escaped(out, byte)?,
        }
    }
    out.write_char('"')
}

/// Writes one byte as printable ASCII, everything else and the backslash itself as an escape.
fn print_escaped(out: &mut impl fmt::Write, byte: u8) -> fmt::Result {
    match byte {
        b'\\' => out.write_str("\\\\"),
        b'\n' => out.write_str("\\n"),
        b'\t' => out.write_str("\\t"),
        b' '..=b'~' => out.write_char(char::from(byte)),
        _ => write!(out, "\\x{byte:02x}"),
    }
}

#[cfg(test)]
mod tests;
