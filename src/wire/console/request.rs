//! What a client asks for: one line.

use super::{
    ARGS_MAX, LINE_MAX, Output, Pieces, Tag, Unreadable, is_key, is_word, print_quoted, print_value,
};
use std::fmt;

/// A request as it stands on the line; which words are a command is the verb table's business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub tag: Option<Tag>,
    /// The plain words at the beginning.
    pub words: Vec<String>,
    /// All after them.
    pub args: Vec<Argument>,
    pub output: Output,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    pub key: Option<String>,
    pub value: Vec<u8>,
}

/// A line that is no request, with the tag that the answer is to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    pub tag: Option<Tag>,
    pub why: Unreadable,
}

impl Request {
    /// The command of these words, without arguments.
    pub fn new(words: &[&str]) -> Self {
        debug_assert!(words.iter().all(|word| is_word(word.as_bytes())));
        Self { words: words.iter().map(|word| word.to_string()).collect(), ..Self::default() }
    }

    /// Adds `key=value`.
    pub fn with(mut self, key: &str, value: impl Into<Vec<u8>>) -> Self {
        debug_assert!(is_key(key));
        self.args.push(Argument { key: Some(key.into()), value: value.into() });
        self
    }

    /// Reads a line, which ends before its LF. A CR at its end is ignored. Never panics, whatever the
    /// bytes; takes at most [`LINE_MAX`] of them and [`ARGS_MAX`] pieces.
    pub fn parse(line: &[u8]) -> Result<Self, Refused> {
        let mut request = Self::default();
        match request.read(line.strip_suffix(b"\r").unwrap_or(line)) {
            Ok(()) => Ok(request),
            Err(why) => Err(Refused { tag: request.tag, why }),
        }
    }

    fn read(&mut self, line: &[u8]) -> Result<(), Unreadable> {
        let mut pieces = Pieces::new(line);
        pieces.skip_spaces();
        if pieces.peek() == Some(b'@') {
            let rest = &line[pieces.at..];
            let end = rest.iter().position(|c| *c == b' ').unwrap_or(rest.len());
            let text = std::str::from_utf8(&rest[1..end]).map_err(|_| Unreadable::Tag)?;
            self.tag = Some(Tag::new(text).ok_or(Unreadable::Tag)?);
            pieces.at += end;
        }
        if line.len() > LINE_MAX {
            return Err(Unreadable::TooLong(LINE_MAX));
        }
        let mut bare_json = false;
        while let Some(piece) = pieces.next()? {
            if self.words.len() + self.args.len() == ARGS_MAX {
                return Err(Unreadable::TooMany);
            }
            let bare = piece.key.is_none() && !piece.quoted;
            bare_json = bare && piece.value == b"json";
            match String::from_utf8(piece.value) {
                Ok(word) if bare && self.args.is_empty() && is_word(word.as_bytes()) => self.words.push(word),
                Ok(text) => self.push(piece.key, text.into_bytes())?,
                Err(bytes) => self.push(piece.key, bytes.into_bytes())?,
            }
        }
        if self.words.is_empty() {
            return Err(Unreadable::NoCommand);
        }
        if bare_json && self.words.len() + self.args.len() > 1 {
            self.output = Output::Json;
            if self.args.pop().is_none() {
                self.words.pop();
            }
        }
        Ok(())
    }

    fn push(&mut self, key: Option<&str>, value: Vec<u8>) -> Result<(), Unreadable> {
        if self.words.is_empty() {
            return Err(Unreadable::Word);
        }
        self.args.push(Argument { key: key.map(str::to_owned), value });
        Ok(())
    }
}

/// The line without its LF. Reads back as it was, unless the last of several words is `json`, which
/// belongs into `output`.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tag) = self.tag {
            write!(f, "{tag} ")?;
        }
        f.write_str(&self.words.join(" "))?;
        for arg in &self.args {
            f.write_str(" ")?;
            match &arg.key {
                Some(key) => {
                    write!(f, "{key}=")?;
                    print_value(f, &arg.value)?;
                }
                // Without quotes it could be taken for another word of the command.
                None => print_quoted(f, &arg.value)?,
            }
        }
        match self.output {
            Output::Logfmt => Ok(()),
            Output::Json => f.write_str(" json"),
        }
    }
}
