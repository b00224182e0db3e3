//! Composing: from staging to one signed assignment (CM-1, CM-3, ST).

use super::api::types::Changes;
use super::checkpoints::Rebuilt;
use super::clock::{NS_PER_S, now_ns, pass_tick};
use super::controller::Controller;
use super::db::DbError;
use super::filter::{BadFilter, Filter, Picker};
use super::model::{Assignment, Checkpoint, Composition, IssuedOrder, JobKind, Node, Run, Site};
use super::parts;
use super::permission::permission;
use super::staging::{Shadow, ShadowError};
use super::stale;
use crate::content::checkpoint::CheckpointError;
use crate::content::pack::{Pack, PackError, Packed, Policy, pack};
use crate::content::split::SplitError;
use crate::content::walk::{ALL, Pick};
use crate::wire::assignment::{Kind, RelPath, Shape};
use crate::wire::id::{AssignmentId, Name};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// What kind of assignment brings the nodes that are online to what is staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// No node that serves the site is online.
    NobodyOnline,
    /// All hold the version of the shadow: the difference will do (JT-1).
    Publish { base: AssignmentId },
    /// Some hold another version, or none (CM-7): they are brought to that of the shadow first, by assignments of
    /// their own, so that all can go live together by the difference.
    Synchronize,
    /// Nothing was live before, or nobody has anything: everything to everybody (JT-2).
    Replicate,
}

/// Chooses from the nodes that are to have the site, as they are now. Those that are offline do not count. Pure.
pub fn plan(site: &Site, nodes: &[Node]) -> Plan {
    let mut held = stale::holders(&site.name, nodes).map(|(_, version)| version);
    match (held.clone().next(), site.version) {
        (None, _) => Plan::NobodyOnline,
        (Some(_), Some(base)) if held.clone().all(|version| version == Some(base)) => Plan::Publish { base },
        (Some(_), Some(_)) if held.any(|version| version.is_some()) => Plan::Synchronize,
        (Some(_), _) => Plan::Replicate,
    }
}

/// How composing ended.
#[derive(Debug)]
pub enum Composed {
    /// Staging equals what is live on every online node: there is nothing to send (ST-15).
    Unchanged(Composition),
    /// Written to the objects, and staged on the shadow; with the order that is in it, where nodes go live by it alone.
    /// The last one goes live, those before it are its parts (AS-13).
    Ready(Composition, Vec<Assignment>, Option<IssuedOrder>),
}

#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    #[error("{0}; `farmcast site filter`")]
    Filter(#[from] BadFilter),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Split(#[from] SplitError),
    #[error(transparent)]
    Shadow(#[from] ShadowError),
    #[error(
        "the shadow of {0} is not what was signed as the live version; publish again, which sends all of staging"
    )]
    Damaged(Name),
    #[error("there is no checkpoint {0} any more; `farmcast version list {1}` has them")]
    NoCheckpoint(u64, Name),
    #[error("checkpoint {number} cannot be brought back: {error}; `farmcast version verify {site} {number}`")]
    Checkpoint { number: u64, site: Name, error: CheckpointError },
    #[error("checkpoint {number} cannot be brought back: it is not the version that was signed")]
    Unlike { number: u64 },
    #[error("{path} is not live: nothing was removed; `farmcast remove` takes paths as they are below live")]
    NotLive { path: RelPath },
    #[error(transparent)]
    Db(#[from] DbError),
    #[error("{path}: {error}")]
    Object { path: PathBuf, error: std::io::Error },
}

