//! Bandwidth windows over real interfaces: what the controller and a leader send is counted where it leaves.

use crate::farm::{FLOODS, Farm};
use crate::harness::{LATER, SOON, noise};
use crate::world::{Machine, in_lab};
use farmcast::ccm::api::types::{Job, Phase};
use std::time::{Duration, Instant};

const CONTENT: usize = 4 << 20;
/// Bytes per second of the first window: 4 MiB take more than four seconds on each way.
const RATE: f64 = 1_000_000.0;

/// Bytes that left a machine since its start.
fn sent(machine: &Machine) -> f64 {
    let text = machine.sh("cat /sys/class/net/eth0/statistics/tx_bytes");
    text.trim().parse().expect("a number of bytes")
}

/// What left a machine, and when.
type Samples = Vec<(Instant, f64)>;

/// Asserts that in no stretch of a second or more a machine sent more than it may: headers, answers and reports come
/// on top of content, and a sample is taken some time after its instant.
fn assert_bounded(samples: &Samples, what: &str) {
    for (at, (from, before)) in samples.iter().enumerate() {
        for (to, after) in &samples[at..] {
            let seconds = to.duration_since(*from).as_secs_f64();
            let bytes = after - before;
            assert!(
                seconds < 1.0 || bytes <= RATE * 1.15 * seconds + 300e3,
                "{what} sent {bytes:.0} bytes in {seconds:.2} s"
            );
        }
    }
}

fn bandwidth(farm: &Farm, arguments: &[&str]) {
    let said = farm.cli(&[&["bandwidth"], arguments].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
}

fn end_well(farm: &Farm, job: u64) -> Job {
    let job = farm.wait_for_end(job);
    assert_eq!(job.phase, Phase::Done, "{job:#?}\n{}", farm.logs());
    farm.assert_live_is_staging();
    job
}

#[test]
fn a_bandwidth_window_bounds_the_controller_and_leaders_and_may_come_and_go_meanwhile() {
    let name =
        "bandwidth::a_bandwidth_window_bounds_the_controller_and_leaders_and_may_come_and_go_meanwhile";
    in_lab(name, &["tc", "ethtool"], || {
        let farm = Farm::of(&[2, 2], FLOODS, "first_level = 1\n");
        farm.stage("index.html", "one");
        farm.publish_well();

        // A window that is open from the start bounds the controller, a leader that serves another, and multicast.
        bandwidth(&farm, &["add", "day", "--rate", "8mbit", "--for", "1h", "--reason", "office hours"]);
        let list = farm.cli(&["bandwidth", "list"]);
        assert!(list.stdout.contains("office hours") && list.stdout.contains("until 20"), "{list:?}");
        let blackouts = farm.cli(&["blackout", "list"]);
        assert!(blackouts.stdout.starts_with("no blackouts"), "{blackouts:?}");
        farm.stage("noise", noise(1, CONTENT));
        let plan = farm.cli(&["plan", "www"]);
        assert!(plan.stdout.contains("no more than 8 Mbit/s is sent until 20"), "{plan:?}");
        let job = farm.publish_later();
        let began = Instant::now();
        let mut samples: Vec<Samples> = vec![Vec::new(); farm.members.len() + 1];
        farm.wait("a publish through a window", LATER, || {
            let machines = farm.members.iter().map(|member| &member.machine);
            for (samples, machine) in samples.iter_mut().zip(machines.chain([farm.control()])) {
                let bytes = sent(machine);
                samples.push((Instant::now(), bytes));
            }
            let job = farm.job(job.id);
            assert!(job.phase != Phase::Distributing || job.bound.contains("(day: office hours)"), "{job:?}");
            job.phase.is_over().then_some(())
        });
        let took = began.elapsed();
        end_well(&farm, job.id);
        // From the controller, from a leader to the next, and from that one to its member.
        let least = Duration::from_secs_f64(3.0 * (CONTENT as f64 * 0.96) / RATE);
        assert!(took >= least, "{took:?} for three ways, which take {least:?}");
        for (at, samples) in samples.iter().enumerate() {
            assert_bounded(samples, &format!("machine {at}"));
        }

        // One that opens while a transfer runs slows it down; it ends when the window does.
        bandwidth(&farm, &["remove", "day"]);
        bandwidth(&farm, &["add", "slow", "--rate", "1mbit", "--site", "www", "--reason", "trial"]);
        farm.stage("noise", noise(2, CONTENT));
        let job = farm.publish_later();
        let control = sent(farm.control());
        std::thread::sleep(Duration::from_secs(3));
        let bytes = sent(farm.control()) - control;
        assert!(bytes < 1e6, "{bytes:.0} bytes at 125,000 a second");
        assert_eq!(farm.job(job.id).phase, Phase::Distributing);
        bandwidth(&farm, &["remove", "slow"]);
        let lifted = Instant::now();
        end_well(&farm, job.id);
        assert!(lifted.elapsed() < SOON, "33 s were left at that rate");
        let events = farm.cli(&["events", "--last", "50"]);
        assert!(events.stdout.contains("bounds what is sent of www to 1 Mbit/s"), "{events:?}");
    });
}
