//! Memory for trees of any size: composing, staging and comparing, each step in a process of its own that tells the
//! most it held.

use crate::peers::PUBLISHER;
use crate::trees::{age, noise, scratch};
use farmcast::content::pack::{Pack, Policy, pack};
use farmcast::content::site::Site;
use farmcast::content::walk::ALL;
use farmcast::wire::assignment::{CommandBuffer, Shape};
use farmcast::wire::id::{AssignmentId, JobId, Name, ObjectName, OrderId};
use farmcast::wire::order::Action;
use farmcast::wire::seal::SigningKey;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const KIB: u64 = 1_024;
const MIB: u64 = 1_024 * KIB;
const GIB: u64 = 1_024 * MIB;
/// Bytes of each file where their number is given.
const FILE_LEN: u64 = 600;
/// By so many bytes the content of a file lies behind that of the one before.
const STEP: u64 = 16;
/// A sparse file has a page of data at the beginning of each stretch of so many bytes.
const STRETCH: u64 = 64 * KIB;
const PAGE: u64 = 4 * KIB;
/// Files that a publish changes where their number is given.
const CHANGED: u64 = 1_000;
/// How often the memory of a step is looked at, of that which is its own.
const LOOK: Duration = Duration::from_millis(5);

/// What the tree is measured by.
#[derive(Clone, Copy)]
pub enum Size {
    Gigabytes(u64),
    Files(u64),
}

pub fn run(as_json: bool, place: &Path, size: Size) {
    let scratch = scratch(place);
    let scratch = scratch.path();
    let staging = scratch.join("staging");
    let tell = |step: &str, told: Value| tell(as_json, size, step, told);
    match size {
        Size::Gigabytes(gigabytes) => {
            grow_bytes(&staging, gigabytes);
            tell("compose all", child(scratch, "compose", 1));
            tell("stage all", child(scratch, "stage", 1));
        }
        Size::Files(files) => {
            grow_files(&staging, files);
            tell("compose all", child(scratch, "compose", 1));
            tell("stage all", child(scratch, "stage", 1));
            tell("compare", child(scratch, "compose", 2));
            change(&staging, files);
            tell("compose changes", child(scratch, "compose", 2));
            tell("stage changes", child(scratch, "stage", 2));
            // From now on every file of live has another name, in the release that is kept.
            tell("compare behind a publish", child(scratch, "compose", 3));
        }
    }
}

/// A quarter of the bytes in files of 1 GiB, a quarter of 64 MiB, seven sixteenths of 1 MiB, all of them sparse; and a
/// sixteenth in files of 16 KiB without holes.
fn grow_bytes(root: &Path, gigabytes: u64) {
    let pool = noise(1, 64 * MIB);
    let all = gigabytes * GIB;
    for (kind, len, share) in
        [("disk", GIB, all / 4), ("film", 64 * MIB, all / 4), ("image", MIB, all / 16 * 7)]
    {
        for number in 0..share / len {
            let path = directory(root, kind, number).join(format!("{kind}-{number}.dat"));
            let file = File::create(&path).expect("the place has room");
            file.set_len(len).expect("the place has room");
            for stretch in 0..len / STRETCH {
                // Other content in each stretch of each file.
                let from = ((number * 1_021 + stretch) * PAGE + number) % (pool.len() as u64 - PAGE);
                let page = &pool[from as usize..][..PAGE as usize];
                file.write_all_at(page, stretch * STRETCH).expect("the place has room");
            }
            age(&path, 0);
        }
    }
    write_files(root, "page", all / 16 / (16 * KIB), 16 * KIB, &pool);
}

fn grow_files(root: &Path, files: u64) {
    write_files(root, "page", files, FILE_LEN, &noise(1, files * STEP + FILE_LEN));
}

fn write_files(root: &Path, kind: &str, files: u64, len: u64, pool: &[u8]) {
    for number in 0..files {
        let path = directory(root, kind, number).join(format!("{kind}-{number:07}.html"));
        let from = number * STEP % (pool.len() as u64 - len + 1);
        fs::write(&path, &pool[from as usize..][..len as usize]).expect("the place has room");
        age(&path, 0);
    }
}

/// A directory for a thousand files, made with the first of them.
fn directory(root: &Path, kind: &str, number: u64) -> PathBuf {
    let dir = root.join(format!("{kind}/{:03}", number / 1_000));
    if number.is_multiple_of(1_000) {
        fs::create_dir_all(&dir).expect("the place is ours");
    }
    dir
}

/// Other bytes in files that lie at even distances.
fn change(root: &Path, files: u64) {
    let fresh = noise(2, CHANGED * FILE_LEN);
    for (at, bytes) in (0..).zip(fresh.chunks(FILE_LEN as usize)) {
        let number = at * files / CHANGED;
        let path = root.join(format!("page/{:03}/page-{number:07}.html", number / 1_000));
        fs::write(&path, bytes).expect("the place has room");
        age(&path, 1);
    }
}

/// Runs one step in a process of its own.
fn child(scratch: &Path, step: &str, number: u64) -> Value {
    let own = std::env::current_exe().expect("this program has a path");
    let output = Command::new(own)
        .args(["large-step", step, &number.to_string()])
        .arg(scratch)
        .output()
        .expect("this program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the child tells what it measured")
}