/// Composes the assignment that takes named entries, or everything, off the nodes, and stages it on the shadow: the new
/// tree is the live one without them (JT-8). Blocks for as long as that takes.
///
/// # Errors
/// The shadow is not what is live, or an entry is not there.
pub fn compose_removal(
    controller: &Controller,
    run: &Run,
    site: &Site,
    plan: Plan,
    id: AssignmentId,
    now_ns: u64,
) -> Result<Composed, ComposeError> {
    let config = &controller.config;
    let paths = controller.store_blocking(|store| store.paths_of_job(run.job))?;
    let mut shadow = Shadow::open(config, &site.name)?;
    let damaged = || ComposeError::Damaged(site.name.clone());
    let (version, _) =
        shadow.signed().filter(|(version, _)| Some(*version) == site.version).ok_or_else(damaged)?;
    let base = match plan {
        Plan::Publish { base } => Some(base),
        Plan::Synchronize | Plan::Replicate | Plan::NobodyOnline => None,
    };
    let gone = Mutex::new(BTreeSet::new());
    let out = config.objects().join(format!("run-{}.tmp", run.id));
    let order = permission(controller, run, id, now_ns)?;
    let sealing = run.terms.rules.encrypt.then(|| controller.keys.sealing(&site.name, id));
    let packed = pack(&Pack {
        staging: &shadow.live_path(),
        picks: &|path, _| {
            let goes = paths.is_empty() || paths.contains(path);
            if goes {
                gone.lock().expect("nobody panics while holding it").insert(path.clone());
            }
            if goes { Pick::Leave } else { Pick::Take }
        },
        shadow: &shadow.live_path(),
        base,
        assignment: id,
        job: run.job,
        site: site.name.clone(),
        issued: now_ns / NS_PER_S,
        pass_tick: &pass_tick,
        policy: &Policy::default(),
        out: &out,
        checksum: false,
        origins: None,
        cache: None,
        known: Some(&shadow.inventory_path(version)),
        order: order.as_ref().map(|order| order.bytes.as_slice()),
        sealing: sealing.as_ref(),
        publisher: &controller.keys.publisher,
    })?;
    let composition = composition(&packed);
    let gone = gone.into_inner().expect("nobody panicked while holding it");
    let missing = paths.iter().find(|path| !gone.contains(*path));
    let Some(shape) = packed.shape.filter(|_| missing.is_none() && !gone.is_empty()) else {
        // Written all the same, where nothing changes.
        let _ = std::fs::remove_file(&out);
        return match missing {
            Some(path) => Err(ComposeError::NotLive { path: path.clone() }),
            None => Ok(Composed::Unchanged(composition)),
        };
    };
    let made = keep_and_stage(controller, run, &mut shadow, &out, assignment(id, base, shape))?;
    Ok(Composed::Ready(composition, made, order))
}

/// The tree that is to go live.
struct Source<'a> {
    path: &'a Path,
    filter: Filter,
    is_read_whole: bool,
    cache: Option<PathBuf>,
    rebuilt: Option<(Rebuilt, Checkpoint)>,
    /// When it stood, where that was only now.
    ready_ns: Option<u64>,
}

impl<'a> Source<'a> {
    /// Staging, or the checkpoint that a restore brings back.
    fn of(controller: &Controller, run: &Run, site: &'a Site) -> Result<Self, ComposeError> {
        let JobKind::Restore { checkpoint: number } = run.kind else {
            return Ok(Self {
                path: &site.staging,
                filter: site.filter.clone(),
                is_read_whole: matches!(run.kind, JobKind::Publish { checksum: true }),
                cache: Some(controller.config.cache(site.name.as_str())),
                rebuilt: None,
                ready_ns: None,
            });
        };
        let name = site.name.clone();
        let found = controller.store_blocking(|store| store.checkpoint(&name, number))?;
        let checkpoint = found.ok_or(ComposeError::NoCheckpoint(number, name.clone()))?;
        let rebuilt = Rebuilt::new(controller, &checkpoint, &format!("run-{}", run.id))
            .map_err(|error| ComposeError::Checkpoint { number, site: name, error })?;
        Ok(Self {
            path: &site.staging,
            filter: Filter::default(),
            is_read_whole: true,
            cache: None,
            rebuilt: Some((rebuilt, checkpoint)),
            ready_ns: Some(now_ns()),
        })
    }

    fn path(&self) -> &Path {
        self.rebuilt.as_ref().map_or(self.path, |(rebuilt, _)| rebuilt.path())
    }

    /// Nothing goes live that is not what was signed when the checkpoint was made.
    fn check(&self, packed: &Packed) -> Result<(), ComposeError> {
        match &self.rebuilt {
            Some((_, checkpoint)) if checkpoint.tree != packed.tree.hash => {
                Err(ComposeError::Unlike { number: checkpoint.key.number })
            }
            _ => Ok(()),
        }
    }
}

