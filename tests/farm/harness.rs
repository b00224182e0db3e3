//! A farm of child processes: started, asked, broken and ended by a test.
//!
//! Every wait has a deadline. Every process dies with the test (`farmcast child`), and is killed by its id
//! when its owner here is dropped, before the directory goes.

use farmcast::ccm::api::types::{Job, Node as NodeRow, Phase};
use farmcast::wire::console::{Body, Line, Mark};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const FARMCAST: &str = env!("CARGO_BIN_EXE_farmcast");
/// For what takes moments on an idle machine.
pub const SOON: Duration = Duration::from_secs(20);
/// For a whole publish, or a farm to find itself.
pub const LATER: Duration = Duration::from_secs(45);
pub const SITE: &str = "www";
/// Profile `lan` with four times its silence: a machine whose processes wait for a second for their turn, as a busy
/// or virtual one may, keeps its leader. What waits for no machine keeps its own pace.
pub const ELECTION: &str = "[election]\nalive_ms = 200\ntrigger_ms = 1400\nclaim_min_ms = 1400\n\
     claim_max_ms = 2000\nvote_ms = 800\nconcession_ms = 1600\n";

/// Waits until `look` finds something.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// Asserts the exit code and that the one line on standard error holds `parts`.
    #[track_caller]
    pub fn assert_refused(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "one line: {self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in {self:?}");
        }
    }

    /// The last JSON value on standard output.
    #[track_caller]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        let last = self.stdout.lines().last().unwrap_or_else(|| panic!("no output: {self:?}"));
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs a program to its end, at most for `limit`.
#[track_caller]
pub fn run(mut command: Command, limit: Duration) -> Said {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Running(command.spawn().expect("the program starts"));
    let read = |pipe: Option<Box<dyn std::io::Read + Send>>| {
        let mut pipe = pipe.expect("it is a pipe");
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = read(child.0.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = read(child.0.stderr.take().map(|pipe| Box::new(pipe) as _));
    let status = child.end(limit);
    let text = |thread: thread::JoinHandle<String>| thread.join().expect("the reader ends");
    Said { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// `farmcast ARGUMENTS`, which finds no controller but the one that is named.
pub fn farmcast(arguments: &[&str]) -> Command {
    let mut command = Command::new(FARMCAST);
    command.args(arguments);
    for name in ["SOCKET", "CCM", "TOKEN", "TOKEN_FILE", "CA", "FINGERPRINT"] {
        command.env_remove(format!("FARMCAST_{name}"));
    }
    command.env_remove("NOTIFY_SOCKET");
    command
}

/// A child process that does not outlive its owner.
pub struct Running(Child);

impl Running {
    /// Starts `farmcast` with `wrapper` in front, so that it dies with this thread. What it says is
    /// appended to `log`.
    pub fn start(wrapper: &[OsString], arguments: &[&str], log: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(log).expect("a log");
        let parent = std::process::id().to_string();
        let program = [FARMCAST, "child", &parent].map(OsString::from);
        let words = [wrapper, &program].concat();
        let child = Command::new(&words[0])
            .args(&words[1..])
            .args(arguments)
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a descriptor"))
            .stderr(file)
            .spawn();
        Self(child.expect("the program starts"))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("it is our child")
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(&mut self, limit: Duration) -> ExitStatus {
        wait_for("the end of a process", limit, || self.ended())
    }

    /// SIGKILL, as a machine that loses power.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    pub fn ask_to_end(&self) {
        signal(self.id(), Signal::SIGTERM);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), signal);
}

/// The child of a process whose command line has `word` in it.
pub fn child_of(parent: u32, word: &str) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).split('\0').any(|given| given == word)
    })
}

/// A port that nobody uses, below those that the kernel hands out by itself, so that it stays free.
pub fn free_port() -> u16 {
    let start = u16::from_be_bytes(farmcast::wire::seal::random());
    let mut ports = (0..1_000u16).map(|at| 20_000 + start.wrapping_add(at.wrapping_mul(37)) % 12_000);
    let is_free = |port: &u16| {
        TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
            && UdpSocket::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok()
    };
    ports.find(is_free).expect("a free port")
}

/// A control channel that nobody else uses.
fn draw_channel() -> SocketAddrV4 {
    let [x, y] = farmcast::wire::seal::random::<2>();
    SocketAddrV4::new(Ipv4Addr::new(239, 255, x, y.clamp(1, 254)), free_port())
}

/// A node of the farm, running or not.
pub struct Node {
    pub name: String,
    pub dir: PathBuf,
    pub config: PathBuf,
    pub socket: PathBuf,
    /// In front of its command line.
    pub wrapper: Vec<OsString>,
    pub process: Option<Running>,
}

