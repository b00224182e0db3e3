//! The work of one node apart from any network: MB/s of each step that content passes through
//! (`cargo bench --bench micro`, or with words that select by name).
//!
//! Each figure is the best of several rounds of at least a fifth of a second: others on the machine make
//! a round slower, never faster.
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]

use farmcast::ccm::distribute::{Distribution, Leader, Limits, Ranking, SortKey, Standing};
use farmcast::content::pack::{Pack, Policy, pack};
use farmcast::content::site::Site;
use farmcast::content::walk::ALL;
use farmcast::proto::fec;
use farmcast::proto::receiver::{Receiver, ReceiverConfig};
use farmcast::time::Instant as Virtual;
use farmcast::wire::assignment::{CommandBuffer, Shape};
use farmcast::wire::control::Machine;
use farmcast::wire::id::{AssignmentId, JobId, ListNumber, Name, NodeId, ObjectName, RunId, SessionId};
use farmcast::wire::notify::Forwarding;
use farmcast::wire::seal::{SegmentKey, SigningKey, leaf_hash};
use farmcast::wire::session::{Announce, FrameHeader, Phase, Repair, RepairWhen};
use std::fs::{self, File};
use std::hint::black_box;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Of frames on a path of 1,500 bytes.
const PAYLOAD: usize = 1_436;
const BLOCK: usize = 256 << 10;
const ROUNDS: u32 = 5;
const ROUND: Duration = Duration::from_millis(200);

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let bench = |name: &str, body: &dyn Fn(&str)| {
        if wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())) {
            body(name);
        }
    };
    bench("fec", &|_| fec_codes());
    bench("frame tag", &frame_tags);
    bench("leaf hash", &|name| {
        let leaf = noise(3, BLOCK);
        per_bytes(name, BLOCK, || {
            black_box(leaf_hash(7, black_box(&leaf)));
        });
    });
    bench("receiver on_frame", &receiver);
    bench("pack and stage", &|_| trees());
    bench("plan", &|_| plans());
}

/// Runs `body`, which handles so many bytes, again and again; prints the best round.
fn per_bytes(name: &str, bytes: usize, mut body: impl FnMut()) {
    let best = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        let mut count = 0_u32;
        while start.elapsed() < ROUND {
            body();
            count += 1;
        }
        start.elapsed().as_secs_f64() / f64::from(count)
    });
    row(name, bytes, best.fold(f64::INFINITY, f64::min));
}

fn row(name: &str, bytes: usize, seconds: f64) {
    println!("{name:<44} {:>10.0} MB/s {:>12.1} us", bytes as f64 / seconds / 1e6, seconds * 1e6);
}

/// What this thread has used of a processor: what a machine does beside it does not count.
fn processor_time() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.expect("the clock of this thread").into()
}

/// The controller's planner for so many segments.
const SEGMENTS: u16 = 300;

/// What one question of a leader costs the controller, and one turn of its executor, where 300 leaders take part;
/// and the memory of a plan.
fn plans() {
    let leader = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let address = |port| SocketAddr::from(([10, high, low, 1], port));
        Leader {
            segment: Name::new(&format!("segment{number}")).expect("a name"),
            node: NodeId(number.into()),
            text: address(1),
            http: address(2),
            groups: ListNumber(1),
            standing: Standing {
                machine: Machine { location: format!("place{}", number % 40), ..Machine::default() },
                ..Standing::default()
            },
        }
    };
    let leaders: Vec<Leader> = (0..SEGMENTS).map(leader).collect();
    let ranking = Ranking { keys: SortKey::DEFAULT.to_vec(), ..Ranking::default() };
    let begun = || {
        let limits = Limits { first_level: 2, lease_ns: u64::MAX / 64, forward: Forwarding::Whole };
        let mut plan = Distribution::new(leaders.clone(), &ranking, limits);
        plan.start(0);
        plan
    };
    let (mut plan, mut worst) = (begun(), Duration::ZERO);
    let mut asked = 0_u32;
    let start = Instant::now();
    while !plan.is_done() {
        for number in 0..SEGMENTS {
            let node = NodeId(number.into());
            if !plan.is_waiting(node) {
                let at = processor_time();
                black_box(plan.next(node, true, 1));
                worst = worst.max(processor_time() - at);
                asked += 1;
            }
        }
    }
    let mean = start.elapsed() / asked;
    println!(
        "plan: one question, {SEGMENTS} leaders: mean of {asked} {mean:.1?}, longest {worst:.1?} of \
         processor"
    );
    let start = Instant::now();
    let mut plan = begun();
    let sorted = start.elapsed();
    let start = Instant::now();
    leaders.iter().for_each(|leader| plan.led_by(leader));
    black_box(plan.expire(1));
    println!("plan: sorting {SEGMENTS} leaders {sorted:.1?}, a turn {:.1?}", start.elapsed());
    let resident = || {
        let text = fs::read_to_string("/proc/self/statm").expect("proc is mounted");
        text.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4_096
    };
    let before = resident();
    let kept: Vec<Distribution> = (0..200).map(|_| begun()).collect();
    println!("plan: {} bytes of memory", (resident() - before) / kept.len());
}

