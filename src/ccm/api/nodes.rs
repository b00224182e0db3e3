//! `/v1/nodes`

use super::page;
use super::problem::Refusal;
use super::types::{Node, NodeSite};
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::db::{DbError, RemovalRefused};
use crate::ccm::groups;
use crate::ccm::model::{self, Titles};
use crate::wire::id::Name;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;

/// Nodes of one answer.
const PAGE_MAX: u32 = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Nodes whose names follow on this one; without it from the first.
    after: Option<String>,
    limit: Option<u32>,
}

/// By name, as many as one answer holds or as are asked for.
pub async fn list(
    State(controller): State<Arc<Controller>>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Vec<Node>>, Refusal> {
    let Query(Page { after, limit }) = page?;
    let limit = page::within(limit, PAGE_MAX, PAGE_MAX)? as usize;
    let read = |store: &mut crate::ccm::db::Store| {
        Ok::<_, DbError>((store.nodes()?, store.segments()?, store.sites()?, store.groups()?))
    };
    let (nodes, segments, sites, groups) = controller.store(read).await?;
    let from = after.map_or(0, |after| nodes.partition_point(|node| node.name.as_str() <= after.as_str()));
    let nodes = &nodes[from..nodes.len().min(from + limit)];
    Ok(Json(views(nodes, &segments, &sites, &groups)))
}

/// What a removal may ask for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Even while it is online.
    #[serde(default)]
    force: bool,
}

/// Takes a node out of the farm for good; its name is free then. Refused while it leads, is online, or is waited for.
pub async fn remove(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
    wish: Result<Query<Wish>, QueryRejection>,
) -> Result<StatusCode, Refusal> {
    let Query(Wish { force }) = wish?;
    let Ok(name) = Name::new(&name) else {
        return Err(Refusal::bad_request(format!("{name:?} is no name of a node")));
    };
    controller.store(move |store| store.remove_node(&name, force, now_ns())).await??;
    controller.wake.notify_one();
    Ok(StatusCode::NO_CONTENT)
}

impl From<RemovalRefused> for Refusal {
    fn from(refused: RemovalRefused) -> Self {
        let detail = refused.to_string();
        match refused {
            RemovalRefused::NoNode(_) => Self::not_found(detail),
            RemovalRefused::Leads { .. } | RemovalRefused::Online(_) | RemovalRefused::Awaited { .. } => {
                Self::conflict(detail)
            }
        }
    }
}

pub fn views(
    nodes: &[model::Node],
    segments: &[model::Segment],
    sites: &[model::Site],
    groups: &[groups::Group],
) -> Vec<Node> {
    let titles = Titles::of(segments);
    nodes.iter().map(|node| view(node, segments, &titles, sites, groups)).collect()
}

fn view(
    node: &model::Node,
    segments: &[model::Segment],
    titles: &Titles,
    sites: &[model::Site],
    groups: &[groups::Group],
) -> Node {
    let seen = node.seen.as_ref();
    let address = |of: fn(&model::Seen) -> std::net::SocketAddr| {
        seen.map_or_else(String::new, |seen| of(seen).to_string())
    };
    let leads = segments.iter().any(|segment| segment.leader == Some(node.id));
    let state = match (node.is_online(), leads) {
        (true, true) => "leader",
        (true, false) => "member",
        (false, _) => "offline",
    };
    Node {
        id: node.id.to_string(),
        name: node.name.to_string(),
        segment: seen.map_or_else(String::new, |seen| titles.title(&seen.segment)),
        segment_id: seen.map_or_else(String::new, |seen| seen.segment.to_string()),
        state: state.to_owned(),
        datagram: address(|seen| seen.datagram),
        http: address(|seen| seen.http),
        text: address(|seen| seen.text),
        priority: seen.map_or(0, |seen| seen.priority),
        processors: seen.map_or(0, |seen| u32::from(seen.processors)),
        free_memory_bytes: seen.map_or(0, |seen| seen.free_memory),
        may_lead: seen.map_or(node.can_lead, |seen| seen.leads),
        location: seen.map_or_else(String::new, |seen| seen.machine.location.clone()),
        cpu_mhz: seen.map_or(0, |seen| seen.machine.cpu_mhz),
        load_pct: seen.map_or(0, |seen| seen.machine.load_pct),
        connections: seen.map_or(0, |seen| seen.machine.connections),
        free_disk_bytes: seen.map_or(0, |seen| seen.free_disk),
        sites: seen.map_or_else(Vec::new, |seen| {
            let states = seen.sites.iter();
            states
                .map(|state| NodeSite {
                    site: state.site.to_string(),
                    version: state.version.map_or(0, |version| version.0),
                    stale: groups::takes(groups, node, &state.site)
                        && sites.iter().any(|site| site.name == state.site && site.version != state.version),
                })
                .collect()
        }),
        groups: groups.iter().filter(|group| group.holds(node)).map(|group| group.name.to_string()).collect(),
        seen_ns: seen.map_or(0, |seen| seen.at_ns),
    }
}
