//! The configuration file of a node (sysconfig/farmcastd.toml explains every key).

mod election;
mod transport;

use crate::applier::ipc::SiteConfig;
use crate::node::transfers::PullLimits;
use crate::proto::engine::Transport as TransportSettings;
use crate::proto::profile::Profile;
use crate::wire::control::{Machine, is_channel};
use crate::wire::id::Name;
use election::Election;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::path::{Path, PathBuf};
use transport::Transport;

/// Longest path of a Unix socket that the kernel takes.
const SOCKET_PATH_MAX: usize = 107;
/// Most addresses of `network.peers`.
const PEERS_MAX: usize = 64;

#[derive(Clone, Debug)]
pub struct Config {
    pub name: Name,
    pub segment: Name,
    /// Where the machine stands, for people and planners (NS-3).
    pub location: String,
    /// Where the CCM listens for nodes.
    pub ccm: SocketAddr,
    pub state_dir: PathBuf,
    pub interface: Ipv4Addr,
    /// Name of the interface that has the address.
    pub interface_name: String,
    /// Whether another address of the interface is as good: it was chosen by its name, or by nobody.
    pub follow_address: bool,
    pub control_channel: SocketAddrV4,
    /// `network.data_channel` is set, which has no effect: the CCM gives each content group its channel.
    pub sets_data_channel: bool,
    /// Where to look for the segment if nobody is heard (LD-24).
    pub peers: Vec<SocketAddr>,
    pub datagram_port: u16,
    pub http_port: u16,
    pub text_port: u16,
    pub ttl: u32,
    pub socket: PathBuf,
    pub profile: Profile,
    /// Whether this node may ever lead (EL-2).
    pub can_lead: bool,
    /// Whether `leaders` has it, or is left out; until the CCM gives the segment a list (EL-3).
    pub listed: bool,
    /// The operator's weight in the priority, in percent (EL-12).
    pub factor: u32,
    /// Bytes per second.
    pub rate_max: u64,
    pub rate_start: u64,
    /// How objects are pulled.
    pub pulls: PullLimits,
    pub transport: TransportSettings,
    pub store_max: u64,
    pub sites: Vec<SiteConfig>,
    pub loss_pct: f64,
    pub loss_seed: u64,
    pub log_level: log::LevelFilter,
}

/// Versions beside the live one where the file does not say.
const KEEP_RELEASES: u8 = 2;

/// Why a configuration is refused: `FILE:LINE: MESSAGE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub file: PathBuf,
    /// From 1; 0 where the message is not about a line.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.message),
            line => write!(f, "{}:{line}: {}", self.file.display(), self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<toml::Spanned<String>>,
    #[serde(default = "default_segment")]
    segment: toml::Spanned<String>,
    ccm: toml::Spanned<String>,
    location: Option<toml::Spanned<String>>,
    #[serde(default = "default_state_dir")]
    state_dir: PathBuf,
    #[serde(default)]
    network: Network,
    #[serde(default)]
    control: Control,
    #[serde(default)]
    election: Election,
    #[serde(default)]
    transport: Transport,
    #[serde(default)]
    store: Store,
    #[serde(default)]
    log: Log,
    #[serde(default)]
    site: Vec<Site>,
    #[serde(default)]
    fault: Fault,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Network {
    /// Name or address; empty: the first interface that is up, can multicast and is not the loopback.
    interface: Option<toml::Spanned<String>>,
    control_channel: Option<toml::Spanned<SocketAddrV4>>,
    /// Of older files: read and not used.
    data_channel: Option<SocketAddrV4>,
    peers: Option<toml::Spanned<Vec<SocketAddr>>>,
    datagram_port: u16,
    http_port: u16,
    text_port: u16,
    ttl: u8,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            interface: None,
            control_channel: None,
            data_channel: None,
            peers: None,
            datagram_port: 7411,
            http_port: 7412,
            text_port: 7413,
            ttl: 1,
        }
    }
}

