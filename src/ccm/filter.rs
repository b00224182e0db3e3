//! Which entries of staging are picked up for a site (ST-6): patterns in gitignore syntax, and types of files.

use crate::content::walk::Pick;
use crate::wire::assignment::RelPath;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Patterns, and types, that a site has at most of each kind.
const RULES_MAX: usize = 256;
/// Bytes of a pattern.
const PATTERN_MAX: usize = 1_024;

/// What an operator said of a site. Without any rule everything is picked up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// What fits one of these is left out, a directory with all below it; the last that fits decides, `!` takes
    /// back.
    pub exclude: Vec<String>,
    /// Where there are any, only what fits one of these, or lies in a directory that does.
    pub include: Vec<String>,
    /// Where there are any, only files whose name ends in a dot and one of these, in any case.
    pub types: Vec<String>,
}

/// Why a filter is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFilter {
    #[error("{0:?} is no pattern as in a .gitignore: {1}")]
    Pattern(String, String),
    #[error("{0:?} is no type: it is the end of a file's name without the dot, such as `html`")]
    Type(String),
    #[error("more than {RULES_MAX} rules of one kind, or a pattern of more than {PATTERN_MAX} bytes")]
    TooMuch,
}

impl Filter {
    pub const fn is_empty(&self) -> bool {
        self.exclude.is_empty() && self.include.is_empty() && self.types.is_empty()
    }
}

/// A filter that was read, ready to be asked.
#[derive(Debug)]
pub struct Picker {
    exclude: Gitignore,
    include: Option<Gitignore>,
    types: Vec<String>,
}

impl Picker {
    /// # Errors
    /// Names the rule that cannot be read.
    pub fn new(filter: &Filter) -> Result<Self, BadFilter> {
        let all = [&filter.exclude, &filter.include, &filter.types];
        if all.iter().any(|rules| rules.len() > RULES_MAX) {
            return Err(BadFilter::TooMuch);
        }
        let is_type = |text: &str| !text.is_empty() && !text.contains(['/', '.', '\n', '\0']);
        if let Some(bad) = filter.types.iter().find(|text| !is_type(text)) {
            return Err(BadFilter::Type(bad.clone()));
        }
        Ok(Self {
            exclude: matcher(&filter.exclude)?,
            include: if filter.include.is_empty() { None } else { Some(matcher(&filter.include)?) },
            types: filter.types.iter().map(|text| text.to_ascii_lowercase()).collect(),
        })
    }

    /// What becomes of an entry. Asked from the root down: of what lies in a directory that is left out nobody asks.
    pub fn pick(&self, path: &RelPath, is_directory: bool) -> Pick {
        let at = Path::new(OsStr::from_bytes(path.as_bytes()));
        if self.exclude.matched(at, is_directory).is_ignore() {
            return Pick::Leave;
        }
        let included = self
            .include
            .as_ref()
            .is_none_or(|include| include.matched_path_or_any_parents(at, is_directory).is_ignore());
        match (is_directory, included && self.types.is_empty()) {
            (true, true) => Pick::Take,
            // Something below it may be.
            (true, false) => Pick::Contents,
            (false, _) if included && self.is_of_type(at) => Pick::Take,
            (false, _) => Pick::Leave,
        }
    }

    fn is_of_type(&self, at: &Path) -> bool {
        let ending = at.extension().map(OsStr::as_bytes);
        let is = |wanted: &String| ending.is_some_and(|is| is.eq_ignore_ascii_case(wanted.as_bytes()));
        self.types.is_empty() || self.types.iter().any(is)
    }
}

