//! What operators decided of segments, and which leaders have not heard of it yet (EL-3, EL-6, NS-14).

use super::{DbError, Store, events, int, parsed, segments};
use crate::ccm::model::{Decided, Segment};
use crate::wire::charter::Leaders;
use crate::wire::id::{CharterId, Name, NodeId};
use std::net::{SocketAddr, SocketAddrV4};

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The name that people are shown.
    Title(Name),
    /// The control channel; `None`: the one of the configuration.
    Channel(Option<SocketAddrV4>),
    /// Who may lead; `None`: whoever may by its configuration.
    Leaders(Option<Leaders>),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecisionRefused {
    #[error("there is no segment {0}; `farmcast segment list` names them")]
    NoSegment(String),
    #[error("{0} is the name of another segment")]
    Taken(Name),
    #[error("{0} is the data channel of group {1}: name another; control messages and content stay apart")]
    DataChannel(SocketAddrV4, Name),
}

/// A charter that the leader of its segment has not reported to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharterDue {
    pub segment: Segment,
    pub leader: NodeId,
    pub text: SocketAddr,
}

impl Store {
    /// The segment that is configured under this name, else the one that people call so.
    pub fn segment(&self, called: &str) -> Result<Option<Segment>, DbError> {
        let all = self.segments()?;
        let by_id = all.iter().find(|segment| segment.name.as_str() == called);
        Ok(by_id.or_else(|| all.iter().find(|segment| segment.title.as_str() == called)).cloned())
    }

    /// Writes a decision down under the next number: above that of the last charter, and above what the
    /// segment reports to have, should this database be an older copy. Returns the segment as it is then.
    pub fn decide(
        &mut self,
        called: &str,
        decision: &Decision,
        now_ns: u64,
    ) -> Result<Result<Segment, DecisionRefused>, DbError> {
        let Some(mut segment) = self.segment(called)? else {
            return Ok(Err(DecisionRefused::NoSegment(called.to_owned())));
        };
        if let Decision::Title(title) = decision {
            let has = |other: &Segment| {
                other.name != segment.name && (&other.name == title || &other.title == title)
            };
            if self.segments()?.iter().any(has) {
                return Ok(Err(DecisionRefused::Taken(title.clone())));
            }
        }
        if let Decision::Channel(Some(channel)) = decision
            && let Some((group, ..)) = self.group_channels()?.into_iter().find(|given| given.2 == *channel)
        {
            return Ok(Err(DecisionRefused::DataChannel(*channel, group)));
        }
        let text = match decision {
            Decision::Title(title) => format!("renamed from {} to {title}", segment.title),
            Decision::Channel(Some(channel)) => format!("shall use the control channel {channel}"),
            Decision::Channel(None) => "shall use the control channel of its configuration".to_owned(),
            Decision::Leaders(Some(leaders)) => {
                let names: Vec<String> = leaders.nodes.iter().map(NodeId::to_string).collect();
                let else_ = leaders.open_after.map_or("never".into(), |seconds| format!("after {seconds} s"));
                format!("shall be led by {}; by another {else_}", names.join(" or "))
            }
            Decision::Leaders(None) => "may be led by any node".to_owned(),
        };
        let number = segment.decided.number.max(segment.reported_charter);
        segment.decided.number = CharterId(number.0 + 1);
        match decision.clone() {
            Decision::Title(title) => segment.title = title,
            Decision::Channel(channel) => segment.decided.channel = channel,
            Decision::Leaders(leaders) => segment.decided.leaders = leaders,
        }
        let step = self.write()?;
        let Decided { number, channel, leaders } = &segment.decided;
        let open_after = leaders.as_ref().and_then(|leaders| leaders.open_after).map_or(-1, i64::from);
        let ids: Vec<String> =
            leaders.iter().flat_map(|leaders| &leaders.nodes).map(NodeId::to_string).collect();
        let sql = "UPDATE segments SET title = ?2, charter = ?3, wanted_channel = ?4, leaders = ?5, \
                   open_after_s = ?6 WHERE name = ?1";
        step.execute(
            sql,
            (
                segment.name.as_str(),
                segment.title.as_str(),
                int(number.0),
                channel.map_or_else(String::new, |channel| channel.to_string()),
                ids.join(" "),
                open_after,
            ),
        )?;
        events::record(&step, &format!("segment {}", segment.name), &text, now_ns)?;
        step.commit()?;
        Ok(Ok(segment))
    }

