//! A day of a farm, told once in peace and once with a controller that is killed again and again: two sites, three
//! groups, cron jobs that get in each other's way, a node that fails, a retry, a checkpoint, a bad release, a restore,
//! a new node. Both days end alike: no job is lost, none runs twice, no number comes again.

use crate::harness::{Farm, LATER, Node, Running, Said, Tree, child_of, signal, tree, wait_for};
use farmcast::ccm::api::types::{Event, Job, Node as NodeRow, Phase, Schedule, SiteVersion};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const SITES: [&str; 2] = ["www", "shop"];
const SCHEDULES: [(&str, &str); 3] = [("often", "www"), ("too-often", "www"), ("shop-often", "shop")];

/// Kills the controller at random moments and starts it again.
struct Reaper {
    stop: Arc<AtomicBool>,
    /// It lets the controller live.
    rests: Arc<AtomicBool>,
    kills: Arc<AtomicU32>,
    thread: JoinHandle<()>,
}

impl Reaper {
    fn over(farm: &mut Farm) -> Self {
        farm.ccm = None;
        let (config, log, socket) = (farm.path("ccm/ccm.toml"), farm.path("ccm.log"), farm.path("s"));
        let (stop, kills) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let rests = Arc::new(AtomicBool::new(false));
        let (told, counted, resting) = (Arc::clone(&stop), Arc::clone(&kills), Arc::clone(&rests));
        let thread = thread::spawn(move || {
            while !told.load(Ordering::SeqCst) {
                let ccm = Running::start(&[], &["ccm", "run", "--config", &config], Path::new(&log));
                // Mostly it gets to work, sometimes it does not even get up.
                let [a, b] = farmcast::wire::seal::random::<2>();
                let lives = Duration::from_millis(100 + u64::from(u16::from_be_bytes([a, b])) % 1_300);
                let began = Instant::now();
                let spares = || began.elapsed() < lives || resting.load(Ordering::SeqCst);
                while spares() && !told.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(5));
                }
                drop(ccm);
                counted.fetch_add(1, Ordering::SeqCst);
            }
            let _ = fs::remove_file(socket);
        });
        Self { stop, rests, kills, thread }
    }

    /// A node is given up after a time in which the controller was there for it to report to.
    fn rest(&self, rests: bool) {
        self.rests.store(rests, Ordering::SeqCst);
    }

    /// Lets the controller live again. How often it was killed.
    fn end(self, farm: &mut Farm) -> u32 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the reaper ends");
        farm.start_ccm();
        self.kills.load(Ordering::SeqCst)
    }
}

/// What an operator says. Where nobody answers, nothing was begun, and it is said again; once something has begun, the
/// command line goes on by itself.
#[track_caller]
fn say(farm: &Farm, arguments: &[&str]) -> Said {
    const EX_UNAVAILABLE: i32 = 69;
    wait_for("a controller that listens", LATER, || {
        Some(farm.cli(arguments)).filter(|said| said.code != Some(EX_UNAVAILABLE))
    })
}

#[track_caller]
fn done(farm: &Farm, arguments: &[&str]) -> Said {
    let said = say(farm, arguments);
    assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}\n{}", farm.logs());
    said
}

/// A question, asked until somebody answers.
#[track_caller]
fn ask<T: serde::de::DeserializeOwned>(farm: &Farm, arguments: &[&str]) -> T {
    let words = [&["--json"], arguments].concat();
    wait_for("an answer", LATER, || {
        let said = farm.cli(&words);
        (said.code == Some(0)).then(|| said.json())
    })
}

/// What is asked of a question until it is so.
#[track_caller]
fn until<T: serde::de::DeserializeOwned>(
    farm: &Farm,
    what: &str,
    words: &[&str],
    so: impl Fn(&T) -> bool,
) -> T {
    wait_for(what, 3 * LATER, || Some(ask::<T>(farm, words)).filter(&so))
}

/// A job that somebody asked for, followed to its end.
#[track_caller]
fn job(farm: &Farm, arguments: &[&str]) -> Job {
    let job: Job = say(farm, &[&["--json"], arguments].concat()).json();
    assert!(job.phase.is_over(), "{arguments:?}: {job:#?}");
    job
}

fn stage(farm: &Farm, site: &str, name: &str, content: &str) {
    fs::write(staging(farm, site).join(name), content).expect("a file of staging");
}

fn staging(farm: &Farm, site: &str) -> PathBuf {
    farm.dir.path().join(if site == "www" { "staging" } else { "shop" })
}

