//! `farmcastd --doctor`: whether this machine can be a good node, one line for each thing that matters.
//!
//! It needs no running daemon and disturbs none: it binds ports only to let go of them, sends one datagram
//! to its own segment's group on a port where nobody listens, and removes the files that it makes. Each
//! check is a probe, which asks the kernel, the disk or a neighbour, and a judgement of what was found,
//! which is pure.
//!
//! | file | subject |
//! |---|---|
//! | [`places`] | state directory, identity, roots of sites |
//! | [`groups`] | data channels of the node's content groups |
//! | [`segment`] | interface, MTU, multicast, who leads, IGMP |
//! | [`neighbours`] | a daemon that runs here, ports, the CCM and its clock |
//! | [`reach`] | what the daemon that runs here hears by multicast |
//! | [`machine`] | buffers, offloads, capabilities |

mod groups;
mod machine;
mod neighbours;
mod places;
mod reach;
mod segment;

use super::config::Config;
use super::identity::Identity;
use crate::wire::console::json_text;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    /// The node works, but less well than it could, or something could not be found out.
    Warn,
    /// The node does not work like this.
    Fail,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a check found, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    /// What was looked at: a few words that stay the same from run to run.
    pub what: String,
    pub text: String,
    /// Empty where nothing is to do.
    pub remedy: String,
}

impl Finding {
    fn ok(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, what: what.into(), text: text.into(), remedy: String::new() }
    }

    fn warn(what: impl Into<String>, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warn, what: what.into(), text: text.into(), remedy: remedy.into() }
    }

    fn fail(what: impl Into<String>, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fail, what: what.into(), text: text.into(), remedy: remedy.into() }
    }

    /// `ok    mtu           1500 bytes on eth0`
    fn line(&self) -> String {
        let Self { level, what, text, remedy } = self;
        let gap = if remedy.is_empty() { "" } else { "; " };
        // Names of files and of other nodes stand in it: none of them ends a line.
        format!("{:<4}  {what:<14}  {text}{gap}{remedy}", level.as_str()).replace(char::is_control, "?")
    }

    /// One JSON object with the fields `level`, `what`, `finding` and `remedy`.
    fn json(&self) -> String {
        let mut out = String::from("{");
        let fields = [
            ("level", self.level.as_str()),
            ("what", &self.what),
            ("finding", &self.text),
            ("remedy", &self.remedy),
        ];
        for (at, (name, value)) in fields.into_iter().enumerate() {
            out.push_str(if at == 0 { "" } else { "," });
            json_text(&mut out, name).expect("a String takes any text");
            out.push(':');
            json_text(&mut out, value).expect("a String takes any text");
        }
        out + "}"
    }
}

/// Takes each finding as soon as it is there, for some take seconds.
struct Report {
    json: bool,
    worst: Level,
}

impl Report {
    fn add(&mut self, finding: Finding) {
        self.worst = self.worst.max(finding.level);
        let line = if self.json { finding.json() } else { finding.line() };
        // A reader that has gone is no failure of ours.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }

    fn add_all(&mut self, findings: impl IntoIterator<Item = Finding>) {
        findings.into_iter().for_each(|finding| self.add(finding));
    }
}

/// Makes all checks for the node that `path` configures and prints them. The exit code is 1 where one
/// failed, else 0.
pub fn run(path: &Path, json: bool) -> ExitCode {
    let mut report = Report { json, worst: Level::Ok };
    match Config::load(path) {
        Ok(config) => {
            report.add(Finding::ok("config", format!("{} is valid", path.display())));
            check_node(&config, &mut report);
        }
        Err(error) => {
            let remedy = "mend it; until then only the machine itself can be checked";
            report.add(Finding::fail("config", error.to_string(), remedy));
        }
    }
    report.add_all(machine::check());
    ExitCode::from(u8::from(report.worst == Level::Fail))
}

fn check_node(config: &Config, report: &mut Report) {
    let identity = Identity::load(&config.state_dir);
    report.add_all(places::check(config, &identity));
    let director = identity.as_ref().ok().map(|identity| identity.farm.director);
    let daemon = reach::ask(config);
    let follows = daemon.as_ref().and_then(reach::followed);
    segment::check(config, identity.ok(), follows, report);
    report.add_all(groups::check(config, director));
    neighbours::check(config, report);
    report.add_all(daemon.as_ref().and_then(reach::judge));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_level_subject_finding_and_remedy() {
        let good = Finding::ok("mtu", "1500 bytes");
        assert_eq!(good.line(), "ok    mtu             1500 bytes");
        let bad = Finding::fail("site www", "/srv\n\u{1b}[2J is read-only", "remount it");
        assert_eq!(bad.line(), "fail  site www        /srv??[2J is read-only; remount it");
    }

    #[test]
    fn an_object_has_the_same_four_and_survives_any_text() {
        let finding = Finding::warn("a", "say \"b\"\n", "c\\d");
        let value: serde_json::Value = serde_json::from_str(&finding.json()).unwrap();
        let expected =
            serde_json::json!({"level": "warn", "what": "a", "finding": "say \"b\"\n", "remedy": "c\\d"});
        assert_eq!(value, expected);
    }
}