fn fec_codes() {
    let block = noise(1, BLOCK);
    let sources = BLOCK.div_ceil(PAYLOAD) as u16;
    let mut frame = vec![0; PAYLOAD];
    // MB/s of the block that a parity frame stands for.
    per_bytes("fec: one parity frame of a block", BLOCK, || {
        fec::parity(sources, black_box(&block), &mut frame)
    });
    for lost in [1_u16, 4, 16, 64] {
        let parities: Vec<(u16, Vec<u8>)> = (sources..sources + lost)
            .map(|index| {
                let mut frame = vec![0; PAYLOAD];
                fec::parity(index, &block, &mut frame);
                (index, frame)
            })
            .collect();
        let parities: Vec<(u16, &[u8])> =
            parities.iter().map(|(index, frame)| (*index, &frame[..])).collect();
        let missing: Vec<u16> = (0..lost).map(|n| n * (sources / lost)).collect();
        let mut damaged = block.clone();
        per_bytes(&format!("fec: recover a block that lacks {lost}"), BLOCK, || {
            fec::recover(black_box(&mut damaged), PAYLOAD, &missing, &parities).expect("enough parity");
        });
        assert!(damaged == block, "the code gives back what was lost");
    }
}

fn frame_tags(name: &str) {
    let key = SegmentKey([1; 32]).frame_key(NodeId(1), SessionId(1), &[2; 16]);
    let payload = noise(2, PAYLOAD);
    per_bytes(&format!("{name}: make"), PAYLOAD, || {
        black_box(key.tag([3; 12], black_box(&payload)));
    });
    let tag = key.tag([3; 12], &payload);
    per_bytes(&format!("{name}: check"), PAYLOAD, || {
        key.check([3; 12], black_box(&payload), tag).expect("our own tag");
    });
}

fn receiver(name: &str) {
    let shape = Shape { name: ObjectName([0; 32]), command_len: 3_000, data_len: 64 << 20 };
    let any = Name::new("www").expect("a name");
    let announce = Announce {
        session: SessionId(1),
        salt: [0; 16],
        run: RunId(1),
        assignment: AssignmentId(1),
        site: any.clone(),
        group: any,
        shape,
        payload: PAYLOAD as u16,
        rate: 0,
        pass: 0,
        phase: Phase::Open,
        sent: 0,
        spread_ms: 10,
        counted: false,
        repair: Repair::Parity,
        repair_when: RepairWhen::PassEnd,
        nack_ms: 0,
    };
    per_bytes(name, shape.data_len as usize, || {
        let config = ReceiverConfig::default();
        let mut receiver = Receiver::new(Virtual::ZERO, config, &announce, 1, |_| false);
        let mut sent = 0;
        for block in 0..shape.blocks() {
            let len = shape.block(block).1;
            for index in 0..announce.source_frames(block) {
                sent += 1;
                let header = FrameHeader { session: SessionId(1), block, index, pass: 1, sent };
                let payload = PAYLOAD.min(len - usize::from(index) * PAYLOAD);
                black_box(receiver.on_frame(Virtual::ZERO, &header, payload));
            }
        }
    });
}

/// A tree of small and one of large files: composed into an assignment, and staged from it.
fn trees() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (what, files, len) in [("2,000 files of 16 KiB", 2_000, 16 << 10), ("4 files of 16 MiB", 4, 16 << 20)]
    {
        let place = dir.path().join(format!("{len}"));
        let staging = place.join("staging");
        fs::create_dir_all(&staging).expect("a directory");
        for number in 0..files {
            fs::write(staging.join(format!("{number}")), noise(number, len)).expect("a file");
        }
        pack_and_stage(what, &staging, &place, files as usize * len);
    }
}

fn pack_and_stage(what: &str, staging: &Path, place: &Path, bytes: usize) {
    let publisher = SigningKey::from_seed([1; 32]);
    let out = place.join("assignment");
    let compose = |number: u64| {
        let packed = pack(&Pack {
            staging,
            picks: ALL,
            shadow: staging,
            base: None,
            assignment: AssignmentId(number),
            job: JobId(1),
            site: Name::new("www").expect("a name"),
            issued: 1,
            pass_tick: &|_| {},
            policy: &Policy::default(),
            out: &out,
            checksum: false,
            origins: None,
            known: None,
            cache: None,
            publisher: &publisher,
        });
        packed.expect("the tree can be packed").shape.expect("a replicate is always written")
    };
    let (mut packing, mut staged) = (f64::INFINITY, f64::INFINITY);
    for round in 1..=u64::from(ROUNDS) {
        let start = Instant::now();
        let shape = compose(round);
        packing = packing.min(start.elapsed().as_secs_f64());

        let file = File::open(&out).expect("it was written");
        let mut command = vec![0; shape.command_len as usize];
        file.read_exact_at(&mut command, shape.command_offset()).expect("it is whole");
        let buffer = CommandBuffer::open(&shape, &command, &publisher.public()).expect("our own signature");
        let home = place.join(format!("site{round}"));
        fs::create_dir(&home).expect("a directory");
        let mut site = Site::open(&home).expect("a new site");
        let start = Instant::now();
        site.stage(&buffer, &file).expect("it can be staged");
        staged = staged.min(start.elapsed().as_secs_f64());
        fs::remove_dir_all(&home).expect("our own directory");
    }
    row(&format!("pack {what}"), bytes, packing);
    row(&format!("stage {what}"), bytes, staged);
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
