use super::*;
use crate::ccm::testing::{self, controller, name};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use tar::{Builder, Header};

struct Bench {
    _dir: tempfile::TempDir,
    controller: Arc<Controller>,
    staging: PathBuf,
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

const FILES: &[(&str, &str)] = &[("index.html", "new"), ("docs/a.html", "a")];

impl Bench {
    fn new() -> Self {
        let (dir, controller) = controller(0);
        let staging = dir.path().join("staging");
        fs::create_dir(&staging).unwrap();
        fs::set_permissions(&staging, fs::Permissions::from_mode(0o750)).unwrap();
        fs::write(staging.join("index.html"), "old").unwrap();
        fs::write(staging.join("kept"), "old").unwrap();
        controller.store_blocking(|store| store.add_site(&name("www"), &staging, 1)).unwrap();
        Self { _dir: dir, controller, staging }
    }

    fn begin(&self, kind: Kind, into: Option<&str>, bytes: Option<u64>) -> Result<Upload, UploadError> {
        let into = into.map(|into| RelPath::new(into.as_bytes()).unwrap());
        begin(&self.controller, &name("www"), Announced { kind, into, bytes, hash: None, print: "p".into() })
    }

    fn send(&self, upload: &Upload, offset: u64, bytes: &[u8]) -> Result<u64, UploadError> {
        let mut piece = piece::open(&self.controller, &name("www"), upload.id, offset)?;
        piece.write(bytes).map_err(|error| give_up(&self.controller, upload, error).unwrap())?;
        Ok(piece.end(&self.controller)?.1)
    }

    /// An upload of which all bytes are there.
    fn sent(&self, kind: Kind, into: Option<&str>, bytes: &[u8]) -> Upload {
        let upload = self.begin(kind, into, Some(bytes.len() as u64)).unwrap();
        self.send(&upload, 0, bytes).unwrap();
        upload
    }

    fn finish(&self, upload: &Upload) -> Result<Upload, UploadError> {
        finish(&self.controller, &name("www"), upload.id, None)
    }

    fn state(&self, upload: &Upload) -> Upload {
        find(&self.controller, &name("www"), upload.id).unwrap().0
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.staging.join(path)).unwrap_or_default()
    }

    #[track_caller]
    fn assert_nothing_is_left(&self) {
        let left: Vec<_> =
            fs::read_dir(self.staging.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".farmcast-upload")), "{left:?}");
    }

    #[track_caller]
    fn assert_untouched(&self) {
        assert_eq!((self.read("index.html"), self.read("kept")), ("old".to_owned(), "old".to_owned()));
        assert_eq!(fs::read_dir(&self.staging).unwrap().count(), 2);
    }
}

#[test]
fn an_upload_comes_in_pieces_goes_on_where_it_broke_and_replaces_staging_at_once() {
    let bench = Bench::new();
    let bytes = archive(FILES);
    let upload = bench.begin(Kind::Replace, None, Some(bytes.len() as u64)).unwrap();
    assert_eq!(bench.send(&upload, 0, &bytes[..700]).unwrap(), 700);
    let wrong = bench.send(&upload, 800, &bytes[800..]).unwrap_err().to_string();
    assert!(wrong.contains("holds 700 bytes: go on from there"), "{wrong}");
    assert!(matches!(bench.finish(&upload), Err(UploadError::Short { have: 700, .. })));
    bench.assert_untouched();
    // As after a restart: what is there is asked of the disk.
    assert_eq!(find(&bench.controller, &name("www"), upload.id).unwrap().1, 700);
    bench.send(&upload, 700, &bytes[700..]).unwrap();
    let done = bench.finish(&upload).unwrap();
    assert_eq!((done.state, done.landed), (State::Done, Landed { files: 2, bytes: 4 }));
    assert_eq!((bench.read("index.html"), bench.read("docs/a.html")), ("new".to_owned(), "a".to_owned()));
    assert!(!bench.staging.join("kept").exists(), "it is all of staging");
    assert_eq!(fs::metadata(&bench.staging).unwrap().mode() & 0o777, 0o750);
    bench.assert_nothing_is_left();
    assert_eq!(bench.finish(&upload).unwrap(), done, "a second time it says the same");
    assert!(matches!(bench.send(&upload, 0, b"x"), Err(UploadError::Over { .. })));
    let events = bench.controller.store_blocking(|store| store.events(1)).unwrap();
    assert_eq!(events[0].1, format!("upload {}: 2 files, 4 bytes: it is all of staging", upload.id));
}

