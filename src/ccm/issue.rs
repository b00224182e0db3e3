//! Lists of content groups, issued: planned from what the database says, numbered, signed and kept (LD-2, NS-15).
//!
//! A segment's list is looked at with every report of its leader and at the start of every run. Only where it
//! would say something else than the last one there is a new one.

use super::db::{DbError, Store};
use super::groups::{self, channels::ChannelRange};
use crate::wire::groups::{Group, GroupList};
use crate::wire::id::{ListNumber, Name};
use crate::wire::seal::SigningKey;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;

/// What a list is made with, beside what the database says.
#[derive(Clone, Copy, Debug)]
pub struct Issuer<'a> {
    pub director: &'a SigningKey,
    pub range: &'a ChannelRange,
}

/// The newest list of a segment, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    pub number: ListNumber,
    pub document: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error(
        "no data channel is free for group {group} in segment {segment}: all {count} of `data_channels` are given; \
         widen it in ccm.toml and restart the ccm"
    )]
    NoChannel { group: Name, segment: Name, count: u64 },
    #[error(
        "the groups of segment {segment} are more than a list holds ({what}): use fewer groups or segments"
    )]
    TooLong { segment: Name, what: String },
    #[error(transparent)]
    Db(#[from] DbError),
}

/// The list that a segment is to go by now; a new one where something has changed. `None` where it has no
/// group and never had one.
pub fn refresh(store: &mut Store, issuer: Issuer<'_>, segment: &Name) -> Result<Option<Issued>, IssueError> {
    let planned = groups::plan(&store.groups()?, &store.nodes_in(segment)?);
    let last = store.group_list(segment)?;
    if planned.is_empty() && last.is_none() {
        return Ok(None);
    }
    let (mut given, mut taken) = (BTreeMap::new(), BTreeSet::new());
    for (group, of, channel) in store.group_channels()? {
        taken.insert(channel);
        if of == *segment && issuer.range.contains(channel) {
            given.insert(group, channel);
        }
    }
    // Control channels that operators gave segments are not for content (LD-3).
    taken.extend(
        store.segments()?.iter().flat_map(|segment| [segment.channel, segment.decided.channel]).flatten(),
    );
    let mut new: Vec<(Name, SocketAddrV4)> = Vec::new();
    let mut listed: Vec<Group> = Vec::new();
    for group in planned {
        let name = group.name.clone();
        let channel = match given.get(&name) {
            Some(channel) => *channel,
            None => {
                let free = issuer.range.pick(seed(issuer, segment, &name), &taken);
                let channel = free.ok_or_else(|| IssueError::NoChannel {
                    group: name.clone(),
                    segment: segment.clone(),
                    count: issuer.range.count(),
                })?;
                taken.insert(channel);
                new.push((name, channel));
                channel
            }
        };
        listed.push(group.on(channel));
    }
    if let Some((number, document)) = last {
        let known = GroupList::open(&document, &issuer.director.public()).ok();
        if known.is_some_and(|known| known.groups == listed) {
            return Ok(Some(Issued { number, document }));
        }
    }
    check_bounds(segment, &listed)?;
    let sign = |number| GroupList { number, segment: segment.clone(), groups: listed }.sign(issuer.director);
    let (number, document) = store.put_group_list(segment, &new, sign)?;
    log::info!("segment {segment}: list {number} of its content groups");
    Ok(Some(Issued { number, document }))
}

fn check_bounds(segment: &Name, listed: &[Group]) -> Result<(), IssueError> {
    let nodes: BTreeSet<_> = listed.iter().flat_map(|group| &group.members).collect();
    let sites: usize = listed.iter().flat_map(|group| &group.sites).map(|site| 2 + site.as_str().len()).sum();
    let bits = listed.len() * nodes.len().div_ceil(8);
    let len = 256 + nodes.len() * 8 + listed.len() * (Name::MAX + 16) + sites + bits;
    let what = [
        (nodes.len() > GroupList::NODES_MAX, format!("{} nodes", nodes.len())),
        (listed.len() > GroupList::GROUPS_MAX, format!("{} groups", listed.len())),
        (len > GroupList::MAX, format!("{len} bytes")),
    ];
    match what.into_iter().find(|(exceeds, _)| *exceeds) {
        Some((_, what)) => Err(IssueError::TooLong { segment: segment.clone(), what }),
        None => Ok(()),
    }
}

/// Where the search for a free channel begins: two farms on one network begin elsewhere.
fn seed(issuer: Issuer<'_>, segment: &Name, group: &Name) -> u64 {
    let bytes = format!("{}\n{segment}\n{group}", issuer.director.public().to_hex());
    xxhash_rust::xxh3::xxh3_64(bytes.as_bytes())
}

#[cfg(test)]
mod tests;
