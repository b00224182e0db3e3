//! Uploads into staging by the real programs: interrupted, killed, tricked; and what follows from them (ST-1, ST-2).

use crate::harness::{Farm, LATER, Running, SITE, SOON, noise, tree, wait_for};
use farmcast::ccm::api::types::{Phase, Schedule, Upload};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A controller with the site, and no nodes.
fn bench() -> Farm {
    let farm = Farm::with_controller();
    let said = farm.cli(&["site", "add", SITE, "--staging", &farm.path("staging")]);
    assert_eq!(said.code, Some(0), "{said:?}");
    farm.stage("old.html", "old");
    farm
}

/// A directory of content.
fn content(farm: &Farm, name: &str, large: usize) -> PathBuf {
    let dir = farm.dir.path().join(name);
    fs::create_dir_all(dir.join("docs")).expect("a directory");
    fs::write(dir.join("index.html"), name).expect("a file");
    fs::write(dir.join("docs/large.bin"), noise(7, large)).expect("a file");
    dir
}

fn uploads(farm: &Farm) -> Vec<Upload> {
    farm.cli(&["--json", "upload", SITE, "--list"]).json()
}

#[track_caller]
fn assert_nothing_is_left(farm: &Farm) {
    let left = Path::new(&farm.path("staging")).with_file_name(format!(".farmcast-upload.{SITE}"));
    wait_for("what was sent to be removed", SOON, || (!left.exists()).then_some(()));
}