/// Composes the assignment of a run and stages it on the shadow. Blocks for as long as that takes.
pub fn compose(
    controller: &Controller,
    run: &Run,
    site: &Site,
    plan: Plan,
    id: AssignmentId,
    now_ns: u64,
) -> Result<Composed, ComposeError> {
    let config = &controller.config;
    let mut shadow = Shadow::open(config, &site.name)?;
    let base = match plan {
        // A shadow that is not where the database takes it to be is no base for anything.
        Plan::Publish { base } if shadow.version() == Some(base) => Some(base),
        Plan::Publish { .. } | Plan::Synchronize | Plan::Replicate | Plan::NobodyOnline => None,
    };
    let source = Source::of(controller, run, site)?;
    let picker = Picker::new(&source.filter)?;
    let out = config.objects().join(format!("run-{}.tmp", run.id));
    let order = permission(controller, run, id, now_ns)?;
    let sealing = run.terms.rules.encrypt.then(|| controller.keys.sealing(&site.name, id));
    let origins = base.map(|base| shadow.inventory_path(base));
    let packing = Pack {
        staging: source.path(),
        picks: &|path, is_directory| picker.pick(path, is_directory),
        shadow: &shadow.live_path(),
        base,
        assignment: id,
        job: run.job,
        site: site.name.clone(),
        issued: source.ready_ns.unwrap_or(now_ns) / NS_PER_S,
        pass_tick: &pass_tick,
        policy: &Policy::default(),
        out: &out,
        checksum: source.is_read_whole,
        origins: origins.as_deref(),
        cache: source.cache.as_deref(),
        known: None,
        order: order.as_ref().map(|order| order.bytes.as_slice()),
        sealing: sealing.as_ref(),
        publisher: &controller.keys.publisher,
    };
    let packed = controller.uploads.gates.reading(source.path(), || pack(&packing))?;
    if let Err(error) = source.check(&packed) {
        let _ = std::fs::remove_file(&out);
        return Err(error);
    }
    let composition = composition(&packed);
    let Some(shape) = packed.shape else { return Ok(Composed::Unchanged(composition)) };
    let made = keep_and_stage(controller, run, &mut shadow, &out, assignment(id, base, shape))?;
    Ok(Composed::Ready(composition, made, order))
}

/// Composes what brings nodes that hold `base`, or nothing that counts, to the version that is live (JT-5). It has
/// the number of that version, so that nodes which have it live do nothing. Blocks for as long as that takes.
///
/// # Errors
/// The shadow is not at that version, or does not keep the base any more.
pub fn compose_lacking(
    controller: &Controller,
    run: &Run,
    site: &Site,
    base: Option<AssignmentId>,
    now_ns: u64,
) -> Result<(Composition, Vec<Assignment>, Option<IssuedOrder>), ComposeError> {
    let config = &controller.config;
    let mut shadow = Shadow::open(config, &site.name)?;
    let damaged = || ComposeError::Damaged(site.name.clone());
    let (id, result) = shadow.signed().filter(|(id, _)| Some(*id) == site.version).ok_or_else(damaged)?;
    let out = config.objects().join(format!("run-{}.tmp", run.id));
    let order = permission(controller, run, id, now_ns)?;
    let sealing = run.terms.rules.encrypt.then(|| controller.keys.sealing(&site.name, id));
    let packed = pack(&Pack {
        staging: &shadow.live_path(),
        picks: ALL,
        shadow: &base.map_or_else(|| shadow.live_path(), |base| shadow.release_path(base)),
        base,
        assignment: id,
        job: run.job,
        site: site.name.clone(),
        issued: now_ns / NS_PER_S,
        pass_tick: &pass_tick,
        policy: &Policy::default(),
        out: &out,
        checksum: false,
        origins: base.map(|base| shadow.inventory_path(base)).as_deref(),
        cache: None,
        known: Some(&shadow.inventory_path(id)),
        order: order.as_ref().map(|order| order.bytes.as_slice()),
        sealing: sealing.as_ref(),
        publisher: &controller.keys.publisher,
    })?;
    let shape = packed.shape.filter(|_| packed.tree.hash == result);
    let Some(shape) = shape else {
        // Nobody is sent what is not the version that it says it is, and the next publish is not built on it.
        let _ = std::fs::remove_file(&out);
        shadow.doubt().map_err(|error| ComposeError::Object { path: shadow.live_path(), error })?;
        return Err(damaged());
    };
    let made = parts::keep(controller, run, &out, assignment(id, base, shape))?;
    Ok((composition(&packed), made, order))
}