    /// Charters that leaders have to be given, with the leaders' text ports.
    pub fn charters_due(&self) -> Result<Vec<CharterDue>, DbError> {
        let sql = "SELECT s.name, s.leader, m.text FROM segments s JOIN members m ON m.node = s.leader \
                   WHERE s.charter > s.reported_charter ORDER BY s.name";
        let mut query = self.db.prepare_cached(sql)?;
        let mut rows = query.query([])?;
        let mut due = Vec::new();
        while let Some(row) = rows.next()? {
            let name: Name = parsed(row, 0)?;
            if let Some(segment) = segments::by_name(&self.db, &name)? {
                due.push(CharterDue { segment, leader: parsed(row, 1)?, text: parsed(row, 2)? });
            }
        }
        Ok(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::testing::{T0, enrol, id, name, profile, segment_report, store};

    fn report(store: &mut Store, segment: &str, number: u8, charter: u64) {
        let members = vec![profile(number, &[])];
        let report = crate::wire::report::SegmentReport {
            charter: CharterId(charter),
            ..segment_report(segment, 1, members)
        };
        store.take_segment_report(id(number), &report, T0).unwrap().unwrap();
    }

    /// NS-14: the name is kept when the leader changes, and over a restart.
    #[test]
    fn decisions_are_numbered_kept_and_due_until_the_leader_has_them() {
        let (dir, mut store) = store();
        (1..=2).for_each(|number| enrol(&mut store, number));
        let title = Decision::Title(name("east"));
        let refused = store.decide("boston", &title, T0).unwrap().unwrap_err();
        assert_eq!(refused, DecisionRefused::NoSegment("boston".into()));
        report(&mut store, "boston", 1, 0);
        assert_eq!(store.charters_due().unwrap(), []);
        let decided = store.decide("boston", &title, T0).unwrap().unwrap();
        assert_eq!((decided.decided.number, decided.title.as_str()), (CharterId(1), "east"));
        let channel = Some("239.1.2.3:7401".parse().unwrap());
        store.decide("east", &Decision::Channel(channel), T0).unwrap().unwrap();
        let leaders = Some(Leaders { nodes: vec![id(2), id(1)], open_after: Some(30) });
        store.decide("boston", &Decision::Leaders(leaders.clone()), T0).unwrap().unwrap();
        drop(store);

        let mut store = Store::open(&dir.path().join("ccm.db")).unwrap();
        let due = store.charters_due().unwrap().pop().unwrap();
        assert_eq!((due.leader, due.text), (id(1), profile(1, &[]).text));
        let charter = due.segment.charter();
        assert_eq!(
            (charter.number, charter.segment, charter.title),
            (CharterId(3), name("boston"), name("east"))
        );
        assert_eq!((charter.channel, charter.leaders), (channel, leaders));
        report(&mut store, "boston", 1, 3);
        assert_eq!(store.charters_due().unwrap(), []);
        let strict = Some(Leaders { nodes: vec![id(2)], open_after: None });
        store.decide("boston", &Decision::Leaders(strict.clone()), T0).unwrap().unwrap();
        let now = store.segment("east").unwrap().unwrap();
        assert_eq!(
            (now.decided.number, now.decided.leaders, now.decided.channel),
            (CharterId(4), strict, channel)
        );
        let open = store.decide("boston", &Decision::Leaders(None), T0).unwrap().unwrap();
        assert_eq!(open.decided.leaders, None);
        assert_eq!(store.events(1).unwrap()[0].1, "may be led by any node");
    }

    #[test]
    fn a_name_belongs_to_one_segment_as_name_or_id() {
        let (_dir, mut store) = store();
        (1..=2).for_each(|number| enrol(&mut store, number));
        report(&mut store, "boston", 1, 0);
        report(&mut store, "paris", 2, 0);
        store.decide("boston", &Decision::Title(name("east")), T0).unwrap().unwrap();
        for taken in ["east", "boston"] {
            let refused = store.decide("paris", &Decision::Title(name(taken)), T0).unwrap().unwrap_err();
            assert_eq!(refused, DecisionRefused::Taken(name(taken)), "{taken}");
        }
        store.decide("boston", &Decision::Title(name("boston")), T0).unwrap().unwrap();
        store.decide("paris", &Decision::Title(name("east")), T0).unwrap().unwrap();
    }

    /// LD-3.
    #[test]
    fn a_channel_of_content_is_no_control_channel() {
        let (_dir, mut store) = store();
        enrol(&mut store, 1);
        report(&mut store, "boston", 1, 0);
        let channel = "239.255.128.7:7402".parse().unwrap();
        let sign = |_| Vec::new();
        store.put_group_list(&name("boston"), &[(name("eu"), channel)], sign).unwrap();
        let refused = store.decide("boston", &Decision::Channel(Some(channel)), T0).unwrap().unwrap_err();
        assert_eq!(refused, DecisionRefused::DataChannel(channel, name("eu")));
        assert!(store.events(9).unwrap().iter().all(|event| !event.1.contains("control channel")));
    }

    /// A database brought back from a copy counts on from what the nodes have.
    #[test]
    fn a_number_is_above_what_the_segment_reports() {
        let (_dir, mut store) = store();
        enrol(&mut store, 1);
        report(&mut store, "boston", 1, 17);
        let decided = store.decide("boston", &Decision::Channel(None), T0).unwrap().unwrap();
        assert_eq!(decided.decided.number, CharterId(18));
    }
}