#[test]
fn a_merge_and_a_file_go_beside_what_is_there() {
    let bench = Bench::new();
    let merge = bench.sent(Kind::Merge, Some("sub"), &archive(FILES));
    bench.finish(&merge).unwrap();
    assert_eq!(
        (bench.read("sub/index.html"), bench.read("index.html")),
        ("new".to_owned(), "old".to_owned())
    );
    let file = bench.sent(Kind::File, Some("sub/deep/one.txt"), b"one");
    assert_eq!(bench.finish(&file).unwrap().landed, Landed { files: 1, bytes: 3 });
    assert_eq!(
        (bench.read("sub/deep/one.txt"), bench.read("sub/docs/a.html")),
        ("one".to_owned(), "a".to_owned())
    );
    assert_eq!(fs::metadata(bench.staging.join("sub/deep/one.txt")).unwrap().mode() & 0o777, 0o644);
    let empty = bench.begin(Kind::File, Some("empty"), Some(0)).unwrap();
    bench.finish(&empty).unwrap();
    assert_eq!(fs::metadata(bench.staging.join("empty")).unwrap().len(), 0);
    // What stands in the way is named, and nothing has moved.
    let clash = bench.sent(Kind::Merge, None, &archive(&[("a", "a"), ("kept/x", "x")]));
    let error = bench.finish(&clash).unwrap_err().to_string();
    assert!(error.starts_with("kept is a file in staging and a directory"), "{error}");
    assert!(!bench.staging.join("a").exists());
    cancel(&bench.controller, &name("www"), clash.id).unwrap();
    bench.assert_nothing_is_left();
}

#[test]
fn what_is_wrong_is_refused_and_nothing_of_it_is_left() {
    let bench = Bench::new();
    let good = archive(FILES);
    let evil = archive(&[("a", "a")]).iter().map(|&byte| if byte == b'a' { b'/' } else { byte }).collect();
    for (bytes, said) in [
        (b"<html>no archive</html>".repeat(100), "no header of a tar archive"),
        (good[..good.len() - 1_100].to_vec(), "ends in the middle"),
        (evil, "header"),
    ] {
        let upload = bench.sent(Kind::Replace, None, &bytes);
        let error = bench.finish(&upload).unwrap_err().to_string();
        assert!(error.contains(said) && error.ends_with("; nothing was kept"), "{error}");
        assert_eq!(bench.state(&upload).state, State::Failed);
        assert!(matches!(bench.finish(&upload), Err(UploadError::Over { .. })));
        bench.assert_untouched();
        bench.assert_nothing_is_left();
    }
    let upload = bench.sent(Kind::Replace, None, &good);
    let error = finish(&bench.controller, &name("www"), upload.id, Some([7; 32])).unwrap_err();
    assert!(matches!(error, UploadError::Hash { .. }), "{error}");
    bench.assert_nothing_is_left();

    let long = bench.begin(Kind::Replace, None, Some(100)).unwrap();
    assert!(matches!(bench.send(&long, 0, &[0; 101]), Err(UploadError::Long(100))));
    let policy = crate::ccm::api::types::Policy {
        upload_bytes: Some(1_000),
        upload_entries: Some(1),
        ..Default::default()
    };
    bench.controller.store_blocking(|store| store.set_site_policy(&name("www"), &policy, 1)).unwrap();
    assert!(matches!(bench.begin(Kind::Replace, None, Some(1_001)), Err(UploadError::Limit(1_000))));
    let unsaid = bench.begin(Kind::Replace, None, None).unwrap();
    bench.send(&unsaid, 0, &[0; 600]).unwrap();
    assert!(matches!(bench.send(&unsaid, 600, &[0; 600]), Err(UploadError::Limit(1_000))));
    let policy = crate::ccm::api::types::Policy { upload_entries: Some(1), ..Default::default() };
    bench.controller.store_blocking(|store| store.set_site_policy(&name("www"), &policy, 1)).unwrap();
    let many = bench.sent(Kind::Replace, None, &good);
    assert!(bench.finish(&many).unwrap_err().to_string().starts_with("more than 1 entries"));
    assert!(matches!(bench.begin(Kind::Replace, None, Some(1 << 35)), Err(UploadError::Full(_)) | Ok(_)));
    let huge = make_room_for(&bench.staging, u64::MAX);
    assert!(matches!(huge, Err(UploadError::Full(_))));
    bench.assert_untouched();
}

