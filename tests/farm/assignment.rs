//! What an operator sees of an assignment's file: that it is whole, or the first thing wrong with it (AS-1).

use crate::harness::{Farm, SOON, Said, farmcast, noise, run};
use farmcast::wire::assignment::{Coding, Command, CommandBuffer, Header, Item, Kind, RelPath};
use farmcast::wire::id::{AssignmentId, JobId, Name};
use farmcast::wire::seal::{SigningKey, leaf_hash};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn assignment(words: &[&str]) -> Said {
    run(farmcast(&[&["assignment"], words].concat()), SOON)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// An assignment in a directory of its own, and its publisher's public key.
struct Object {
    dir: TempDir,
    bytes: Vec<u8>,
    key: String,
    name: String,
}

impl Object {
    /// A replicate of one file, whose size and item are as told.
    fn of(content: &[u8], size: u64, largest_file: u64) -> Self {
        let publisher = SigningKey::from_seed([9; 32]);
        let command = Command::Put {
            path: RelPath::new(b"a\x1b.html").expect("a path"),
            mode: 0o644,
            mtime: 0,
            size,
            hash: *blake3::hash(content).as_bytes(),
            item: Some(Item { offset: 0, len: size, decoded_len: size, coding: Coding::Raw }),
            extents: Vec::new(),
        };
        let header = Header {
            assignment: AssignmentId(7),
            job: JobId(8),
            kind: Kind::Replicate,
            part: None,
            site: Name::new("www").expect("a name"),
            base: None,
            result: [0; 32],
            issued: 1,
            command_count: 0,
            command_len: 0,
            data_len: content.len() as u64,
            space: 1,
            files: 1,
            largest_file,
            order: None,
            salt: None,
        };
        let mut commands = farmcast::wire::Encoder::new();
        command.encode(&mut commands);
        let leaves: Vec<_> =
            content.chunks(256 * 1024).zip(0..).map(|(leaf, index)| leaf_hash(index, leaf)).collect();
        let (shape, buffer) = CommandBuffer::sign(header, &commands.finish(), 1, &leaves, &publisher);
        let mut bytes = content.to_vec();
        bytes.resize(usize::try_from(shape.command_offset()).expect("it is small"), 0);
        bytes.extend(buffer);
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self { dir, bytes, key: publisher.public().to_hex(), name: format!("{}.asg", shape.name) }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path
    }

    /// What `verify` says of these bytes under another name than the object's.
    fn verify(&self, bytes: &[u8]) -> Said {
        assignment(&["verify", text(&self.write("copy", bytes)), "--key", &self.key])
    }
}

#[test]
fn what_a_controller_composed_and_a_node_received_is_whole() {
    let farm = Farm::of(1);
    farm.stage("index.html", "<p>hello</p>".repeat(100));
    farm.stage("noise.bin", noise(1, 600_000));
    farm.publish_well();
    let object = |dir: &Path| {
        let files = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
        files.into_iter().find(|path| path.extension().is_some_and(|end| end == "asg")).expect("an object")
    };
    let composed = object(&PathBuf::from(farm.path("ccm/objects")));
    let said = assignment(&["verify", text(&composed)]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let proof: Value = assignment(&["verify", text(&composed), "--json"]).json();
    let key = proof["signer"].as_str().expect("a key");
    assert!(said.stdout.contains("is whole: ") && said.stdout.contains(key), "{said:?}");

    let received = object(&farm.nodes[0].state().join("spool"));
    let said = assignment(&["verify", text(&received)]);
    said.assert_refused(2, &["--key"]);
    let said = assignment(&["verify", text(&received), "--key", key]);
    assert_eq!(said.code, Some(0), "{said:?}");

    let said = assignment(&["inspect", text(&received)]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for part in
        ["(replicate) of site www", "not checked", " put       600000  noise.bin", "index.html", "COMMAND"]
    {
        assert!(said.stdout.contains(part), "{part:?} is not in {said:?}");
    }
    let said = assignment(&["inspect", text(&received), "--key", key, "--json"]);
    let lines: Vec<Value> =
        said.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&lines[0]["site"], &lines[0]["signer"]), (&"www".into(), &key.into()));
    assert_eq!(lines.last().expect("totals")["totals"]["put"]["commands"], 2);
}

#[test]
fn flipped_bytes_are_found_wherever_they_are() {
    let object = Object::of(&noise(2, 300_000), 300_000, 300_000);
    let path = object.write(&object.name, &object.bytes);
    let said = assignment(&["verify", text(&path), "--key", &object.key]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let command_offset = 303_104;
    let end = object.bytes.len();
    let cases = [
        (5, "leaf 0 of its data, 262144 bytes from byte 0 on"),
        (299_999, "leaf 1 of its data, 37856 bytes from byte 262144 on"),
        (command_offset, "no command buffer"),
        (command_offset + 60, "trailer hash does not verify"),
        (end - 150, "trailer hash does not verify"),
        (end - 90, "trailer hash does not verify"),
        (end - 1, "its signature is not that of the publisher's key"),
    ];
    for (at, expected) in cases {
        let mut bytes = object.bytes.clone();
        bytes[at] ^= 0x10;
        object.verify(&bytes).assert_refused(1, &["copy: ", expected]);
    }
}

#[test]
fn cut_files_wrong_keys_and_wrong_names_are_told_apart() {
    let object = Object::of(b"hello", 5, 5);
    let whole = object.bytes.len();
    object
        .verify(&object.bytes[..whole - 1])
        .assert_refused(1, &[&format!("cut: {} bytes of {whole}", whole - 1)]);
    object.verify(&object.bytes[..4_096]).assert_refused(1, &["no command buffer"]);
    object.verify(&[]).assert_refused(1, &["no command buffer"]);
    object.verify(&[&object.bytes[..], b"more"].concat()).assert_refused(1, &["4 bytes follow its end"]);
    object.verify(&noise(3, 3_000_000)).assert_refused(1, &["no command buffer"]);
    // An assignment as content of something longer is not taken for the whole.
    object
        .verify(&[&object.bytes[..], &noise(3, 9_000)].concat())
        .assert_refused(1, &["bytes follow its end"]);

    let path = object.write(&object.name, &object.bytes);
    let stranger = SigningKey::from_seed([3; 32]).public().to_hex();
    for command in ["verify", "inspect"] {
        let said = assignment(&[command, text(&path), "--key", &stranger]);
        said.assert_refused(1, &["its signature is not that of the publisher's key of --key"]);
    }
    let file = object.write("key", format!("{}\n", object.key).as_bytes());
    assert_eq!(assignment(&["verify", text(&path), "--key", text(&file)]).code, Some(0));
    let bad = object.write("bad", b"rubbish");
    assignment(&["verify", text(&path), "--key", text(&bad)]).assert_refused(2, &["is no key"]);
    let other = object.write(&format!("{}.asg", "ab".repeat(32)), &object.bytes);
    let said = assignment(&["inspect", text(&other)]);
    said.assert_refused(1, &["holds another object than its name says"]);
    assignment(&["inspect", "/"]).assert_refused(1, &["is no regular file"]);
    assignment(&["inspect", "/nowhere"]).assert_refused(1, &["No such file"]);
}

#[test]
fn a_signed_assignment_that_lies_is_named_and_cannot_move_the_cursor() {
    let object = Object::of(b"hello", 6, 6);
    object.verify(&object.bytes).assert_refused(1, &["command 1 is malformed: item is out of bounds"]);
    let object = Object::of(b"hello", 5, 4);
    object
        .verify(&object.bytes)
        .assert_refused(1, &["command 1, a\\x1b.html: a file of 5 bytes, the header allows 4"]);
    let said = assignment(&["inspect", text(&object.write("copy", &object.bytes))]);
    assert!(
        said.code == Some(0) && said.stdout.contains("a\\x1b.html") && !said.stdout.contains('\x1b'),
        "{said:?}"
    );
}
