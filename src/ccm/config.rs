//! `ccm.toml`: what an operator sets. The commented default is sysconfig/ccm.toml.

use super::distribute::{Ranking, SortKey};
use super::groups::channels::ChannelRange;
use super::notify::receiver::{self, Receiver};
use crate::wire::id::Name;
use crate::wire::notify::{Forwarding, Notification};
use crate::wire::quorum::Quorum;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where the command line looks for a controller unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/farmcast/ccm.sock";
/// Longest path of a Unix socket: `sun_path` without its closing zero, unix(7).
const SOCKET_PATH_MAX: usize = 107;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Keys, database, shadows, objects.
    pub dir: PathBuf,
    /// TCP address for nodes; port 0 takes any free one.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Address under which nodes reach `listen`; the bound one where it is not given.
    #[serde(default)]
    pub advertise: Option<SocketAddr>,
    /// Unix socket of the operator's API.
    #[serde(default = "default_socket")]
    pub socket: PathBuf,
    /// TCP address of the operator's API over TLS; `None`: the Unix socket is the only way in.
    #[serde(default)]
    pub api: Option<SocketAddr>,
    /// Its certificate with what leads to an authority, and its key, both in PEM; without them the controller makes
    /// its own.
    #[serde(default)]
    pub api_certificate: Option<PathBuf>,
    #[serde(default)]
    pub api_key: Option<PathBuf>,
    /// Leaders that the controller serves itself in parallel (GD-14), 1..=1,000.
    #[serde(default = "default_first_level")]
    pub first_level: u16,
    /// HTTP servers that have what this one has under `/o/`: leaders fetch there rather than here.
    #[serde(default)]
    pub mirrors: Vec<SocketAddr>,
    /// From when on leaders pass assignments on.
    #[serde(default)]
    pub forward: Forward,
    /// By what leaders are sorted before they are served (GD-2, GD-3).
    #[serde(default = "default_leader_sort")]
    pub leader_sort: Vec<SortKey>,
    /// Segments whose leaders are served first, in this order (GD-4).
    #[serde(default, deserialize_with = "segments")]
    pub leader_order: Vec<Name>,
    /// Where the controller stands, in the words of the nodes' `location`.
    #[serde(default)]
    pub location: String,
    /// What is different for single sites.
    #[serde(default, deserialize_with = "sites")]
    pub site: BTreeMap<Name, SiteOrder>,
    /// Members of a segment that must have an assignment before its multicast may end (LD-19); the others pull
    /// it from their leader. `None`: as each leader is set.
    #[serde(default, deserialize_with = "quorum")]
    pub local_quorum: Option<Quorum>,
    /// Silence after which a node counts as missing, 1..=86,400 seconds.
    #[serde(default = "default_report_timeout")]
    pub report_timeout_s: u64,
    /// Time from commit order to switch, 0..=60,000 milliseconds.
    #[serde(default = "default_commit_lead")]
    pub commit_lead_ms: u64,
    /// Versions of a site that its shadow keeps beside the live one, 1..=64.
    #[serde(default = "default_keep_releases")]
    pub keep_releases: u8,
    /// From where content groups get their data channels (LD-2).
    #[serde(default = "default_data_channels")]
    pub data_channels: ChannelRange,
    #[serde(default = "default_log_level")]
    pub log_level: LogLevel,
    /// How long the history is kept.
    #[serde(default)]
    pub history: History,
    /// Who is told of what happens.
    #[serde(default)]
    pub notify: Vec<Receiver>,
}

/// How long the history is kept: an event goes when it is too old, or when there are too many newer ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct History {
    /// 1..=36,500 days.
    pub keep_days: u32,
    /// 1,000..=1,000,000,000 events.
    pub keep_events: u64,
}

impl Default for History {
    /// More than a year of 10,000 nodes that come and go each week.
    fn default() -> Self {
        Self { keep_days: 400, keep_events: 2_000_000 }
    }
}

/// From when on a leader passes an assignment on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    #[default]
    Whole,
    Verified,
}

impl From<Forward> for Forwarding {
    fn from(forward: Forward) -> Self {
        match forward {
            Forward::Whole => Self::Whole,
            Forward::Verified => Self::Verified,
        }
    }
}

/// How the leaders of one site are sorted, where that is different: `[site.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteOrder {
    #[serde(default)]
    pub leader_sort: Option<Vec<SortKey>>,
    #[serde(default, deserialize_with = "some_segments")]
    pub leader_order: Option<Vec<Name>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