const CONTROL_CHANNEL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 70, 1), 7401);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Control {
    socket: PathBuf,
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: "/run/farmcast/farmcastd.sock".into() }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Store {
    max_bytes: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Log {
    level: Option<toml::Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Site {
    name: toml::Spanned<String>,
    root: toml::Spanned<PathBuf>,
    keep_releases: Option<toml::Spanned<u8>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Fault {
    loss_pct: Option<toml::Spanned<f64>>,
    seed: u64,
}

fn default_segment() -> toml::Spanned<String> {
    toml::Spanned::new(0..0, "default".to_owned())
}

fn default_state_dir() -> PathBuf {
    "/var/lib/farmcast".into()
}

impl Config {
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
            file: path.to_owned(),
            line: 0,
            message: format!("cannot be read: {error}; give the configuration with --config FILE"),
        })?;
        Self::parse(path, &text)
    }

    /// Parses and checks a configuration; `path` is for messages only.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let line_at =
            |offset: usize| text.as_bytes()[..offset.min(text.len())].split(|b| *b == b'\n').count();
        let fail = |span: std::ops::Range<usize>, message: String| ConfigError {
            file: path.to_owned(),
            line: if span == (0..0) { 0 } else { line_at(span.start) },
            message,
        };
        let file: File = toml::from_str(text)
            .map_err(|error| fail(error.span().unwrap_or(0..0), error.message().to_owned()))?;

        let name_of = |field: &toml::Spanned<String>, what: &str| {
            let advice = "1 to 48 of letters, digits, '.', '_', '-', not beginning with a dot";
            Name::new(field.get_ref())
                .map_err(|_| fail(field.span(), format!("{what} {:?} is no name: {advice}", field.get_ref())))
        };
        let name = match &file.name {
            Some(name) => name_of(name, "name")?,
            None => host_name().map_err(|message| fail(0..0, message))?,
        };
        let location = match &file.location {
            Some(location) if location.get_ref().len() > Machine::LOCATION_MAX => {
                let message = format!("location is longer than {} bytes", Machine::LOCATION_MAX);
                return Err(fail(location.span(), message));
            }
            Some(location) => location.get_ref().clone(),
            None => time_zone(),
        };
        let ccm = file.ccm.get_ref().to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(
            || {
                let advice = "give HOST:PORT of the CCM as `farmcast node invite` prints it";
                fail(file.ccm.span(), format!("ccm {:?} is no address: {advice}", file.ccm.get_ref()))
            },
        )?;
        let (interface, interface_name) =
            find_interface(file.network.interface.as_ref().map(|i| i.get_ref().as_str())).map_err(
                |message| fail(file.network.interface.as_ref().map_or(0..0, toml::Spanned::span), message),
            )?;

        let chosen = file.network.interface.as_ref().map(|interface| interface.get_ref());
        let follow_address = chosen.is_none_or(|chosen| chosen.parse::<IpAddr>().is_err());

        let control_channel = match &file.network.control_channel {
            Some(field) if !is_channel(*field.get_ref()) => {
                let message = format!(
                    "control_channel {} is no multicast address with a port: use one of 239.0.0.0/8",
                    field.get_ref()
                );
                return Err(fail(field.span(), message));
            }
            Some(field) => *field.get_ref(),
            None => CONTROL_CHANNEL,
        };

        let peers = match file.network.peers {
            Some(peers) if peers.get_ref().len() > PEERS_MAX => {
                return Err(fail(peers.span(), format!("at most {PEERS_MAX} peers")));
            }
            Some(peers) => peers.into_inner(),
            None => Vec::new(),
        };
        if file.control.socket.as_os_str().len() > SOCKET_PATH_MAX {
            let message =
                format!("control.socket is longer than {SOCKET_PATH_MAX} bytes: choose a shorter path");
            return Err(fail(0..0, message));
        }
        let refuse = |(span, message)| fail(span, message);
        let profile = file.election.timers().map_err(refuse)?;
        let listed = file.election.lists(&name).map_err(refuse)?;
        let (rate_start, rate_max) = file.transport.rates().map_err(refuse)?;
        let pulls = file.transport.pulls().map_err(refuse)?;
        let transport = file.transport.settings().map_err(refuse)?;
        let log_level = match &file.log.level {
            None => log::LevelFilter::Info,
            Some(level) => level.get_ref().parse().map_err(|_| {
                let message =
                    format!("level {:?} is none: error, warn, info, debug or trace", level.get_ref());
                fail(level.span(), message)
            })?,
        };
        let loss_pct = match &file.fault.loss_pct {
            None => 0.0,
            Some(loss) if (0.0..=90.0).contains(loss.get_ref()) => *loss.get_ref(),
            Some(loss) => return Err(fail(loss.span(), "loss_pct must be between 0 and 90".to_owned())),
        };

        let (mut sites, mut names, mut roots) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for site in &file.site {
            let site_name = name_of(&site.name, "site name")?;
            let root = site.root.get_ref();
            if !root.is_absolute() {
                return Err(fail(
                    site.root.span(),
                    format!("root {} must be an absolute path", root.display()),
                ));
            }
            if !names.insert(site_name.clone()) || !roots.insert(root.clone()) {
                return Err(fail(
                    site.name.span(),
                    "another [[site]] has this name or root already".to_owned(),
                ));
            }
            let keep = match &site.keep_releases {
                None => KEEP_RELEASES,
                Some(keep) if (1..=64).contains(keep.get_ref()) => *keep.get_ref(),
                Some(keep) => {
                    return Err(fail(keep.span(), "keep_releases must be between 1 and 64".to_owned()));
                }
            };
            sites.push(SiteConfig { name: site_name, root: root.clone(), keep });
        }
        if sites.len() > crate::wire::control::Profile::SITES_MAX {
            return Err(fail(0..0, "a node serves at most 256 sites".to_owned()));
        }
        Ok(Self {
            name,
            location,
            segment: name_of(&file.segment, "segment")?,
            ccm,
            state_dir: file.state_dir,
            interface,
            interface_name,
            follow_address,
            control_channel,
            sets_data_channel: file.network.data_channel.is_some(),
            peers,
            datagram_port: file.network.datagram_port,
            http_port: file.network.http_port,
            text_port: file.network.text_port,
            ttl: u32::from(file.network.ttl),
            socket: file.control.socket,
            profile,
            can_lead: file.election.can_lead,
            listed,
            factor: file.election.factor,
            rate_max,
            rate_start,
            pulls,
            transport,
            store_max: file.store.max_bytes.unwrap_or(u64::MAX),
            sites,
            loss_pct,
            loss_seed: file.fault.seed,
            log_level,
        })
    }
}

