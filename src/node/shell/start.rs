//! The start of a node: everything that it consists of is opened, in an order that matters.

use super::ahead::Aheads;
use super::keys::Wants;
use super::{
    HTTP_PLACES, MEASURE_PERIOD, SAVE_PERIOD, Shell, TOKEN_APPLIER, TOKEN_CONSOLE, TOKEN_HTTP, TOKEN_LINKS,
    TOKEN_PORTS, TOKEN_SIGNALS, TOKEN_TRANSFERS,
};
use crate::applier;
use crate::applier::ipc::SiteConfig;
use crate::io::clock;
use crate::io::http::Server;
use crate::io::notify::{Notifier, watchdog_interval};
use crate::io::reactor::Reactor;
use crate::io::signal::Signals;
use crate::node::channels::{Channels, Port};
use crate::node::charter;
use crate::node::config::Config;
use crate::node::console::{self, Console, Gate};
use crate::node::fatal::Fatal;
use crate::node::identity::{self, Identity};
use crate::node::links::Links;
use crate::node::measure::{self, Addresses, Resources};
use crate::node::peers::Peers;
use crate::node::priority::{Service, Tenure};
use crate::node::reliability::Reliability;
use crate::node::sessions::Sessions;
use crate::node::store::Store;
use crate::node::transfers::{Caller, Transfers};
use crate::node::troubles::Troubles;
use crate::proto::engine::{Engine, Setup};
use crate::time::Duration;
use crate::wire::control::SiteState;
use crate::wire::envelope::Sealer;
use crate::wire::seal::{SigningKey, random};
use mio::Token;
use mio::net::{TcpListener, UnixListener};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