fn quorum<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Quorum>, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map(Some).map_err(|error| serde::de::Error::custom(format!("local_quorum: {error}")))
}

fn name<E: serde::de::Error>(text: &str) -> Result<Name, E> {
    Name::new(text).map_err(|error| E::custom(format!("{text:?}: {error}")))
}

fn segments<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Name>, D::Error> {
    Vec::<String>::deserialize(from)?.iter().map(|text| name(text)).collect()
}

fn some_segments<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Vec<Name>>, D::Error> {
    segments(from).map(Some)
}

fn sites<'de, D: serde::Deserializer<'de>>(from: D) -> Result<BTreeMap<Name, SiteOrder>, D::Error> {
    let sites = BTreeMap::<String, SiteOrder>::deserialize(from)?;
    sites.into_iter().map(|(site, order)| Ok((name(&site)?, order))).collect()
}

fn default_leader_sort() -> Vec<SortKey> {
    SortKey::DEFAULT.to_vec()
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7400))
}

fn default_socket() -> PathBuf {
    DEFAULT_SOCKET.into()
}

const fn default_first_level() -> u16 {
    2
}

const fn default_report_timeout() -> u64 {
    60
}

const fn default_commit_lead() -> u64 {
    200
}

const fn default_keep_releases() -> u8 {
    2
}

const fn default_data_channels() -> ChannelRange {
    ChannelRange::DEFAULT
}

const fn default_log_level() -> LogLevel {
    LogLevel::Info
}

impl From<LogLevel> for log::LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
            LogLevel::Trace => Self::Trace,
        }
    }
}

/// `file:line: message`, so that an editor can jump there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct ConfigError {
    pub file: String,
    pub line: usize,
    pub message: String,
}

