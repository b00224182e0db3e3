//! A large farm, made up, for measurements (`bench/ccm.rs`): its database, the words of its leaders, and the turn of
//! the executor by itself.

use super::InitError;
use super::clock::now_ns;
use super::config::Config;
use super::controller::Controller;
use super::db::{DbError, Enrolment, Store, sample};
use super::execute::Executor;
use super::init::{InitOptions, init};
use super::keys::Keys;
use crate::wire::control::{Machine, Profile, SiteState};
use crate::wire::id::{AssignmentId, CharterId, Epoch, ListNumber, Name};
use crate::wire::notify::{Uplink, UplinkBody};
use crate::wire::report::SegmentReport;
use crate::wire::seal::{Certificate, PublicKey, SigningKey};
use std::path::Path;
use std::sync::Arc;

pub use super::db::sample::Size;

/// The nodes of a farm that was made up.
pub struct Sample {
    size: Size,
    keys: Vec<SigningKey>,
    enroller: SigningKey,
}

impl Sample {
    /// Makes a farm of so many nodes in `dir`, which is empty, with a year of history.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn make(dir: &Path, nodes: u32, size: Size, options: &InitOptions) -> Result<Self, InitError> {
        init(dir, options)?;
        let key = |number: u32| SigningKey::from_seed(*blake3::hash(&number.to_be_bytes()).as_bytes());
        let keys: Vec<SigningKey> = (0..nodes).map(key).collect();
        let joined: Vec<Enrolment> = keys
            .iter()
            .enumerate()
            .map(|(number, key)| Enrolment { key: key.public(), name: name("node", number), can_lead: true })
            .collect();
        let mut store = Store::open(&dir.join("ccm.db"))?;
        sample::fill(&mut store, size, &joined, now_ns())?;
        Ok(Self { size, keys, enroller: Keys::load(dir)?.enroller })
    }

    /// The signed report of the leader of a segment on it and its members, at the versions that are live; `seq` rises.
    /// With the number of its members.
    pub fn report(&self, segment: u32, seq: u64) -> (Vec<u8>, usize) {
        let mine = || (segment as usize..self.keys.len()).step_by(self.size.segments as usize);
        let leader = &self.keys[segment as usize];
        let members: Vec<Profile> = mine().map(|number| self.profile(number, seq)).collect();
        let count = members.len();
        let report = SegmentReport {
            segment: name("segment", segment as usize),
            epoch: Epoch(1 << 16),
            charter: CharterId(0),
            behind: 0,
            channel: "239.1.1.1:7401".parse().expect("a channel"),
            twins: Vec::new(),
            members,
            by_unicast: Vec::new(),
        };
        let node = crate::wire::id::NodeId::of_key(&leader.public().0);
        (Uplink { node, boot: 1, seq, body: UplinkBody::Segment(report) }.sign(leader), count)
    }

    /// Memory and load are never twice the same.
    fn profile(&self, number: usize, seq: u64) -> Profile {
        let addr =
            |port| format!("10.0.{}.{}:{port}", number / 250, number % 250 + 1).parse().expect("an address");
        let public: PublicKey = self.keys[number].public();
        let version = Some(AssignmentId(self.size.jobs.into()));
        let sites = [number as u32 % self.size.sites, (number as u32 + 1) % self.size.sites];
        Profile {
            certificate: Certificate::issue(&self.enroller, public, true, u32::MAX),
            name: name("node", number),
            datagram: addr(7411),
            http: addr(7412),
            text: addr(7413),
            priority: 1_000,
            processors: 4,
            free_memory: (1 << 32) + (seq << 12),
            free_disk: 1 << 40,
            groups: ListNumber(0),
            leads: true,
            machine: Machine { load_pct: seq as u32 % 400, ..Machine::default() },
            mtu: 1_500,
            sites: sites.map(|site| SiteState { site: name("site", site as usize), version }).to_vec(),
        }
    }
}

fn name(word: &str, number: usize) -> Name {
    Name::new(&format!("{word}-{number}")).expect("a name")
}

/// Turns of the executor of the farm in `dir`, whose controller is stopped. What each took by `clock`,
/// which reads nanoseconds.
///
/// # Errors
/// The database's.
pub fn turns(dir: &Path, count: usize, clock: fn() -> u64) -> Result<Vec<u64>, DbError> {
    let config = Config::load(&dir.join("ccm.toml")).map_err(std::io::Error::other)?;
    let keys = Keys::load(&config.dir).map_err(std::io::Error::other)?;
    let store = Store::open(&config.database())?;
    let listen = config.listen;
    let controller = Arc::new(Controller::new(config, keys, store, listen, now_ns()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut executor = Executor::new(controller);
    let mut took = Vec::new();
    for _ in 0..count {
        // Schedules are looked at once a second: every turn that is measured does so.
        executor.look_at_schedules_again();
        let began = clock();
        runtime.block_on(executor.turn())?;
        took.push(clock() - began);
    }
    Ok(took)
}
