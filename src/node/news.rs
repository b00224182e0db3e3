//! What happens at a node, told in one place: as a line of the log, and as an event to those who watch the text port.

use super::verbs::Topic;
use crate::proto::engine::Notice;
use crate::wire::console::{Event, Value};
use crate::wire::id::{AssignmentId, Name, OrderId};
use crate::wire::report::Reason;
use log::Level;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub topic: Topic,
    pub level: Level,
    /// For people: the line of the log.
    pub text: String,
    /// What happened, in one stable word, and to whom.
    pub event: Event,
}

impl News {
    fn new(topic: Topic, what: &'static str, level: Level, text: String) -> Self {
        let event = Event::new(topic.as_str()).with("what", what);
        Self { topic, level, text, event }
    }

    fn info(topic: Topic, what: &'static str, text: String) -> Self {
        Self::new(topic, what, Level::Info, text)
    }

    fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.event = self.event.with(key, value);
        self
    }

    /// The assignment lies in staging, whole and verified.
    pub fn staged(assignment: AssignmentId) -> Self {
        let text = format!("assignment {assignment}: staged");
        Self::info(Topic::Assignment, "staged", text).with("assignment", assignment.0)
    }

    /// An assignment is to be fetched.
    pub fn notified(assignment: AssignmentId, site: &Name, source: &str) -> Self {
        let text = format!("assignment {assignment} for site {site}: to be had from {source}");
        Self::info(Topic::Assignment, "notified", text)
            .with("assignment", assignment.0)
            .with("site", site.as_str())
            .with("source", source)
    }

    pub fn not_staged(assignment: AssignmentId, reason: Reason, why: &str) -> Self {
        let text = format!("assignment {assignment}: failed ({reason}): {why}");
        Self::new(Topic::Assignment, "failed", Level::Error, text)
            .with("assignment", assignment.0)
            .with("reason", reason.to_string())
            .with("text", why)
    }

    /// The order was carried out: what it says is live.
    pub fn live(site: &Name, order: OrderId) -> Self {
        let text = format!("site {site}: order {order}: live");
        Self::info(Topic::Site, "live", text).with("site", site.as_str()).with("order", order.0)
    }

    pub fn not_carried_out(order: OrderId, reason: Reason, why: &str) -> Self {
        let text = format!("order {order}: failed ({reason}): {why}");
        Self::new(Topic::Site, "failed", Level::Error, text)
            .with("order", order.0)
            .with("reason", reason.to_string())
            .with("text", why)
    }

    /// What the engine has to tell of a segment that is named so, and called so by its charter.
    pub fn of(notice: &Notice, segment: &Name, title: &str) -> Self {
        use Topic::{Assignment, Leader, Member, Segment, Session, Trouble};
        match notice {
            Notice::Leading(epoch) => {
                Self::info(Leader, "leading", format!("leading segment {segment} (epoch {epoch})"))
                    .with("epoch", epoch.to_string())
            }
            Notice::Following(leader) => {
                Self::info(Leader, "following", format!("following leader {leader}"))
                    .with("leader", leader.to_string())
            }
            Notice::Orphaned => Self::info(Leader, "gone", "the leader is gone".to_owned()),
            Notice::HandedOver(Some(heir)) => Self::info(
                Leader,
                "handed-over",
                format!("not on the list of leaders: handed over, {heir} may lead"),
            )
            .with("leader", heir.to_string()),
            Notice::HandedOver(None) => Self::new(
                Leader,
                "handed-over",
                Level::Warn,
                "not on the list of leaders, and nobody of it is here: the segment has no leader".to_owned(),
            ),
            Notice::Joined(node) => Self::info(Member, "joined", format!("member {node} registered"))
                .with("node", node.to_string()),
            Notice::Gone(node) => {
                Self::new(Member, "silent", Level::Warn, format!("member {node} has gone silent"))
                    .with("node", node.to_string())
            }
            Notice::Left(node) => {
                Self::info(Member, "left", format!("member {node} has left")).with("node", node.to_string())
            }
            Notice::SessionDone { assignment, finish, bytes } => {
                let left = finish.missing.len() + finish.failed.len();
                let text = format!(
                    "assignment {assignment}: {bytes} bytes to {} members in {} passes, {} frames, {} of them \
                     repair{}",
                    finish.complete.len(),
                    finish.passes,
                    finish.frames_sent,
                    finish.repair_frames,
                    match left {
                        0 => String::new(),
                        left => format!("; {left} did not finish"),
                    }
                );
                Self::info(Session, "done", text)
                    .with("assignment", assignment.0)
                    .with("bytes", *bytes)
                    .with("complete", finish.complete.len())
                    .with("left", left)
                    .with("passes", finish.passes)
                    .with("frames", finish.frames_sent)
                    .with("repair_frames", finish.repair_frames)
            }
            Notice::FetchGivenUp { name, source } => Self::new(
                Assignment,
                "given-up",
                Level::Error,
                format!("assignment {name:?}: {source} gave it up"),
            )
            .with("object", name.to_string())
            .with("source", source.to_string()),
            Notice::Grouped(number) => Self::info(
                Segment,
                "groups",
                format!("going by list {number} of the content groups"),
            )
            .with("list", number.0),
            Notice::Chartered(number) => {
                let text = format!("charter {number}: segment {segment} is called {title}");
                Self::info(Segment, "charter", text).with("charter", number.0).with("title", title)
            }
            Notice::Moving(to) => {
                Self::info(Segment, "moving", format!("the segment moves to control channel {to}"))
                    .with("channel", to.to_string())
            }
            Notice::Moved(to) => Self::info(Segment, "moved", format!("control channel {to} is used now"))
                .with("channel", to.to_string()),
            Notice::Undone { channel, back, deaf } => Self::new(
                Segment,
                "undone",
                Level::Error,
                format!(
                    "control channel {channel} does not reach {deaf} members: back to {back}; see that switches \
                     and firewalls let the group pass, then order it again"
                ),
            )
            .with("channel", channel.to_string())
            .with("back", back.to_string())
            .with("deaf", *deaf),
            Notice::Twin { other, aside } => Self::new(
                Trouble,
                "twin",
                Level::Error,
                format!(
                    "another machine, at {other}, has the identity of this node{}: stop the one that is a copy, \
                     empty its state directory, and let it join under a name of its own",
                    if *aside { "; this one keeps silent" } else { "" }
                ),
            )
            .with("other", other.to_string())
            .with("aside", *aside),
            Notice::TwinFound { node, twin } => Self::new(
                Trouble,
                "twins",
                Level::Error,
                format!(
                    "two machines register as node {node}: {} keeps the id, {} must keep silent; one is a copy of \
                     the other",
                    twin.keeps, twin.other
                ),
            )
            .with("node", node.to_string())
            .with("keeps", twin.keeps.to_string())
            .with("other", twin.other.to_string()),
            Notice::Missing { leader, hears } => {
                let what = match (hears.control, hears.data) {
                    (false, false) => "multicast",
                    (false, true) => "multicast on the control channel",
                    (true, _) => "multicast on the data channel",
                };
                let text = format!(
                    "{what} of leader {leader} does not arrive here: going on by unicast, slower; let it pass, a \
                     switch that snoops IGMP needs a querier (`farmcastd --doctor`)"
                );
                Self::new(Trouble, "deaf", Level::Warn, text)
                    .with("leader", leader.to_string())
                    .with("control", hears.control)
                    .with("data", hears.data)
            }
            Notice::HeardAgain => {
                Self::info(Trouble, "heard", "the leader's multicast arrives again".to_owned())
            }
            Notice::Unreached(node) => Self::new(
                Trouble,
                "unreached",
                Level::Warn,
                format!(
                    "our multicast does not reach member {node}: it is served by unicast, slower; let it pass, a \
                     switch that snoops IGMP needs a querier"
                ),
            )
            .with("node", node.to_string()),
            Notice::ReachedAgain(node) => {
                Self::info(Trouble, "reached", format!("our multicast reaches member {node} again"))
                    .with("node", node.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::console::Output;
    use crate::wire::id::NodeId;

    #[test]
    fn what_happens_is_told_to_people_and_to_machines() {
        let boston = Name::new("boston").unwrap();
        let joined = News::of(&Notice::Joined(NodeId(1)), &boston, "east");
        assert_eq!(joined.text, "member 0000000000000001 registered");
        assert_eq!(joined.event.print(Output::Logfmt), "210+member what=joined node=0000000000000001\n");
        let undone = Notice::Undone {
            channel: "239.1.1.2:7401".parse().unwrap(),
            back: "239.1.1.1:7401".parse().unwrap(),
            deaf: 3,
        };
        let undone = News::of(&undone, &boston, "east");
        assert_eq!((undone.topic, undone.level), (Topic::Segment, Level::Error));
        assert_eq!(
            undone.event.print(Output::Logfmt),
            "210+segment what=undone channel=239.1.1.2:7401 back=239.1.1.1:7401 deaf=3\n"
        );
        let failed = News::not_staged(AssignmentId(7), Reason::NoSpace, "the disk is full");
        assert!(failed.text.contains("the disk is full"), "{}", failed.text);
        assert!(failed.event.print(Output::Logfmt).ends_with("text=\"the disk is full\"\n"));
    }
}