impl Node {
    pub fn root(&self) -> PathBuf {
        self.dir.join(SITE)
    }

    pub fn live(&self) -> PathBuf {
        self.root().join("live")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    pub fn start(&mut self) {
        let config = self.config.to_str().expect("UTF-8").to_owned();
        let arguments = ["node", "--config", &config];
        self.process = Some(Running::start(&self.wrapper, &arguments, &self.dir.join("log")));
    }

    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it was started").id()
    }

    #[track_caller]
    pub fn assert_runs(&mut self) {
        let status = self.process.as_mut().expect("it was started").ended();
        assert!(status.is_none(), "{} ended: {status:?}\n{}", self.name, self.log());
    }

    /// Waits until its log holds `part`.
    #[track_caller]
    pub fn wait_for_log(&self, part: &str) {
        let start = Instant::now();
        while !self.log().contains(part) {
            assert!(start.elapsed() < SOON, "{}: {part:?} is not in its log:\n{}", self.name, self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// One request at its Unix socket.
    #[track_caller]
    pub fn ask(&self, request: &str) -> Vec<Line> {
        wait_for("the text port", SOON, || {
            let stream = UnixStream::connect(&self.socket).ok()?;
            stream.set_read_timeout(Some(SOON)).expect("a timeout");
            ask(stream.try_clone().expect("a descriptor"), stream, request)
        })
    }

    #[track_caller]
    pub fn counter(&self, name: &str) -> u64 {
        let lines = self.ask("show counters");
        let row = lines.iter().find(|line| line.text("name") == Some(name));
        let value = row.and_then(|line| line.text("value")?.parse().ok());
        value.unwrap_or_else(|| panic!("{}: no counter {name}", self.name))
    }

    /// The version of the site that the node says is live; 0 for none.
    #[track_caller]
    pub fn version(&self) -> u64 {
        let lines = self.ask("show sites");
        let row = lines.iter().find(|line| line.text("name") == Some(SITE));
        row.and_then(|line| line.text("version")?.parse().ok()).expect("the node serves the site")
    }
}

/// Says one request and reads the reply, last line included; `None` where all sessions are taken.
#[track_caller]
pub fn ask(read: impl std::io::Read, mut write: impl Write, request: &str) -> Option<Vec<Line>> {
    let mut reader = BufReader::new(read);
    let greeting = reply(&mut reader);
    if greeting[0].code == 508 {
        return None;
    }
    assert_eq!(greeting[0].code, 100, "a greeting");
    writeln!(write, "{request}").expect("the request is sent");
    Some(reply(&mut reader))
}

/// What a line says, as one text.
pub fn words(line: &Line) -> String {
    match &line.body {
        Body::Json(text) => text.clone(),
        Body::Fields { keyword, fields } => {
            let fields =
                fields.iter().map(|(key, value)| format!(" {key}={}", String::from_utf8_lossy(value)));
            format!("{}{}", keyword.as_deref().unwrap_or_default(), fields.collect::<String>())
        }
    }
}

/// The lines of one reply.
#[track_caller]
pub fn reply(reader: &mut impl BufRead) -> Vec<Line> {
    let mut lines = Vec::new();
    loop {
        let mut bytes = Vec::new();
        reader.read_until(b'\n', &mut bytes).expect("a line in time");
        let line =
            bytes.strip_suffix(b"\n").unwrap_or_else(|| panic!("the connection ended after {lines:?}"));
        lines.push(Line::parse(line).expect("a line of the grammar"));
        if lines.last().is_some_and(|line| line.mark == Mark::Last) {
            return lines;
        }
    }
}

/// A farm, its controller and its staging directory.
pub struct Farm {
    pub dir: TempDir,
    pub ccm: Option<Running>,
    pub nodes: Vec<Node>,
    pub control_channel: SocketAddrV4,
    pub ccm_port: u16,
}

impl Farm {
    /// A controller, without nodes.
    pub fn with_controller() -> Self {
        let dir = tempfile::Builder::new().prefix("farm").tempdir().expect("a temporary directory");
        let ccm_port = free_port();
        let mut farm = Self { dir, ccm: None, nodes: Vec::new(), control_channel: draw_channel(), ccm_port };
        let listen = format!("127.0.0.1:{ccm_port}");
        let words =
            ["ccm", "init", "--listen", &listen, "--dir", &farm.path("ccm"), "--socket", &farm.path("s")];
        let said = run(farmcast(&words), SOON);
        assert_eq!(said.code, Some(0), "{said:?}");
        // A test that waits for a lost node should not wait for a minute.
        farm.edit_ccm("#report_timeout_s = 60", "report_timeout_s = 20");
        farm.start_ccm();
        fs::create_dir(farm.staging()).expect("a staging directory");
        farm
    }

    /// A controller and `nodes` running nodes that serve the site, all known to the controller.
    pub fn of(nodes: usize) -> Self {
        let mut farm = Self::with_controller();
        (0..nodes).for_each(|_| farm.add_node());
        farm.begin();
        farm
    }

    /// Starts the nodes, adds the site, and waits until the controller knows them all.
    pub fn begin(&mut self) {
        self.nodes.iter_mut().for_each(Node::start);
        self.add_site();
        self.wait_until_whole();
    }

    #[track_caller]
    pub fn add_site(&self) {
        let said = self.cli(&["site", "add", SITE, "--staging", &self.path("staging")]);
        assert_eq!(said.code, Some(0), "{said:?}");
    }

    /// Makes a node that has joined, and does not start it.
    pub fn add_node(&mut self) {
        let name = format!("node-{}", self.nodes.len() + 1);
        let dir = self.dir.path().join(&name);
        fs::create_dir(&dir).expect("a directory");
        let socket = self.dir.path().join(format!("{name}.s"));
        let config = dir.join("farmcastd.toml");
        let node = Node { name, dir, config, socket, wrapper: Vec::new(), process: None };
        fs::write(&node.config, self.node_file(&node)).expect("a configuration");
        let (token, ccm) = (self.invite(), format!("127.0.0.1:{}", self.ccm_port));
        let config = node.config.to_str().expect("UTF-8");
        let said =
            run(farmcast(&["node", "join", "--ccm", &ccm, "--token", &token, "--config", config]), SOON);
        assert_eq!(said.code, Some(0), "{said:?}");
        self.nodes.push(node);
    }

    pub fn node_file(&self, node: &Node) -> String {
        format!(
            "name = \"{}\"\nsegment = \"boston\"\nccm = \"127.0.0.1:{}\"\nstate_dir = {:?}\n\
             [network]\ninterface = \"127.0.0.1\"\ncontrol_channel = \"{}\"\n\
             datagram_port = 0\nhttp_port = 0\ntext_port = 0\nttl = 0\n\
             {ELECTION}\
             [control]\nsocket = {:?}\n\
             [[site]]\nname = \"{SITE}\"\nroot = {:?}\n",
            node.name,
            self.ccm_port,
            node.state(),
            self.control_channel,
            node.socket,
            node.root(),
        )
    }

    /// Where content of a group comes, as a node that belongs to it says; none before the node knows.
    pub fn data_channel(&self) -> Option<SocketAddrV4> {
        let rows = self.nodes[0].ask("show groups");
        rows.iter().find_map(|row| row.text("channel")?.parse().ok())
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    pub fn staging(&self) -> PathBuf {
        self.dir.path().join("staging")
    }

    /// Writes a file of staging.
    pub fn stage(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.staging().join(name), content).expect("a file of staging");
    }

    pub fn edit_ccm(&self, from: &str, to: &str) {
        let path = self.path("ccm/ccm.toml");
        let text = fs::read_to_string(&path).expect("ccm.toml");
        assert!(text.contains(from), "{from:?} is not in ccm.toml");
        fs::write(&path, text.replace(from, to)).expect("ccm.toml");
    }

    pub fn start_ccm(&mut self) {
        self.start_ccm_with(&[]);
    }

    /// Starts the controller with `wrapper` in front of its command line.
    pub fn start_ccm_with(&mut self, wrapper: &[&str]) {
        let (config, log) = (self.path("ccm/ccm.toml"), self.path("ccm.log"));
        let wrapper: Vec<_> = wrapper.iter().map(OsString::from).collect();
        self.ccm = Some(Running::start(&wrapper, &["ccm", "run", "--config", &config], Path::new(&log)));
        let socket = self.path("s");
        wait_for("the controller's socket", SOON, || UnixStream::connect(&socket).ok());
    }

    pub fn ccm_log(&self) -> String {
        fs::read_to_string(self.path("ccm.log")).unwrap_or_default()
    }

    /// A command of the operator.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> Said {
        let socket = self.path("s");
        run(farmcast(&[&["--socket", &socket], arguments].concat()), LATER)
    }

    #[track_caller]
    pub fn invite(&self) -> String {
        let said = self.cli(&["--json", "node", "invite"]);
        said.json::<farmcast::ccm::api::types::Invite>().token
    }

    /// Publishes the site to the end, whatever that is.
    #[track_caller]
    pub fn publish(&self) -> (Option<i32>, Job) {
        let said = self.cli(&["--json", "publish", SITE]);
        (said.code, said.json())
    }

    /// Publishes the site, which must go live everywhere.
    #[track_caller]
    pub fn publish_well(&self) -> Job {
        let (code, job) = self.publish();
        assert_eq!((code, job.phase), (Some(0), Phase::Done), "{job:#?}\n{}", self.logs());
        self.assert_live_is_staging();
        job
    }

    /// Starts a publish and returns at once.
    #[track_caller]
    pub fn publish_later(&self) -> Job {
        self.cli(&["--json", "publish", SITE, "--no-wait"]).json()
    }

    #[track_caller]
    pub fn job(&self, id: u64) -> Job {
        self.cli(&["--json", "job", "show", &id.to_string()]).json()
    }

    #[track_caller]
    pub fn wait_for_end(&self, id: u64) -> Job {
        wait_for("the end of the job", LATER, || Some(self.job(id)).filter(|job| job.phase.is_over()))
    }

    pub fn rows(&self) -> Vec<NodeRow> {
        self.cli(&["--json", "node", "list"]).json()
    }

    /// Waits until the controller knows every node to be online, with its site.
    #[track_caller]
    pub fn wait_until_whole(&self) {
        let count = self.nodes.len();
        let start = Instant::now();
        loop {
            let rows = self.rows();
            let here = |row: &&NodeRow| row.state != "offline" && !row.sites.is_empty();
            let led = rows.iter().any(|row| row.state == "leader");
            if led && rows.iter().filter(here).count() == count {
                return;
            }
            assert!(start.elapsed() < LATER, "the farm is not whole: {rows:#?}\n{}", self.logs());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The leader as the controller knows it: its place in `nodes`, and its row.
    #[track_caller]
    pub fn leader(&self) -> (usize, NodeRow) {
        let row = wait_for("a leader", SOON, || self.rows().into_iter().find(|row| row.state == "leader"));
        let at = self.nodes.iter().position(|node| node.name == row.name).expect("a node of ours");
        (at, row)
    }

    /// What is live on every node, and the identity of each live directory: equal only if none switched.
    pub fn lives(&self) -> Vec<Live> {
        self.nodes.iter().map(|node| Live::of(&node.live())).collect()
    }

    #[track_caller]
    pub fn assert_live_is_staging(&self) {
        let staging = tree(&self.staging());
        for node in &self.nodes {
            assert_eq!(tree(&node.live()), staging, "{}", node.name);
        }
    }

    /// Everything that everybody said, for a failure.
    pub fn logs(&self) -> String {
        let state = |node: &Node| -> String {
            if UnixStream::connect(&node.socket).is_err() {
                return "(it does not answer)".to_owned();
            }
            let shows =
                ["status", "sessions", "store", "counters"].map(|what| node.ask(&format!("show {what}")));
            let lines = shows.iter().flatten().map(words).filter(|line| !line.ends_with(" value=0"));
            lines.map(|line| line + "\n").collect()
        };
        let nodes = self.nodes.iter().map(|node| format!("--- {}\n{}{}", node.name, node.log(), state(node)));
        format!("--- ccm\n{}{}", self.ccm_log(), nodes.collect::<String>())
    }
}

/// A live directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    inode: u64,
    pub tree: Tree,
}

impl Live {
    pub fn of(live: &Path) -> Self {
        Self { inode: fs::metadata(live).map_or(0, |meta| meta.ino()), tree: tree(live) }
    }
}

/// Paths below a directory: what kind of entry it is, its mode, and the hash of its content.
pub type Tree = BTreeMap<PathBuf, String>;

pub fn tree(root: &Path) -> Tree {
    let mut found = Tree::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().filter_map(Result::ok) {
            let path = entry.path();
            let meta = fs::symlink_metadata(&path).expect("nobody writes here now");
            let content = if meta.is_dir() {
                open.push(path.clone());
                "directory".to_owned()
            } else if meta.is_file() {
                let mut hasher = blake3::Hasher::new();
                let file = File::open(&path).expect("it can be read");
                hasher.update_reader(file).expect("it can be read").finalize().to_hex().to_string()
            } else {
                format!("{:?}", fs::read_link(&path))
            };
            let name = path.strip_prefix(root).expect("it is below").to_owned();
            found.insert(name, format!("{:o} {content}", meta.mode()));
        }
    }
    found
}

/// Bytes that do not compress and come out the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

/// Whether this user may make namespaces of its own; says so where not, for the test then shows nothing.
pub fn can_unshare(what: &str) -> bool {
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", "mount -t tmpfs -o size=64k none /mnt"]);
    let can = command.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !can {
        eprintln!("SKIPPED, not shown here: {what}: `unshare -Urm` with a tmpfs is refused on this machine");
    }
    can
}
