//! What nodes send: checked, and written down (DB-6, SR-14). Knows nothing of HTTP.

#[cfg(test)]
mod tests;

use super::db::{Admission, DbError, Enrolment, ReportRefused, Store, UplinkStamp};
use super::groups;
use super::keys::Keys;
use super::model::RunNode;
use super::rollout;
use crate::wire::Malformed;
use crate::wire::id::{ListNumber, Name, NodeId};
use crate::wire::join::{JoinReply, JoinRequest};
use crate::wire::key_grant::KeyRequest;
use crate::wire::notify::{NextRequest, Seek, Uplink, UplinkBody};
use crate::wire::problem::Problem;
use crate::wire::report::{RunReport, StatusReport};
use crate::wire::seal::Certificate;
use std::collections::BTreeMap;

/// What is left to do with a request that was taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is written down.
    Written,
    /// It is written down. The sender leads this segment and goes by this list of its content groups; it serves
    /// these members by unicast.
    Segment { segment: Name, by_unicast: Vec<NodeId>, groups: ListNumber },
    /// The sender hears nobody of its segment and asks who is there.
    Seek(NodeId, Seek),
    /// The sender holds the assignment and asks for the next leader.
    Next(NodeId, NextRequest),
    /// The sender is to have the site of this assignment, and may have its key.
    Key(KeyRequest),
}

