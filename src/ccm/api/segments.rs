//! `/v1/segments`: how segments are, and what operators decide of them (EL-3, EL-6, NS-14).

use super::events;
use super::problem::Refusal;
use super::status::count;
use super::types::{NewChannel, NewLeaders, NewTitle, Segment, SegmentDetail};
use super::{nodes, sites};
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::db::{Census, DbError, Decision, DecisionRefused, Store, Twin};
use crate::ccm::model::{self, Node};
use crate::ccm::reach::Reach;
use crate::wire::charter::Leaders;
use crate::wire::control::is_channel;
use crate::wire::id::{NodeId, hex};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

/// Lines of the history that a segment is shown with.
const EVENTS_MAX: u32 = 20;
/// A leader that was asked has so long to report; how often that is looked for.
const REPORT_MAX: Duration = Duration::from_secs(4);
const LOOK: Duration = Duration::from_millis(50);

type Answer = Result<Json<SegmentDetail>, Refusal>;

pub async fn list(State(controller): State<Arc<Controller>>) -> Result<Json<Vec<Segment>>, Refusal> {
    let reached = Arc::clone(&controller);
    let read = move |store: &mut Store| {
        store.expire_segments(now_ns())?;
        views(store, &reached.reach(), &store.segments()?, &store.census()?)
    };
    Ok(Json(controller.store(read).await?))
}

pub async fn show(State(controller): State<Arc<Controller>>, Path(called): Path<String>) -> Answer {
    detail(&controller, called).await
}

pub async fn rename(
    State(controller): State<Arc<Controller>>,
    Path(called): Path<String>,
    new: Result<Json<NewTitle>, JsonRejection>,
) -> Answer {
    let Json(new) = new?;
    decide(controller, called, Decision::Title(sites::checked_name(&new.name, "segment")?)).await
}

pub async fn set_channel(
    State(controller): State<Arc<Controller>>,
    Path(called): Path<String>,
    new: Result<Json<NewChannel>, JsonRejection>,
) -> Answer {
    let Json(new) = new?;
    let channel = match new.channel.as_str() {
        "" => None,
        text => Some(text.parse::<SocketAddrV4>().ok().filter(|channel| is_channel(*channel)).ok_or_else(
            || {
                Refusal::bad_request(format!(
                    "{text:?} is no multicast group and port, as 239.255.70.3:7401; 224.0.0.0/24 is not for channels"
                ))
            },
        )?),
    };
    decide(controller, called, Decision::Channel(channel)).await
}

pub async fn set_leaders(
    State(controller): State<Arc<Controller>>,
    Path(called): Path<String>,
    new: Result<Json<NewLeaders>, JsonRejection>,
) -> Answer {
    let Json(new) = new?;
    let (key, names) = (called.clone(), new.nodes.clone());
    let read = move |store: &mut Store| Ok::<_, DbError>((store.segment(&key)?, store.nodes()?));
    let (segment, nodes) = controller.store(read).await?;
    let segment = segment.ok_or_else(|| missing(&called))?;
    let decision = if names.is_empty() {
        None
    } else {
        Some(Leaders { nodes: eligible(&segment, &nodes, &names)?, open_after: new.open_after_s })
    };
    decide(controller, called, Decision::Leaders(decision)).await
}

/// The nodes of these names, each of which must be able to lead the segment.
fn eligible(segment: &model::Segment, nodes: &[Node], names: &[String]) -> Result<Vec<NodeId>, Refusal> {
    let mut ids = Vec::new();
    for name in names {
        let node = nodes.iter().find(|node| node.name.as_str() == name).ok_or_else(|| {
            Refusal::not_found(format!("there is no node {name}; `farmcast node list` names them"))
        })?;
        if !node.can_lead {
            let detail =
                format!("{name} was invited with --no-lead and can never lead; invite it anew without");
            return Err(Refusal::conflict(detail));
        }
        let Some(seen) = &node.seen else {
            let detail = format!("{name} has not been seen in any segment yet; start it first");
            return Err(Refusal::conflict(detail));
        };
        if seen.segment != segment.name {
            return Err(Refusal::conflict(format!(
                "{name} is in segment {}, not in {}",
                seen.segment, segment.name
            )));
        }
        if !seen.leads {
            let detail =
                format!("{name} must not lead by its own configuration: remove `can_lead = false` there");
            return Err(Refusal::conflict(detail));
        }
        if !ids.contains(&node.id) {
            ids.push(node.id);
        }
    }
    if ids.len() > Leaders::MAX {
        return Err(Refusal::bad_request(format!(
            "a segment has at most {} pre-assigned leaders",
            Leaders::MAX
        )));
    }
    Ok(ids)
}

