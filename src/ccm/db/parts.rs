//! The parts of a run's update (AS-13): which there are, which of them is sent, and whose files still lie.

use super::runs::put_node;
use super::{DbError, Store, events, int, uint, unreadable};
use crate::ccm::model::{Assignment, Parts, Run, RunNode};
use crate::wire::assignment::{Kind, Shape};
use crate::wire::id::{AssignmentId, Name, ObjectName, RunId};
use rusqlite::{Connection, Row};
use serde::{Deserialize, Serialize};

const OVER: &str = "phase NOT IN ('queued', 'composing', 'distributing', 'committing')";

/// An assignment before the last, as a column has it; what it changes is as in the last.
#[derive(Serialize, Deserialize)]
struct Line {
    id: u64,
    object: String,
    command_len: u64,
    data_len: u64,
    composed_ns: u64,
    base: u64,
}

impl Line {
    fn of(part: &Assignment) -> Self {
        Self {
            id: part.id.0,
            object: part.shape.name.to_string(),
            command_len: part.shape.command_len,
            data_len: part.shape.data_len,
            composed_ns: part.composed_ns,
            base: part.base.map_or(0, |base| base.0),
        }
    }

    fn assignment(self) -> Option<Assignment> {
        let name: ObjectName = self.object.parse().ok()?;
        let base = (self.base != 0).then_some(AssignmentId(self.base));
        Some(Assignment {
            id: AssignmentId(self.id),
            kind: if base.is_some() { Kind::Publish } else { Kind::Replicate },
            base,
            shape: Shape { name, command_len: self.command_len, data_len: self.data_len },
            composed_ns: self.composed_ns,
        })
    }
}

pub(super) fn put(step: &Connection, run: RunId, before: &[Assignment]) -> Result<(), DbError> {
    if before.is_empty() {
        return Ok(());
    }
    let lines: Vec<Line> = before.iter().map(Line::of).collect();
    let json = serde_json::to_string(&lines).expect("lines of numbers and names are plain JSON");
    let sql = "UPDATE runs SET parts = ?2, part = 0, part_ns = 0, parts_lie = 1 WHERE id = ?1";
    step.execute(sql, (int(run.0), json))?;
    Ok(())
}

pub(super) fn read(row: &Row<'_>, [parts, done, since]: [usize; 3]) -> rusqlite::Result<Parts> {
    let json: String = row.get(parts)?;
    Ok(Parts {
        before: assignments(&json).map_err(|error| unreadable(parts, error))?,
        done: row.get::<_, u32>(done)? as usize,
        since_ns: uint(row, since)?,
    })
}

fn assignments(json: &str) -> Result<Vec<Assignment>, serde_json::Error> {
    if json.is_empty() {
        return Ok(Vec::new());
    }
    let lines: Vec<Line> = serde_json::from_str(json)?;
    let unnamed = || serde::de::Error::custom("an object has no such name");
    lines.into_iter().map(|line| line.assignment().ok_or_else(unnamed)).collect()
}

impl Store {
    /// The part that is sent is decided, `nodes` are those of the run then: the next one is sent from here on.
    pub fn next_part(
        &mut self,
        run: &Run,
        nodes: &[RunNode],
        text: &str,
        now_ns: u64,
    ) -> Result<(), DbError> {
        let step = self.write()?;
        let sql = "UPDATE runs SET part = part + 1, part_ns = ?3, text = ?4 WHERE id = ?1 AND part = ?2";
        if step.execute(sql, (int(run.id.0), run.parts.done as u32, int(now_ns), text))? > 0 {
            for node in nodes {
                put_node(&step, run.id, node)?;
            }
            events::record(&step, &format!("run {}", run.id), text, now_ns)?;
        }
        Ok(step.commit()?)
    }

    /// Names of the parts of a site's runs that are over, whose files may lie; they are not named again.
    pub fn take_old_parts(&mut self, site: &Name) -> Result<Vec<ObjectName>, DbError> {
        let step = self.write()?;
        let old: Vec<String> = {
            let sql = format!("SELECT parts FROM runs WHERE site = ?1 AND parts_lie AND {OVER}");
            let mut query = step.prepare(&sql)?;
            let rows = query.query_map([site.as_str()], |row| row.get(0))?;
            rows.collect::<Result<_, _>>()?
        };
        let sql = format!("UPDATE runs SET parts_lie = 0 WHERE site = ?1 AND parts_lie AND {OVER}");
        step.execute(&sql, [site.as_str()])?;
        step.commit()?;
        let mut names = Vec::new();
        for json in old {
            let parts = assignments(&json).map_err(|error| DbError::from(unreadable(0, error)))?;
            names.extend(parts.iter().map(|part| part.shape.name));
        }
        Ok(names)
    }
}
