//! An update that is larger than the largest assignment allowed becomes several (AS-13): their objects.

use super::compose::ComposeError;
use super::controller::Controller;
use super::db::DbError;
use super::model::{Assignment, Run};
use crate::content::split::Split;
use crate::wire::assignment::CommandBuffer;
use crate::wire::id::{AssignmentId, Name, ObjectName};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Puts what was composed at `out` to the objects, cut where it is larger than the run's rules allow. The last of what
/// comes back is what goes live; the others stand in the order in which they are sent.
///
/// # Errors
/// A file cannot be read or written. Nothing of it lies among the objects then.
pub fn keep(
    controller: &Controller,
    run: &Run,
    out: &Path,
    whole: Assignment,
) -> Result<Vec<Assignment>, ComposeError> {
    let objects = controller.config.objects();
    let place = |name: &ObjectName| objects.join(format!("{name}.asg"));
    let put = |from: &Path, assignment: &Assignment| {
        let object = place(&assignment.shape.name);
        std::fs::rename(from, &object).map_err(|error| ComposeError::Object { path: object, error })
    };
    let aside = |id: AssignmentId| objects.join(format!("run-{}-{id}.tmp", run.id));
    let cut = match run.terms.rules.assignment_max {
        Some(max) if whole.shape.file_len() > max => cut(controller, out, &whole, max, &aside),
        _ => Ok(Vec::new()),
    };
    let parts = cut.inspect_err(|_| forget(out))?;
    if parts.is_empty() {
        put(out, &whole)?;
        return Ok(vec![whole]);
    }
    forget(out);
    let put_all = parts.iter().try_for_each(|part| put(&aside(part.id), part));
    if let Err(error) = put_all {
        parts.iter().for_each(|part| forget(&aside(part.id)));
        remove(controller, parts.iter().map(|part| part.shape.name));
        return Err(error);
    }
    Ok(parts)
}

fn cut(
    controller: &Controller,
    out: &Path,
    whole: &Assignment,
    max: u64,
    aside: &dyn Fn(AssignmentId) -> PathBuf,
) -> Result<Vec<Assignment>, ComposeError> {
    let (keys, shape) = (&controller.keys, whole.shape);
    let failed = |error| ComposeError::Object { path: out.to_owned(), error };
    let damaged = |error| ComposeError::Split(crate::content::split::SplitError::Malformed(error));
    let file = File::open(out).map_err(failed)?;
    let mut bytes = vec![0; usize::try_from(shape.command_len).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, shape.command_offset()).map_err(failed)?;
    let mut buffer = CommandBuffer::open_owned(&shape, bytes, &keys.publisher.public()).map_err(damaged)?;
    let (site, salt) = (buffer.header.site.clone(), buffer.header.salt);
    if let Some(salt) = &salt {
        buffer.unseal(keys.content.key(&site, whole.id, salt)).map_err(damaged)?;
    }
    let split = Split {
        whole: &buffer,
        file: &file,
        max,
        out: aside,
        sealing: &|id| salt.map(|_| keys.sealing(&site, id)),
        publisher: &keys.publisher,
    };
    let parts = split.cut()?;
    Ok(parts.into_iter().map(|(id, shape)| Assignment { id, shape, ..*whole }).collect())
}

/// Removes objects that nobody will fetch.
pub fn remove(controller: &Controller, names: impl IntoIterator<Item = ObjectName>) {
    for name in names {
        forget(&controller.config.objects().join(format!("{name}.asg")));
    }
}

/// Removes the parts of a site's runs that are over, however they ended.
///
/// # Errors
/// The database's.
pub fn sweep(controller: &Controller, site: &Name) -> Result<(), DbError> {
    let old = controller.store_blocking(|store| store.take_old_parts(site))?;
    remove(controller, old);
    Ok(())
}

fn forget(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            log::warn!("{}: cannot remove: {error}", path.display());
        }
        _ => {}
    }
}
