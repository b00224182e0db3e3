//! What a publish would do now, and what would be in its way; nothing is written or sent.
//!
//! Bytes are bounds, not predictions: what compresses, what was renamed, and what is changed in parts of a file only,
//! costs less.

use super::api::types::{Changes, Plan as View, PlanNode};
use super::compose::{self, Plan};
use super::db::{DbError, Store};
use super::execute::enough_online;
use super::filter::{BadFilter, Picker};
use super::groups;
use super::meeting;
use super::model::{Node, Site};
use super::policy::{Rules, overlay};
use super::scheduler::{bandwidth, window};
use crate::content::diff::{Change, Pair, join};
use crate::content::walk::{Entry, EntryKind, Walk, WalkError};
use crate::wire::assignment::RelPath;
use std::collections::BTreeSet;
use std::path::Path;

/// Bytes that one command of an assignment takes, beside its path.
const COMMAND_BYTES: u64 = 96;

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum ForecastError {
    #[error(transparent)]
    Walk(#[from] WalkError),
    #[error(transparent)]
    Filter(#[from] BadFilter),
}

/// What staging and the farm are like.
#[derive(Clone, Debug)]
pub struct Picture {
    pub site: Site,
    /// The nodes that are to have it.
    pub nodes: Vec<Node>,
    /// Bytes of the largest assignment.
    pub assignment_max: Option<u64>,
    /// Sentences on what stands in the way of a job that would be added now.
    pub obstacles: Vec<String>,
    /// What bounds what is sent now.
    pub bound: Option<String>,
}

/// Reads what the database says; `None` where there is no such site.
pub fn read(store: &Store, name: &crate::wire::id::Name, now_ns: u64) -> Result<Option<Picture>, DbError> {
    let (Some(site), Some(policy)) = (store.site(name)?, store.site_policy(name)?) else { return Ok(None) };
    let rules = Rules::of(&overlay(&policy, &policy)).unwrap_or(Rules::DEFAULT);
    let (groups, mut nodes) = (store.groups()?, store.nodes()?);
    nodes.retain(|node| groups::takes(&groups, node, name));
    let mut obstacles = Vec::new();
    match compose::plan(&site, &nodes) {
        Plan::NobodyOnline => obstacles.push(format!("no node that serves {name} is online")),
        Plan::Publish { .. } | Plan::Synchronize | Plan::Replicate => {
            obstacles.extend(enough_online(&site, rules.online_quorum, &nodes).err());
        }
    }
    let windows = store.windows()?;
    obstacles.extend(window::hold(&windows, name, now_ns).map(|hold| hold.text));
    obstacles.extend(meeting::conflict(store, name)?.map(|conflict| conflict.text));
    let bound = bandwidth::sentence(&windows, name, now_ns);
    Ok(Some(Picture { site, nodes, assignment_max: rules.assignment_max, obstacles, bound }))
}

/// What differs between staging and the shadow, and how much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sizes {
    changes: Changes,
    /// Bytes of files that are added or changed.
    changed_bytes: u64,
    files: u64,
    bytes: u64,
    /// Bytes of paths of what changed, and of all.
    changed_paths: u64,
    paths: u64,
}

fn size_of(entry: &Entry) -> u64 {
    match entry.kind {
        EntryKind::File { size, .. } => size,
        EntryKind::Directory | EntryKind::Symlink { .. } => 0,
    }
}

fn measure(site: &Site, live: &Path) -> Result<Sizes, ForecastError> {
    let picker = Picker::new(&site.filter)?;
    let picks = |path: &RelPath, is_directory: bool| picker.pick(path, is_directory);
    let mut old = match site.version {
        Some(_) => Some(Walk::open(live)?),
        None => None,
    };
    let mut new = Walk::picking(&site.staging, &picks)?;
    let mut sizes = Sizes::default();
    for pair in join(old.as_mut().into_iter().flatten(), new.by_ref()) {
        let pair = pair?;
        if let Pair::New(entry) | Pair::Both(_, entry) = &pair {
            sizes.files += u64::from(matches!(entry.kind, EntryKind::File { .. }));
            sizes.bytes += size_of(entry);
            sizes.paths += COMMAND_BYTES + entry.path.as_bytes().len() as u64;
        }
        let Some(change) = pair.change() else { continue };
        let (count, entry) = match &change {
            Change::Added(new) => (&mut sizes.changes.added, new),
            Change::Removed(old) => (&mut sizes.changes.removed, old),
            Change::Metadata { new, .. } => (&mut sizes.changes.metadata, new),
            Change::Content { new, .. } | Change::Replaced { new, .. } => (&mut sizes.changes.changed, new),
        };
        *count += 1;
        sizes.changed_paths += COMMAND_BYTES + entry.path.as_bytes().len() as u64;
        if !matches!(change, Change::Removed(_) | Change::Metadata { .. }) {
            sizes.changed_bytes += size_of(entry);
        }
    }
    sizes.changes.left_out = new.left_out_count();
    Ok(sizes)
}

/// Compares staging with `live`, the shadow's tree, and says what a publish would come to. Blocks for as long as it
/// takes to walk both.
///
/// # Errors
/// A tree cannot be read, or somebody writes to it.
pub fn forecast(picture: &Picture, live: &Path) -> Result<View, ForecastError> {
    let Picture { site, nodes, assignment_max, obstacles, bound } = picture;
    let sizes = measure(site, live)?;
    let (kind, assignment_bytes, written_bytes) = match compose::plan(site, nodes) {
        Plan::Publish { .. } => ("publish", sizes.changed_bytes + sizes.changed_paths, sizes.changed_bytes),
        // Who lacks what is live is brought along first, at worst by all of it.
        Plan::Synchronize => (
            "synchronize",
            sizes.changed_bytes + sizes.changed_paths + sizes.bytes + sizes.paths,
            sizes.changed_bytes + sizes.bytes,
        ),
        Plan::Replicate | Plan::NobodyOnline => ("replicate", sizes.bytes + sizes.paths, sizes.bytes),
    };
    let unchanged = kind == "publish"
        && sizes.changes == (Changes { left_out: sizes.changes.left_out, ..Changes::default() });
    let (assignment_bytes, written_bytes) =
        if unchanged { (0, 0) } else { (assignment_bytes, written_bytes) };
    let online: Vec<&Node> = nodes.iter().filter(|node| node.is_online()).collect();
    let segments: BTreeSet<_> = online.iter().filter_map(|node| Some(&node.seen.as_ref()?.segment)).collect();
    // Each segment's leader fetches it once and multicasts it once, if there is anybody else.
    let multicasts = segments.iter().filter(|segment| {
        online.iter().filter(|node| node.seen.as_ref().is_some_and(|seen| seen.segment == ***segment)).count()
            > 1
    });
    let copies = (segments.len() + multicasts.count()) as u64;
    let mut obstacles = obstacles.clone();
    let nodes: Vec<PlanNode> =
        nodes.iter().map(|node| view_node(site, node, assignment_bytes, written_bytes)).collect();
    let short: Vec<&str> = nodes
        .iter()
        .filter(|node| !node.fits && node.state != "offline")
        .map(|node| node.name.as_str())
        .collect();
    if let Some(first) = short.first() {
        let others = if short.len() > 1 { format!(" and {} more", short.len() - 1) } else { String::new() };
        obstacles.push(format!("{first}{others} may have too little space"));
    }
    Ok(View {
        schema: "farmcast.plan/1".to_owned(),
        site: site.name.to_string(),
        version: site.version.map_or(0, |version| version.0),
        kind: if unchanged { "unchanged".to_owned() } else { kind.to_owned() },
        changes: sizes.changes,
        changed_bytes: sizes.changed_bytes,
        site_files: sizes.files,
        site_bytes: sizes.bytes,
        assignment_bytes,
        wire_bytes: assignment_bytes.saturating_mul(copies),
        bound: bound.clone().unwrap_or_default(),
        assignment_max: assignment_max.unwrap_or(0),
        parts: assignment_max.map_or(1, |max| assignment_bytes.div_ceil(max).max(1)),
        nodes,
        obstacles,
    })
}

fn view_node(site: &Site, node: &Node, assignment_bytes: u64, written_bytes: u64) -> PlanNode {
    let version = node.site(&site.name).and_then(|state| state.version);
    let state = match version {
        _ if !node.is_online() => "offline",
        None => "missing",
        version if version == site.version => "current",
        Some(_) => "stale",
    };
    // The spool holds the assignment, the site what is written; where both lie on one disk it is the sum.
    let needs_bytes = assignment_bytes.saturating_add(written_bytes);
    let free_bytes = node.seen.as_ref().map_or(0, |seen| seen.free_disk);
    PlanNode {
        name: node.name.to_string(),
        segment: node.seen.as_ref().map_or_else(String::new, |seen| seen.segment.to_string()),
        state: state.to_owned(),
        version: version.map_or(0, |version| version.0),
        needs_bytes,
        free_bytes,
        fits: free_bytes >= needs_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::testing::{node_with, seen, site};
    use std::fs;

    fn picture(staging: &Path, version: Option<u64>, nodes: Vec<Node>) -> Picture {
        let site = Site { staging: staging.to_owned(), ..site("www", version.unwrap_or(0)) };
        Picture { site, nodes, assignment_max: None, obstacles: Vec::new(), bound: None }
    }

    #[test]
    fn a_plan_bounds_what_is_sent_and_names_nodes_that_are_behind_or_full() {
        let dir = tempfile::tempdir().unwrap();
        let (staging, live) = (dir.path().join("staging"), dir.path().join("live"));
        for tree in [&staging, &live] {
            fs::create_dir(tree).unwrap();
        }
        fs::write(live.join("gone"), "gone").unwrap();
        fs::write(live.join("changed"), "old").unwrap();
        fs::write(staging.join("changed"), vec![1; 3_000]).unwrap();
        fs::write(staging.join("new"), vec![2; 1_000]).unwrap();
        let with_space = |number, segment: &str, online, version, free_disk| {
            let mut seen = seen(segment, online, &[("www", version)]);
            seen.free_disk = free_disk;
            node_with(number, Some(seen))
        };
        let nodes = vec![
            with_space(1, "boston", true, 7, 1 << 30),
            with_space(2, "boston", true, 7, 5_000),
            with_space(3, "paris", true, 7, 1 << 30),
            with_space(4, "paris", false, 6, 1 << 30),
        ];
        let plan = forecast(&picture(&staging, Some(7), nodes.clone()), &live).unwrap();
        let changes = Changes { added: 1, changed: 1, removed: 1, ..Changes::default() };
        assert_eq!((plan.kind.as_str(), plan.changes, plan.changed_bytes), ("publish", changes, 4_000));
        assert_eq!((plan.site_files, plan.site_bytes), (2, 4_000));
        assert!((4_000..5_000).contains(&plan.assignment_bytes), "{}", plan.assignment_bytes);
        // Two leaders fetch it; in one segment it is multicast.
        assert_eq!(plan.wire_bytes, 3 * plan.assignment_bytes);
        let states: Vec<_> = plan.nodes.iter().map(|node| (node.state.as_str(), node.fits)).collect();
        assert_eq!(states, [("current", true), ("current", false), ("current", true), ("offline", true)]);
        assert_eq!(plan.obstacles, ["n2 may have too little space"]);

        // In parts of a KiB.
        let split = Picture { assignment_max: Some(1_024), ..picture(&staging, Some(7), nodes.clone()) };
        let split = forecast(&split, &live).unwrap();
        assert_eq!((plan.parts, split.parts, split.assignment_max), (1, 5, 1_024));

        // One of them is behind: it is brought along, at worst by everything.
        let mut behind = nodes;
        behind[0] = with_space(1, "boston", true, 5, 1 << 30);
        let plan = forecast(&picture(&staging, Some(7), behind), &live).unwrap();
        assert_eq!((plan.kind.as_str(), plan.nodes[0].state.as_str()), ("synchronize", "stale"));
    }

    #[test]
    fn a_plan_of_equal_trees_sends_nothing_and_one_without_a_version_sends_all() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "a").unwrap();
        let node = |version| node_with(1, Some(seen("boston", true, &[("www", version)])));
        let same = forecast(&picture(dir.path(), Some(7), vec![node(7)]), dir.path()).unwrap();
        assert_eq!((same.kind.as_str(), same.wire_bytes), ("unchanged", 0));
        let first = forecast(&picture(dir.path(), None, vec![node(0)]), Path::new("/nonexistent")).unwrap();
        assert_eq!((first.kind.as_str(), first.changes.added), ("replicate", 1));
        assert_eq!(first.nodes[0].state, "missing");
        assert!(forecast(&picture(Path::new("/nonexistent"), None, vec![]), dir.path()).is_err());
    }
}
