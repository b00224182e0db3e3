//! `/v1/groups`

use super::problem::Refusal;
use super::types::{ChangeGroup, Group, GroupDetail, GroupNode, GroupSegment, NewGroup};
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::db::{DbError, GroupRefused, Store};
use crate::ccm::groups::choice::Choice;
use crate::ccm::groups::{self, Nodes};
use crate::ccm::model;
use crate::wire::id::{ListNumber, Name};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::Arc;

pub async fn list(State(controller): State<Arc<Controller>>) -> Result<Json<Vec<Group>>, Refusal> {
    let read = |store: &mut Store| Ok::<_, DbError>((store.groups()?, store.nodes()?));
    let (groups, nodes) = controller.store(read).await?;
    Ok(Json(groups.iter().map(|group| view(group, &nodes)).collect()))
}

pub async fn show(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
) -> Result<Json<GroupDetail>, Refusal> {
    let name = group_name(&name)?;
    detail(&controller, name).await.map(Json)
}

pub async fn create(
    State(controller): State<Arc<Controller>>,
    new: Result<Json<NewGroup>, JsonRejection>,
) -> Result<(StatusCode, Json<GroupDetail>), Refusal> {
    let Json(new) = new?;
    let (name, chosen) = (group_name(&new.name)?, choices(&new.nodes)?);
    let key = name.clone();
    controller.store(move |store| store.create_group(&key, &chosen, now_ns())).await??;
    Ok((StatusCode::CREATED, Json(detail(&controller, name).await?)))
}

pub async fn change(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
    change: Result<Json<ChangeGroup>, JsonRejection>,
) -> Result<Json<GroupDetail>, Refusal> {
    let Json(change) = change?;
    let name = group_name(&name)?;
    let (add, remove) = (choices(&change.add)?, choices(&change.remove)?);
    let key = name.clone();
    controller.store(move |store| store.change_group(&key, &add, &remove, now_ns())).await??;
    detail(&controller, name).await.map(Json)
}

pub async fn delete(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    let name = group_name(&name)?;
    controller.store(move |store| store.delete_group(&name, now_ns())).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// The name of a group in a request.
pub fn group_name(text: &str) -> Result<Name, Refusal> {
    Name::new(text).map_err(|_| {
        let max = Name::MAX;
        Refusal::bad_request(format!(
            "{text:?} is no name of a group: 1 to {max} of a-z A-Z 0-9 . _ - are, not beginning with a dot"
        ))
    })
}

fn choices(words: &[String]) -> Result<Vec<Choice>, Refusal> {
    let read = |word: &String| {
        word.parse().map_err(|error: groups::choice::NoChoice| Refusal::bad_request(error.to_string()))
    };
    words.iter().map(read).collect()
}

impl From<GroupRefused> for Refusal {
    fn from(refused: GroupRefused) -> Self {
        let detail = refused.to_string();
        match refused {
            GroupRefused::NoGroup(_)
            | GroupRefused::NoSite(_)
            | GroupRefused::NoNode(_)
            | GroupRefused::NoSegment(_)
            | GroupRefused::NotChosen { .. } => Self::not_found(detail),
            GroupRefused::Exists(_)
            | GroupRefused::SitesName(_)
            | GroupRefused::Default(_)
            | GroupRefused::InUse { .. }
            | GroupRefused::RunUnderWay { .. } => Self::conflict(detail),
        }
    }
}

fn view(group: &groups::Group, nodes: &[model::Node]) -> Group {
    let members = || nodes.iter().filter(|node| group.holds(node));
    let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
    Group {
        name: group.name.to_string(),
        default: group.is_default(),
        chosen: match &group.nodes {
            Nodes::All => Vec::new(),
            Nodes::Chosen(choices) => choices.iter().map(Choice::to_string).collect(),
        },
        sites: group.sites.iter().map(Name::to_string).collect(),
        nodes_online: count(members().filter(|node| node.is_online()).count()),
        nodes_total: count(members().count()),
    }
}

/// What the database says of one group, as it is now.
struct Picture {
    group: groups::Group,
    nodes: Vec<model::Node>,
    channels: BTreeMap<Name, SocketAddrV4>,
    lists: BTreeMap<Name, ListNumber>,
}

async fn detail(controller: &Controller, name: Name) -> Result<GroupDetail, Refusal> {
    let key = name.clone();
    let read = move |store: &mut Store| {
        let Some(group) = store.groups()?.into_iter().find(|group| group.name == key) else {
            return Ok(None);
        };
        let channels = store.group_channels()?.into_iter().filter(|(group, ..)| *group == key);
        let channels = channels.map(|(_, segment, channel)| (segment, channel)).collect();
        let (nodes, lists) = (store.nodes()?, store.group_list_numbers()?);
        Ok::<_, DbError>(Some(Picture { group, nodes, channels, lists }))
    };
    let picture = controller.store(read).await?.ok_or(GroupRefused::NoGroup(name))?;
    Ok(view_detail(&picture))
}

fn view_detail(picture: &Picture) -> GroupDetail {
    let Picture { group, nodes, channels, lists } = picture;
    // Of a default group everybody is chosen: only those who host its site are of interest.
    let shown = nodes.iter().filter(|node| group.holds(node) || (group.chooses(node) && !group.is_default()));
    let mut segments: BTreeMap<&Name, GroupSegment> = BTreeMap::new();
    for (node, seen) in nodes.iter().filter_map(|node| Some((node, node.seen.as_ref()?))) {
        if !group.holds(node) {
            continue;
        }
        let list = lists.get(&seen.segment).copied().unwrap_or_default();
        let entry = segments.entry(&seen.segment).or_insert_with(|| GroupSegment {
            segment: seen.segment.to_string(),
            channel: channels.get(&seen.segment).map_or_else(String::new, SocketAddrV4::to_string),
            list: list.0,
            members: 0,
            current: 0,
        });
        entry.members += 1;
        entry.current += u32::from(list.0 > 0 && seen.groups >= list);
    }
    GroupDetail {
        schema: "farmcast.group/1".to_owned(),
        group: view(group, nodes),
        nodes: shown.map(|node| view_node(group, node)).collect(),
        segments: segments.into_values().collect(),
    }
}

fn view_node(group: &groups::Group, node: &model::Node) -> GroupNode {
    GroupNode {
        id: node.id.to_string(),
        name: node.name.to_string(),
        segment: node.seen.as_ref().map_or_else(String::new, |seen| seen.segment.to_string()),
        online: node.is_online(),
        member: group.holds(node),
        sites: group.sites.iter().filter(|site| node.site(site).is_some()).map(Name::to_string).collect(),
        list: node.seen.as_ref().map_or(0, |seen| seen.groups.0),
    }
}

#[cfg(test)]
mod tests;