/// Whether the shadow is where nodes would be brought to. One that is not is no base for anything.
pub fn can_synchronize(controller: &Controller, site: &Site) -> bool {
    let shadow = Shadow::open(&controller.config, &site.name);
    shadow.is_ok_and(|shadow| shadow.signed().is_some_and(|(version, _)| Some(version) == site.version))
}

/// Keeps the file that was written and stages it on the shadow, by its parts where it is split; where that fails,
/// nothing of it is there.
fn keep_and_stage(
    controller: &Controller,
    run: &Run,
    shadow: &mut Shadow,
    out: &Path,
    whole: Assignment,
) -> Result<Vec<Assignment>, ComposeError> {
    let made = parts::keep(controller, run, out, whole)?;
    let staged = made.iter().try_for_each(|part| shadow.stage(&controller.config, part, &controller.keys));
    if let Err(error) = staged {
        // Nobody will fetch it, and the disk may be full because of it.
        parts::remove(controller, made.iter().map(|part| part.shape.name));
        return Err(error.into());
    }
    Ok(made)
}

fn assignment(id: AssignmentId, base: Option<AssignmentId>, shape: Shape) -> Assignment {
    let kind = if base.is_some() { Kind::Publish } else { Kind::Replicate };
    Assignment { id, kind, base, shape, composed_ns: now_ns() }
}

/// The shadow follows what the nodes did (VC-2). Blocks; may be repeated.
pub fn commit_shadow(controller: &Controller, run: &Run) -> Result<(), ShadowError> {
    let order = run.order.as_ref().expect("a run that is committed has an order");
    let mut shadow = Shadow::open(&controller.config, &run.site)?;
    if let Some(assignment) = &run.assignment
        && shadow.version() != Some(assignment.id)
    {
        // Staged when it was composed; again only where that was lost since.
        for part in run.parts.before.iter().chain([assignment]) {
            shadow.stage(&controller.config, part, &controller.keys)?;
        }
    }
    shadow.carry_out(order, now_ns)?;
    if !matches!(run.kind, JobKind::Publish { .. } | JobKind::Synchronize) {
        // What looks as it did in staging may be something else in the shadow from now on.
        let _ = std::fs::remove_file(controller.config.cache(run.site.as_str()));
    }
    Ok(())
}

fn composition(packed: &Packed) -> Composition {
    let warnings = packed.left_out.iter().take(Composition::WARNINGS_MAX);
    Composition {
        changes: Changes {
            added: packed.changes.added,
            changed: packed.changes.changed,
            metadata: packed.changes.metadata,
            removed: packed.changes.removed,
            left_out: packed.left_out_count,
        },
        changed_bytes: packed.changed_bytes,
        site_files: packed.tree.files,
        site_bytes: packed.tree.bytes,
        warnings: warnings.map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::testing::{node_with, seen, site};

    #[test]
    fn a_difference_is_sent_where_every_online_node_holds_its_base_and_who_lacks_it_is_brought_along() {
        let site = |version: Option<u64>| site("www", version.unwrap_or(0));
        let node = |online, version| node_with(1, Some(seen("boston", online, &[("www", version)])));
        let stranger = node_with(2, Some(seen("boston", true, &[("shop", 7)])));
        let publish = Plan::Publish { base: AssignmentId(7) };
        assert_eq!(plan(&site(Some(7)), &[]), Plan::NobodyOnline);
        assert_eq!(plan(&site(Some(7)), &[node(false, 7), stranger.clone()]), Plan::NobodyOnline);
        assert_eq!(plan(&site(Some(7)), &[node(true, 7), stranger]), publish);
        assert_eq!(plan(&site(Some(7)), &[node(true, 7), node(false, 3)]), publish);
        assert_eq!(plan(&site(Some(7)), &[node(true, 7), node(true, 6)]), Plan::Synchronize);
        assert_eq!(plan(&site(Some(7)), &[node(true, 7), node(true, 0)]), Plan::Synchronize);
        assert_eq!(plan(&site(Some(7)), &[node(true, 6), node(true, 5)]), Plan::Synchronize);
        assert_eq!(plan(&site(Some(7)), &[node(true, 0), node(true, 0)]), Plan::Replicate);
        assert_eq!(plan(&site(None), &[node(true, 0)]), Plan::Replicate);
    }
}