/// What the child does.
pub fn step_here(step: &str, number: u64, scratch: &Path) {
    let ended = AtomicBool::new(false);
    let most = AtomicU64::new(0);
    let mut told = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                most.fetch_max(memory("RssAnon:"), Ordering::Relaxed);
                std::thread::sleep(LOOK);
            }
        });
        let told = match step {
            "compose" => compose(number, scratch),
            "stage" => stage(number, scratch),
            other => panic!("no step {other}"),
        };
        ended.store(true, Ordering::Relaxed);
        told
    });
    told["peak_bytes"] = json!(memory("VmHWM:"));
    told["peak_anon_bytes"] = json!(most.into_inner());
    println!("{told}");
}

/// As the controller composes: against the live tree of a shadow, with its inventory and the cache of hashes.
fn compose(number: u64, scratch: &Path) -> Value {
    let site = scratch.join("site");
    let base = (number > 1).then_some(AssignmentId(number - 1));
    let origins = base.map(|base| site.join(".farmcast/inventory").join(base.0.to_string()));
    let out = scratch.join("assignment");
    let start = Instant::now();
    let packed = pack(&Pack {
        staging: &scratch.join("staging"),
        picks: ALL,
        shadow: &site.join("live"),
        base,
        assignment: AssignmentId(number),
        job: JobId(1),
        site: Name::new("bench").expect("a name"),
        issued: 1_900_000_000,
        pass_tick: &|_| {},
        policy: &Policy::default(),
        out: &out,
        checksum: false,
        origins: origins.as_deref(),
        known: None,
        cache: Some(&scratch.join("hashes")),
        order: None,
        sealing: None,
        publisher: &SigningKey::from_seed(PUBLISHER),
    })
    .expect("the trees can be read");
    let seconds = start.elapsed().as_secs_f64();
    let mut told = json!({
        "seconds": seconds,
        "tree_files": packed.tree.files,
        "tree_bytes": packed.tree.bytes,
        "changed_files": packed.changes.added + packed.changes.changed,
    });
    if let Some(shape) = packed.shape {
        told["command_bytes"] = json!(shape.command_len);
        told["data_bytes"] = json!(shape.data_len);
        told["leaves"] = json!(shape.leaves());
        let text = format!("{} {} {}", shape.name, shape.command_len, shape.data_len);
        fs::write(scratch.join("shape"), text).expect("the place has room");
    }
    told
}

/// As the applier stages; what is staged goes live behind the measured time.
fn stage(number: u64, scratch: &Path) -> Value {
    let shape = shape(&fs::read_to_string(scratch.join("shape")).expect("it was composed"));
    let mut site = match number {
        1 => {
            fs::create_dir(scratch.join("site")).expect("the place is ours");
            Site::open(&scratch.join("site"))
        }
        _ => Site::open(&scratch.join("site")),
    }
    .expect("the place is ours");
    let start = Instant::now();
    let data = File::open(scratch.join("assignment")).expect("it was composed");
    let mut bytes = vec![0; shape.command_len as usize];
    data.read_exact_at(&mut bytes, shape.command_offset()).expect("it is whole");
    let publisher = SigningKey::from_seed(PUBLISHER).public();
    let buffer = CommandBuffer::open_owned(&shape, bytes, &publisher).expect("it was signed");
    site.stage(&buffer, &data).expect("it is staged");
    let seconds = start.elapsed().as_secs_f64();
    let action = Action::Commit { assignment: AssignmentId(number) };
    site.carry_out(OrderId(number), action, || 0).expect("it goes live");
    json!({ "seconds": seconds, "command_bytes": shape.command_len, "data_bytes": shape.data_len,
            "leaves": shape.leaves() })
}

fn shape(text: &str) -> Shape {
    let mut words = text.split(' ');
    let mut word = || words.next().expect("three words were written");
    let name: ObjectName = word().parse().expect("a name was written");
    let mut number = || word().parse().expect("a number was written");
    Shape { name, command_len: number(), data_len: number() }
}

/// A line of this process's status, in bytes.
fn memory(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a process has a status");
    let found = status.lines().find_map(|text| text.strip_prefix(line)).expect("the kernel tells it");
    found.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("in KiB") * KIB
}

fn tell(as_json: bool, size: Size, step: &str, told: Value) {
    let (name, count) = match size {
        Size::Gigabytes(count) => ("gigabytes", count),
        Size::Files(count) => ("files", count),
    };
    if as_json {
        let mut row = json!({ "scenario": "large", name: count, "step": step });
        let fields = row.as_object_mut().expect("it is one");
        fields.extend(told.as_object().expect("it is one").clone());
        println!("{row}");
        return;
    }
    let mib = |field: &str| told[field].as_u64().unwrap_or(0) as f64 / MIB as f64;
    println!(
        "large {name} {count} {step:<24} {:>8.2} s  peak {:>7.1} MiB, own {:>7.1}, commands {:>6.1}, data {:>8.1}",
        told["seconds"].as_f64().unwrap_or(0.0),
        mib("peak_bytes"),
        mib("peak_anon_bytes"),
        mib("command_bytes"),
        mib("data_bytes"),
    );
}