#[derive(Debug, thiserror::Error)]
pub enum UplinkRefused {
    #[error("the request is malformed: {0}")]
    Malformed(#[from] Malformed),
    #[error("node {0} has not joined this farm; invite it with `farmcast node invite` and join again")]
    Stranger(NodeId),
    #[error("the request is not signed by node {0}")]
    Forged(NodeId),
    #[error("node {0} may not lead; only leaders report")]
    MayNotLead(NodeId),
    #[error("node {0} is not to have site {1}: it gets no key of it")]
    NotForIt(NodeId, Name),
    #[error("node {0} has sent this request or a later one before")]
    Replayed(NodeId),
    #[error(transparent)]
    Report(#[from] ReportRefused),
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Checks signature, freshness and rights of a node's request, then writes down what it says.
pub fn take_uplink(store: &mut Store, bytes: &[u8], now_ns: u64) -> Result<Taken, UplinkRefused> {
    let sender = Uplink::claimed_sender(bytes)?;
    let node = store.node(sender)?.ok_or(UplinkRefused::Stranger(sender))?;
    let uplink = Uplink::open(bytes, &node.key).map_err(|error| match error {
        Malformed::Forged(_) => UplinkRefused::Forged(sender),
        other => UplinkRefused::Malformed(other),
    })?;
    // Any node may look for its segment, and for the key of what it received.
    if !node.can_lead && !matches!(uplink.body, UplinkBody::Seek(_) | UplinkBody::Key(_)) {
        return Err(UplinkRefused::MayNotLead(sender));
    }
    if !store.accept_stamp(sender, UplinkStamp { boot: uplink.boot, seq: uplink.seq })? {
        return Err(UplinkRefused::Replayed(sender));
    }
    match uplink.body {
        UplinkBody::Segment(report) => {
            store.take_segment_report(sender, &report, now_ns)??;
            let leader = report.members.iter().find(|member| member.node() == sender);
            let groups = leader.map_or(ListNumber(0), |leader| leader.groups);
            let (segment, by_unicast) = (report.segment, report.by_unicast);
            return Ok(Taken::Segment { segment, by_unicast, groups });
        }
        UplinkBody::Run(report) => take_run_report(store, sender, &report, now_ns)?,
        UplinkBody::Problem(problem) => take_problem(store, sender, &problem, now_ns)?,
        UplinkBody::Next(request) => return Ok(Taken::Next(sender, request)),
        UplinkBody::Seek(seek) => return Ok(Taken::Seek(sender, seek)),
        UplinkBody::Key(request) => {
            let (groups, node) = (store.groups()?, store.node_as_seen(sender)?);
            return match node.is_some_and(|node| groups::takes(&groups, &node, &request.site)) {
                true => Ok(Taken::Key(request)),
                false => Err(UplinkRefused::NotForIt(sender, request.site)),
            };
        }
    }
    Ok(Taken::Written)
}

/// Every node's word is checked with that node's own key: a leader only carries it (SR-11, T8).
fn take_run_report(
    store: &mut Store,
    sender: NodeId,
    report: &RunReport,
    now_ns: u64,
) -> Result<(), UplinkRefused> {
    let Some(run) = store.run(report.subject.run())? else { return Ok(()) };
    if run.phase.is_over() {
        return Ok(());
    }
    let nodes = store.run_nodes(run.id)?;
    let mut by_id: BTreeMap<NodeId, RunNode> = nodes.into_iter().map(|node| (node.node, node)).collect();
    let mut news = false;
    for bytes in &report.reports {
        let Ok(claimed) = StatusReport::peek(bytes) else {
            log::warn!("run {}: node {sender} carries a report that is malformed", run.id);
            continue;
        };
        let Some(entry) = by_id.get_mut(&claimed.node) else { continue };
        let Some(reporter) = store.node(claimed.node)? else { continue };
        match StatusReport::open(bytes, &reporter.key) {
            Ok(said) => {
                news |= rollout::note_report(&run, entry, &said.subject, &said.outcome, now_ns);
                if let Some(order) = rollout::refused_as_older(&run, &said, now_ns) {
                    store.note_refused_order(entry.name.as_str(), order, now_ns)?;
                }
            }
            Err(error) => {
                log::warn!(
                    "run {}: a report that names node {} does not verify: {error}",
                    run.id,
                    entry.name
                );
            }
        }
    }
    let leads = leads(store, sender, &report.segment)?;
    for missing in report.missing.iter().filter(|_| leads) {
        if let Some(entry) = by_id.get_mut(missing).filter(|entry| entry.segment == report.segment) {
            news |= rollout::note_missing(&run, entry, "did not answer its leader", now_ns);
        }
    }
    if news {
        let nodes: Vec<RunNode> = by_id.into_values().collect();
        store.put_run_nodes(run.id, &nodes, &rollout::progress(&run, &nodes))?;
    }
    Ok(())
}

/// A segment's multicast did not reach its quorum (LD-20, SR-15): who lacks what is written beside the nodes and
/// into the history. What becomes of the run the nodes' own reports decide.
fn take_problem(
    store: &mut Store,
    sender: NodeId,
    problem: &Problem,
    now_ns: u64,
) -> Result<(), UplinkRefused> {
    let Some(run) = store.run(problem.run)? else { return Ok(()) };
    let is_of_run = run.sent().is_some_and(|assignment| assignment.id == problem.assignment);
    if run.phase.is_over() || !is_of_run || !leads(store, sender, &problem.segment)? {
        return Ok(());
    }
    let mut nodes = store.run_nodes(run.id)?;
    let told = rollout::note_problem(&mut nodes, problem);
    store.put_run_nodes(run.id, &nodes, &rollout::progress(&run, &nodes))?;
    Ok(store.record_problem(run.id, &told, now_ns)?)
}

/// Whether the node leads the segment, as far as the controller knows.
fn leads(store: &Store, node: NodeId, segment: &Name) -> Result<bool, DbError> {
    Ok(store.segments()?.iter().any(|known| known.name == *segment && known.leader == Some(node)))
}

#[derive(Debug, thiserror::Error)]
pub enum JoinRefused {
    #[error("the request is malformed or its token is not the one that was issued: {0}")]
    Malformed(#[from] Malformed),
    #[error("there is no such token, or it expired; make a new one with `farmcast node invite`")]
    NoToken,
    #[error("the token was used by another node; make a new one with `farmcast node invite`")]
    Used,
    #[error("the token is for node {0}")]
    OtherName(String),
    #[error("a node named {0} exists; choose another name, or replace it with `farmcast node invite {0}`")]
    NameTaken(String),
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Lets a node in that holds a token; the answer is sealed for whoever holds the token.
pub fn take_join(store: &mut Store, keys: &Keys, bytes: &[u8], now_ns: u64) -> Result<Vec<u8>, JoinRefused> {
    let id = JoinRequest::token_id(bytes)?;
    let invite = store.invite(&id, now_ns)?.ok_or(JoinRefused::NoToken)?;
    let request = JoinRequest::open(bytes, &invite.token)?;
    if let Some(name) = invite.node.as_ref().filter(|name| **name != request.name) {
        return Err(JoinRefused::OtherName(name.to_string()));
    }
    let enrolment = Enrolment { key: request.public_key, name: request.name, can_lead: invite.can_lead };
    match store.admit(&invite, &enrolment, now_ns)? {
        Admission::Admitted => {}
        Admission::Used => return Err(JoinRefused::Used),
        Admission::NameTaken => return Err(JoinRefused::NameTaken(enrolment.name.to_string())),
    }
    let certificate = Certificate::issue(&keys.enroller, enrolment.key, enrolment.can_lead, u32::MAX);
    Ok(JoinReply { certificate, farm: keys.farm() }.seal(&invite.token))
}
