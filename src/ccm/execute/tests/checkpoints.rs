//! Checkpoints and the way back to them (VC-7..VC-9, JT-3, JT-11).

use super::*;
use crate::ccm::checkpoints::sweep_what_was_left;
use crate::ccm::model::Checkpoint;
use std::fs;

const OLD: std::time::SystemTime = std::time::UNIX_EPOCH;

impl Farm {
    async fn publish_all(&self) -> AssignmentId {
        let run = self.end(self.publish().await).await;
        assert_eq!(run.phase, Phase::Done, "{}", run.text);
        let version = run.version().unwrap();
        wait_for_versions(self, version).await;
        version
    }

    async fn checkpoint(&self) -> Checkpoint {
        let run = self.end(self.begin(JobKind::Checkpoint).await).await;
        assert_eq!((run.phase, run.assignment, run.order), (Phase::Done, None, None), "{}", run.text);
        self.checkpoints().await.remove(0)
    }

    async fn checkpoints(&self) -> Vec<Checkpoint> {
        self.store(|store| store.checkpoints(&name("www"))).await
    }

    fn live(&self, file: &str) -> String {
        fs::read_to_string(self.dir.path().join("shadow/www/live").join(file)).unwrap()
    }

    /// A file of staging that looks as it did before, as far as a walk can tell.
    fn disguise(&self, text: &str) {
        let path = self.staging.join("index.html");
        fs::write(&path, text).unwrap();
        fs::File::options().write(true).open(path).unwrap().set_modified(OLD).unwrap();
    }

    fn chunks(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.dir.path().join("checkpoints/chunks")).unwrap();
        let folders = folders.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
        folders.flat_map(|path| fs::read_dir(path).unwrap()).map(|entry| entry.unwrap().path()).collect()
    }
}