fn matcher(patterns: &[String]) -> Result<Gitignore, BadFilter> {
    let mut builder = GitignoreBuilder::new("");
    for pattern in patterns {
        let bad = |why: &str| BadFilter::Pattern(pattern.clone(), why.to_owned());
        if pattern.len() > PATTERN_MAX {
            return Err(BadFilter::TooMuch);
        }
        if pattern.trim().is_empty() || pattern.starts_with('#') {
            return Err(bad("it is empty, or a comment"));
        }
        if pattern.contains(['\n', '\0']) {
            return Err(bad("it has more than one line"));
        }
        builder.add_line(None, pattern).map_err(|error| bad(&error.to_string()))?;
    }
    builder.build().map_err(|error| BadFilter::Pattern(patterns.join(" "), error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(exclude: &[&str], include: &[&str], types: &[&str]) -> Filter {
        let own = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Filter { exclude: own(exclude), include: own(include), types: own(types) }
    }

    /// What is picked of a tree, as the walk asks: `/` at the end is a directory.
    fn picked(filter: &Filter) -> Vec<&'static str> {
        const TREE: [&str; 12] = [
            ".git/",
            ".git/HEAD",
            "docs/",
            "docs/a.html",
            "docs/draft.TMP",
            "docs/img/",
            "docs/img/x.PNG",
            "docs/img/y.tmp",
            "empty/",
            "index.html",
            "notes.txt",
            "Makefile",
        ];
        let picker = Picker::new(filter).unwrap();
        let (mut left, mut taken) = (Vec::new(), Vec::new());
        for path in TREE {
            let at = RelPath::new(path.trim_end_matches('/').as_bytes()).unwrap();
            if left.iter().any(|above: &&str| path.starts_with(above)) {
                continue;
            }
            match picker.pick(&at, path.ends_with('/')) {
                Pick::Take => taken.push(path),
                Pick::Leave if path.ends_with('/') => left.push(path),
                Pick::Leave | Pick::Contents => {}
            }
        }
        taken
    }

    /// ST-6.
    #[test]
    fn only_what_is_included_and_not_excluded_and_of_the_type_is_picked() {
        let all = picked(&Filter::default());
        assert_eq!(all.len(), 12);
        for (filter, expected) in [
            (
                filter(&[".git", "*.tmp"], &[], &[]),
                &all[2..5].iter().chain(&all[5..7]).chain(&all[8..]).copied().collect::<Vec<_>>(),
            ),
            (
                filter(&["*.[tT][mM][pP]", "/notes.*", ".git/"], &[], &[]),
                &["docs/", "docs/a.html", "docs/img/", "docs/img/x.PNG", "empty/", "index.html", "Makefile"]
                    .to_vec(),
            ),
            (filter(&["*.html", "!index.html", ".git"], &["*.html"], &[]), &vec!["index.html"]),
            (filter(&[], &["/docs/img/"], &[]), &vec!["docs/img/", "docs/img/x.PNG", "docs/img/y.tmp"]),
            (filter(&["img"], &["docs"], &[]), &vec!["docs/", "docs/a.html", "docs/draft.TMP"]),
            (filter(&[], &[], &["png", "HTML"]), &vec!["docs/a.html", "docs/img/x.PNG", "index.html"]),
            (filter(&[], &["docs/**"], &["html"]), &vec!["docs/a.html"]),
            (filter(&["*"], &[], &[]), &vec![]),
        ] {
            assert_eq!(picked(&filter), *expected, "{filter:?}");
        }
    }

    #[test]
    fn rules_that_cannot_be_read_are_named() {
        let refused = |filter: Filter| Picker::new(&filter).unwrap_err().to_string();
        assert!(refused(filter(&["a{b"], &[], &[])).starts_with("\"a{b\" is no pattern"));
        assert!(refused(filter(&[], &["# c"], &[])).contains("a comment"));
        assert!(refused(filter(&[], &["a\nb"], &[])).contains("more than one line"));
        for bad in ["", ".html", "a/b"] {
            assert!(refused(filter(&[], &[], &[bad])).contains("is no type"), "{bad}");
        }
        let many = vec!["x"; RULES_MAX + 1];
        assert!(refused(filter(&many, &[], &[])).starts_with("more than 256"));
    }
}
