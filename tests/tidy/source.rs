//! One Rust file as the rules see it: its code without comments and strings, its comments, which lines are
//! test code, and every path it names.

/// A file, split into lines three ways. All three have the same number of lines.
pub struct Source {
    /// Path from the root of the repository, with `/`.
    pub path: String,
    /// The lines as they are.
    pub raw: Vec<String>,
    /// The lines with comments, strings and character literals blanked.
    pub code: Vec<String>,
    /// The lines with only strings and character literals blanked.
    pub prose: Vec<String>,
    /// Whether a line is test code: a test file, or an item under `#[cfg(test)]`.
    pub test: Vec<bool>,
}

/// A path as the code names it, e.g. `crate::wire::id` or `println!`; groups of `use` are spread out.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    /// Index of the line, from 0.
    pub line: usize,
    pub segments: Vec<String>,
}

impl Named {
    /// Whether the segments of `pattern` ("thread::sleep") stand side by side in this path.
    pub fn holds(&self, pattern: &str) -> bool {
        let wanted: Vec<&str> = pattern.split("::").collect();
        self.segments.windows(wanted.len()).any(|window| window.iter().eq(wanted.iter()))
    }
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let (code, prose) = blank(text);
        let code: Vec<String> = code.lines().map(str::to_owned).collect();
        let test = test_lines(path, &code);
        Self {
            path: path.to_owned(),
            raw: text.lines().map(str::to_owned).collect(),
            prose: prose.lines().map(str::to_owned).collect(),
            code,
            test,
        }
    }

    /// The files that the `mod` lines of this one may mean, with the index of the line. `is_root` for the file
    /// of a crate that others hang on.
    pub fn modules(&self, is_root: bool) -> Vec<(usize, String)> {
        let here = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let below = match self.path.strip_suffix("/mod.rs") {
            Some(folder) => folder,
            None if is_root => here,
            None => self.path.trim_end_matches(".rs"),
        };
        let mut found = Vec::new();
        for (line, code) in self.code.iter().enumerate() {
            let Some(name) = declared_module(code) else { continue };
            let moved =
                line.checked_sub(1).and_then(|above| self.raw[above].trim().strip_prefix("#[path = \""));
            match moved.and_then(|moved| moved.strip_suffix("\"]")) {
                Some(moved) => found.push((line, format!("{here}/{moved}"))),
                None => {
                    found.push((line, format!("{below}/{name}.rs")));
                    found.push((line, format!("{below}/{name}/mod.rs")));
                }
            }
        }
        found
    }

    /// Whether all of this file is test code.
    pub fn is_test(&self) -> bool {
        !self.test.contains(&false)
    }

    /// Every path and every macro that the code names, in order.
    pub fn names(&self) -> Vec<Named> {
        let tokens: Vec<(usize, String)> = self
            .code
            .iter()
            .enumerate()
            .flat_map(|(line, code)| tokens(code).into_iter().map(move |t| (line, t)))
            .collect();
        let mut names = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            if is_word(&tokens[at].1) {
                at = path_at(&tokens, at, &[], &mut names);
            } else {
                at += 1;
            }
        }
        names
    }
}

/// `x` of `pub(crate) mod x;`
fn declared_module(code: &str) -> Option<&str> {
    let (visibility, name) = code.trim().strip_suffix(';')?.split_once("mod ")?;
    let visible = visibility.is_empty() || (visibility.starts_with("pub") && visibility.ends_with(' '));
    visible.then_some(name)
}

/// Marks the files that are modules under `#[cfg(test)]` of others, and what hangs on them.
pub fn mark_test_modules(sources: &mut [Source]) {
    loop {
        let mut tests = Vec::new();
        for source in sources.iter() {
            let is_root = source.path.ends_with("src/lib.rs") || source.path.contains("src/bin/");
            let modules = source.modules(is_root).into_iter();
            tests.extend(modules.filter(|(line, _)| source.test[*line]).map(|(_, path)| path));
        }
        let mut news = false;
        for source in sources.iter_mut().filter(|source| !source.is_test() && tests.contains(&source.path)) {
            source.test.fill(true);
            news = true;
        }
        if !news {
            return;
        }
    }
}

/// A file that is test code by its place.
pub fn is_test_file(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    ["tests", "bench", "fuzz", "examples"].contains(&first)
        || path.contains("/tests/")
        || path.contains("/benches/")
        || path.ends_with("/tests.rs")
}

