//! The demo's story, step by step. Every number it tells was measured in this run.

use super::farm::Farm;
use super::place::cannot;
use super::report::{Report, Summary};
use super::text_port::TextPort;
use super::{Options, SITE, change, copy, sample};
use crate::ccm::api::types::{
    Filter, Invite, Job, NewInvite, NewJob, NewSite, Node, Phase, Segment, Site, Status,
};
use crate::cli::client::Client;
use crate::cli::clock::Stopwatch;
use crate::cli::failure::Failure;
use crate::cli::output::{bytes, count, printable, span};
use crate::cli::progress::phase_word;
use crate::content::tree::{TreeHash, hash_tree};
use crate::wire::id::{NodeId, hex};
use serde_json::json;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Between two questions; every measured time is as coarse as this, but the failover's.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// Between two questions to the survivors of a leader.
const ASK_SURVIVORS_EVERY: Duration = Duration::from_millis(2);
const READY_MAX: Duration = Duration::from_secs(8);
const ELECT_MAX: Duration = Duration::from_secs(12);
const FAILOVER_MAX: Duration = Duration::from_secs(10);
const RETURN_MAX: Duration = Duration::from_secs(12);
/// Of the demo's own site, which must be done within 30 s; another site may take its time.
const PUBLISH_SAMPLE_MAX: Duration = Duration::from_secs(18);
const PUBLISH_MAX: Duration = Duration::from_secs(3_600);

pub struct Story<'a> {
    pub options: &'a Options,
    pub farm: &'a mut Farm,
    pub client: &'a Client,
    pub report: &'a Report<'a>,
    pub summary: &'a mut Summary,
    /// Ends a copy that runs on another thread.
    pub stop: Arc<AtomicBool>,
}