/// The machine's time zone, by the name of its file; empty where it has none.
fn time_zone() -> String {
    let link = std::fs::read_link("/etc/localtime").unwrap_or_default();
    let zone = link.to_str().and_then(|path| Some(path.split_once("zoneinfo/")?.1));
    zone.filter(|zone| zone.len() <= Machine::LOCATION_MAX).unwrap_or_default().to_owned()
}

fn host_name() -> Result<Name, String> {
    let host =
        nix::unistd::gethostname().map_err(|error| format!("the host name cannot be read: {error}"))?;
    let host = host.to_string_lossy();
    let first = host.split('.').next().unwrap_or_default();
    Name::new(first).map_err(|_| format!("the host name {host:?} is no name of a node: set `name`"))
}

/// The IPv4 address and name of the interface that `wanted` means.
fn find_interface(wanted: Option<&str>) -> Result<(Ipv4Addr, String), String> {
    use nix::net::if_::InterfaceFlags;
    let all = nix::ifaddrs::getifaddrs().map_err(|error| format!("interfaces cannot be listed: {error}"))?;
    let mut candidates = all.filter_map(|entry| {
        let address = entry.address.as_ref()?.as_sockaddr_in()?.ip();
        Some((address, entry.interface_name, entry.flags))
    });
    let found = match wanted {
        Some(wanted) => match wanted.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => candidates.find(|(address, ..)| *address == ip),
            Ok(IpAddr::V6(_)) => return Err("interface must be a name or an IPv4 address".to_owned()),
            Err(_) => candidates.find(|(_, name, _)| name == wanted),
        },
        None => candidates.find(|(_, _, flags)| {
            flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_MULTICAST)
                && !flags.contains(InterfaceFlags::IFF_LOOPBACK)
        }),
    };
    let advice = "see `ip -4 address`, then set network.interface to a name or an address";
    found.map(|(address, name, _)| (address, name)).ok_or_else(|| match wanted {
        Some(wanted) => format!("no interface {wanted:?} with an IPv4 address: {advice}"),
        None => format!("no interface that is up and can multicast: {advice}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "web01"
segment = "boston"
ccm = "127.0.0.1:7400"
state_dir = "/tmp/x"
[network]
interface = "127.0.0.1"
[[site]]
name = "www"
root = "/srv/www"
"#;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("x.toml"), text)
    }

    #[test]
    fn a_small_file_is_enough() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.interface_name, "lo");
        assert_eq!(config.profile, Profile::LAN);
        assert_eq!(config.sites[0].name.as_str(), "www");
        assert_eq!(config.control_channel, CONTROL_CHANNEL);
    }

    /// The shipped file with every example and default switched on, on an interface that every machine has.
    #[test]
    fn the_shipped_file_parses_and_states_the_defaults() {
        let shipped = include_str!("../../sysconfig/farmcastd.toml");
        let here = |text: &str| text.replace("#interface = \"eth0\"", "interface = \"127.0.0.1\"");
        let bare = parse(&here(shipped)).unwrap();
        let spell = |line: &str| match line.strip_prefix('#') {
            Some(set)
                if set.starts_with('[') || set.split_once(" = ").is_some_and(|(key, _)| is_key(key)) =>
            {
                format!("{set}\n")
            }
            _ => format!("{line}\n"),
        };
        let spelled: String = here(shipped).lines().map(spell).collect();
        let full = parse(&spelled).unwrap();
        let site = SiteConfig { name: Name::new("www").unwrap(), root: PathBuf::from("/srv/www"), keep: 2 };
        assert_eq!((full.name.as_str(), full.sites), ("web01", vec![site]));
        assert_eq!((full.store_max, full.rate_max), (64 << 30, 125_000_000));
        let defaults = |config: &Config| {
            (
                (config.segment.clone(), config.ccm, config.state_dir.clone(), config.socket.clone()),
                (config.control_channel, config.sets_data_channel, config.ttl, config.profile),
                (config.datagram_port, config.http_port, config.text_port),
                (config.can_lead, config.listed, config.factor),
                (config.log_level, config.loss_pct, config.loss_seed),
            )
        };
        let full = parse(&spelled).unwrap();
        assert_eq!(defaults(&full), defaults(&bare));
        assert_eq!(full.rate_start, bare.rate_start);
        assert_eq!(full.pulls, bare.pulls);
    }

    fn is_key(text: &str) -> bool {
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        let cases = [
            (GOOD.replace("name = \"web01\"", "nmae = \"web01\""), 2, "unknown field"),
            (GOOD.replace("web01", "web 01"), 2, "no name"),
            (GOOD.replace("127.0.0.1:7400", "nowhere"), 4, "no address"),
            (GOOD.replace("\"127.0.0.1\"", "\"eth77\""), 7, "no interface"),
            (
                GOOD.replace("[network]", "[network]\ncontrol_channel = \"10.0.0.1:1\""),
                7,
                "no multicast address",
            ),
            (GOOD.replace("/srv/www", "srv/www"), 10, "absolute"),
            (format!("{GOOD}[[site]]\nname = \"www\"\nroot = \"/b\"\n"), 12, "another"),
            (format!("{GOOD}[fault]\nloss_pct = 99.0\n"), 12, "between 0 and 90"),
            (format!("{GOOD}[log]\nlevel = \"loud\"\n"), 12, "error, warn"),
            (format!("{GOOD}[election]\nfactor = 50\nalive_ms = 200\n"), 13, "trigger must outlast"),
            (format!("{GOOD}[election]\nleaders = [\n\"web01\",\n\"web 02\"]\n"), 14, "web 02"),
            (GOOD.replace("ccm = ", "ccm "), 4, ""),
        ];
        for (text, line, message) in cases {
            let error = parse(&text).expect_err(message);
            assert_eq!(error.line, line, "{error}");
            assert!(error.message.contains(message), "{error}");
            assert!(error.to_string().starts_with(&format!("x.toml:{line}: ")));
        }
    }

    #[test]
    fn a_missing_file_says_how_to_give_one() {
        let error = Config::load(Path::new("/nonexistent/farmcastd.toml")).unwrap_err();
        assert!(error.message.contains("--config"));
    }
}
