//! Sites.

use super::{DbError, Store, events, int, parsed, uint};
use crate::ccm::api::types::Policy;
use crate::ccm::filter::Filter;
use crate::ccm::model::Site;
use crate::wire::id::{AssignmentId, Name};
use rusqlite::{OptionalExtension, Row};
use std::path::Path;

const COLUMNS: &str = "name, staging, version, files, bytes, ifnull(content_group, name), filter";

impl Store {
    /// False where a site of that name exists.
    pub fn add_site(&mut self, name: &Name, staging: &Path, now_ns: u64) -> Result<bool, DbError> {
        let sql = "INSERT INTO sites (name, staging, created_ns) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        let staging = staging.to_str().expect("staging came as text from the API");
        Ok(self.db.execute(sql, (name.as_str(), staging, int(now_ns)))? == 1)
    }

    /// What of its staging is picked up from the next publish on. False where there is no such site.
    pub fn set_site_filter(&mut self, name: &Name, filter: &Filter, now_ns: u64) -> Result<bool, DbError> {
        let step = self.write()?;
        let json = match filter.is_empty() {
            true => String::new(),
            false => serde_json::to_string(filter).expect("a filter is plain JSON"),
        };
        let sql = "UPDATE sites SET filter = ?2 WHERE name = ?1 AND filter != ?2";
        if step.execute(sql, (name.as_str(), &json))? == 1 {
            let text = if json.is_empty() { "no filter" } else { &json };
            events::record(&step, &format!("site {name}"), &format!("filter: {text}"), now_ns)?;
        }
        let known = "SELECT EXISTS (SELECT 1 FROM sites WHERE name = ?1)";
        let known = step.query_row(known, [name.as_str()], |row| row.get(0))?;
        step.commit()?;
        Ok(known)
    }

    pub fn site(&self, name: &Name) -> Result<Option<Site>, DbError> {
        let sql = format!("SELECT {COLUMNS} FROM sites WHERE name = ?1");
        Ok(self.db.query_row(&sql, [name.as_str()], site).optional()?)
    }

    /// What jobs of a site go by unless they say otherwise; `None` where there is no such site.
    pub fn site_policy(&self, name: &Name) -> Result<Option<Policy>, DbError> {
        let sql = "SELECT policy FROM sites WHERE name = ?1";
        let read = |row: &Row<'_>| row.get::<_, String>(0);
        let text = self.db.query_row(sql, [name.as_str()], read).optional()?;
        let read = |text: String| serde_json::from_str(&text).map_err(|error| super::unreadable(0, error));
        Ok(text.map(read).transpose()?)
    }

    /// From the next job on. False where there is no such site.
    pub fn set_site_policy(&mut self, name: &Name, policy: &Policy, now_ns: u64) -> Result<bool, DbError> {
        let text = serde_json::to_string(policy).expect("a policy is plain JSON");
        let step = self.write()?;
        let sql = "UPDATE sites SET policy = ?2 WHERE name = ?1";
        let known = step.execute(sql, (name.as_str(), &text))? == 1;
        if known {
            events::record(&step, &format!("site {name}"), &format!("has the policy {text}"), now_ns)?;
        }
        step.commit()?;
        Ok(known)
    }

    /// All sites by name.
    pub fn sites(&self) -> Result<Vec<Site>, DbError> {
        let mut query = self.db.prepare_cached(&format!("SELECT {COLUMNS} FROM sites ORDER BY name"))?;
        Ok(query.query_map([], site)?.collect::<Result<_, _>>()?)
    }
}

fn site(row: &Row<'_>) -> rusqlite::Result<Site> {
    let version = uint(row, 2)?;
    Ok(Site {
        name: parsed(row, 0)?,
        staging: row.get::<_, String>(1)?.into(),
        version: (version != 0).then_some(AssignmentId(version)),
        files: uint(row, 3)?,
        bytes: uint(row, 4)?,
        group: parsed(row, 5)?,
        filter: {
            let json: String = row.get(6)?;
            if json.is_empty() {
                Filter::default()
            } else {
                serde_json::from_str(&json).map_err(|error| super::unreadable(6, error))?
            }
        },
    })
}
