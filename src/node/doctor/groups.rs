//! The content groups that the node knows of: whether their data channels can be joined.

use super::Finding;
use crate::io::multicast::Group;
use crate::node::config::Config;
use crate::node::groups;
use crate::wire::groups::GroupList;
use crate::wire::seal::PublicKey;
use std::io;
use std::net::SocketAddrV4;

/// Groups that a finding names; of more it gives the number.
const NAMED_MAX: usize = 3;

pub fn check(config: &Config, director: Option<PublicKey>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.sets_data_channel {
        let text = "network.data_channel has no effect: the ccm gives each content group its channels";
        findings.push(Finding::warn("data_channel", text, "remove the line"));
    }
    // Without an identity there is no list that could be trusted; that it lacks is said already.
    if let Some(director) = director {
        let list = groups::load(&config.state_dir, &director).map(|(list, _)| list);
        let joined = |channel| Group::join(channel, config.interface).map(drop);
        findings.push(judge(list.as_ref(), config.control_channel, joined));
    }
    findings
}

fn judge(
    list: Option<&GroupList>,
    control: SocketAddrV4,
    join: impl Fn(SocketAddrV4) -> io::Result<()>,
) -> Finding {
    let what = "groups";
    let Some(list) = list else {
        let text = "the node has no list of content groups";
        return Finding::warn(
            what,
            text,
            "right before the first publish; it comes from the segment's leader",
        );
    };
    for group in &list.groups {
        let name = &group.name;
        if group.channel == control {
            return Finding::fail(
                what,
                format!("the data channel of {name}, {control}, is the control channel of this node"),
                "choose another network.control_channel, or another data_channels in ccm.toml",
            );
        }
        if let Err(error) = join(group.channel) {
            return Finding::fail(
                what,
                format!("the data channel of {name}, {}, cannot be joined: {error}", group.channel),
                "free its port, or choose another data_channels in ccm.toml",
            );
        }
    }
    let named =
        list.groups.iter().take(NAMED_MAX).map(|group| format!("{} on {}", group.name, group.channel));
    let mut named = named.collect::<Vec<_>>().join(", ");
    match list.groups.len().saturating_sub(NAMED_MAX) {
        _ if list.groups.is_empty() => named = "none".to_owned(),
        0 => {}
        more => named = format!("{named} and {more} more"),
    }
    Finding::ok(what, format!("list {} of the segment's content groups: {named}", list.number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::doctor::Level;
    use crate::wire::id::{ListNumber, Name};

    fn list(groups: u8) -> GroupList {
        let group = |number: u8| crate::wire::groups::Group {
            name: Name::new(&format!("g{number}")).unwrap(),
            channel: format!("239.255.128.{number}:7402").parse().unwrap(),
            sites: Vec::new(),
            members: Vec::new(),
        };
        GroupList {
            number: ListNumber(7),
            segment: Name::new("rack1").unwrap(),
            groups: (1..=groups).map(group).collect(),
        }
    }

    #[test]
    fn channels_that_cannot_be_joined_are_named_with_their_group() {
        let control = "239.255.70.1:7401".parse().unwrap();
        let good = |_| Ok(());
        assert_eq!(judge(None, control, good).level, Level::Warn);
        let fine = judge(Some(&list(4)), control, good);
        assert_eq!(fine.level, Level::Ok);
        assert!(fine.text.contains("g3 on 239.255.128.3:7402 and 1 more"), "{}", fine.text);
        assert!(judge(Some(&list(0)), control, good).text.ends_with(": none"));

        let taken = judge(Some(&list(2)), control, |channel: SocketAddrV4| match channel.ip().octets()[3] {
            2 => Err(io::ErrorKind::AddrInUse.into()),
            _ => Ok(()),
        });
        assert!(taken.level == Level::Fail && taken.text.contains("of g2"), "{}", taken.text);
        let same = judge(Some(&list(2)), "239.255.128.2:7402".parse().unwrap(), good);
        assert!(same.level == Level::Fail && same.text.contains("control channel"), "{}", same.text);
    }
}