fn make_room_for(staging: &Path, bytes: u64) -> Result<(), UploadError> {
    place::make_room(staging, bytes)
}

#[test]
fn a_staging_directory_beside_which_there_is_no_place_is_refused_with_the_reason() {
    let bench = Bench::new();
    let add = |site: &str, staging: &Path| {
        fs::create_dir_all(staging).unwrap();
        bench.controller.store_blocking(|store| store.add_site(&name(site), staging, 1)).unwrap();
    };
    add("inner", &bench.staging.join("inner"));
    add("shm", Path::new("/dev/shm"));
    let begin_of = |site: &str| {
        let announced =
            Announced { kind: Kind::Replace, into: None, bytes: None, hash: None, print: String::new() };
        begin(&bench.controller, &name(site), announced).unwrap_err().to_string()
    };
    assert!(begin_of("inner").contains("lies in the staging of site www"), "{}", begin_of("inner"));
    assert!(begin_of("shm").contains("is a mount point"), "{}", begin_of("shm"));
    assert!(begin_of("none").contains("there is no site none"));
    for _ in 0..OPEN_MAX {
        bench.begin(Kind::Replace, None, None).unwrap();
    }
    assert!(matches!(bench.begin(Kind::Replace, None, None), Err(UploadError::Many(_))));
}

/// A controller that is killed anywhere in `finish` has, after its next start, done all of it or nothing.
#[test]
fn an_upload_that_was_interrupted_while_it_landed_is_landed_by_the_next_start() {
    for step in 0..5 {
        let bench = Bench::new();
        let upload = bench.sent(Kind::Replace, None, &archive(FILES));
        let place = Place::of(&upload);
        if step > 0 {
            prepare(&bench.controller, &upload, None).unwrap();
        }
        let upload = bench.state(&upload);
        if step > 1 {
            place.exchange(upload.inode).unwrap();
        }
        if step > 2 {
            // Half of what was staging is removed.
            fs::remove_file(place.tree().join("kept")).unwrap();
        }
        if step > 3 {
            fs::remove_dir_all(place.tree()).unwrap();
        }
        recover(&bench.controller).unwrap();
        if step == 0 {
            bench.assert_untouched();
            bench.finish(&upload).unwrap();
        }
        assert_eq!(bench.state(&upload).state, State::Done, "step {step}");
        assert_eq!((bench.read("index.html"), bench.read("docs/a.html")), ("new".to_owned(), "a".to_owned()));
        assert!(!bench.staging.join("kept").exists(), "step {step}");
        bench.assert_nothing_is_left();
        // Nothing is done twice to what came since.
        fs::write(bench.staging.join("index.html"), "later").unwrap();
        recover(&bench.controller).unwrap();
        bench.finish(&upload).unwrap();
        assert_eq!(bench.read("index.html"), "later");
    }
}