fn live(node: &Node, site: &str) -> Tree {
    tree(&node.dir.join(site).join("live"))
}

/// Waits until these nodes serve this.
#[track_caller]
fn wait_until_live(farm: &Farm, site: &str, nodes: &[usize], content: &Tree) {
    wait_for("content to be live", 3 * LATER, || {
        nodes.iter().all(|node| live(&farm.nodes[*node], site) == *content).then_some(())
    });
}

/// How a day ends, whatever happened to the controller meanwhile.
#[derive(Debug, PartialEq, Eq)]
struct Evening {
    live: BTreeMap<(String, &'static str), Tree>,
    /// Of each job that somebody asked for, in order: what it was, and how it ended.
    jobs: Vec<(String, String, Phase)>,
    /// Of each version of the front that was ever live, whether it is, and how many checkpoints it has.
    versions: Vec<(bool, usize)>,
    nodes: BTreeSet<String>,
}

fn farm() -> Farm {
    let mut farm = Farm::with_controller();
    farm.edit_ccm("report_timeout_s = 20", "report_timeout_s = 4");
    for number in 1..=4 {
        farm.add_node();
        let node = &farm.nodes[number - 1];
        let shop = format!("[[site]]\nname = \"shop\"\nroot = {:?}\n", node.dir.join("shop"));
        let file = farm.node_file(node) + &shop;
        fs::write(&node.config, file).expect("a configuration");
    }
    farm.ccm = None;
    farm.start_ccm();
    farm.nodes[..3].iter_mut().for_each(Node::start);
    farm.add_site();
    fs::create_dir(staging(&farm, "shop")).expect("a staging directory");
    done(&farm, &["site", "add", "shop", "--staging", &farm.path("shop")]);
    done(&farm, &["group", "create", "front", "node-1", "node-2"]);
    done(&farm, &["group", "create", "back", "node-*"]);
    done(&farm, &["group", "create", "spare", "node-4"]);
    done(&farm, &["site", "group", "www", "front"]);
    done(&farm, &["site", "group", "shop", "back"]);
    done(&farm, &["site", "policy", "shop", "--bring-along-after", "1"]);
    until(&farm, "three nodes", &["node", "list"], |rows: &Vec<NodeRow>| {
        rows.iter().filter(|row| row.state != "offline" && row.sites.len() == 2).count() == 3
    });
    farm
}

/// The day, and how it ended. With `reap` the controller is killed all the while; so often it was.
fn day(reap: bool) -> (Evening, u32) {
    let mut farm = farm();
    let reaper = reap.then(|| Reaper::over(&mut farm));

    // Morning: both sites are published every few seconds, one of them twice, which gets in its own way.
    for (name, site) in SCHEDULES {
        stage(&farm, site, "index.html", &format!("{site} of the morning"));
        done(&farm, &["schedule", "add", name, site, "--cron", "*/3 * * * * *", "--zone", "UTC"]);
    }
    let front = [0, 1];
    let all = [0, 1, 2];
    wait_until_live(&farm, "www", &front, &tree(&staging(&farm, "www")));
    wait_until_live(&farm, "shop", &all, &tree(&staging(&farm, "shop")));
    until(&farm, "a conflict", &["events", "--last", "1000"], |events: &Vec<Event>| {
        events.iter().any(|event| event.text.contains("conflict, queued"))
    });
    for (name, _) in SCHEDULES {
        done(&farm, &["schedule", "disable", name]);
    }
    until(&farm, "the jobs of the morning to end", &["job", "list"], |jobs: &Vec<Job>| {
        jobs.iter().all(|job| job.phase.is_over())
    });

    // Noon: a node fails, and its job with it; nothing is live anywhere until it is tried again.
    let before = live(&farm.nodes[0], "shop");
    let applier = wait_for("the applier", LATER, || child_of(farm.nodes[1].pid(), "applier"));
    signal(applier, Signal::SIGSTOP);
    stage(&farm, "shop", "index.html", "shop of noon");
    stage(&farm, "shop", "menu.html", "soup");
    let begun = say(&farm, &["--json", "publish", "shop", "--no-wait"]).json::<Job>();
    thread::sleep(Duration::from_secs(2));
    reaper.iter().for_each(|reaper| reaper.rest(true));
    let failed = job(&farm, &["job", "watch", &begun.id.to_string()]);
    reaper.iter().for_each(|reaper| reaper.rest(false));
    assert_eq!(failed.phase, Phase::Failed, "{failed:#?}");
    assert!(failed.text.contains("node-2"), "{}", failed.text);
    assert!(all.iter().all(|node| live(&farm.nodes[*node], "shop") == before), "{}", failed.text);
    signal(applier, Signal::SIGCONT);
    let again = job(&farm, &["job", "retry", &failed.id.to_string()]);
    assert_eq!(again.phase, Phase::Done, "{}", again.text);
    wait_until_live(&farm, "shop", &all, &tree(&staging(&farm, "shop")));

    // Afternoon: a checkpoint, a release that is no good, and back.
    let good = live(&farm.nodes[0], "www");
    let kept = job(&farm, &["version", "checkpoint", "www", "--name", "good"]);
    assert_eq!(kept.phase, Phase::Done, "{}", kept.text);
    stage(&farm, "www", "index.html", "a bad release");
    let bad = job(&farm, &["publish", "www"]);
    assert_eq!(bad.phase, Phase::Done, "{}", bad.text);
    wait_until_live(&farm, "www", &front, &tree(&staging(&farm, "www")));
    let restored = job(&farm, &["version", "restore", "www", "good"]);
    assert_eq!(restored.phase, Phase::Done, "{}", restored.text);
    assert!(restored.assignment > bad.assignment && bad.assignment > again.assignment);
    wait_until_live(&farm, "www", &front, &good);

    // Evening: a node comes, and gets what is for it by itself.
    farm.nodes[3].start();
    wait_until_live(&farm, "shop", &[3], &tree(&staging(&farm, "shop")));

    let kills = reaper.map_or(0, |reaper| reaper.end(&mut farm));
    until(&farm, "the last job to end", &["job", "list"], |jobs: &Vec<Job>| {
        jobs.iter().all(|job| job.phase.is_over())
    });
    (read_back(&farm), kills)
}

/// What the history says of the day, which must fit together.
fn read_back(farm: &Farm) -> Evening {
    let mut jobs: Vec<Job> = ask(farm, &["job", "list"]);
    jobs.sort_by_key(|job| job.id);
    let events: Vec<Event> = ask(farm, &["events", "--last", "1000"]);
    let text = |part: &str| events.iter().any(|event| event.text.contains(part));
    for part in ["conflict, queued", "joined", "lacks what is live"] {
        assert!(text(part), "{part} is not in the history: {events:#?}");
    }
    // No number came twice, and what was made later has a higher one.
    let made: Vec<u64> = jobs.iter().map(|job| job.assignment).filter(|number| *number != 0).collect();
    let distinct: BTreeSet<u64> = jobs
        .iter()
        .filter(|job| job.kind != "synchronize")
        .map(|job| job.assignment)
        .filter(|number| *number != 0)
        .collect();
    let own = jobs.iter().filter(|job| job.kind != "synchronize" && job.assignment != 0).count();
    assert_eq!(distinct.len(), own, "{made:?}");
    for (name, _) in SCHEDULES {
        let schedule: Schedule = ask(farm, &["schedule", "show", name]);
        assert!(schedule.last_job > 0 && !schedule.enabled, "{schedule:?}");
    }
    let versions: Vec<SiteVersion> = ask(farm, &["version", "list", "www"]);
    for job in &jobs {
        done(farm, &["job", "log", &job.id.to_string()]);
    }
    let lives = farm.nodes.iter().flat_map(|node| SITES.map(|site| (node, site)));
    Evening {
        live: lives.map(|(node, site)| ((node.name.clone(), site), live(node, site))).collect(),
        jobs: jobs
            .into_iter()
            .filter(|job| job.schedule.is_empty() && job.kind != "synchronize")
            .map(|job| (job.kind, job.site, job.phase))
            .collect(),
        versions: versions.iter().map(|version| (version.live, version.checkpoints.len())).collect(),
        nodes: ask::<Vec<NodeRow>>(farm, &["node", "list"]).into_iter().map(|row| row.name).collect(),
    }
}

/// `DAY_KILLS=N` repeats the second day until the controller was killed so often in all.
#[test]
fn a_day_ends_alike_whether_the_controller_is_killed_all_the_while_or_not() {
    let (peace, _) = day(false);
    let wanted = std::env::var("DAY_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut kills = 0;
    while kills < wanted {
        let (evening, killed) = day(true);
        assert_eq!(evening, peace, "after {killed} kills");
        assert!(killed > 0);
        kills += killed;
    }
    println!("the controller was killed {kills} times");
}
