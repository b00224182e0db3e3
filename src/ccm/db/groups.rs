//! Content groups, their channels, and the lists that were issued (DB-4, LD-2).

use super::{DbError, Store, events, int, next_number, parsed, uint};
use crate::ccm::groups::choice::Choice;
use crate::ccm::groups::{Group, Nodes};
use crate::wire::id::{JobId, ListNumber, Name};
use rusqlite::{Connection, OptionalExtension, Row};
use std::collections::BTreeMap;
use std::net::SocketAddrV4;

/// Why groups stay as they are.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupRefused {
    #[error("there is no group {0}; `farmcast group list` has them all")]
    NoGroup(Name),
    #[error("there is no site {0}; `farmcast site list` has them all")]
    NoSite(Name),
    #[error("there is no node {0}; `farmcast node list` has them all, and a pattern may fit nodes to come")]
    NoNode(String),
    #[error(
        "no segment {0} has reported yet; `farmcast status` has them all, and a pattern may fit segments to come"
    )]
    NoSegment(String),
    #[error("group {0} exists already; `farmcast group add {0} NODE` adds nodes to it")]
    Exists(Name),
    #[error("{0} is a site, whose default group has that name: choose another")]
    SitesName(Name),
    #[error(
        "{0} is the default group of its site and holds every node that hosts it; to choose nodes make a group \
         with `farmcast group create` and give it the site with `farmcast site group {0} GROUP`"
    )]
    Default(Name),
    #[error("group {group} does not choose {choice}; it chooses {}", list(chosen))]
    NotChosen { group: Name, choice: String, chosen: Vec<String> },
    #[error("group {group} serves {}: give {} another group first, with `farmcast site group`", list(sites),
        if sites.len() == 1 { "it" } else { "them" })]
    InUse { group: Name, sites: Vec<String> },
    #[error(
        "job {job} publishes {site} to it now, and whom a job goes to is settled at its start: wait for its end \
         (`farmcast job watch {job}`) and try again"
    )]
    RunUnderWay { job: JobId, site: Name },
}

fn list(words: &[String]) -> String {
    if words.is_empty() { "nobody".to_owned() } else { words.join(", ") }
}

type Changed = Result<Result<(), GroupRefused>, DbError>;