#[tokio::test]
async fn a_checkpoint_goes_live_again_as_a_new_version_and_staging_is_left_alone() {
    let farm = Farm::new(&[(1, &[2, 3])], |_| {}).await;
    assert!(farm.end_badly(JobKind::Checkpoint).await.starts_with("nothing of www is live yet"));
    fs::write(farm.staging.join("index.html"), "good").unwrap();
    fs::write(farm.staging.join("same.html"), "in all versions").unwrap();
    let first = farm.publish_all().await;
    let made = farm.checkpoint().await;
    assert_eq!((made.key.number, made.version, made.files), (1, first, 2));
    let unchanged = farm.end(farm.begin(JobKind::Restore { checkpoint: 1 }).await).await;
    assert_eq!(unchanged.phase, Phase::Unchanged);
    assert!(unchanged.text.starts_with("checkpoint 1 equals what is live"), "{}", unchanged.text);

    fs::write(farm.staging.join("index.html"), "bad!").unwrap();
    fs::write(farm.staging.join("more.html"), "new").unwrap();
    let second = farm.publish_all().await;
    let run = farm.end(farm.begin(JobKind::Restore { checkpoint: 1 }).await).await;
    assert_eq!((run.phase, run.text.as_str()), (Phase::Done, "live on 3 nodes"));
    let assignment = run.assignment.unwrap();
    assert!(assignment.id > second);
    assert_eq!(assignment.base, Some(second), "the difference");
    let changes = run.composition.unwrap().changes;
    assert_eq!((changes.added, changes.changed, changes.removed), (0, 1, 1));
    assert_eq!(farm.live("index.html"), "good");
    assert!(!farm.dir.path().join("rebuilt/run-5").exists());
    assert_eq!(fs::read_dir(farm.dir.path().join("rebuilt")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(farm.staging.join("index.html")).unwrap(), "bad!");
    wait_for_versions(&farm, assignment.id).await;
    assert!(farm.end_badly(JobKind::Restore { checkpoint: 9 }).await.starts_with("there is no checkpoint 9"));
}

#[tokio::test]
async fn a_damaged_chunk_is_named_and_nothing_of_it_goes_live() {
    let farm = Farm::new(&[(1, &[2])], |_| {}).await;
    fs::write(farm.staging.join("index.html"), "good").unwrap();
    farm.publish_all().await;
    farm.checkpoint().await;
    fs::write(farm.staging.join("index.html"), "bad!").unwrap();
    let live = farm.publish_all().await;
    let chunk = farm.chunks().remove(0);
    fs::write(&chunk, "\0evil").unwrap();
    let text = farm.end_badly(JobKind::Restore { checkpoint: 1 }).await;
    let hash = blake3::hash(b"good").to_hex();
    assert!(
        text.starts_with(&format!(
            "checkpoint 1 cannot be brought back: index.html: chunk {hash}: not what it was"
        )),
        "{text}"
    );
    assert_eq!(farm.version().await, Some(live));
    assert_eq!(fs::read_dir(farm.dir.path().join("rebuilt")).unwrap().count(), 0);

    // A list that was exchanged for another that is whole in itself is found out as well.
    fs::write(&chunk, "\0good").unwrap();
    let manifest = farm.dir.path().join("checkpoints/manifests/1");
    fs::write(&manifest, b"fcck").unwrap();
    let text = farm.end_badly(JobKind::Restore { checkpoint: 1 }).await;
    assert!(text.contains("the list of the checkpoint is damaged"), "{text}");
}

#[tokio::test]
async fn a_checkpoint_is_of_what_was_signed_or_there_is_none() {
    let farm = Farm::new(&[(1, &[2])], |_| {}).await;
    fs::write(farm.staging.join("index.html"), "good").unwrap();
    farm.publish_all().await;
    fs::write(farm.dir.path().join("shadow/www/live/index.html"), "evil").unwrap();
    let text = farm.end_badly(JobKind::Checkpoint).await;
    assert!(text.starts_with("the shadow of www is not version 1"), "{text}");
    assert_eq!(farm.checkpoints().await, []);
    assert!(farm.chunks().is_empty(), "what it wrote is removed");
}

#[tokio::test]
async fn the_oldest_go_and_what_a_crash_left_behind_goes_at_the_next_start() {
    let mut farm = Farm::new(&[(1, &[2])], |_| {}).await;
    let policy = Policy { checkpoints: Some(2), ..Policy::default() };
    farm.store(move |store| store.set_site_policy(&name("www"), &policy, 1)).await;
    let mut made = Vec::new();
    for text in ["one", "two", "three"] {
        fs::write(farm.staging.join("index.html"), text).unwrap();
        farm.publish_all().await;
        made.push(farm.checkpoint().await);
    }
    let kept: Vec<u64> = farm.checkpoints().await.iter().map(|checkpoint| checkpoint.key.number).collect();
    assert_eq!(kept, [3, 2]);
    {
        let vault = farm.controller.checkpoints.change();
        assert_eq!(farm.chunks().len(), 2, "the first one's content went with it");
        // As if the controller was killed while it made another.
        vault.begin().unwrap();
        vault.save(&farm.staging, 4, &crate::content::pack::Policy::default()).unwrap();
        fs::write(farm.dir.path().join("checkpoints/chunks/new"), "half").unwrap();
        fs::write(farm.staging.join("more.html"), "never committed").unwrap();
        vault.save(&farm.staging, 5, &crate::content::pack::Policy::default()).unwrap();
        assert_eq!(farm.chunks().len(), 3);
    }
    farm.crash(|_| {}).await;
    let controller = Arc::clone(&farm.controller);
    tokio::task::spawn_blocking(move || sweep_what_was_left(&controller)).await.unwrap();
    let vault = farm.controller.checkpoints.read();
    assert!(!vault.is_unswept());
    assert_eq!(farm.chunks().len(), 2);
    let manifests = fs::read_dir(farm.dir.path().join("checkpoints/manifests")).unwrap().count();
    assert_eq!(manifests, 2);
    for checkpoint in &made[1..] {
        assert_eq!(vault.examine(&checkpoint.key).unwrap().flawed, 0);
    }
}

/// The hash of a file that looks as it did is remembered from one publish to the next; what another way than a publish
/// made live must not be taken for it.
#[tokio::test]
async fn a_file_in_disguise_is_published_behind_a_way_back() {
    let farm = Farm::new(&[(1, &[2])], |_| {}).await;
    farm.disguise("one");
    let first = farm.publish_all().await;
    farm.disguise("two");
    let run = farm.end(farm.begin(JobKind::Publish { checksum: true }).await).await;
    assert_eq!(run.phase, Phase::Done, "{}", run.text);
    wait_for_versions(&farm, run.version().unwrap()).await;
    // Now the hash of what looks as before is remembered.
    assert_eq!(farm.end(farm.publish().await).await.phase, Phase::Unchanged);
    let back = farm.end(farm.begin(JobKind::Rollback).await).await;
    assert_eq!((back.phase, farm.live("index.html").as_str()), (Phase::Done, "one"), "{}", back.text);
    wait_for_versions(&farm, first).await;
    let run = farm.end(farm.publish().await).await;
    assert_eq!((run.phase, farm.live("index.html").as_str()), (Phase::Done, "two"), "{}", run.text);
}
