//! Uploads into staging directories (ST-1).

use super::{DbError, Store, events, int, next_number, parsed, uint};
use crate::ccm::notify::notice::Kind;
use crate::ccm::uploads::upload::{Landed, NewUpload, State, Upload};
use crate::wire::assignment::RelPath;
use crate::wire::id::{Name, ObjectName};
use rusqlite::{OptionalExtension, Row};
use std::path::PathBuf;

const UPLOADS: &str = "SELECT id, site, kind, into_path, staging, bytes, hash, print, state, inode, files, \
     content_bytes, text, created_ns, touched_ns FROM uploads";

impl Store {
    /// Begins an upload; its number is given once.
    pub fn add_upload(&mut self, new: &NewUpload, now_ns: u64) -> Result<Upload, DbError> {
        let step = self.write()?;
        let id = next_number(&step, "upload")?;
        let sql = "INSERT INTO uploads (id, site, kind, into_path, staging, bytes, hash, print, state, created_ns, \
                   touched_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'open', ?9, ?9)";
        let into = new.into.as_ref().map_or_else(String::new, ToString::to_string);
        let staging = new.staging.to_str().expect("staging came as text from the API");
        let hash = new.hash.map_or_else(String::new, |hash| ObjectName(hash).to_string());
        step.execute(
            sql,
            (
                int(id),
                new.site.as_str(),
                new.kind.to_string(),
                into,
                staging,
                new.bytes.map(int),
                hash,
                &new.print,
                int(now_ns),
            ),
        )?;
        let upload = step.query_row(&format!("{UPLOADS} WHERE id = ?1"), [int(id)], read)?;
        step.commit()?;
        Ok(upload)
    }

    pub fn upload(&self, site: &Name, id: u64) -> Result<Option<Upload>, DbError> {
        let sql = format!("{UPLOADS} WHERE site = ?1 AND id = ?2");
        Ok(self.db.prepare_cached(&sql)?.query_row((site.as_str(), int(id)), read).optional()?)
    }

    /// Those of a site, or of all, the oldest first.
    pub fn uploads(&self, site: Option<&Name>) -> Result<Vec<Upload>, DbError> {
        let sql = format!("{UPLOADS} WHERE ?1 = '' OR site = ?1 ORDER BY id");
        let mut query = self.db.prepare_cached(&sql)?;
        Ok(query.query_map([site.map_or("", Name::as_str)], read)?.collect::<Result<_, _>>()?)
    }

    /// Somebody works on it.
    pub fn touch_upload(&mut self, id: u64, now_ns: u64) -> Result<(), DbError> {
        self.db.execute("UPDATE uploads SET touched_ns = ?2 WHERE id = ?1", (int(id), int(now_ns)))?;
        Ok(())
    }

    /// It is complete and goes to staging from here on, whatever happens to us. `inode` is that of the directory that
    /// is to be staging; 0 where it is merged.
    pub fn land_upload(&mut self, id: u64, inode: u64, landed: Landed, now_ns: u64) -> Result<(), DbError> {
        let sql = "UPDATE uploads SET state = 'landing', inode = ?2, files = ?3, content_bytes = ?4, \
                   touched_ns = ?5 WHERE id = ?1";
        self.db.execute(sql, (int(id), int(inode), int(landed.files), int(landed.bytes), int(now_ns)))?;
        Ok(())
    }

    /// How it ended, for its sender and for the history.
    pub fn end_upload(
        &mut self,
        upload: &Upload,
        state: State,
        text: &str,
        now_ns: u64,
    ) -> Result<(), DbError> {
        let step = self.write()?;
        let sql = "UPDATE uploads SET state = ?2, text = ?3, touched_ns = ?4 WHERE id = ?1";
        step.execute(sql, (int(upload.id), state.to_string(), text, int(now_ns)))?;
        let kind = if state == State::Done { Kind::UploadDone } else { Kind::UploadFailed };
        events::tell(
            &step,
            kind,
            &format!("site {}", upload.site),
            &format!("upload {}: {text}", upload.id),
            now_ns,
        )?;
        Ok(step.commit()?)
    }

    /// Removes the lines of uploads that ended before.
    pub fn forget_uploads(&mut self, before_ns: u64) -> Result<(), DbError> {
        let sql = "DELETE FROM uploads WHERE state IN ('done', 'failed') AND touched_ns < ?1";
        self.db.execute(sql, [int(before_ns)])?;
        Ok(())
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Upload> {
    let (into, hash): (String, String) = (row.get(3)?, row.get(6)?);
    Ok(Upload {
        id: uint(row, 0)?,
        site: parsed(row, 1)?,
        kind: parsed(row, 2)?,
        into: if into.is_empty() {
            None
        } else {
            Some(RelPath::new(into.as_bytes()).map_err(|error| super::unreadable(3, error))?)
        },
        staging: PathBuf::from(row.get::<_, String>(4)?),
        bytes: row.get::<_, Option<i64>>(5)?.map(i64::cast_unsigned),
        hash: if hash.is_empty() { None } else { Some(parsed::<ObjectName>(row, 6)?.0) },
        print: row.get(7)?,
        state: parsed(row, 8)?,
        inode: uint(row, 9)?,
        landed: Landed { files: uint(row, 10)?, bytes: uint(row, 11)? },
        text: row.get(12)?,
        created_ns: uint(row, 13)?,
        touched_ns: uint(row, 14)?,
    })
}