/// One request on the controller's socket, as it stands here; the head and the body of the answer.
fn ask(farm: &Farm, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(farm.path("s")).expect("the controller");
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    stream.write_all(request).expect("the request is sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_directory_becomes_staging_is_merged_and_is_published_and_what_makes_no_sense_is_refused() {
    let farm = Farm::of(1);
    farm.stage("old.html", "old");
    let dir = content(&farm, "site", 1 << 20);
    let from = dir.to_str().expect("UTF-8");
    let said = farm.cli(&["upload", SITE, from, "--publish"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.contains("2 files") && said.stdout.contains("live on 1/1 nodes"), "{said:?}");
    assert_eq!(tree(&farm.staging()), tree(&dir));
    farm.assert_live_is_staging();

    let one = dir.join("index.html");
    let said = farm.cli(&["upload", SITE, one.to_str().expect("UTF-8"), "--into", "docs/deep"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(fs::read_to_string(farm.staging().join("docs/deep/index.html")).expect("it came"), "site");
    fs::write(&one, "two").expect("a file");
    assert_eq!(farm.cli(&["upload", SITE, from, "--merge", "--into", "copy"]).code, Some(0));
    assert_eq!(fs::read_to_string(farm.staging().join("copy/index.html")).expect("it came"), "two");
    assert_eq!(fs::read_to_string(farm.staging().join("index.html")).expect("it stayed"), "site");
    assert_nothing_is_left(&farm);
    assert_eq!(uploads(&farm).iter().filter(|upload| upload.state == "done").count(), 3);

    farm.cli(&["upload", "none", from]).assert_refused(5, &["there is no site none"]);
    farm.cli(&["upload", SITE, &farm.path("nothing")]).assert_refused(2, &["nothing", "No such file"]);
    farm.cli(&["upload", SITE, from, "--into", "x"]).assert_refused(2, &["--merge"]);
    std::os::unix::fs::symlink("/etc", dir.join("etc")).expect("a link");
    let before = tree(&farm.staging());
    farm.cli(&["upload", SITE, from])
        .assert_refused(2, &["etc: a symbolic link to an absolute path", "nothing was kept"]);
    assert_eq!(tree(&farm.staging()), before);
    assert_nothing_is_left(&farm);
    farm.cli(&["site", "policy", SITE, "--upload-bytes", "1000"]);
    farm.cli(&["upload", SITE, from]).assert_refused(2, &["more than 1000 bytes", "--upload-bytes"]);
}

/// A client that is killed, and a controller that is killed, while an upload is under way.
#[test]
fn what_was_cut_off_in_the_middle_goes_on_where_it_was() {
    let mut farm = bench();
    let dir = content(&farm, "site", 60 << 20);
    let (socket, from) = (farm.path("s"), dir.to_str().expect("UTF-8").to_owned());
    let words = ["--socket", &socket, "upload", SITE, &from];
    let log = farm.dir.path().join("upload.log");
    let beyond = |farm: &Farm, before: u64| {
        wait_for("a part of it", SOON, || {
            let open = uploads(farm).pop()?;
            (open.state == "done" || open.received > before).then_some(open)
        })
    };
    let mut sender = Running::start(&[], &words, &log);
    let cut = beyond(&farm, 0);
    sender.kill();
    if cut.state == "open" {
        assert_eq!(tree(&farm.staging()).len(), 1, "nothing of it is in staging yet");
    }
    // The same command goes on; meanwhile the controller is killed and comes back.
    let mut sender = Running::start(&[], &words, &log);
    beyond(&farm, cut.received);
    farm.ccm.as_mut().expect("it runs").kill();
    farm.start_ccm();
    assert!(sender.end(LATER).success(), "{}", fs::read_to_string(&log).unwrap_or_default());
    assert_eq!(tree(&farm.staging()), tree(&dir));
    assert_nothing_is_left(&farm);
    let said = fs::read_to_string(&log).expect("what it said");
    assert!(cut.state == "done" || said.contains("goes on behind the first"), "{said}");
}

/// Staging is the old tree or the new one whenever the controller is killed, and in the end the new one.
#[test]
fn a_controller_killed_while_an_upload_lands_leaves_the_old_tree_or_the_new_one() {
    let mut farm = bench();
    let dirs = [content(&farm, "one", 1 << 20), content(&farm, "two", 1 << 20)];
    for dir in &dirs {
        for number in 0..300 {
            fs::write(dir.join(format!("{number}.html")), format!("{number}")).expect("a file");
        }
    }
    let trees = dirs.each_ref().map(|dir| tree(dir));
    let socket = farm.path("s");
    assert_eq!(farm.cli(&["upload", SITE, dirs[1].to_str().expect("UTF-8")]).code, Some(0));
    for round in 0..8_u64 {
        let next = (round % 2) as usize;
        let from = dirs[next].to_str().expect("UTF-8");
        let log = farm.dir.path().join("upload.log");
        let done = uploads(&farm).len();
        let mut sender = Running::start(&[], &["--socket", &socket, "upload", SITE, from], &log);
        wait_for("its end to come near", SOON, || {
            let open = uploads(&farm).into_iter().nth(done)?;
            (open.state != "open" || Some(open.received) == open.bytes).then_some(())
        });
        std::thread::sleep(Duration::from_millis(round * 7));
        farm.ccm.as_mut().expect("it runs").kill();
        let found = tree(&farm.staging());
        assert!(trees.contains(&found), "round {round}: staging is neither tree");
        farm.start_ccm();
        assert!(sender.end(LATER).success(), "{}", fs::read_to_string(&log).unwrap_or_default());
        assert_eq!(tree(&farm.staging()), trees[next], "round {round}");
        assert_nothing_is_left(&farm);
    }
}

#[test]
fn hostile_archives_leave_nothing_anywhere() {
    let farm = bench();
    let before = tree(farm.dir.path().join("staging").as_path());
    let precious = farm.dir.path().join("precious");
    fs::write(&precious, "precious").expect("a file");
    let header = |path: &[u8], kind: u8, target: &[u8], size: u64, mode: &[u8]| {
        let mut block = [0; 512];
        block[..path.len()].copy_from_slice(path);
        block[100..100 + mode.len()].copy_from_slice(mode);
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[136..147].copy_from_slice(b"00000000000");
        block[148..156].fill(b' ');
        block[156] = kind;
        block[157..157 + target.len()].copy_from_slice(target);
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        block[154] = 0;
        block.to_vec()
    };
    let absolute = precious.to_str().expect("UTF-8").as_bytes().to_vec();
    let link = |target: &[u8]| header(b"l", b'2', target, 0, b"0000777");
    let file = |path: &[u8]| header(path, b'0', b"", 0, b"0000644");
    for (archive, said) in [
        (file(&absolute), "an absolute path"),
        (file(b"../precious"), "`..` in its path"),
        ([link(b".."), file(b"l/precious")].concat(), "a symbolic link that leads outside"),
        ([link(b"docs"), file(b"l/x")].concat(), "leads through an entry that is no directory"),
        (header(b"l", b'1', b"../precious", 0, b"0000644"), "a link to a name that is none below"),
        (header(b"dev", b'3', b"", 0, b"0000644"), "a device"),
        (header(b"su", b'0', b"", 0, b"0004755"), "set-user-ID"),
        (header(b"liar", b'0', b"", 1 << 32, b"0000644"), "ends in the middle"),
        (header(b"sparse", b'S', b"", 0, b"0000644"), "a sparse file"),
        (header(b"././@LongLink", b'L', b"", 1 << 30, b"0000644"), "a name has at most 4,095"),
    ] {
        let archive = [archive, vec![0; 1_024]].concat();
        let post = |path: &str, kind: &str, body: &[u8]| {
            let head = format!(
                "POST /v1/sites/{SITE}/uploads{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                 content-type: {kind}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            ask(&farm, &[head.as_bytes(), body].concat())
        };
        let begun = post("", "application/json", b"{\"kind\":\"replace\"}");
        let id = begun.split("\"id\":").nth(1).and_then(|rest| rest.split(',').next()).expect("a number");
        post(&format!("/{id}/bytes?offset=0"), "application/octet-stream", &archive);
        let refused = post(&format!("/{id}/finish"), "application/json", b"{}");
        assert!(refused.starts_with("HTTP/1.1 400") && refused.contains(said), "{said}: {refused}");
        assert_eq!(tree(&farm.staging()), before);
        assert_nothing_is_left(&farm);
    }
    assert_eq!(fs::read_to_string(&precious).expect("it is there"), "precious");
}

#[test]
fn a_schedule_that_waits_for_changes_publishes_what_was_uploaded_also_the_second_time() {
    let farm = Farm::of(1);
    assert_eq!(farm.cli(&["schedule", "add", "auto", SITE, "--on-change", "1"]).code, Some(0));
    let mut last = 0;
    for name in ["one", "two"] {
        let dir = content(&farm, name, 10_000);
        assert_eq!(farm.cli(&["upload", SITE, dir.to_str().expect("UTF-8")]).code, Some(0));
        let expected = tree(&dir);
        wait_for("what was uploaded to be live", LATER, || {
            farm.lives().iter().all(|live| live.tree == expected).then_some(())
        });
        let auto: Schedule = wait_for("its job", SOON, || {
            Some(farm.cli(&["--json", "schedule", "show", "auto"]).json::<Schedule>())
                .filter(|auto| auto.last_job > last)
        });
        assert_eq!(farm.wait_for_end(auto.last_job).phase, Phase::Done);
        last = auto.last_job;
    }
}