#[test]
fn a_merge_that_was_interrupted_between_two_files_goes_on_and_one_that_cannot_says_so() {
    let bench = Bench::new();
    let upload = bench.sent(Kind::Merge, None, &archive(FILES));
    prepare(&bench.controller, &upload, None).unwrap();
    fs::rename(Place::of(&upload).tree().join("index.html"), bench.staging.join("index.html")).unwrap();
    recover(&bench.controller).unwrap();
    assert_eq!(bench.state(&upload).state, State::Done);
    assert_eq!((bench.read("index.html"), bench.read("docs/a.html")), ("new".to_owned(), "a".to_owned()));
    assert_eq!(bench.read("kept"), "old");
    bench.assert_nothing_is_left();

    let upload = bench.sent(Kind::Merge, None, &archive(&[("late/a", "a")]));
    prepare(&bench.controller, &upload, None).unwrap();
    fs::write(bench.staging.join("late"), "in the way").unwrap();
    recover(&bench.controller).unwrap();
    let failed = bench.state(&upload);
    assert_eq!(failed.state, State::Failed);
    assert!(failed.text.starts_with("interrupted, and then: late is a file in staging"), "{}", failed.text);
    bench.assert_nothing_is_left();
}

#[test]
fn an_upload_on_which_nobody_works_for_a_day_goes_and_one_that_is_open_survives_a_start() {
    let bench = Bench::new();
    let bytes = archive(FILES);
    let upload = bench.begin(Kind::Replace, None, None).unwrap();
    bench.send(&upload, 0, &bytes[..512]).unwrap();
    let stray = bench.staging.with_file_name(".farmcast-upload.www/999");
    fs::create_dir(&stray).unwrap();
    recover(&bench.controller).unwrap();
    assert!(!stray.exists());
    assert_eq!(find(&bench.controller, &name("www"), upload.id).unwrap().1, 512);
    sweep(&bench.controller, now_ns()).unwrap();
    assert_eq!(bench.state(&upload).state, State::Open);
    let working = bench.controller.uploads.work_on(upload.id).unwrap();
    sweep(&bench.controller, now_ns() + 2 * ABANDONED_NS).unwrap();
    assert_eq!(bench.state(&upload).state, State::Open, "somebody works on it");
    assert!(matches!(bench.controller.uploads.work_on(upload.id), Err(UploadError::Busy(_))));
    drop(working);
    sweep(&bench.controller, now_ns() + 2 * ABANDONED_NS).unwrap();
    assert_eq!(bench.state(&upload).state, State::Failed);
    bench.assert_nothing_is_left();
    sweep(&bench.controller, now_ns() + 2 * ABANDONED_NS).unwrap();
    assert!(matches!(find(&bench.controller, &name("www"), upload.id), Err(UploadError::Unknown { .. })));
}

/// A publish that reads staging while an upload lands reads what was there before.
#[test]
fn an_upload_waits_for_whoever_reads_staging() {
    let bench = Bench::new();
    let upload = bench.sent(Kind::Replace, None, &archive(FILES));
    std::thread::scope(|scope| {
        let gates = &bench.controller.uploads.gates;
        let landing = gates.reading(&bench.staging, || {
            let landing = scope.spawn(|| bench.finish(&upload).map(drop));
            let deadline = now_ns() + 20 * NS_PER_S;
            while bench.state(&upload).state != State::Landing && now_ns() < deadline {
                std::thread::yield_now();
            }
            bench.assert_untouched();
            landing
        });
        landing.join().unwrap().unwrap();
    });
    assert_eq!(bench.read("index.html"), "new");
}