impl Store {
    /// All groups by name, default groups that serve their site among them.
    pub fn groups(&self) -> Result<Vec<Group>, DbError> {
        let mut groups: BTreeMap<Name, Group> = BTreeMap::new();
        let mut query = self.db.prepare_cached("SELECT name FROM content_groups")?;
        for name in query.query_map([], |row| parsed::<Name>(row, 0))? {
            let name = name?;
            let nodes = Nodes::Chosen(choices(&self.db, &name)?);
            groups.insert(name.clone(), Group { name, nodes, sites: Vec::new() });
        }
        let sql = "SELECT name, content_group FROM sites ORDER BY name";
        let mut query = self.db.prepare_cached(sql)?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let site: Name = parsed(row, 0)?;
            let group = optional_name(row, 1)?.unwrap_or_else(|| site.clone());
            let default = || Group { name: site.clone(), nodes: Nodes::All, sites: Vec::new() };
            groups.entry(group).or_insert_with(default).sites.push(site);
        }
        Ok(groups.into_values().collect())
    }

    pub fn create_group(&mut self, name: &Name, choices: &[Choice], now_ns: u64) -> Changed {
        let step = self.write()?;
        if is_group(&step, name)? {
            return Ok(Err(GroupRefused::Exists(name.clone())));
        }
        if is_site(&step, name)? {
            return Ok(Err(GroupRefused::SitesName(name.clone())));
        }
        if let Some(refused) = unknown(&step, choices)? {
            return Ok(Err(refused));
        }
        let sql = "INSERT INTO content_groups (name, created_ns) VALUES (?1, ?2)";
        step.execute(sql, (name.as_str(), int(now_ns)))?;
        choose(&step, name, choices)?;
        events::record(&step, &format!("group {name}"), &format!("made with {}", words(choices)), now_ns)?;
        step.commit()?;
        Ok(Ok(()))
    }

    /// Adds and removes choices, all or none of them.
    pub fn change_group(&mut self, name: &Name, add: &[Choice], remove: &[Choice], now_ns: u64) -> Changed {
        let step = self.write()?;
        if let Some(refused) = fixed(&step, name)?.or(running(&step, name)?).or(unknown(&step, add)?) {
            return Ok(Err(refused));
        }
        let chosen = self::choices(&step, name)?;
        if let Some(stranger) = remove.iter().find(|choice| !chosen.contains(choice)) {
            let chosen = chosen.iter().map(Choice::to_string).collect();
            return Ok(Err(GroupRefused::NotChosen {
                group: name.clone(),
                choice: stranger.to_string(),
                chosen,
            }));
        }
        choose(&step, name, add)?;
        for choice in remove {
            let sql = "DELETE FROM group_choices WHERE content_group = ?1 AND choice = ?2";
            step.execute(sql, (name.as_str(), choice.to_string()))?;
        }
        let text = format!("added {}, removed {}", words(add), words(remove));
        events::record(&step, &format!("group {name}"), &text, now_ns)?;
        step.commit()?;
        Ok(Ok(()))
    }

    /// Its channels are free again.
    pub fn delete_group(&mut self, name: &Name, now_ns: u64) -> Changed {
        let step = self.write()?;
        if let Some(refused) = fixed(&step, name)? {
            return Ok(Err(refused));
        }
        let sql = "SELECT name FROM sites WHERE content_group = ?1 ORDER BY name";
        let sites: Vec<String> = step
            .prepare_cached(sql)?
            .query_map([name.as_str()], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        if !sites.is_empty() {
            return Ok(Err(GroupRefused::InUse { group: name.clone(), sites }));
        }
        step.execute("DELETE FROM group_channels WHERE content_group = ?1", [name.as_str()])?;
        step.execute("DELETE FROM content_groups WHERE name = ?1", [name.as_str()])?;
        events::record(&step, &format!("group {name}"), "deleted", now_ns)?;
        step.commit()?;
        Ok(Ok(()))
    }

    /// Lets a group serve a site; `None`: its default group.
    pub fn set_site_group(&mut self, site: &Name, group: Option<&Name>, now_ns: u64) -> Changed {
        let step = self.write()?;
        if !is_site(&step, site)? {
            return Ok(Err(GroupRefused::NoSite(site.clone())));
        }
        if let Some(name) = group
            && !is_group(&step, name)?
        {
            return Ok(Err(GroupRefused::NoGroup(name.clone())));
        }
        let sql = format!("SELECT r.job, r.site FROM runs r WHERE r.site = ?1 AND {SETTLED} LIMIT 1");
        if let Some(refused) = step.query_row(&sql, [site.as_str()], under_way).optional()? {
            return Ok(Err(refused));
        }
        let sql = "UPDATE sites SET content_group = ?2 WHERE name = ?1";
        step.execute(sql, (site.as_str(), group.map(Name::as_str)))?;
        let text = format!("is served by group {}", group.unwrap_or(site));
        events::record(&step, &format!("site {site}"), &text, now_ns)?;
        step.commit()?;
        Ok(Ok(()))
    }

    /// Every channel that was given: group, segment, channel.
    pub fn group_channels(&self) -> Result<Vec<(Name, Name, SocketAddrV4)>, DbError> {
        let sql =
            "SELECT content_group, segment, channel FROM group_channels ORDER BY segment, content_group";
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map([], |row| Ok((parsed(row, 0)?, parsed(row, 1)?, parsed(row, 2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The signed list of a segment.
    pub fn group_list(&self, segment: &Name) -> Result<Option<(ListNumber, Vec<u8>)>, DbError> {
        let mut query =
            self.db.prepare_cached("SELECT number, document FROM group_lists WHERE segment = ?1")?;
        let read = |row: &Row<'_>| Ok((ListNumber(uint(row, 0)?), row.get(1)?));
        Ok(query.query_row([segment.as_str()], read).optional()?)
    }

    /// The number of each segment's list.
    pub fn group_list_numbers(&self) -> Result<BTreeMap<Name, ListNumber>, DbError> {
        let mut query = self.db.prepare_cached("SELECT segment, number FROM group_lists")?;
        let rows = query.query_map([], |row| Ok((parsed(row, 0)?, ListNumber(uint(row, 1)?))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Gives groups these channels in a segment and keeps the segment's next list, which `sign` makes for its
    /// number.
    pub fn put_group_list(
        &mut self,
        segment: &Name,
        channels: &[(Name, SocketAddrV4)],
        sign: impl FnOnce(ListNumber) -> Vec<u8>,
    ) -> Result<(ListNumber, Vec<u8>), DbError> {
        let step = self.write()?;
        for (group, channel) in channels {
            let sql =
                "INSERT OR REPLACE INTO group_channels (content_group, segment, channel) VALUES (?1, ?2, ?3)";
            step.execute(sql, (group.as_str(), segment.as_str(), channel.to_string()))?;
        }
        let number = ListNumber(next_number(&step, "group list")?);
        let document = sign(number);
        let sql = "INSERT OR REPLACE INTO group_lists (segment, number, document) VALUES (?1, ?2, ?3)";
        step.execute(sql, (segment.as_str(), int(number.0), &document))?;
        step.commit()?;
        Ok((number, document))
    }
}

/// Runs whose nodes are settled and that are not over.
const SETTLED: &str = "r.phase IN ('composing', 'distributing', 'committing')";

fn choices(db: &Connection, group: &Name) -> Result<Vec<Choice>, DbError> {
    let sql = "SELECT choice FROM group_choices WHERE content_group = ?1 ORDER BY choice";
    let mut query = db.prepare_cached(sql)?;
    Ok(query.query_map([group.as_str()], |row| parsed(row, 0))?.collect::<Result<_, _>>()?)
}

fn choose(db: &Connection, group: &Name, choices: &[Choice]) -> Result<(), DbError> {
    for choice in choices {
        let sql = "INSERT OR IGNORE INTO group_choices (content_group, choice) VALUES (?1, ?2)";
        db.execute(sql, (group.as_str(), choice.to_string()))?;
    }
    Ok(())
}

/// A name that nobody has is a mistake of the one who typed it.
fn unknown(db: &Connection, choices: &[Choice]) -> Result<Option<GroupRefused>, DbError> {
    for choice in choices {
        let Some(text) = choice.literal() else { continue };
        let (sql, refused) = match choice {
            Choice::Node(_) => {
                ("SELECT EXISTS (SELECT 1 FROM nodes WHERE name = ?1)", GroupRefused::NoNode(text.to_owned()))
            }
            Choice::Segment(_) => (
                "SELECT EXISTS (SELECT 1 FROM segments WHERE name = ?1)",
                GroupRefused::NoSegment(text.to_owned()),
            ),
        };
        if !db.query_row(sql, [text], |row| row.get(0))? {
            return Ok(Some(refused));
        }
    }
    Ok(None)
}

/// Why a group cannot be changed at any time.
fn fixed(db: &Connection, group: &Name) -> Result<Option<GroupRefused>, DbError> {
    Ok(match (is_group(db, group)?, is_site(db, group)?) {
        (true, _) => None,
        (false, true) => Some(GroupRefused::Default(group.clone())),
        (false, false) => Some(GroupRefused::NoGroup(group.clone())),
    })
}

/// A run that goes to a group now.
fn running(db: &Connection, group: &Name) -> Result<Option<GroupRefused>, DbError> {
    let sql = format!(
        "SELECT r.job, r.site FROM runs r JOIN sites s ON s.name = r.site \
         WHERE s.content_group = ?1 AND {SETTLED} ORDER BY r.id LIMIT 1"
    );
    Ok(db.query_row(&sql, [group.as_str()], under_way).optional()?)
}

fn under_way(row: &Row<'_>) -> rusqlite::Result<GroupRefused> {
    Ok(GroupRefused::RunUnderWay { job: JobId(uint(row, 0)?), site: parsed(row, 1)? })
}

pub(super) fn is_group(db: &Connection, name: &Name) -> Result<bool, DbError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM content_groups WHERE name = ?1)";
    Ok(db.query_row(sql, [name.as_str()], |row| row.get(0))?)
}

fn is_site(db: &Connection, name: &Name) -> Result<bool, DbError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sites WHERE name = ?1)";
    Ok(db.query_row(sql, [name.as_str()], |row| row.get(0))?)
}

fn optional_name(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Name>> {
    if row.get::<_, Option<String>>(column)?.is_none() { Ok(None) } else { parsed(row, column).map(Some) }
}

fn words(choices: &[Choice]) -> String {
    list(&choices.iter().map(Choice::to_string).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