fn is_word(token: &str) -> bool {
    token.chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// Words, `::` and single characters.
fn tokens(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() || c == '_' {
            let mut word = String::from(c);
            while let Some(&next) = chars.peek() {
                if !next.is_alphanumeric() && next != '_' {
                    break;
                }
                word.push(next);
                chars.next();
            }
            found.push(word);
        } else if c == ':' && chars.peek() == Some(&':') {
            chars.next();
            found.push("::".to_owned());
        } else if !c.is_whitespace() {
            found.push(c.to_string());
        }
    }
    found
}

/// Reads the path that starts at token `at` behind `prefix`; returns where it ends.
fn path_at(tokens: &[(usize, String)], mut at: usize, prefix: &[String], names: &mut Vec<Named>) -> usize {
    let line = tokens[at].0;
    let is = |at: usize, wanted: &str| tokens.get(at).is_some_and(|(_, token)| token == wanted);
    let mut segments = prefix.to_vec();
    loop {
        segments.push(tokens[at].1.clone());
        at += 1;
        if is(at, "!") && !is(at + 1, "=") {
            let last = segments.last_mut().expect("one was pushed above");
            last.push('!');
            break;
        }
        if !is(at, "::") {
            break;
        }
        match tokens.get(at + 1) {
            Some((_, next)) if is_word(next) || next == "*" => at += 1,
            Some((_, next)) if next == "{" => return group_at(tokens, at + 2, &segments, names),
            _ => break,
        }
    }
    names.push(Named { line, segments });
    at
}

/// Reads the group whose first token is at `at`, each member behind `prefix`; returns where it ends.
fn group_at(tokens: &[(usize, String)], mut at: usize, prefix: &[String], names: &mut Vec<Named>) -> usize {
    while at < tokens.len() && tokens[at].1 != "}" {
        if tokens[at].1 == "as" {
            at += 2; // the new name is no path
        } else if is_word(&tokens[at].1) || tokens[at].1 == "*" {
            at = path_at(tokens, at, prefix, names);
        } else {
            at += 1;
        }
    }
    at + 1
}

/// The text twice: once without comments and strings, once without strings only. Lines stay where they are.
fn blank(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut prose = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let (end, is_comment) = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => (line_end(&chars, at), true),
            '/' if chars.get(at + 1) == Some(&'*') => (block_end(&chars, at), true),
            '"' => (string_end(&chars, at), false),
            'r' if !glued(&chars, at) && raw_string_end(&chars, at).is_some() => {
                (raw_string_end(&chars, at).expect("just found"), false)
            }
            '\'' => (char_end(&chars, at), false),
            _ => (at, false),
        };
        if end == at {
            code.push(chars[at]);
            prose.push(chars[at]);
            at += 1;
            continue;
        }
        for &c in &chars[at..end] {
            let gap = if c == '\n' { '\n' } else { ' ' };
            code.push(gap);
            prose.push(if is_comment { c } else { gap });
        }
        at = end;
    }
    (code, prose)
}

/// Whether the `r` at `at` is the end of a longer word; `br"` and `cr"` start strings all the same.
fn glued(chars: &[char], at: usize) -> bool {
    let word = |at: usize| chars.get(at).is_some_and(|c| c.is_alphanumeric() || *c == '_');
    match at.checked_sub(1) {
        None => false,
        Some(before) if matches!(chars[before], 'b' | 'c') => before > 0 && word(before - 1),
        Some(before) => word(before),
    }
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|&c| c == '\n').map_or(chars.len(), |n| at + n)
}

fn block_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The end of `r"..."` or `r#"..."#`, if one starts at `at`.
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |n: &usize| {
        chars[*n] == '"' && chars[n + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes
    };
    Some((open + 1..chars.len()).find(closes).map_or(chars.len(), |n| n + 1 + hashes))
}

/// The end of a character literal at `at`, or `at` itself where the quote starts a lifetime.
fn char_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            let close = chars[(at + 3).min(chars.len())..].iter().position(|&c| c == '\'');
            close.map_or(chars.len(), |n| at + 3 + n + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

/// Marks the items under `#[cfg(test)]`, to their closing brace or semicolon.
fn test_lines(path: &str, code: &[String]) -> Vec<bool> {
    let mut test = vec![is_test_file(path); code.len()];
    for start in 0..code.len() {
        if test[start] || !code[start].trim_start().starts_with("#[cfg(") || !names_test(&code[start]) {
            continue;
        }
        let mut depth = 0usize;
        'item: for line in start..code.len() {
            test[line] = true;
            for c in code[line].chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 1 => break 'item,
                    '}' => depth = depth.saturating_sub(1),
                    ';' if depth == 0 => break 'item,
                    _ => {}
                }
            }
        }
    }
    test
}

fn names_test(line: &str) -> bool {
    tokens(line).iter().any(|t| t == "test") && !tokens(line).iter().any(|t| t == "not")
}
