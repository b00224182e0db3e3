//! A database as a large farm has it after a year, for measurements (`bench/ccm.rs`).

use super::{DbError, Store, int, nodes};
use crate::ccm::api::types::Phase;
use crate::ccm::clock::NS_PER_S;
use crate::ccm::db::Enrolment;
use crate::wire::id::NodeId;
use rusqlite::Connection;

/// How large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub segments: u32,
    pub sites: u32,
    /// Each with one run, the oldest a year ago. Every tenth goes to all nodes, the others to a tenth of them.
    pub jobs: u32,
    /// Cron expressions, one a day each, over the sites.
    pub schedules: u32,
    /// Lines of the history beside those of runs.
    pub events: u32,
}

/// Fills an empty database with these nodes and a year of what they did until `now_ns`.
///
/// # Errors
/// The database's.
pub fn fill(store: &mut Store, size: Size, joined: &[Enrolment], now_ns: u64) -> Result<(), DbError> {
    let step = store.write_schedules()?;
    let year = 365 * 24 * 3_600 * NS_PER_S;
    let ids: Vec<NodeId> = joined.iter().map(|node| NodeId::of_key(&node.key.0)).collect();
    for node in joined {
        nodes::insert(&step, node, now_ns - year)?;
    }
    for number in 0..size.sites {
        let sql = "INSERT INTO sites (name, staging, version, files, bytes, created_ns) VALUES (?1, ?2, ?3, 1000, \
                   1000000, ?4)";
        let row = (format!("site-{number}"), "/srv/staging", int(size.jobs.into()), int(now_ns - year));
        step.execute(sql, row)?;
    }
    for number in 0..size.schedules {
        let sql = "INSERT INTO schedules (name, site, kind, checksum, trigger_text, enabled, policy, grace_s, \
                   since_ns, seen_end) VALUES (?1, ?2, 'publish', 0, ?3, 1, '{}', 60, ?4, 0)";
        // Tomorrow is soon enough: a measurement starts no job.
        let trigger = format!("cron UTC {} {} 1 1 *", number % 60, number / 60 % 24);
        step.execute(
            sql,
            (format!("s{number}"), format!("site-{}", number % size.sites), trigger, int(now_ns)),
        )?;
    }
    for job in 1..=u64::from(size.jobs) {
        let at = now_ns - year + year / u64::from(size.jobs + 1) * job;
        past_job(&step, size, job, at, joined, &ids)?;
    }
    for number in 0..size.events {
        let node = &joined[number as usize % joined.len()].name;
        let at = now_ns - year + year / u64::from(size.events) * u64::from(number);
        let sql = "INSERT INTO events (at_ns, subject, text) VALUES (?1, ?2, 'online in segment segment-1')";
        step.prepare_cached(sql)?.execute((int(at), format!("node {node}")))?;
    }
    for series in ["job", "run", "assignment", "order", "end"] {
        step.execute("INSERT INTO counters (name, value) VALUES (?1, ?2)", (series, size.jobs))?;
    }
    Ok(step.commit()?)
}

/// A job that ended well, with all that is kept of it.
fn past_job(
    step: &Connection,
    size: Size,
    job: u64,
    at_ns: u64,
    joined: &[Enrolment],
    ids: &[NodeId],
) -> Result<(), DbError> {
    let site = format!("site-{}", job % u64::from(size.sites));
    let sql = "INSERT INTO jobs (id, kind, site, created_ns) VALUES (?1, 'publish', ?2, ?3)";
    step.execute(sql, (int(job), &site, int(at_ns)))?;
    let sql = "INSERT INTO runs (id, job, site, phase, text, created_ns, started_ns, finished_ns, ended) \
               VALUES (?1, ?1, ?2, ?3, 'live on all nodes', ?4, ?4, ?5, ?1)";
    let end = at_ns + 30 * NS_PER_S;
    step.execute(sql, (int(job), &site, Phase::Done.to_string(), int(at_ns), int(end)))?;
    let sql = "INSERT INTO assignments (id, run, site, kind, base, object, command_len, data_len, composed_ns) \
               VALUES (?1, ?1, ?2, 'publish', ?3, ?4, 10000, 1000000, ?5)";
    step.execute(sql, (int(job), &site, int(job - 1), "00".repeat(32), int(at_ns)))?;
    let sql =
        "INSERT INTO snapshots (assignment, job, site, committed_ns, details) VALUES (?1, ?1, ?2, ?3, '')";
    step.execute(sql, (int(job), &site, int(end)))?;
    let tenth = joined.len() / 10;
    let (from, count) = match job % 10 {
        0 => (0, joined.len()),
        part => (tenth * part as usize, tenth),
    };
    for (node, id) in joined.iter().zip(ids).skip(from).take(count) {
        let segment = format!("segment-{}", id.0 % u64::from(size.segments));
        let sql = "INSERT INTO run_nodes VALUES (?1, ?2, ?3, ?4, 'live', '', '', ?5, ?5)";
        step.prepare_cached(sql)?.execute((
            int(job),
            id.to_string(),
            node.name.as_str(),
            segment,
            int(end),
        ))?;
    }
    for phase in ["composing", "distributing", "committing", "done"] {
        let sql = "INSERT INTO events (at_ns, subject, text) VALUES (?1, ?2, ?3)";
        step.prepare_cached(sql)?.execute((int(at_ns), format!("run {job}"), phase))?;
    }
    Ok(())
}