/// Has the leader ask its members and report at once, and waits for the report (NS-5, NS-9).
pub async fn refresh(State(controller): State<Arc<Controller>>, Path(called): Path<String>) -> Answer {
    let key = called.clone();
    let read = move |store: &mut Store| {
        store.expire_segments(now_ns())?;
        let segment = store.segment(&key)?;
        let leader = segment.as_ref().and_then(|segment| segment.leader);
        let leader = leader.map(|leader| store.node(leader)).transpose()?.flatten();
        Ok::<_, DbError>((segment, leader))
    };
    let (segment, leader) = controller.store(read).await?;
    let segment = segment.ok_or_else(|| missing(&called))?;
    let leader = leader.and_then(|leader| leader.seen.map(|seen| (leader.id, seen)));
    let (id, seen) = leader.ok_or_else(|| {
        Refusal::conflict(format!("segment {} has no leader now, whom one could ask", segment.title))
    })?;
    let document = hex(&segment.charter().sign(&controller.keys.director));
    let line = format!("charter document={document}");
    controller.text_ports.request(id, seen.text, &line).await.map_err(|error| {
        Refusal::conflict(format!("the leader of {} cannot be asked: {error}", segment.title))
    })?;
    let before = segment.reported_ns;
    let reported = async {
        loop {
            let key = segment.name.clone();
            let now = controller.store(move |store| store.segment(key.as_str())).await?;
            if now.is_some_and(|segment| segment.reported_ns > before) {
                return Ok::<_, DbError>(());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(REPORT_MAX, reported).await {
        Ok(done) => done?,
        Err(_) => {
            let detail = format!("the leader of {} was asked and did not report in time", segment.title);
            return Err(Refusal::conflict(detail));
        }
    }
    detail(&controller, called).await
}

async fn decide(controller: Arc<Controller>, called: String, decision: Decision) -> Answer {
    let decided = controller.store(move |store| store.decide(&called, &decision, now_ns())).await?;
    let segment = decided.map_err(|refused| match refused {
        DecisionRefused::NoSegment(_) => Refusal::not_found(refused.to_string()),
        DecisionRefused::Taken(_) | DecisionRefused::DataChannel(..) => {
            Refusal::conflict(refused.to_string())
        }
    })?;
    log::info!("segment {}: charter {}: {:?}", segment.name, segment.decided.number, segment.decided);
    controller.wake.notify_one();
    detail(&controller, segment.name.to_string()).await
}

async fn detail(controller: &Arc<Controller>, called: String) -> Answer {
    let (key, reached) = (called.clone(), Arc::clone(controller));
    let read = move |store: &mut Store| {
        store.expire_segments(now_ns())?;
        let Some(segment) = store.segment(&key)? else { return Ok(None) };
        let (members, segments) = (store.nodes_in(&segment.name)?, store.segments()?);
        let (sites, groups) = (store.sites()?, store.groups()?);
        let events = store.events_of_segment(&segment.name, EVENTS_MAX)?.into_iter();
        let view = views(store, &reached.reach(), std::slice::from_ref(&segment), &store.census()?)?.pop();
        Ok::<_, DbError>(view.map(|segment| SegmentDetail {
            segment,
            nodes: nodes::views(&members, &segments, &sites, &groups),
            events: events.map(|event| events::view(&event)).collect(),
        }))
    };
    controller.store(read).await?.map(Json).ok_or_else(|| missing(&called))
}

fn missing(called: &str) -> Refusal {
    Refusal::not_found(DecisionRefused::NoSegment(called.to_owned()).to_string())
}

pub fn views(
    store: &Store,
    reach: &Reach,
    segments: &[model::Segment],
    census: &Census,
) -> Result<Vec<Segment>, DbError> {
    let (rivals, twins) = (store.rivals(now_ns())?, store.twins(now_ns())?);
    let view = |segment: &model::Segment| {
        let of_it = Troubles {
            rivals: rivals.iter().filter(|(name, _)| *name == segment.name).map(|(_, id)| *id).collect(),
            twins: twins.iter().filter(|twin| twin.segment == segment.name).collect(),
            by_unicast: reach.by_unicast(&segment.name),
        };
        view(segment, store, census, &of_it)
    };
    segments.iter().map(view).collect()
}

/// What is amiss in a segment.
struct Troubles<'a> {
    rivals: Vec<NodeId>,
    twins: Vec<&'a Twin>,
    by_unicast: &'a [NodeId],
}

fn view(
    segment: &model::Segment,
    store: &Store,
    census: &Census,
    troubles: &Troubles<'_>,
) -> Result<Segment, DbError> {
    let names = |ids: &[NodeId]| -> Result<Vec<String>, DbError> {
        let names = ids.iter().map(|id| store.name_of(*id)).collect::<Result<Vec<_>, _>>()?;
        Ok(names.into_iter().flatten().collect())
    };
    let leaders = segment.decided.leaders.as_ref();
    let mut appointed = Vec::new();
    for id in leaders.iter().flat_map(|leaders| &leaders.nodes) {
        appointed.push(store.name_of(*id)?.unwrap_or_else(|| id.to_string()));
    }
    let mut twins = Vec::new();
    for twin in &troubles.twins {
        let name = store.name_of(twin.node)?;
        twins.extend(name.map(|name| format!("{name} at {}", twin.address)));
    }
    let text =
        |channel: Option<SocketAddrV4>| channel.map_or_else(String::new, |channel| channel.to_string());
    let headcount = census.of(&segment.name);
    Ok(Segment {
        name: segment.title.to_string(),
        id: segment.name.to_string(),
        leader: segment.leader.map_or_else(String::new, |leader| leader.to_string()),
        leader_name: segment.leader.map(|id| store.name_of(id)).transpose()?.flatten().unwrap_or_default(),
        rivals: names(&troubles.rivals)?,
        by_unicast: names(troubles.by_unicast)?,
        epoch: segment.epoch.reign(),
        nodes_online: count(headcount.online),
        nodes_total: count(headcount.total),
        reported_ns: segment.reported_ns,
        twins,
        channel: text(segment.channel),
        wanted_channel: text(segment.decided.channel),
        leaders: appointed,
        open_after_s: leaders.and_then(|leaders| leaders.open_after),
        charter: segment.decided.number.0,
        charter_reported: segment.reported_charter.0,
        nodes_behind: segment.behind,
    })
}
