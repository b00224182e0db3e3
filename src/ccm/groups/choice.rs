//! How an operator chooses nodes for a group: `web1`, `web*`, `segment:rack1`, `segment:eu-*`.

use crate::wire::id::Name;
use std::fmt;
use std::str::FromStr;

/// Nodes by their name, or by the segment that they were last seen in. A `*` in either stands for any text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Choice {
    Node(Pattern),
    Segment(Pattern),
}

/// Letters of a name, with `*` for any number of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} chooses no node: give a node's name or segment:NAME, of letters, digits, `.`, `_`, `-`, and `*` for \
     any text"
)]
pub struct NoChoice(String);

const SEGMENT: &str = "segment:";
/// Longest pattern in bytes.
const PATTERN_MAX: usize = 64;

impl Choice {
    pub fn fits(&self, node: &Name, segment: Option<&Name>) -> bool {
        match self {
            Self::Node(pattern) => pattern.fits(node.as_str()),
            Self::Segment(pattern) => segment.is_some_and(|segment| pattern.fits(segment.as_str())),
        }
    }

    /// The one name that it can stand for; `None` for a pattern.
    pub fn literal(&self) -> Option<&str> {
        let (Self::Node(Pattern(text)) | Self::Segment(Pattern(text))) = self;
        (!text.contains('*')).then_some(text)
    }
}

impl Pattern {
    fn fits(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut at, mut read) = (0, 0);
        // Where the last star stands, and how much of the text it stands for so far.
        let mut star: Option<(usize, usize)> = None;
        while read < text.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    star = Some((at, read));
                    at += 1;
                }
                Some(byte) if *byte == text[read] => (at, read) = (at + 1, read + 1),
                _ => match &mut star {
                    Some((back, taken)) => {
                        *taken += 1;
                        (at, read) = (*back + 1, *taken);
                    }
                    None => return false,
                },
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}

impl FromStr for Choice {
    type Err = NoChoice;

    fn from_str(text: &str) -> Result<Self, NoChoice> {
        let (make, pattern): (fn(Pattern) -> Self, &str) = match text.strip_prefix(SEGMENT) {
            Some(pattern) => (Self::Segment, pattern),
            None => (Self::Node, text),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'*');
        if pattern.is_empty() || pattern.len() > PATTERN_MAX || !pattern.bytes().all(plain) {
            return Err(NoChoice(text.to_owned()));
        }
        Ok(make(Pattern(pattern.to_owned())))
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(Pattern(text)) => f.write_str(text),
            Self::Segment(Pattern(text)) => write!(f, "{SEGMENT}{text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(choice: &str, node: &str, segment: Option<&str>) -> bool {
        let name = |text| Name::new(text).unwrap();
        choice.parse::<Choice>().unwrap().fits(&name(node), segment.map(name).as_ref())
    }

    #[test]
    fn nodes_are_chosen_by_name_or_by_segment() {
        for (choice, node, expected) in [
            ("web1", "web1", true),
            ("web1", "web11", false),
            ("web*", "web11", true),
            ("web*", "web", true),
            ("*", "any", true),
            ("*-eu", "web-eu", true),
            ("*-eu", "web-eu-2", false),
            ("w*b*1", "web-b-11", true),
            ("w*b*1", "web-b-12", false),
            ("**a", "bba", true),
            ("Web1", "web1", false),
        ] {
            assert_eq!(fits(choice, node, Some("rack1")), expected, "{choice} {node}");
        }
        assert!(fits("segment:rack*", "x", Some("rack7")));
        assert!(!fits("segment:rack1", "x", Some("rack7")));
        assert!(!fits("segment:*", "x", None), "nobody has seen it yet");
        assert!(!fits("rack1", "x", Some("rack1")));
    }

    #[test]
    fn what_chooses_nothing_is_refused_and_the_rest_reads_back() {
        for bad in ["", "segment:", "a b", "a/b", "rack:1", "ü", "a,b", &"x".repeat(65)] {
            assert!(bad.parse::<Choice>().is_err(), "{bad:?}");
        }
        for good in ["web1", "*", "segment:eu-*", "a.b_c-d"] {
            assert_eq!(good.parse::<Choice>().unwrap().to_string(), good);
        }
        assert_eq!("segment:eu".parse::<Choice>().unwrap().literal(), Some("eu"));
        assert_eq!("segment:e*".parse::<Choice>().unwrap().literal(), None);
    }

    proptest::proptest! {
        #[test]
        fn a_pattern_that_was_made_of_a_name_fits_it(name in "[a-c]{1,12}", from in 0_usize..12, to in 0_usize..12) {
            let (from, to) = (from.min(name.len()), to.min(name.len()));
            let pattern = format!("{}*{}", &name[..from.min(to)], &name[from.max(to)..]);
            proptest::prop_assert!(fits(&pattern, &name, None));
        }
    }
}