impl Shell {
    /// Starts everything that a node consists of.
    pub fn open(config: Config) -> Result<Self, Fatal> {
        let identity =
            Identity::load(&config.state_dir).map_err(|e| Fatal::new(Fatal::CONFIG, e.to_string()))?;
        let boot = identity::next_boot(&config.state_dir)
            .map_err(|e| Fatal::new(Fatal::CANNOT_CREATE, e.to_string()))?;
        let Identity { key, certificate, farm } = identity;

        if config.sets_data_channel {
            log::warn!(
                "network.data_channel has no effect any more: the ccm assigns data channels; remove the line"
            );
        }
        // The applier first: it must not inherit a socket.
        let notifier = Notifier::from_env().map_err(Fatal::system("NOTIFY_SOCKET"))?;
        let watchdog = watchdog_interval();
        let sites = config.sites.clone();
        let (publisher, director) = (farm.publisher, farm.director);
        let (applier, applier_process) = applier::spawn(&applier::Config { sites, publisher, director })
            .map_err(Fatal::system("the applier cannot be started"))?;

        let caller = Caller { key: SigningKey::from_seed(*key.seed()), certificate: certificate.clone() };
        let sealer = Sealer::new(
            &config.segment,
            farm.segment_key(&config.segment),
            key,
            certificate.clone(),
            farm.enroller,
        );
        let channels =
            Channels::open(&config, sealer, boot).map_err(|e| Fatal::new(Fatal::UNAVAILABLE, e))?;
        let store = Store::open(&config.state_dir.join("spool"), farm.publisher, config.store_max)
            .map_err(|error| Fatal::new(Fatal::CANNOT_CREATE, error.to_string()))?;

        let reactor = Reactor::new().map_err(Fatal::system("epoll"))?;
        let signals = Signals::new().map_err(Fatal::system("signals"))?;
        let links = Links::open(&config.interface_name, config.interface);
        let listen = |port: u16, key: &str| {
            let address = SocketAddr::new(config.interface.into(), port);
            let listener = TcpListener::bind(address).map_err(|error| {
                let advice = format!("set network.{key} to a free port, or to 0");
                Fatal::new(Fatal::UNAVAILABLE, format!("cannot listen on TCP {address}: {error}; {advice}"))
            })?;
            let address = listener.local_addr().map_err(Fatal::system("TCP listener"))?;
            Ok::<_, Fatal>((listener, address))
        };
        let (http_listener, http_addr) = listen(config.http_port, "http_port")?;
        let (text_listener, text_addr) = listen(config.text_port, "text_port")?;
        let unix_listener = listen_unix(&config)?;
        let http = Server::new(http_listener, reactor.registry(), Token(TOKEN_HTTP), HTTP_PLACES)
            .map_err(Fatal::system("HTTP server"))?;
        let introduction = console::Identity {
            server: format!("farmcastd/{}", env!("CARGO_PKG_VERSION")),
            node: config.name.to_string(),
            segment: config.segment.to_string(),
        };
        let console = Console::new(
            introduction,
            Gate::new(&caller.key, farm.director, farm.enroller),
            vec![unix_listener],
            vec![text_listener],
            reactor.registry(),
            Token(TOKEN_CONSOLE),
        )
        .map_err(Fatal::system("text port"))?;

        for (port, fd) in channels.fds() {
            reactor.watch_fd(fd, Token(TOKEN_PORTS + port as usize)).map_err(Fatal::system("epoll"))?;
        }
        reactor
            .watch_fd(applier.as_fd().as_raw_fd(), Token(TOKEN_APPLIER))
            .map_err(Fatal::system("epoll"))?;
        reactor.watch_fd(signals.as_raw_fd(), Token(TOKEN_SIGNALS)).map_err(Fatal::system("epoll"))?;
        if let Some(fd) = links.fd() {
            reactor.watch_fd(fd, Token(TOKEN_LINKS)).map_err(Fatal::system("epoll"))?;
        }

        let now = clock::monotonic();
        let datagram = channels.datagram_addr().map_err(Fatal::system("datagram socket"))?;
        let addresses = Addresses { datagram, http: http_addr, text: text_addr };
        let resources = Resources::measure(&config.state_dir);
        // Until the applier has told what is live, the node serves its sites at no version.
        let site = |site: &SiteConfig| SiteState { site: site.name.clone(), version: None };
        let sites: Vec<SiteState> = config.sites.iter().map(site).collect();
        let reliability = Reliability::open(&config.state_dir, now, clock::wall_ns());
        let priority =
            resources.merits(links.speed(), Tenure::default(), &reliability, &sites).priority(config.factor);
        let charter = charter::load(&config.state_dir, &config.segment, &farm.director);
        let me = measure::profile(
            &config,
            &certificate,
            addresses,
            resources,
            priority.total,
            links.mtu(),
            sites.clone(),
        );
        let setup = Setup {
            me,
            segment: config.segment.clone(),
            profile: config.profile,
            boot,
            home: config.control_channel,
            listed: config.listed,
            charter,
            peers: config.peers.clone(),
            rate_start: config.rate_start,
            rate_max: config.rate_max,
            socket_bytes: channels.frame_room(),
            transport: config.transport,
            seed: u64::from_be_bytes(random()),
        };
        let mut engine = Engine::new(now, setup);
        let peers = Peers::load(&config.state_dir);
        engine.remember_peers(now, peers.kept());
        Ok(Self {
            farm,
            reactor,
            channels,
            engine,
            sessions: Sessions::default(),
            store,
            peers,
            transfers: Transfers::new(Token(TOKEN_TRANSFERS), config.ccm, config.pulls, caller),
            http,
            growing: Vec::new(),
            serving: Vec::new(),
            bounds_at: now,
            console,
            applier,
            applier_process,
            applier_queue: VecDeque::new(),
            scrubbing: None,
            aheads: Aheads::default(),
            wants: Wants::default(),
            signals,
            links,
            troubles: Troubles::default(),
            notifier,
            watchdog: watchdog.map(|interval| (interval / 2, now)),
            addresses,
            sites,
            service: Service::default(),
            priority,
            reliability,
            uplink_seq: 0,
            boot,
            inbox: Vec::new(),
            waiting: [true; Port::ALL.len()],
            last_failure: None,
            started: now,
            measure_at: now + MEASURE_PERIOD,
            save_at: now + SAVE_PERIOD,
            turn_max: Duration::ZERO,
            stopping: false,
            config,
        })
    }
}

/// The operator's socket. One that a dead daemon left behind is replaced; a living one is not.
fn listen_unix(config: &Config) -> Result<UnixListener, Fatal> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let path = &config.socket;
    let shown = path.display();
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let text =
            format!("{shown} is in use by another daemon: stop it, or set control.socket to another path");
        return Err(Fatal::new(Fatal::UNAVAILABLE, text));
    }
    // A file that is no socket is somebody's: the path is wrong, and binding says so.
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        let _ = std::fs::remove_file(path);
    }
    let listener = UnixListener::bind(path).map_err(|error| {
        Fatal::new(
            Fatal::CANNOT_CREATE,
            format!("cannot make the socket {shown}: {error}; see control.socket"),
        )
    })?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
        .map_err(|error| Fatal::new(Fatal::CANNOT_CREATE, format!("{shown}: {error}")))?;
    Ok(listener)
}
