//! What goes to stdout: lines, tables, JSON; and how numbers, times and foreign text are printed.

use super::failure::Failure;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Colour {
    Auto,
    Always,
    Never,
}

pub struct Output {
    json: bool,
    colour: bool,
}

/// How a word is meant; colour only underlines what the word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Warn,
    Bad,
}

impl Output {
    pub fn new(json: bool, colour: Colour) -> Self {
        // https://no-color.org: set and not empty means no colour.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colour = match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => !refused && !dumb && io::stdout().is_terminal(),
        };
        Self { json, colour }
    }

    pub const fn is_json(&self) -> bool {
        self.json
    }

    pub fn line(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")?;
        Ok(stdout.flush()?)
    }

    /// One JSON value on a line of its own.
    pub fn value<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(value).expect("API values have string keys only");
        self.line(&text)
    }

    pub fn tint(&self, text: &str, tone: Tone) -> String {
        let code = match tone {
            _ if !self.colour => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Good => 32,
            Tone::Warn => 33,
            Tone::Bad => 31,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    pub fn table(&self, table: &Table) -> Result<(), Failure> {
        table.lines(self).iter().try_for_each(|line| self.line(line))
    }
}

/// Columns under headings, as wide as their widest cell.
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<(String, Tone)>>,
}

impl Table {
    /// A heading that begins with `>` makes its column flush right.
    pub fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = (String, Tone)>) {
        self.rows.push(cells.into_iter().map(|(text, tone)| (printable(&text), tone)).collect());
    }

    fn lines(&self, output: &Output) -> Vec<String> {
        let titles: Vec<_> = self.headings.iter().map(|heading| heading.trim_start_matches('>')).collect();
        let wide = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|(text, _)| text.chars().count()).chain([titles[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..titles.len()).map(wide).collect();
        let line = |cells: &[(String, Tone)]| {
            let mut text = String::new();
            for (column, (cell, tone)) in cells.iter().enumerate().take(titles.len()) {
                let space = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
                let cell = output.tint(cell, *tone);
                let gap = if column == 0 { "" } else { "  " };
                match self.headings[column].starts_with('>') {
                    true => text += &format!("{gap}{space}{cell}"),
                    false => text += &format!("{gap}{cell}{space}"),
                }
            }
            text.trim_end().to_owned()
        };
        let heads: Vec<_> = titles.iter().map(|title| (title.to_uppercase(), Tone::Plain)).collect();
        std::iter::once(line(&heads)).chain(self.rows.iter().map(|row| line(row))).collect()
    }
}

/// A cell without a meaning to underline.
pub fn cell(text: impl ToString) -> (String, Tone) {
    (text.to_string(), Tone::Plain)
}

/// Text from elsewhere, fit for a terminal: control characters become `\x1b` and the like.
pub fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut clean, c| {
        match c.is_control() {
            true => drop(write!(clean, "\\x{:02x}", u32::from(c))),
            false => clean.push(c),
        }
        clean
    })
}

/// Bytes in binary units with three digits that count: `812 B`, `3.14 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match value {
        ..9.995 => format!("{value:.2} {}", UNITS[unit]),
        ..99.95 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// `0:00:21`
pub fn clock_time(span: Duration) -> String {
    let seconds = span.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A short span: `812 us`, `94 ms`, `3.2 s`.
pub fn span(span: Duration) -> String {
    match span.as_micros() {
        micros @ 0..1_000 => format!("{micros} us"),
        micros @ 1_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{:.1} s", span.as_secs_f64()),
    }
}

/// A time of the controller's clock in the local zone: `2026-11-20 15:44:02`; `-` for none.
pub fn date_time(since_1970_ns: u64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(since_1970_ns)) {
        Ok(time) if since_1970_ns > 0 => {
            time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        _ => "-".to_owned(),
    }
}

/// `1 file`, `3 files`
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_three_digits_that_count() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (41_000, "40.0 KiB"),
            (1_023_999, "0.98 MiB"),
            (13 << 20, "13.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(printable("a\x1b[2J\nb\u{9b}ü"), "a\\x1b[2J\\x0ab\\x9bü");
    }

    #[test]
    fn a_table_is_as_wide_as_its_widest_cell_and_has_no_space_at_the_end() {
        let mut table = Table::new(&["name", ">nodes", "state"]);
        table.row([cell("boston"), cell("3/3"), cell("ok")]);
        table.row([cell("x"), cell("12/120"), ("down".to_owned(), Tone::Bad)]);
        let lines = table.lines(&Output { json: false, colour: false });
        assert_eq!(lines, ["NAME     NODES  STATE", "boston     3/3  ok", "x       12/120  down"]);
        let lines = table.lines(&Output { json: false, colour: true });
        assert_eq!(lines[2], "x       12/120  \x1b[31mdown\x1b[0m");
    }

    #[test]
    fn spans_are_short() {
        assert_eq!(span(Duration::from_micros(812)), "812 us");
        assert_eq!(span(Duration::from_millis(94)), "94 ms");
        assert_eq!(span(Duration::from_millis(3_240)), "3.2 s");
        assert_eq!(clock_time(Duration::from_secs(3_681)), "1:01:21");
    }

    #[test]
    fn no_time_is_a_dash() {
        assert_eq!(date_time(0), "-");
        assert_eq!(date_time(1_700_000_000_000_000_000).len(), 19);
    }
}
