//! A farm over several machines: a controller behind a router, and segments that are switches.

use super::delay::{Delays, bring_up};
use super::harness::{
    ELECTION, FARMCAST, LATER, Node, Running, SITE, SOON, Said, farmcast, run, tree, wait_for,
};
use super::world::{Machine, create_switch, lab_sh, plug};
use farmcast::ccm::api::types::{Invite, Job, Node as NodeRow, Phase, Status};
use netlink::bridge::Bridge;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The controller's address: in a network of its own, behind the router.
const CONTROL: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// Frames that pass through a program must be as long as on a cable, and have their sums.
const OFF: &str = "tx off tso off gso off tx-udp-segmentation off";
pub const FLOODS: Bridge = Bridge { snooping: false, querier: false };

/// How slow and how long the ways between segments are.
#[derive(Clone, Copy)]
pub struct Ways {
    /// Into each segment, and out of the controller.
    pub mbit: u32,
    /// From each segment to the router, and back.
    pub delay: Duration,
}

/// A node and the machine that it runs on.
pub struct Member {
    pub node: Node,
    pub machine: Machine,
    /// Its end of the cable at the switch.
    pub port: String,
    pub segment: usize,
}

pub struct Farm {
    pub members: Vec<Member>,
    ccm: Option<Running>,
    control: Machine,
    router: Machine,
    _delays: Option<Delays>,
    /// Last, so that it goes when nobody writes there any more.
    dir: TempDir,
}

impl Farm {
    /// A controller and `sizes.len()` segments of so many nodes, none of them started. `ccm_toml` is put
    /// before what `ccm init` wrote.
    pub fn build(sizes: &[usize], switches: Bridge, ccm_toml: &str) -> Self {
        Self::lay(sizes, switches, ccm_toml, None)
    }

    /// As [`Self::build`], with slow and long ways between the segments.
    pub fn far_apart(sizes: &[usize], switches: Bridge, ccm_toml: &str, ways: Ways) -> Self {
        Self::lay(sizes, switches, ccm_toml, Some(ways))
    }

    fn lay(sizes: &[usize], switches: Bridge, ccm_toml: &str, ways: Option<Ways>) -> Self {
        let dir = tempfile::Builder::new().prefix("lab").tempdir().expect("a temporary directory");
        let (control, router) = (Machine::new("control"), Machine::new("router"));
        router.sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
        create_switch("backbone", FLOODS);
        plug(&router, "up", "backbone", "up-router", Ipv4Addr::new(10, 99, 0, 1));
        plug(&control, "eth0", "backbone", "up-control", CONTROL);
        control.sh("ip route add default via 10.99.0.1");

        let mut farm = Self { members: Vec::new(), ccm: None, control, router, _delays: None, dir };
        farm.init_ccm(ccm_toml);
        for at in 0..sizes.len() {
            let switch = format!("segment{at}");
            create_switch(&switch, switches);
            let address = Ipv4Addr::new(10, at as u8, 0, 1);
            let (down, port) = (format!("down{at}"), format!("p{at}-router"));
            match ways {
                None => plug(&farm.router, &down, &switch, &port, address),
                // The cable ends in the lab; whoever passes frames on starts when all are there.
                Some(_) => {
                    plug(&farm.router, &down, "backbone", &format!("far{at}"), address);
                    lab_sh(&format!(
                        "ip link set far{at} nomaster && ip link add {port} type veth peer name near{at}"
                    ));
                    lab_sh(&format!("ip link set {port} master {switch} && ethtool -K {port} {OFF}"));
                    farm.router.sh(&format!("ethtool -K {down} {OFF}"));
                    [port, format!("near{at}")].iter().for_each(|name| bring_up(name));
                }
            }
        }
        if let Some(ways) = ways {
            farm.slow_down(sizes.len(), ways);
        }
        for (at, size) in sizes.iter().enumerate() {
            (0..*size).for_each(|place| farm.add_member(at, place));
        }
        farm
    }

    fn slow_down(&mut self, segments: usize, ways: Ways) {
        let pairs: Vec<_> = (0..segments).map(|at| [format!("near{at}"), format!("far{at}")]).collect();
        self._delays = Some(Delays::start(&pairs, ways.delay));
        let slow = |machine: &Machine, link: &str| {
            machine
                .sh(&format!("tc qdisc add dev {link} root tbf rate {}mbit burst 64k limit 256k", ways.mbit))
        };
        slow(&self.control, "eth0");
        (0..segments).for_each(|at| drop(slow(&self.router, &format!("down{at}"))));
    }

