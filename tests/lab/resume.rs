//! kill -9 of members and of whoever leads while a session runs: everybody ends with the same bytes (LD-19). The
//! bench does it a hundred times: `cargo bench --bench lab -- resume --kills 100`.

use crate::farm::{FLOODS, Farm};
use crate::harness::{SOON, noise};
use crate::world::in_lab;
use farmcast::ccm::api::types::Phase;
use farmcast::proto::random::Rng;
use std::thread;
use std::time::Duration;

const NODES: usize = 4;
const KILLS: u32 = 6;
const CONTENT: usize = 12 << 20;
const SEED: u64 = 11;

#[test]
fn a_session_outlives_kills_of_members_and_leaders() {
    in_lab("resume::a_session_outlives_kills_of_members_and_leaders", &["tc"], || {
        let mut farm = Farm::of(&[NODES], FLOODS, "");
        for member in &farm.members {
            // 12 MiB at 32 Mbit/s: long enough for all kills.
            member.machine.sh("tc qdisc add dev eth0 root tbf rate 32mbit burst 64k limit 256k");
        }
        farm.stage("noise", noise(SEED, CONTENT));
        let job = farm.publish_later();
        let mut rng = Rng::new(SEED);
        let mut killed = 0;
        while killed < KILLS && !farm.job(job.id).phase.is_over() {
            let Some(leader) = sending(&farm) else {
                thread::sleep(Duration::from_millis(20));
                continue;
            };
            thread::sleep(Duration::from_millis(rng.below(200)));
            let at = if killed % 3 == 2 { leader } else { (leader + 1 + rng.below(3) as usize) % NODES };
            farm.members[at].node.kill();
            farm.members[at].node.start();
            farm.members[at].node.ask("ping");
            farm.wait("a node that has a leader again", SOON, || {
                let status = farm.members[at].node.ask("show status");
                let state = status[0].text("state") == Some("gl_is_me");
                (state || status[0].text("registered") == Some("true")).then_some(())
            });
            killed += 1;
        }
        let end = farm.wait_for_end(job.id);
        assert_eq!(end.phase, Phase::Done, "{end:#?}\n{}", farm.logs());
        farm.assert_live_is_staging();
        assert!(killed >= 3, "the session was over after {killed} kills");
    });
}

/// The node that leads a session now.
fn sending(farm: &Farm) -> Option<usize> {
    let sends = |at: &usize| {
        let status = farm.members[*at].node.ask("show status");
        status[0].text("sending").is_some_and(|sessions| sessions != "0")
    };
    (0..NODES).find(sends)
}