impl Config {
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&file, &text),
            Err(error) => {
                let message = format!(
                    "cannot read the configuration: {error}; `farmcast ccm init --dir DIR` writes one"
                );
                Err(ConfigError { file, line: 1, message })
            }
        }
    }

    /// `file` only names the text in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let fail = |line, message| ConfigError { file: file.to_owned(), line, message };
        let config: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            fail(line_at(text, at), error.message().lines().collect::<Vec<_>>().join(" "))
        })?;
        match config.fault() {
            Some((key, message)) => Err(fail(line_of_key(text, key), format!("{key}: {message}"))),
            None => Ok(config),
        }
    }

    fn fault_of_api(&self) -> Option<(&'static str, String)> {
        let files = [("api_certificate", &self.api_certificate), ("api_key", &self.api_key)];
        for ((key, file), (other, its)) in [(files[0], files[1]), (files[1], files[0])] {
            let Some(file) = file else { continue };
            if its.is_none() {
                return Some((key, format!("goes together with `{other}`, which is not set")));
            }
            if self.api.is_none() {
                return Some((key, "is of no use without `api`, the address to listen on".to_owned()));
            }
            if !file.is_absolute() {
                return Some((key, "must be an absolute path".to_owned()));
            }
        }
        None
    }

    /// The first value that is of the right type and still wrong: key and reason.
    fn fault(&self) -> Option<(&'static str, String)> {
        if !self.dir.is_absolute() {
            return Some(("dir", "must be an absolute path".to_owned()));
        }
        if !self.socket.is_absolute() {
            return Some(("socket", "must be an absolute path".to_owned()));
        }
        let socket_len = self.socket.as_os_str().len();
        if socket_len > SOCKET_PATH_MAX {
            let message = format!(
                "the path has {socket_len} bytes, a Unix socket takes at most {SOCKET_PATH_MAX}; choose a shorter one"
            );
            return Some(("socket", message));
        }
        match self.advertise {
            None if self.listen.ip().is_unspecified() => {
                let message = format!(
                    "{} is every address of this machine; say in `advertise` which one nodes are to use",
                    self.listen.ip()
                );
                return Some(("listen", message));
            }
            Some(advertise) if advertise.ip().is_unspecified() => {
                return Some(("advertise", "must be an address that nodes can reach".to_owned()));
            }
            _ => {}
        }
        if let Some(fault) = self.fault_of_api() {
            return Some(fault);
        }
        let out_of = |value: u64, low: u64, high: u64| {
            (!(low..=high).contains(&value)).then(|| format!("{value} is not within {low} to {high}"))
        };
        None.or_else(|| Some(("first_level", out_of(self.first_level.into(), 1, 1_000)?)))
            .or_else(|| {
                (self.mirrors.len() > Notification::OTHERS_MAX).then(|| {
                    (
                        "mirrors",
                        format!(
                            "{} are named, at most {} are used",
                            self.mirrors.len(),
                            Notification::OTHERS_MAX
                        ),
                    )
                })
            })
            .or_else(|| Some(("report_timeout_s", out_of(self.report_timeout_s, 1, 86_400)?)))
            .or_else(|| Some(("commit_lead_ms", out_of(self.commit_lead_ms, 0, 60_000)?)))
            .or_else(|| Some(("history.keep_days", out_of(self.history.keep_days.into(), 1, 36_500)?)))
            .or_else(|| {
                Some(("history.keep_events", out_of(self.history.keep_events, 1_000, 1_000_000_000)?))
            })
            .or_else(|| Some(("keep_releases", out_of(self.keep_releases.into(), 1, 64)?)))
            .or_else(|| Some(("[[notify]]", receiver::fault(&self.notify)?)))
    }

    /// The address that nodes use, once the listener is bound to `bound`.
    pub fn reachable_at(&self, bound: SocketAddr) -> SocketAddr {
        match self.advertise {
            Some(advertise) if advertise.port() == 0 => SocketAddr::new(advertise.ip(), bound.port()),
            Some(advertise) => advertise,
            None => bound,
        }
    }

    /// How the leaders that take part in a run of this site are sorted.
    pub fn ranking(&self, site: &Name) -> Ranking {
        let of_site = self.site.get(site);
        let first = of_site.and_then(|site| site.leader_order.clone());
        let keys = of_site.and_then(|site| site.leader_sort.clone());
        Ranking {
            first: first.unwrap_or_else(|| self.leader_order.clone()),
            keys: keys.unwrap_or_else(|| self.leader_sort.clone()),
            location: self.location.clone(),
        }
    }

    pub fn database(&self) -> PathBuf {
        self.dir.join("ccm.db")
    }

    /// Assignments by name, as leaders fetch them.
    pub fn objects(&self) -> PathBuf {
        self.dir.join("objects")
    }

    /// Where the content of checkpoints lies.
    pub fn checkpoints(&self) -> PathBuf {
        self.dir.join("checkpoints")
    }

    /// Where checkpoints are rebuilt while they are compared with what is live.
    pub fn rebuilt(&self) -> PathBuf {
        self.dir.join("rebuilt")
    }

    /// Where the logs of jobs lie.
    pub fn runs(&self) -> PathBuf {
        self.dir.join("runs")
    }

    /// Where content hashes of a site's staging are remembered.
    pub fn cache(&self, site: &str) -> PathBuf {
        self.dir.join("cache").join(site)
    }

    pub fn shadow(&self, site: &str) -> PathBuf {
        self.dir.join("shadow").join(site)
    }
}

/// Number of the line in which byte `at` stands, from 1.
fn line_at(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count()
}

