//! What comes back: rows and a last line.

use super::{Mark, Output, PROTOCOL, Tag, is_key, print_escaped, print_value};
use std::fmt::{self, Write};

/// What a line of a reply says to a machine. Numbers and keywords are never used for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    Ok,
    Row,
    Accepted,
    /// The same was asked before; nothing changed.
    Already,
    Syntax,
    Denied,
    NotFound,
    UnknownCommand,
    Conflict,
    TooLong,
    BadValue,
    Internal,
    NotReady,
    Timeout,
    NoSpace,
    Busy,
    SlowReader,
}

impl Code {
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Row,
        Self::Accepted,
        Self::Already,
        Self::Syntax,
        Self::Denied,
        Self::NotFound,
        Self::UnknownCommand,
        Self::Conflict,
        Self::TooLong,
        Self::BadValue,
        Self::Internal,
        Self::NotReady,
        Self::Timeout,
        Self::NoSpace,
        Self::Busy,
        Self::SlowReader,
    ];

    /// 2xx done; 4xx your request, do not repeat it unchanged; 5xx our state, may be repeated.
    pub const fn number(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::Row => 201,
            Self::Accepted => 202,
            Self::Already => 203,
            Self::Syntax => 400,
            Self::Denied => 403,
            Self::NotFound => 404,
            Self::UnknownCommand => 405,
            Self::Conflict => 409,
            Self::TooLong => 413,
            Self::BadValue => 422,
            Self::Internal => 500,
            Self::NotReady => 503,
            Self::Timeout => 504,
            Self::NoSpace => 507,
            Self::Busy => 508,
            Self::SlowReader => 509,
        }
    }

    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Row => "row",
            Self::Accepted => "accepted",
            Self::Already => "already",
            Self::Syntax => "syntax",
            Self::Denied => "denied",
            Self::NotFound => "not-found",
            Self::UnknownCommand => "unknown-command",
            Self::Conflict => "conflict",
            Self::TooLong => "too-long",
            Self::BadValue => "bad-value",
            Self::Internal => "internal",
            Self::NotReady => "not-ready",
            Self::Timeout => "timeout",
            Self::NoSpace => "no-space",
            Self::Busy => "busy",
            Self::SlowReader => "slow-reader",
        }
    }
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    /// Bytes that need not be text, such as a file name.
    Bytes(Vec<u8>),
    Number(u64),
    Signed(i64),
    Flag(bool),
}

/// The fields of a line, in order. Keys are `a-z 0-9 - _`; a unit stands at the end (`_ms`, `_bytes`).
pub type Fields = Vec<(&'static str, Value)>;

/// One row of a reply: what it is about, and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub keyword: &'static str,
    pub fields: Fields,
}

/// The whole answer to one request, not yet in any output form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    rows: Vec<Row>,
    /// Count the rows in the last line.
    counted: bool,
    code: Code,
    fields: Fields,
}

impl Reply {
    /// A reply of one line.
    pub fn new(code: Code) -> Self {
        Self { rows: Vec::new(), counted: false, code, fields: Fields::new() }
    }

    /// `200 ok`.
    pub fn ok() -> Self {
        Self::new(Code::Ok)
    }

    /// `200 ok rows=N` after N rows, which may be none.
    pub fn table() -> Self {
        Self { counted: true, ..Self::ok() }
    }

    /// An error with a sentence for people.
    pub fn refused(code: Code, text: impl Into<String>) -> Self {
        Self::new(code).with("text", text.into())
    }

    /// Adds a field to the last line.
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        debug_assert!(is_key(key), "{key}");
        self.fields.push((key, value.into()));
        self
    }

    /// Adds a `201-` row.
    pub fn row(mut self, keyword: &'static str, fields: Fields) -> Self {
        self.push(keyword, fields);
        self
    }

    /// Adds a `201-` row.
    pub fn push(&mut self, keyword: &'static str, fields: Fields) {
        debug_assert!(fields.iter().all(|(key, _)| is_key(key)), "{fields:?}");
        self.counted = true;
        self.rows.push(Row { keyword, fields });
    }

    pub fn code(&self) -> Code {
        self.code
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The lines, each with its LF, in ASCII.
    pub fn print(&self, tag: Option<Tag>, output: Output) -> String {
        let mut out = String::new();
        for row in &self.rows {
            print_line(&mut out, tag, Code::Row.number(), Mark::More, row.keyword, &row.fields, output);
        }
        let mut last = Fields::with_capacity(self.fields.len() + 1);
        if self.counted {
            last.push(("rows", Value::from(self.rows.len())));
        }
        last.extend(self.fields.iter().cloned());
        print_line(&mut out, tag, self.code.number(), Mark::Last, self.code.keyword(), &last, output);
        out
    }
}

/// The first line of a session, with its LF.
pub fn greeting(fields: &[(&'static str, Value)]) -> String {
    let mut out = String::new();
    print_line(&mut out, None, GREETING, Mark::Last, PROTOCOL, fields, Output::Logfmt);
    out
}

/// Code of the first line of a session.
pub const GREETING: u16 = 100;

pub(super) fn print_line(
    out: &mut String,
    tag: Option<Tag>,
    code: u16,
    mark: Mark,
    keyword: &str,
    fields: &[(&'static str, Value)],
    output: Output,
) {
    write_line(out, tag, code, mark, keyword, fields, output).expect("writing to a string cannot fail");
}

fn write_line(
    out: &mut String,
    tag: Option<Tag>,
    code: u16,
    mark: Mark,
    keyword: &str,
    fields: &[(&'static str, Value)],
    output: Output,
) -> fmt::Result {
    if let Some(tag) = tag {
        write!(out, "{tag} ")?;
    }
    write!(out, "{code:03}{}", mark.sign())?;
    match output {
        Output::Logfmt => {
            out.push_str(keyword);
            for (key, value) in fields {
                write!(out, " {key}=")?;
                value.print(out)?;
            }
        }
        Output::Json => {
            out.push_str("{\"kind\":");
            json_text(out, keyword)?;
            for (key, value) in fields {
                write!(out, ",\"{key}\":")?;
                value.print_json(out)?;
            }
            out.push('}');
        }
    }
    out.push('\n');
    Ok(())
}

impl Value {
    fn print(&self, out: &mut String) -> fmt::Result {
        match self {
            Self::Text(text) => print_value(out, text.as_bytes()),
            Self::Bytes(bytes) => print_value(out, bytes),
            Self::Number(number) => write!(out, "{number}"),
            Self::Signed(number) => write!(out, "{number}"),
            Self::Flag(flag) => write!(out, "{flag}"),
        }
    }

    /// Text becomes a JSON string; bytes one in which a backslash is `\\` and what is not printable ASCII
    /// `\xNN`, as text of the string: JSON itself cannot carry bytes.
    fn print_json(&self, out: &mut String) -> fmt::Result {
        match self {
            Self::Text(text) => json_text(out, text),
            Self::Bytes(bytes) => {
                let mut escaped = String::with_capacity(bytes.len());
                bytes.iter().try_for_each(|byte| print_escaped(&mut escaped, *byte))?;
                json_text(out, &escaped)
            }
            Self::Number(_) | Self::Signed(_) | Self::Flag(_) => self.print(out),
        }
    }
}

/// Appends `text` as a JSON string, in ASCII.
pub fn json_text(out: &mut String, text: &str) -> fmt::Result {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))?,
        }
    }
    out.push('"');
    Ok(())
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Signed(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}
