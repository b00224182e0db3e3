//! Checkpoints of sites (VC-7, VC-8). A checkpoint is there when its line is.

use super::runs::finish;
use super::{DbError, Store, int, next_number, parsed, uint};
use crate::ccm::api::types::Phase;
use crate::ccm::model::{Checkpoint, Run};
use crate::content::checkpoint::Key;
use crate::wire::id::{AssignmentId, JobId, Name, ObjectName};
use rusqlite::Row;

const COLUMNS: &str =
    "number, site, title, version, created_ns, files, bytes, stored_bytes, pieces, manifest, tree";

impl Store {
    /// A number for a checkpoint that is about to be made.
    pub fn next_checkpoint(&mut self) -> Result<u64, DbError> {
        let step = self.write()?;
        let number = next_number(&step, "checkpoint")?;
        step.commit()?;
        Ok(number)
    }

    /// What the checkpoint of a job is to be called.
    pub fn name_checkpoint(&mut self, job: JobId, title: &Name) -> Result<(), DbError> {
        let sql = "UPDATE jobs SET title = ?2 WHERE id = ?1";
        self.db.execute(sql, (int(job.0), title.as_str()))?;
        Ok(())
    }

    pub fn title_of_job(&self, job: JobId) -> Result<Option<Name>, DbError> {
        let sql = "SELECT title FROM jobs WHERE id = ?1";
        Ok(self.db.query_row(sql, [int(job.0)], |row| title(row, 0))?)
    }

    /// Checkpoints of a site, the newest first.
    pub fn checkpoints(&self, site: &Name) -> Result<Vec<Checkpoint>, DbError> {
        let sql = format!("SELECT {COLUMNS} FROM checkpoints WHERE site = ?1 ORDER BY number DESC");
        let mut query = self.db.prepare_cached(&sql)?;
        Ok(query.query_map([site.as_str()], read)?.collect::<Result<_, _>>()?)
    }

    pub fn checkpoint(&self, site: &Name, number: u64) -> Result<Option<Checkpoint>, DbError> {
        Ok(self.checkpoints(site)?.into_iter().find(|checkpoint| checkpoint.key.number == number))
    }

    /// All checkpoints of all sites.
    pub fn checkpoint_keys(&self) -> Result<Vec<Key>, DbError> {
        let sql = format!("SELECT {COLUMNS} FROM checkpoints ORDER BY number");
        let mut query = self.db.prepare_cached(&sql)?;
        let rows = query.query_map([], |row| Ok(read(row)?.key))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Ends a run that made a checkpoint: it is there from now on, the oldest of its site beyond `keep` are not.
    /// Returns how many those are.
    pub fn end_checkpoint(
        &mut self,
        run: &Run,
        made: &Checkpoint,
        keep: u8,
        text: &str,
        now_ns: u64,
    ) -> Result<usize, DbError> {
        let step = self.write()?;
        let sql = format!(
            "INSERT INTO checkpoints ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
        );
        step.execute(
            &sql,
            (
                int(made.key.number),
                made.site.as_str(),
                made.title.as_ref().map_or("", Name::as_str),
                int(made.version.0),
                int(made.created_ns),
                int(made.files),
                int(made.bytes),
                int(made.stored_bytes),
                int(made.key.pieces),
                ObjectName(made.key.hash).to_string(),
                ObjectName(made.tree).to_string(),
            ),
        )?;
        let sql = "DELETE FROM checkpoints WHERE site = ?1 AND number NOT IN \
                   (SELECT number FROM checkpoints WHERE site = ?1 ORDER BY number DESC LIMIT ?2)";
        let dropped = step.execute(sql, (made.site.as_str(), keep))?;
        finish(&step, run.id, Phase::Done, text, now_ns)?;
        step.commit()?;
        Ok(dropped)
    }
}

fn title(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Name>> {
    let text: String = row.get(column)?;
    if text.is_empty() { Ok(None) } else { parsed(row, column).map(Some) }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Checkpoint> {
    Ok(Checkpoint {
        key: Key { number: uint(row, 0)?, hash: parsed::<ObjectName>(row, 9)?.0, pieces: uint(row, 8)? },
        site: parsed(row, 1)?,
        title: title(row, 2)?,
        version: AssignmentId(uint(row, 3)?),
        created_ns: uint(row, 4)?,
        files: uint(row, 5)?,
        bytes: uint(row, 6)?,
        stored_bytes: uint(row, 7)?,
        tree: parsed::<ObjectName>(row, 10)?.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::model::JobKind;
    use crate::ccm::testing::{T0, name, store};
    use std::path::Path;

    fn checkpoint(number: u64, site: &str) -> Checkpoint {
        Checkpoint {
            key: Key { number, hash: [number as u8; 32], pieces: 70 },
            site: name(site),
            title: (number == 2).then(|| name("before-the-move")),
            version: AssignmentId(7),
            created_ns: T0,
            files: 3,
            bytes: u64::MAX,
            stored_bytes: 9,
            tree: [0xaa; 32],
        }
    }

    #[test]
    fn the_newest_stay_as_many_as_the_policy_says_and_other_sites_are_left_alone() {
        let (_dir, mut store) = store();
        for site in ["www", "shop"] {
            store.add_site(&name(site), Path::new("/srv"), T0).unwrap();
        }
        let make = |store: &mut Store, site: &str, keep| {
            let run = store.add_job(JobKind::Checkpoint, &name(site), T0).unwrap();
            let number = store.next_checkpoint().unwrap();
            let dropped = store.end_checkpoint(&run, &checkpoint(number, site), keep, "made", T0).unwrap();
            assert_eq!(store.run(run.id).unwrap().unwrap().phase, Phase::Done);
            dropped
        };
        assert_eq!((1..=3).map(|_| make(&mut store, "www", 3)).collect::<Vec<_>>(), [0, 0, 0]);
        assert_eq!(make(&mut store, "shop", 1), 0);
        assert_eq!(make(&mut store, "www", 2), 2);
        let numbers = |store: &Store| -> Vec<u64> {
            store.checkpoint_keys().unwrap().iter().map(|key| key.number).collect()
        };
        assert_eq!(numbers(&store), [3, 4, 5]);
        assert_eq!(store.checkpoints(&name("www")).unwrap(), [checkpoint(5, "www"), checkpoint(3, "www")]);
        assert_eq!(store.checkpoint(&name("www"), 4).unwrap(), None, "it is another site's");
        assert_eq!(store.checkpoint(&name("shop"), 4).unwrap(), Some(checkpoint(4, "shop")));
    }

    #[test]
    fn the_job_has_the_name_until_the_checkpoint_has_it() {
        let (_dir, mut store) = store();
        store.add_site(&name("www"), Path::new("/srv"), T0).unwrap();
        let run = store.add_job(JobKind::Checkpoint, &name("www"), T0).unwrap();
        assert_eq!(store.title_of_job(run.job).unwrap(), None);
        store.name_checkpoint(run.job, &name("before-the-move")).unwrap();
        assert_eq!(store.title_of_job(run.job).unwrap(), Some(name("before-the-move")));
        store.end_checkpoint(&run, &checkpoint(2, "www"), 5, "made", T0).unwrap();
        assert_eq!(store.checkpoints(&name("www")).unwrap(), [checkpoint(2, "www")]);
        let back = store.add_job(JobKind::Restore { checkpoint: 2 }, &name("www"), T0).unwrap();
        assert_eq!(back.kind, JobKind::Restore { checkpoint: 2 });
    }
}
