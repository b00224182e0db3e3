//! Whether multicast passes between the daemon that runs here and its leader, or its members: the daemon knows.

use super::Finding;
use crate::node::config::Config;
use crate::wire::console::{GREETING, Line, REPLY_LINE_MAX};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A daemon on this machine answers within this time.
const PATIENCE: Duration = Duration::from_secs(3);
const QUERIER: &str = "let it pass: a switch that snoops IGMP needs a querier, a firewall must let both channels and \
                       IGMP through; the node goes back to multicast by itself";

/// What the daemon that runs here says of itself; nothing where none runs, or its socket is not for us.
pub fn ask(config: &Config) -> Option<Line> {
    let stream = UnixStream::connect(&config.socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    status(stream)
}

/// The leader whom the daemon follows, as its status names it.
pub fn followed(status: &Line) -> Option<&str> {
    status.text("leader").filter(|leader| !leader.is_empty())
}

fn status(mut stream: impl Read + Write) -> Option<Line> {
    // Said before the greeting is read: it is answered after it.
    stream.write_all(b"show status\n").ok()?;
    let mut lines = BufReader::new(stream.take(2 * REPLY_LINE_MAX as u64));
    let mut line = || {
        let mut bytes = Vec::new();
        lines.read_until(b'\n', &mut bytes).ok()?;
        Line::parse(bytes.strip_suffix(b"\n")?).ok()
    };
    let greeting = line()?;
    (greeting.code == GREETING).then(line).flatten()
}

/// Nothing where the daemon does not say it.
pub fn judge(status: &Line) -> Option<Finding> {
    let what = "reach";
    let number = |key| status.text(key)?.parse::<u64>().ok();
    if status.text("state")? == "gl_is_me" {
        return Some(match number("by_unicast")? {
            0 => Finding::ok(what, "no member misses this leader's multicast"),
            count => {
                let noun = if count == 1 { "member" } else { "members" };
                let text = format!(
                    "this leader's multicast does not reach {count} {noun}: served by unicast, slower"
                );
                Finding::warn(what, text, QUERIER)
            }
        });
    }
    let channels = match status.text("multicast")? {
        "passes" => return Some(Finding::ok(what, "the leader's multicast arrives on both channels")),
        "control-only" => "on the data channel",
        "data-only" => "on the control channel",
        "blocked" => "on either channel",
        _ => {
            let text = "the daemon follows nobody now, by multicast or unicast";
            let remedy =
                "right for some seconds after a start; else see `leader`, and that the CCM can be reached";
            return Some(Finding::warn(what, text, remedy));
        }
    };
    let text =
        format!("the leader's multicast does not arrive {channels}: the node goes on by unicast, slower");
    Some(Finding::warn(what, text, QUERIER))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn line(fields: &str) -> Line {
        Line::parse(format!("200 ok {fields}").as_bytes()).unwrap()
    }

    #[test]
    fn a_leader_and_a_member_are_judged_by_what_they_say() {
        for (fields, level, part) in [
            ("state=gl_known multicast=passes by_unicast=0", Level::Ok, "both channels"),
            ("state=gl_known multicast=blocked by_unicast=0", Level::Warn, "either channel"),
            ("state=gl_known multicast=control-only by_unicast=0", Level::Warn, "the data channel"),
            ("state=gl_known multicast=data-only by_unicast=0", Level::Warn, "the control channel"),
            ("state=gl_unknown multicast=unknown by_unicast=0", Level::Warn, "follows nobody"),
            ("state=gl_is_me multicast=passes by_unicast=0", Level::Ok, "no member misses"),
            ("state=gl_is_me multicast=blocked by_unicast=1", Level::Warn, "1 member:"),
            ("state=gl_is_me multicast=blocked by_unicast=11", Level::Warn, "11 members:"),
        ] {
            let finding = judge(&line(fields)).expect("a finding");
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.text.contains(part), "{finding:?}");
            assert_eq!(finding.remedy.is_empty(), level == Level::Ok, "{finding:?}");
        }
        assert_eq!(followed(&line("state=gl_known leader=00aa")), Some("00aa"));
        assert_eq!(followed(&line("state=gl_unknown leader=\"\"")), None);
        // A daemon of another version says nothing of it: no guess.
        assert_eq!(judge(&line("state=gl_known")), None);
    }
}