    /// Kills the controller and starts it again.
    pub fn restart_ccm(&mut self) {
        if let Some(mut ccm) = self.ccm.take() {
            ccm.kill();
        }
        self.start_ccm();
    }

    pub fn segments(&self) -> usize {
        self.members.iter().map(|member| member.segment + 1).max().unwrap_or(0)
    }

    /// The nodes of a segment, by their places in `members`.
    pub fn of_segment(&self, segment: usize) -> impl Iterator<Item = usize> {
        (0..self.members.len()).filter(move |at| self.members[*at].segment == segment)
    }

    /// Bytes of objects that a node has fetched since its start.
    pub fn fetched(&self, at: usize) -> u64 {
        self.members[at].node.counter("fetched_bytes")
    }

    pub fn all_fetched(&self) -> Vec<u64> {
        (0..self.members.len()).map(|at| self.fetched(at)).collect()
    }

    /// As [`Self::build`], and started: all nodes known to the controller, the site added.
    pub fn of(sizes: &[usize], switches: Bridge, ccm_toml: &str) -> Self {
        let mut farm = Self::build(sizes, switches, ccm_toml);
        farm.begin();
        farm.wait_until_whole();
        farm
    }

    /// Lets the controller send ICMP echoes: a namespace begins with nobody allowed to.
    pub fn allow_echoes(&self) {
        self.control.sh("echo 0 0 > /proc/sys/net/ipv4/ping_group_range");
    }

    /// The machine of the controller.
    pub fn control(&self) -> &Machine {
        &self.control
    }

    pub fn begin(&mut self) {
        self.members.iter_mut().for_each(|member| member.node.start());
        let staging = self.path("staging");
        let said = self.cli(&["site", "add", SITE, "--staging", staging.to_str().expect("UTF-8")]);
        assert_eq!(said.code, Some(0), "{said:?}");
    }

    fn init_ccm(&mut self, ccm_toml: &str) {
        fs::create_dir(self.path("staging")).expect("a staging directory");
        let (dir, socket) = (self.text("ccm"), self.text("s"));
        let listen = format!("{CONTROL}:7400");
        let words = ["ccm", "init", "--listen", &listen, "--dir", &dir, "--socket", &socket];
        let said = run(farmcast(&words), SOON);
        assert_eq!(said.code, Some(0), "{said:?}");
        let config = self.text("ccm/ccm.toml");
        let text = fs::read_to_string(&config).expect("ccm.toml");
        fs::write(&config, format!("{ccm_toml}\n{text}")).expect("ccm.toml");
        self.start_ccm();
    }

    fn start_ccm(&mut self) {
        let (config, socket) = (self.text("ccm/ccm.toml"), self.text("s"));
        let words = ["ccm", "run", "--config", &config];
        self.ccm = Some(Running::start(&self.control.wrapper(), &words, &self.path("ccm.log")));
        wait_for("the controller's socket", SOON, || UnixStream::connect(&socket).ok());
    }

    fn add_member(&mut self, segment: usize, place: usize) {
        let name = format!("web{segment}{place}");
        let machine = Machine::new(&name);
        let port = format!("p{segment}-{place}");
        let address = Ipv4Addr::new(10, segment as u8, 0, 10 + place as u8);
        plug(&machine, "eth0", &format!("segment{segment}"), &port, address);
        machine.sh(&format!("ip route add default via 10.{segment}.0.1"));
        let dir = self.path(&name);
        fs::create_dir(&dir).expect("a directory");
        let node = Node {
            socket: self.path(&format!("{name}.s")),
            config: dir.join("farmcastd.toml"),
            name,
            dir,
            wrapper: machine.wrapper(),
            process: None,
        };
        let text = format!(
            "name = \"{}\"\nsegment = \"segment{segment}\"\nccm = \"{CONTROL}:7400\"\nstate_dir = {:?}\n\
             [network]\ninterface = \"eth0\"\n{ELECTION}[control]\nsocket = {:?}\n\
             [[site]]\nname = \"{SITE}\"\nroot = {:?}\n",
            node.name,
            node.state(),
            node.socket,
            node.root(),
        );
        fs::write(&node.config, text).expect("a configuration");
        let token = self.cli(&["--json", "node", "invite"]).json::<Invite>().token;
        let (program, ccm) = (FARMCAST, format!("{CONTROL}:7400"));
        let config = node.config.to_str().expect("UTF-8");
        let words = [program, "node", "join", "--ccm", &ccm, "--token", &token, "--config", config];
        let said = run(machine.command(&words), SOON);
        assert_eq!(said.code, Some(0), "{said:?}");
        self.members.push(Member { node, machine, port, segment });
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// Writes a file of staging.
    pub fn stage(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path("staging").join(name), content).expect("a file of staging");
    }