impl Story<'_> {
    /// From nothing to a farm of nodes that have joined, with a leader in each segment.
    pub async fn start(&mut self) -> Result<(), Failure> {
        let staging = self.farm.staging.clone();
        let filling = fill(self.options, &staging, &self.stop);
        let (site, started) = tokio::join!(filling, self.farm.start_ccm());
        started?;
        let left_out = site?;
        let status =
            self.until("the controller answers", READY_MAX, async |story| story.ready().await).await?;
        let wish = NewSite { name: SITE.to_owned(), staging: utf8(&staging)?, filter: Filter::default() };
        let _: Site = self.client.post("/v1/sites", &wish).await?;
        let text = format!("controller ready at {}, staging filled", status.listen);
        let facts = json!({ "listen": status.listen, "left_out": left_out });
        self.report.step("controller", &text, facts)?;
        if left_out > 0 {
            let what = count(left_out, "socket, device or FIFO");
            self.report.line(&format!("         left out of the copy: {what}"))?;
        }
        let mut tokens = Vec::new();
        for member in &self.farm.members {
            let wish = NewInvite { node: member.name.clone(), can_lead: true, expires_s: 600 };
            let invite: Invite = self.client.post("/v1/invites", &wish).await?;
            tokens.push(invite.token);
        }
        self.farm.start_members(&status.listen, &tokens).await?;
        let segments = self
            .until("every segment has elected a leader", ELECT_MAX, async |story| story.whole().await)
            .await?;
        for segment in &segments {
            let (name, leader) = (printable(&segment.name), printable(&segment.leader_name));
            let text = format!(
                "segment {name}: {} online, leader {leader}",
                count(segment.nodes_online.into(), "node")
            );
            let (name, leader) = (&segment.name, &segment.leader_name);
            let facts = json!({ "segment": name, "leader": leader, "nodes": segment.nodes_online });
            self.report.step("elected", &text, facts)?;
        }
        Ok(())
    }

    pub async fn first_publish(&mut self) -> Result<(), Failure> {
        let published = self.publish().await?;
        let job = &published.job;
        self.summary.files = Some(job.site_files);
        self.summary.bytes = Some(job.site_bytes);
        self.summary.publish_ms = Some(published.ms);
        self.summary.wire_bytes = Some(published.wire_bytes);
        self.summary.spread(job.switch_spread_us);
        let text = format!(
            "job {} publish {SITE}: {}, {} -> {}/{} nodes in {}, {} sent",
            job.id,
            count(job.site_files, "file"),
            bytes(job.site_bytes),
            job.nodes_live,
            job.nodes_total,
            span(Duration::from_millis(published.ms)),
            bytes(published.wire_bytes)
        );
        self.report.step("publish", &text, published.facts())?;
        for warning in &job.warnings {
            self.report.line(&format!("         warning: {}", printable(warning)))?;
        }
        self.verify().await
    }

    /// Kills a leader as a power cut would, and times how long its segment is without one.
    pub async fn lose_a_leader(&mut self) -> Result<(), Failure> {
        if self.options.nodes() < 2 {
            let text = "one node per segment: nobody could take over from a leader";
            return self.report.step("failover", text, json!({ "failover_ms": null }));
        }
        let status: Status = self.client.get("/v1/status").await?;
        let segment = status.segments.into_iter().next();
        let segment = segment.ok_or_else(|| Failure::Ran("the controller knows no segment".to_owned()))?;
        let index = self.farm.members.iter().position(|member| member.name == segment.leader_name);
        let index = index.ok_or_else(|| Failure::Ran(format!("no node is named {}", segment.leader_name)))?;
        let old = segment.leader.parse::<NodeId>();
        let old = old.map_err(|error| Failure::Ran(format!("leader {}: {error}", segment.leader)))?;
        let mut survivors = Vec::new();
        for member in &self.farm.members {
            if member.segment == self.farm.members[index].segment && member.name != segment.leader_name {
                let port = TextPort::connect(&member.text_port).await;
                survivors.push(port.map_err(|error| text_port_fails(&member.name, &error))?);
            }
        }
        let clock = Stopwatch::start();
        self.farm.kill(index);
        let new = agree_on_another(&mut survivors, old, clock).await?;
        let ms = clock.elapsed_ms();
        self.summary.failover_ms = Some(ms);
        let nodes: Vec<Node> = self.client.get("/v1/nodes").await?;
        let name = |id: NodeId| {
            let node = nodes.iter().find(|node| node.id.parse() == Ok(id));
            node.map_or_else(|| id.to_string(), |node| node.name.clone())
        };
        let (dead, heir) = (segment.leader_name.clone(), name(new));
        let text = format!("killed {dead}, leader of {}: {heir} leads after {ms} ms", segment.name);
        let facts = json!({ "segment": segment.name, "killed": dead, "leader": heir, "failover_ms": ms });
        self.report.step("failover", &text, facts)?;
        self.bring_back(index, &segment.name, new).await
    }

    /// Starts the killed node again and waits until the controller hears of it.
    async fn bring_back(&mut self, index: usize, segment: &str, leader: NodeId) -> Result<(), Failure> {
        let knows = async |story: &mut Self| {
            let status: Status = story.client.get("/v1/status").await?;
            let found = status.segments.iter().find(|known| known.name == segment);
            Ok(found.filter(|known| known.leader.parse() == Ok(leader)).map(|_| ()))
        };
        self.until("the controller knows the new leader", FAILOVER_MAX, knows).await?;
        let clock = Stopwatch::start();
        self.farm.restart(index)?;
        let name = self.farm.members[index].name.clone();
        let socket = self.farm.members[index].text_port.clone();
        let follows = async |_: &mut Self| match TextPort::connect(&socket).await {
            // Its socket comes with its start, and a leader with the election.
            Ok(mut port) => Ok(port.leader().await.ok().flatten()),
            Err(_) => Ok(None),
        };
        self.until(&format!("{name} follows a leader again"), RETURN_MAX, follows).await?;
        let before = self.node(&name).await?.map_or(0, |node| node.seen_ns);
        let seen = async |story: &mut Self| {
            let node = story.node(&name).await?;
            Ok(node.filter(|node| node.seen_ns > before && node.state != "offline").map(|_| ()))
        };
        self.until(&format!("the controller sees {name} again"), RETURN_MAX, seen).await?;
        self.until("every node is online", RETURN_MAX, async |story| story.whole().await).await?;
        let ms = clock.elapsed_ms();
        let text = format!("{name} started again, back in its segment after {ms} ms");
        self.report.step("restart", &text, json!({ "node": name, "back_ms": ms }))
    }

    pub async fn second_publish(&mut self) -> Result<(), Failure> {
        let staging = self.farm.staging.clone();
        let names = elsewhere(move || change::three_files(&staging)).await?;
        let shown: Vec<_> = names.iter().map(|name| printable(&name.to_string_lossy())).collect();
        let text = format!("changed {} in staging", shown.join(", "));
        self.report.step("change", &text, json!({ "files": shown }))?;
        let published = self.publish().await?;
        let job = &published.job;
        let files = job.changes.added + job.changes.changed;
        self.summary.delta_files = Some(files);
        self.summary.delta_bytes = Some(job.changed_bytes);
        self.summary.delta_wire_bytes = Some(published.wire_bytes);
        self.summary.spread(job.switch_spread_us);
        let text = format!(
            "job {} publish {SITE}: {} of {} ({} of {}) -> {}/{} nodes in {}, {} sent",
            job.id,
            count(files, "changed file"),
            job.site_files,
            bytes(job.changed_bytes),
            bytes(job.site_bytes),
            job.nodes_live,
            job.nodes_total,
            span(Duration::from_millis(published.ms)),
            bytes(published.wire_bytes)
        );
        self.report.step("delta", &text, published.facts())?;
        self.verify().await
    }

    /// Publishes the site and measures it; an error where it is not live on every node.
    async fn publish(&mut self) -> Result<Published, Failure> {
        let before = self.sent_bytes().await?;
        let clock = Stopwatch::start();
        let wish = NewJob { kind: "publish".to_owned(), site: SITE.to_owned(), ..NewJob::default() };
        let job: Job = self.client.post("/v1/jobs", &wish).await?;
        let job = self.end_of(job, clock).await?;
        let ms = clock.elapsed_ms();
        if job.phase != Phase::Done {
            return Err(not_live(&job));
        }
        let wire_bytes = self.sent_bytes().await?.saturating_sub(before);
        Ok(Published { job, ms, wire_bytes })
    }

    /// Follows a job to its end; an error with how it stands where that takes too long.
    async fn end_of(&mut self, mut job: Job, clock: Stopwatch) -> Result<Job, Failure> {
        let sample = self.options.once && self.options.source.is_none();
        let limit = if sample { PUBLISH_SAMPLE_MAX } else { PUBLISH_MAX };
        while !job.phase.is_over() {
            if clock.elapsed() > limit {
                return Err(not_live(&job));
            }
            tokio::time::sleep(ASK_EVERY).await;
            self.farm.check()?;
            job = self.client.get(&format!("/v1/jobs/{}", job.id)).await?;
        }
        Ok(job)
    }

    /// What has left the sockets of all nodes and of the controller so far.
    async fn sent_bytes(&self) -> Result<u64, Failure> {
        let status: Status = self.client.get("/v1/status").await?;
        let mut sum = status.served_bytes;
        for member in &self.farm.members {
            let sent = async { TextPort::connect(&member.text_port).await?.counter("sent_bytes").await };
            sum += sent.await.map_err(|error| text_port_fails(&member.name, &error))?;
        }
        Ok(sum)
    }

    /// Compares the live tree of every node with staging, by hash.
    async fn verify(&self) -> Result<(), Failure> {
        let clock = Stopwatch::start();
        let staging = tree_hash(self.farm.staging.clone()).await?;
        let mut different = Vec::new();
        for member in &self.farm.members {
            if tree_hash(member.live()).await?.hash != staging.hash {
                different.push(member.name.clone());
            }
        }
        let nodes = self.farm.members.len();
        let (hash, took) = (hex(&staging.hash), span(clock.elapsed()));
        let ok = different.is_empty();
        let text = match ok {
            true => format!(
                "verified: live trees of {nodes}/{nodes} nodes have hash {}.. as staging ({took})",
                &hash[..16]
            ),
            false => format!("NOT the same as staging ({}..): {}", &hash[..16], different.join(", ")),
        };
        let facts = json!({ "ok": ok, "hash": hash, "nodes": nodes, "different": different });
        self.report.step("verify", &text, facts)?;
        if ok {
            return Ok(());
        }
        Err(Failure::Ran(format!("the live tree differs from staging on {}", different.join(", "))))
    }

    /// The controller's status, once it answers.
    async fn ready(&self) -> Result<Option<Status>, Failure> {
        match self.client.get("/v1/status").await {
            Err(Failure::Unreachable(_) | Failure::Lost(_)) => Ok(None),
            status => status.map(Some),
        }
    }

    /// The segments, once all nodes are online and each segment has one leader.
    async fn whole(&self) -> Result<Option<Vec<Segment>>, Failure> {
        let status: Status = self.client.get("/v1/status").await?;
        let all = u32::try_from(self.farm.members.len()).unwrap_or(u32::MAX);
        let led = status.segments.iter().filter(|segment| !segment.leader_name.is_empty()).count();
        let whole =
            status.nodes_online == all && led == self.options.segments() && led == status.segments.len();
        Ok(whole.then_some(status.segments))
    }

    async fn node(&self, name: &str) -> Result<Option<Node>, Failure> {
        let nodes: Vec<Node> = self.client.get("/v1/nodes").await?;
        Ok(nodes.into_iter().find(|node| node.name == name))
    }

    /// Asks until there is an answer; an error where that takes too long or a process has ended meanwhile.
    async fn until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut ask: impl AsyncFnMut(&mut Self) -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let clock = Stopwatch::start();
        loop {
            if let Some(answer) = ask(self).await? {
                return Ok(answer);
            }
            self.farm.check()?;
            if clock.elapsed() > limit {
                return Err(Failure::Ran(format!("waited {} s until {what}, in vain", limit.as_secs())));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

/// How a job stands that should have been done, and with which nodes it hangs.
fn not_live(job: &Job) -> Failure {
    let others = job.nodes.iter().filter(|node| node.state != "live");
    let nodes = others.map(|node| {
        let why = if node.text.is_empty() { &node.reason } else { &node.text };
        format!("{} {} {why}", node.name, node.state).trim_end().to_owned()
    });
    let (id, word, nodes) = (job.id, phase_word(job.phase), nodes.collect::<Vec<_>>().join(", "));
    Failure::Ran(printable(&format!("job {id} is {word}: {}; {nodes}", job.text)))
}

/// A publish that is live on every node.
struct Published {
    job: Job,
    ms: u64,
    wire_bytes: u64,
}

impl Published {
    fn facts(&self) -> serde_json::Value {
        json!({
            "job": self.job.id,
            "assignment": self.job.assignment,
            "assignment_kind": self.job.assignment_kind,
            "assignment_bytes": self.job.assignment_bytes,
            "changed_bytes": self.job.changed_bytes,
            "files": self.job.site_files,
            "bytes": self.job.site_bytes,
            "nodes_live": self.job.nodes_live,
            "publish_ms": self.ms,
            "wire_bytes": self.wire_bytes,
            "switch_spread_us": self.job.switch_spread_us,
            "warnings": self.job.warnings,
        })
    }
}

/// Fills staging with the sample site or a copy of the user's. Returns how many entries were left out.
async fn fill(options: &Options, staging: &Path, stop: &Arc<AtomicBool>) -> Result<u64, Failure> {
    let (staging, stop) = (staging.to_owned(), Arc::clone(stop));
    match options.source.clone() {
        Some(source) => elsewhere(move || copy::tree(&source, &staging, &stop)).await,
        None => {
            elsewhere(move || match sample::write(&staging) {
                Err(error) => Err(cannot("write the sample site to", &staging, &error)),
                Ok(()) => Ok(0),
            })
            .await
        }
    }
}

/// The leader that all survivors name, once it is another than `old`.
async fn agree_on_another(
    survivors: &mut [TextPort],
    old: NodeId,
    clock: Stopwatch,
) -> Result<NodeId, Failure> {
    loop {
        let mut named = Vec::new();
        for survivor in &mut *survivors {
            let leader = survivor.leader().await;
            named.push(leader.map_err(|error| text_port_fails("a surviving node", &error))?);
        }
        match named.first().copied().flatten() {
            Some(new) if new != old && named.iter().all(|leader| *leader == Some(new)) => return Ok(new),
            _ if clock.elapsed() > FAILOVER_MAX => {
                let limit = FAILOVER_MAX.as_secs();
                return Err(Failure::Ran(format!("no new leader within {limit} s of the old one's death")));
            }
            _ => tokio::time::sleep(ASK_SURVIVORS_EVERY).await,
        }
    }
}

async fn tree_hash(root: PathBuf) -> Result<TreeHash, Failure> {
    elsewhere(move || {
        let hash = hash_tree(&root);
        hash.map_err(|error| Failure::Ran(format!("cannot hash {}: {error}", root.display())))
    })
    .await
}

/// Runs what blocks on another thread, so that Ctrl-C is heard meanwhile.
async fn elsewhere<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Failure::Ran(format!("a step of the demo broke off: {error}"))),
    }
}

fn utf8(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::Usage(format!("the path {} must be UTF-8", path.display())))
}

fn text_port_fails(node: &str, error: &io::Error) -> Failure {
    Failure::Ran(format!("the text port of {node} fails: {error}"))
}
