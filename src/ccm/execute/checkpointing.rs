//! A run that makes a checkpoint of what is live: no assignment, no nodes (JT-11, VC-7).

use crate::ccm::api::types::Phase;
use crate::ccm::checkpoints::sweep;
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::db::{DbError, Store};
use crate::ccm::model::{Checkpoint, Run, Site};
use crate::ccm::staging::Shadow;
use crate::content::checkpoint::Saved;
use crate::content::pack::Policy;
use crate::wire::id::AssignmentId;

/// Copies the shadow and writes down how that ended. A crash leaves the checkpoint or none: what it wrote by then
/// counts only when the database knows of it, and is removed at the next start.
pub(super) fn checkpoint_run(controller: &Controller, run: &Run) -> Result<(), DbError> {
    let end = |text: String| {
        log::warn!("job {}: failed: {text}", run.job);
        controller.store_blocking(|store| store.end_run(run.id, Phase::Failed, &text, None, now_ns()))
    };
    let read = |store: &mut Store| Ok((store.site(&run.site)?, store.title_of_job(run.job)?));
    let (site, title) = controller.store_blocking(read)?;
    let Some(site) = site else { return end(format!("there is no site {}", run.site)) };
    let Some(version) = site.version else {
        return end(format!("nothing of {0} is live yet; `farmcast publish {0}`", site.name));
    };
    let number = controller.store_blocking(Store::next_checkpoint)?;
    let vault = controller.checkpoints.change();
    let cut_short = vault.is_unswept();
    let saved = vault.begin().map_err(|error| error.to_string()).and_then(|()| {
        let save = |shadow: &Shadow| vault.save(&shadow.live_path(), number, &Policy::default());
        copy(controller, &site, version, |shadow| save(shadow).map_err(|error| error.to_string()))
    });
    let saved = match saved {
        Ok(saved) => saved,
        Err(text) => {
            sweep(controller, &vault);
            return end(text);
        }
    };
    let made = Checkpoint {
        key: saved.key,
        site: site.name.clone(),
        title,
        version,
        created_ns: now_ns(),
        files: saved.tree.files,
        bytes: saved.tree.bytes,
        stored_bytes: saved.stored,
        tree: saved.tree.hash,
    };
    let text = format!(
        "checkpoint {made} of version {version}: {} files, {} bytes, {} of them new",
        made.files, made.bytes, made.stored_bytes
    );
    let keep = run.terms.rules.checkpoints;
    let dropped =
        controller.store_blocking(|store| store.end_checkpoint(run, &made, keep, &text, now_ns()))?;
    log::info!("job {}: {text}", run.job);
    if dropped > 0 || cut_short {
        sweep(controller, &vault);
    } else if let Err(error) = vault.end() {
        log::warn!("checkpoints: {error}");
    }
    Ok(())
}

/// Copies the shadow, which must be what was signed, and prove to be so.
fn copy(
    controller: &Controller,
    site: &Site,
    version: AssignmentId,
    save: impl FnOnce(&Shadow) -> Result<Saved, String>,
) -> Result<Saved, String> {
    let damaged =
        || format!("the shadow of {0} is not version {version}; `farmcast publish {0}` first", site.name);
    let mut shadow = Shadow::open(&controller.config, &site.name).map_err(|error| error.to_string())?;
    let (_, signed) = shadow.signed().filter(|(id, _)| *id == version).ok_or_else(damaged)?;
    let saved = save(&shadow)?;
    if saved.tree.hash != signed {
        shadow.doubt().map_err(|error| format!("the shadow of {}: {error}", site.name))?;
        return Err(damaged());
    }
    Ok(saved)
}
