//! A line of a reply as a client reads it.

use super::{Pieces, REPLY_LINE_MAX, Tag, Unreadable};

/// What the sign after the code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// `-`: more of this reply follows.
    More,
    /// Space: the last line of this reply.
    Last,
    /// `+`: not part of a reply.
    Event,
}

impl Mark {
    pub(super) const fn sign(self) -> char {
        match self {
            Self::More => '-',
            Self::Last => ' ',
            Self::Event => '+',
        }
    }
}

/// A line of a reply, with all that it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub tag: Option<Tag>,
    pub code: u16,
    pub mark: Mark,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Fields {
        keyword: Option<String>,
        fields: Vec<(String, Vec<u8>)>,
    },
    /// The JSON object, unread.
    Json(String),
}

impl Line {
    /// Reads a line, which ends before its LF. Never panics, whatever the bytes; takes at most
    /// [`REPLY_LINE_MAX`] of them.
    pub fn parse(line: &[u8]) -> Result<Self, Unreadable> {
        if line.len() > REPLY_LINE_MAX {
            return Err(Unreadable::TooLong(REPLY_LINE_MAX));
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (tag, rest) = match line.strip_prefix(b"@") {
            None => (None, line),
            Some(rest) => {
                let end = rest.iter().position(|c| *c == b' ').ok_or(Unreadable::Tag)?;
                let text = std::str::from_utf8(&rest[..end]).map_err(|_| Unreadable::Tag)?;
                (Some(Tag::new(text).ok_or(Unreadable::Tag)?), &rest[end + 1..])
            }
        };
        let ([a, b, c, sign], rest) = rest.split_first_chunk::<4>().ok_or(Unreadable::Code)?;
        let digit = |c: &u8| (*c as char).to_digit(10).ok_or(Unreadable::Code);
        let code = (digit(a)? * 100 + digit(b)? * 10 + digit(c)?) as u16;
        let mark = match sign {
            b'-' => Mark::More,
            b' ' => Mark::Last,
            b'+' => Mark::Event,
            _ => return Err(Unreadable::Code),
        };
        let body = if rest.first() == Some(&b'{') { json(rest)? } else { fields(rest)? };
        Ok(Self { tag, code, mark, body })
    }

    /// The value of a field as text; `None` where there is none or it is no text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match &self.body {
            Body::Fields { fields, .. } => {
                let (_, value) = fields.iter().find(|(name, _)| name == key)?;
                std::str::from_utf8(value).ok()
            }
            Body::Json(_) => None,
        }
    }
}

fn json(rest: &[u8]) -> Result<Body, Unreadable> {
    match rest.iter().position(|c| !matches!(c, b' '..=b'~')) {
        Some(at) => Err(Unreadable::Byte { at, byte: rest[at] }),
        None => Ok(Body::Json(String::from_utf8(rest.to_vec()).expect("checked to be ASCII"))),
    }
}

fn fields(rest: &[u8]) -> Result<Body, Unreadable> {
    let mut pieces = Pieces::new(rest);
    let mut keyword = None;
    let mut fields = Vec::new();
    while let Some(piece) = pieces.next()? {
        match piece.key {
            Some(key) => fields.push((key.to_owned(), piece.value)),
            None if keyword.is_none() && fields.is_empty() && !piece.quoted => {
                keyword = Some(String::from_utf8(piece.value).expect("bare pieces are ASCII"));
            }
            None => return Err(Unreadable::NoKey { at: piece.at }),
        }
    }
    Ok(Body::Fields { keyword, fields })
}
