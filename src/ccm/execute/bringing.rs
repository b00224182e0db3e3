//! Brings nodes along by itself that are new in a group or come back stale (JT-20): looks who lacks what is live, and
//! adds a job for those who have lacked it for as long as the policy of the site says.

use crate::ccm::api::types::Policy;
use crate::ccm::clock::NS_PER_S;
use crate::ccm::compose;
use crate::ccm::controller::{Controller, blocking};
use crate::ccm::db::{Behind, DbError, Store};
use crate::ccm::groups;
use crate::ccm::model::{JobKind, NewJob, Run, Site};
use crate::ccm::policy::Rules;
use crate::ccm::scheduler::window::{self, Window};
use crate::ccm::stale::Watch;
use crate::wire::id::{Name, NodeId};
use std::sync::Arc;

const EVERY_NS: u64 = NS_PER_S;
/// Jobs that synchronize, of the whole farm, beside which no further one is added.
const AT_ONCE: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Bringing {
    next_ns: u64,
    watch: Watch,
}

/// What the database says of it all.
struct Scene {
    sites: Vec<Wanting>,
    unfinished: Vec<Run>,
    windows: Vec<Window>,
}

/// A site, and the nodes that are to have it, are online, and lack its version.
struct Wanting {
    site: Site,
    rules: Rules,
    nodes: Vec<Behind>,
}

impl Bringing {
    /// The next turn looks, however soon it comes.
    pub fn look_again(&mut self) {
        self.next_ns = 0;
    }

    pub async fn turn(&mut self, controller: &Arc<Controller>, now_ns: u64) -> Result<(), DbError> {
        // A clock that was set back would keep us waiting.
        if now_ns < self.next_ns && self.next_ns - now_ns <= EVERY_NS {
            return Ok(());
        }
        self.next_ns = now_ns + EVERY_NS;
        let names = controller.store(|store| store.sites_with_other_versions()).await?;
        self.watch.keep(&names);
        if names.is_empty() {
            return Ok(());
        }
        let scene = controller.store(move |store| scene(store, &names)).await?;
        let synchronizes = |run: &&Run| run.kind == JobKind::Synchronize;
        let mut free = AT_ONCE.saturating_sub(scene.unfinished.iter().filter(synchronizes).count());
        for Wanting { site, rules, nodes } in &scene.sites {
            let after_ns = u64::from(rules.bring_along_after_s) * NS_PER_S;
            let ids: Vec<NodeId> = nodes.iter().map(|node| node.node).collect();
            let due = self.watch.due(&site.name, &ids, after_ns, now_ns);
            // What is under way, or waits, may bring them along.
            let busy = scene.unfinished.iter().any(|run| run.site == site.name);
            let held = window::hold(&scene.windows, &site.name, now_ns).is_some();
            if after_ns == 0 || due.is_empty() || busy || held || free == 0 {
                continue;
            }
            self.watch.tried(&site.name, &due, after_ns, now_ns);
            let (worker, of) = (Arc::clone(controller), site.clone());
            if !blocking(move || compose::can_synchronize(&worker, &of)).await {
                log::warn!(
                    "site {}: its shadow is not what is live, so only a publish brings nodes along",
                    site.name
                );
                continue;
            }
            free -= 1;
            let (name, nodes) = (site.name.clone(), nodes.clone());
            controller.store(move |store| bring(store, &name, &due, &nodes, now_ns)).await?;
        }
        Ok(())
    }
}

fn scene(store: &mut Store, names: &[Name]) -> Result<Scene, DbError> {
    let groups = store.groups()?;
    let mut sites = Vec::new();
    for site in store.sites()?.into_iter().filter(|site| names.contains(&site.name)) {
        let policy = store.site_policy(&site.name)?.unwrap_or_default();
        let rules = Rules::of(&policy).unwrap_or(Rules::DEFAULT);
        let group = groups::serving(&groups, &site.name);
        let mut nodes = match site.version {
            Some(version) => store.behind(&site.name, version)?,
            None => Vec::new(),
        };
        nodes.retain(|node| group.is_some_and(|group| group.chooses_one(&node.name, Some(&node.segment))));
        sites.push(Wanting { site, rules, nodes });
    }
    Ok(Scene { sites, unfinished: store.unfinished_runs()?, windows: store.windows()? })
}

/// Adds the job and tells of it.
fn bring(
    store: &mut Store,
    site: &Name,
    due: &[NodeId],
    nodes: &[Behind],
    now_ns: u64,
) -> Result<(), DbError> {
    let job = NewJob {
        kind: JobKind::Synchronize,
        site: site.clone(),
        nodes: due.to_vec(),
        policy: Policy::default(),
        schedule: None,
        override_reason: String::new(),
    };
    let run = store.add_job_on(&job, now_ns)?;
    let names: Vec<&str> =
        nodes.iter().filter(|node| due.contains(&node.node)).map(|node| node.name.as_str()).take(5).collect();
    let more = match due.len() - names.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let lack = if due.len() == 1 { "lacks" } else { "lack" };
    let text = format!("{}{more} {lack} what is live: job {} brings it by itself", names.join(", "), run.job);
    log::info!("site {site}: {text}");
    store.record_event(&format!("site {site}"), &text, now_ns)
}