/// The same by HTTP, as any client speaks it.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_begun_sent_asked_for_finished_and_cancelled_by_http() {
    let bench = Bench::new();
    let (listener, addr) = testing::free_port().await;
    let serving = testing::listen(crate::ccm::api::operator(Arc::clone(&bench.controller)), listener).await;
    let ask = async |head: &str, body: &[u8]| testing::http(addr, head, body).await;
    let base = "/v1/sites/www/uploads";
    let bytes = archive(FILES);
    let new = format!("{{\"kind\":\"replace\",\"bytes\":{}}}", bytes.len());
    let begun = ask(&format!("POST {base}"), new.as_bytes()).await;
    let id = begun.json::<crate::ccm::api::types::Upload>().id;
    assert_eq!(begun.status, 201);
    let at = format!("{base}/{id}");
    assert_eq!(ask(&format!("POST {at}/bytes?offset=0"), &bytes[..1_000]).await.status, 200);
    let head = ask(&format!("HEAD {at}"), b"").await;
    assert!(head.head.contains("upload-offset: 1000"), "{head:?}");
    let wrong = ask(&format!("POST {at}/bytes?offset=0"), &bytes[..1_000]).await;
    assert_eq!(wrong.status, 409);
    assert!(String::from_utf8_lossy(&wrong.body).contains("holds 1000 bytes"), "{wrong:?}");
    // A body that breaks off: what came of it stays.
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let request = format!("POST {at}/bytes?offset=1000 HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\n\r\n");
    use tokio::io::AsyncWriteExt;
    stream.write_all(&[request.as_bytes(), &bytes[1_000..1_400]].concat()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(stream);
    let mut have = 1_000;
    for _ in 0..400 {
        have = ask(&format!("GET {at}"), b"").await.json::<crate::ccm::api::types::Upload>().received;
        if have == 1_400 && bench.controller.uploads.work_on(id).is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(have, 1_400);
    assert_eq!(ask(&format!("POST {at}/bytes?offset=1400"), &bytes[1_400..]).await.status, 200);
    let hash = blake3::hash(&bytes).to_hex();
    let done = ask(&format!("POST {at}/finish"), format!("{{\"blake3\":\"{hash}\"}}").as_bytes()).await;
    assert_eq!((done.status, done.json::<crate::ccm::api::types::Upload>().state.as_str()), (200, "done"));

    let put = ask(&format!("PUT {base}/file?path=docs/b.html"), b"<b>").await;
    assert_eq!((put.status, bench.read("docs/b.html").as_str()), (200, "<b>"));
    for (query, body, status) in [
        ("path=../up", &b"x"[..], 400),
        ("path=", b"x", 400),
        ("path=index.html/x", b"x", 409),
        (&format!("path=a&blake3={}", "0".repeat(64)), b"x", 400),
    ] {
        let refused = ask(&format!("PUT {base}/file?{query}"), body).await;
        assert_eq!(refused.status, status, "{query}: {refused:?}");
    }
    bench.assert_nothing_is_left();
    for (head, body, status) in [
        (format!("POST {base}"), &b"{\"kind\":\"swap\"}"[..], 400),
        (format!("POST {base}"), b"{\"kind\":\"replace\",\"into\":\"a\"}", 400),
        (format!("POST {base}"), b"{\"kind\":\"merge\",\"into\":\"/a\"}", 400),
        (format!("POST {base}"), b"{\"kind\":\"merge\",\"unknown\":1}", 422),
        (format!("POST {base}"), b"{\"kind\":\"merge\",\"blake3\":\"12\"}", 400),
        ("POST /v1/sites/none/uploads".to_owned(), b"{\"kind\":\"replace\"}", 404),
        (format!("GET {base}/99"), b"", 404),
        (format!("GET {base}/x"), b"", 404),
        (format!("DELETE {at}"), b"", 409),
    ] {
        let refused = ask(&head, body).await;
        let expected = [status, if status == 422 { 400 } else { status }];
        assert!(expected.contains(&refused.status), "{head}: {refused:?}");
    }
    let open = ask(&format!("POST {base}"), b"{\"kind\":\"replace\"}").await;
    let open = open.json::<crate::ccm::api::types::Upload>().id;
    assert_eq!(ask(&format!("DELETE {base}/{open}"), b"").await.status, 204);
    bench.assert_nothing_is_left();
    serving.abort();
}

#[test]
fn bytes_that_were_changed_on_the_disk_are_noticed() {
    let bench = Bench::new();
    let bytes = archive(FILES);
    let hash = *blake3::hash(&bytes).as_bytes();
    let upload = bench.sent(Kind::Replace, None, &bytes);
    File::options().write(true).open(Place::of(&upload).spool()).unwrap().write_all_at(b"N", 512).unwrap();
    let error = finish(&bench.controller, &name("www"), upload.id, Some(hash)).unwrap_err();
    assert!(matches!(error, UploadError::Hash { .. }), "{error}");
    bench.assert_untouched();
}
