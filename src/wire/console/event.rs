//! What a session hears that watches: lines between replies, marked `+`.

use super::reply::print_line;
use super::{Fields, Mark, Output, is_key};

/// Code of every event: what it is about is its keyword.
pub const EVENT: u16 = 210;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub topic: &'static str,
    pub fields: Fields,
}

impl Event {
    /// An event without fields.
    pub fn new(topic: &'static str) -> Self {
        Self { topic, fields: Fields::new() }
    }

    /// Adds a field.
    pub fn with(mut self, key: &'static str, value: impl Into<super::Value>) -> Self {
        debug_assert!(is_key(key), "{key}");
        self.fields.push((key, value.into()));
        self
    }

    /// The line with its LF, in ASCII.
    pub fn print(&self, output: Output) -> String {
        let mut out = String::new();
        print_line(&mut out, None, EVENT, Mark::Event, self.topic, &self.fields, output);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::Line;
    use super::*;

    #[test]
    fn an_event_is_one_line_that_no_value_can_forge() {
        let event = Event::new("site").with("what", "live").with("site", "www\n200 ok").with("order", 7u64);
        let line = event.print(Output::Logfmt);
        assert_eq!(line, "210+site what=live site=\"www\\n200 ok\" order=7\n");
        let read = Line::parse(line.trim_end().as_bytes()).unwrap();
        assert_eq!((read.tag, read.code, read.mark), (None, EVENT, Mark::Event));
        let json = event.print(Output::Json);
        assert_eq!(json, "210+{\"kind\":\"site\",\"what\":\"live\",\"site\":\"www\\n200 ok\",\"order\":7}\n");
    }
}