/// Line that sets `key`; the first where it is a default.
fn line_of_key(text: &str, key: &str) -> usize {
    let sets = |line: &str| {
        let rest = line.trim_start().strip_prefix(key);
        rest.is_some_and(|rest| rest.trim_start().starts_with('=') || key.starts_with('['))
    };
    text.lines().position(sets).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse("ccm.toml", text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_file_parses_and_states_the_defaults() {
        let shipped = include_str!("../../sysconfig/ccm.toml");
        let config = parse(shipped).unwrap();
        let spelled: String = shipped
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(set) if set.starts_with(|c: char| c.is_ascii_lowercase()) && set.contains(" = ") => set,
                _ => line,
            })
            .filter(|line| !["advertise", "local_quorum", "api"].iter().any(|key| line.starts_with(key)))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(parse(&spelled).unwrap(), config);
        assert_eq!(spelled.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count(), 15);
    }

    #[test]
    fn an_error_names_file_line_and_key() {
        let unknown = parse("dir = \"/d\"\n\nlisten_on = 1\n").unwrap_err();
        assert!(unknown.starts_with("ccm.toml:3: ") && unknown.contains("listen_on"), "{unknown}");
        let typed = parse("dir = \"/d\"\nlisten = \"here\"\n").unwrap_err();
        assert!(typed.starts_with("ccm.toml:2: "), "{typed}");
        let range = parse("# c\ndir = \"/d\"\nfirst_level = 0\n").unwrap_err();
        assert_eq!(range, "ccm.toml:3: first_level: 0 is not within 1 to 1000");
        assert!(parse("dir = \"d\"").unwrap_err().contains("absolute"));
        let mirrors = ["\"10.0.0.1:80\""; 4].join(", ");
        let many = parse(&format!("dir = \"/d\"\nmirrors = [{mirrors}]\n")).unwrap_err();
        assert_eq!(many, "ccm.toml:2: mirrors: 4 are named, at most 3 are used");
    }

    /// GD-3, GD-4.
    #[test]
    fn leaders_are_sorted_as_the_site_says_or_else_as_all() {
        let text = "dir = \"/d\"\nleader_sort = [\"rate\", \"name\"]\nlocation = \"oslo\"\n\
                    [site.www]\nleader_order = [\"berne\", \"oslo\"]\n[site.shop]\nleader_sort = [\"delay\"]\n";
        let config = parse(text).unwrap();
        let ranking = |site: &str| config.ranking(&Name::new(site).unwrap());
        let (www, shop, other) = (ranking("www"), ranking("shop"), ranking("other"));
        assert_eq!(www.first.iter().map(Name::as_str).collect::<Vec<_>>(), ["berne", "oslo"]);
        assert_eq!((&www.keys, &other.keys), (&vec![SortKey::Rate, SortKey::Name], &www.keys));
        assert!(www.is_static() && !shop.is_static() && other.location == "oslo");
        assert_eq!(shop.keys, [SortKey::Delay]);
        assert_eq!(parse("dir = \"/d\"").unwrap().ranking(&Name::new("www").unwrap()).keys, SortKey::DEFAULT);
        let unknown = parse("dir = \"/d\"\nleader_sort = [\"colour\"]\n").unwrap_err();
        assert!(unknown.starts_with("ccm.toml:2: ") && unknown.contains("colour"), "{unknown}");
        let bad = parse("dir = \"/d\"\n[site.www]\nleader_order = [\"a b\"]\n").unwrap_err();
        assert!(bad.contains("a b"), "{bad}");
    }

    #[test]
    fn a_local_quorum_is_a_number_or_a_share() {
        let quorum = |text: &str| parse(&format!("dir = \"/d\"\nlocal_quorum = \"{text}\"\n"));
        assert_eq!(quorum("90%").unwrap().local_quorum, Some(Quorum::Percent(90)));
        let error = quorum("most").unwrap_err();
        assert!(error.starts_with("ccm.toml:2: ") && error.contains("\"1%\""), "{error}");
    }

    #[test]
    fn an_address_that_no_node_can_use_is_refused() {
        let error = parse("dir = \"/d\"\nlisten = \"0.0.0.0:7400\"\n").unwrap_err();
        assert!(error.starts_with("ccm.toml:2: ") && error.contains("advertise"), "{error}");
        let config = parse("dir = \"/d\"\nlisten = \"0.0.0.0:0\"\nadvertise = \"10.0.0.1:0\"\n").unwrap();
        let bound = "0.0.0.0:4711".parse().unwrap();
        assert_eq!(config.reachable_at(bound), "10.0.0.1:4711".parse().unwrap());
    }

    #[test]
    fn certificate_and_key_of_the_api_go_together() {
        let set = |text: &str| parse(&format!("dir = \"/d\"\n{text}"));
        let certificate = "api_certificate = \"/c.pem\"\n";
        let alone = set(certificate).unwrap_err();
        assert!(alone.starts_with("ccm.toml:2: api_certificate: ") && alone.contains("`api_key`"), "{alone}");
        let off = set(&format!("{certificate}api_key = \"/k.pem\"\n")).unwrap_err();
        assert!(off.contains("without `api`"), "{off}");
        let whole = format!("{certificate}api_key = \"/k.pem\"\napi = \"[::]:7443\"\n");
        assert_eq!(set(&whole).unwrap().api, Some("[::]:7443".parse().unwrap()));
        assert!(set(&whole.replace("/k.pem", "k.pem")).unwrap_err().starts_with("ccm.toml:3: api_key: "));
    }

    #[test]
    fn a_socket_path_that_the_kernel_would_refuse_is_refused_here() {
        let long = format!("dir = \"/d\"\nsocket = \"/{}\"\n", "x".repeat(120));
        assert!(parse(&long).unwrap_err().contains("at most 107"));
    }
}