    /// A command of the operator.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> Said {
        let socket = self.text("s");
        run(farmcast(&[&["--socket", &socket], arguments].concat()), LATER)
    }

    #[track_caller]
    pub fn rows(&self) -> Vec<NodeRow> {
        self.cli(&["--json", "node", "list"]).json()
    }

    #[track_caller]
    pub fn status(&self) -> Status {
        self.cli(&["--json", "status"]).json()
    }

    #[track_caller]
    pub fn job(&self, id: u64) -> Job {
        self.cli(&["--json", "job", "show", &id.to_string()]).json()
    }

    /// Starts a publish and returns at once.
    #[track_caller]
    pub fn publish_later(&self) -> Job {
        self.cli(&["--json", "publish", SITE, "--no-wait"]).json()
    }

    #[track_caller]
    pub fn wait_for_end(&self, id: u64) -> Job {
        self.wait("the end of the job", LATER, || Some(self.job(id)).filter(|job| job.phase.is_over()))
    }

    /// Publishes the site, which must go live everywhere.
    #[track_caller]
    pub fn publish_well(&self) -> Job {
        let said = self.cli(&["--json", "publish", SITE]);
        let job: Job = said.json();
        assert_eq!((said.code, job.phase), (Some(0), Phase::Done), "{job:#?}\n{}", self.logs());
        self.assert_live_is_staging();
        job
    }

    #[track_caller]
    pub fn assert_live_is_staging(&self) {
        let staging = tree(&self.path("staging"));
        assert!(!staging.is_empty());
        for member in &self.members {
            assert_eq!(tree(&member.node.live()), staging, "{}", member.node.name);
        }
    }

    /// Waits for something; says what everybody logged if it does not come.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(start.elapsed() < limit, "not within {limit:?}: {what}\n{}", self.logs());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until every node is online with its site, and the nodes of each segment agree on one leader.
    #[track_caller]
    pub fn wait_until_whole(&self) {
        self.wait("a whole farm", LATER, || {
            let rows = self.rows();
            let here = |row: &&NodeRow| row.state != "offline" && !row.sites.is_empty();
            (rows.iter().filter(here).count() == self.members.len()).then_some(())?;
            (0..self.segments()).all(|segment| self.agreed_leader(segment).is_some()).then_some(())
        });
    }

    /// The leader of a segment, by its place in `members`, if all of its nodes say the same.
    pub fn agreed_leader(&self, segment: usize) -> Option<usize> {
        let of_it = || (0..self.members.len()).filter(|at| self.members[*at].segment == segment);
        let views: Vec<View> = of_it().map(|at| self.members[at].view()).collect();
        let leads: Vec<usize> =
            of_it().zip(&views).filter(|(_, view)| view.state == "gl_is_me").map(|(at, _)| at).collect();
        let [leader] = leads[..] else { return None };
        let id = self.members[leader].view().node;
        views.iter().all(|view| view.node == id || view.leader == id).then_some(leader)
    }

    /// Cuts or mends the cable between a node's port and the switch.
    pub fn set_port(&self, at: usize, up: bool) {
        lab_sh(&format!("ip link set {} {}", self.members[at].port, if up { "up" } else { "down" }));
    }

    /// Everything that everybody said, for a failure.
    pub fn logs(&self) -> String {
        let ccm = fs::read_to_string(self.path("ccm.log")).unwrap_or_default();
        let nodes = self
            .members
            .iter()
            .map(|member| format!("--- {}\n{}{}\n", member.node.name, member.node.log(), member.counters()));
        format!("--- ccm\n{ccm}{}", nodes.collect::<String>())
    }
}

/// What a node says of itself.
pub struct View {
    pub node: String,
    pub state: String,
    pub leader: String,
}

impl Member {
    /// The counters that are not zero, where it still answers.
    fn counters(&self) -> String {
        if UnixStream::connect(&self.node.socket).is_err() {
            return "no counters: it does not answer".to_owned();
        }
        let lines = self.node.ask("show counters");
        let counters = lines.iter().filter_map(|line| Some((line.text("name")?, line.text("value")?)));
        counters.filter(|(_, value)| *value != "0").map(|(name, value)| format!("{name}={value} ")).collect()
    }

    pub fn view(&self) -> View {
        let lines = self.node.ask("show status");
        let word = |key| lines[0].text(key).unwrap_or_default().to_owned();
        View { node: word("node"), state: word("state"), leader: word("leader") }
    }
}
