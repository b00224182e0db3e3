//! `farmcast ccm`: from the configuration to two listeners and the executor, until a signal.

use super::access::Origin;
use super::api;
use super::certificate::{self, Identity};
use super::checkpoints::{remove_tree, sweep_what_was_left};
use super::clock::now_ns;
use super::config::Config;
use super::controller::{Controller, blocking};
use super::db::{Store, WriteAheadLog};
use super::echo;
use super::execute::Executor;
use super::keys::Keys;
use super::lock::{LockError, lock_state};
use super::notify;
use super::remote;
use super::restore::notice_older_copy;
use super::runlog;
use super::uploads;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;

/// Time that requests and file work have to end after a signal.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// How often the database's log is carried into it.
const CARRY_OVER_EVERY: Duration = Duration::from_secs(1);

/// sysexits(3).
const EX_UNAVAILABLE: u8 = 69;
const EX_CANTCREAT: u8 = 73;
const EX_CONFIG: u8 = 78;

#[derive(Debug)]
struct Stop {
    code: u8,
    message: String,
}

impl Stop {
    fn new(code: u8, message: impl ToString) -> Self {
        Self { code, message: message.to_string() }
    }
}

/// Runs the controller until SIGTERM or SIGINT. Exit codes: 0 stopped, 1 failed, 69 port or socket
/// taken, 73 state cannot be made or opened, 78 configuration.
pub fn run(config: &Path) -> ExitCode {
    let config = match Config::load(config) {
        Ok(config) => config,
        Err(error) => {
            crate::logging::say(&error.to_string());
            return ExitCode::from(EX_CONFIG);
        }
    };
    crate::logging::start(config.log_level.into(), now_ns);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(serve(config));
            runtime.shutdown_timeout(STOP_GRACE);
            ended
        }
        Err(error) => Err(Stop::new(1, format!("cannot start the runtime: {error}"))),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            log::error!("{}", stop.message);
            ExitCode::from(stop.code)
        }
    }
}

async fn serve(config: Config) -> Result<(), Stop> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| Stop::new(1, error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| Stop::new(1, error))?;
    let keys = Keys::load(&config.dir).map_err(|error| Stop::new(EX_CONFIG, error))?;
    let _lock = lock_state(&config.dir).map_err(|error| match error {
        LockError::Taken(_) => Stop::new(EX_UNAVAILABLE, error),
        LockError::Io { .. } => Stop::new(EX_CANTCREAT, error),
    })?;
    let cannot_open = |error| Stop::new(EX_CANTCREAT, error);
    let mut store = Store::open(&config.database()).map_err(cannot_open)?;
    store.claim(&keys.director.public(), &config.database()).map_err(cannot_open)?;
    if let Some(text) = notice_older_copy(&config, &mut store).map_err(cannot_open)? {
        log::error!("{text}");
    }
    prepare_state(&config)?;
    let tcp = listen_tcp(&config).await?;
    let bound = tcp.local_addr().map_err(|error| Stop::new(1, error))?;
    let api = listen_api(&config).await?;
    let unix = listen_unix(&config.socket).await?;
    let socket = SocketFile(config.socket.clone());

    let controller =
        Arc::new(Controller::new(config.clone(), keys, store, config.reachable_at(bound), now_ns()));
    let worker = Arc::clone(&controller);
    // Before anything reads staging.
    blocking(move || uploads::recover(&worker)).await.map_err(cannot_open)?;
    tokio::spawn(uploads::watch(Arc::clone(&controller)));
    tokio::spawn(runlog::watch(Arc::clone(&controller)));
    for receiver in controller.config.notify.clone() {
        tokio::spawn(notify::drive(Arc::clone(&controller), receiver));
    }
    let worker = Arc::clone(&controller);
    tokio::spawn(blocking(move || sweep_what_was_left(&worker)));
    let executor = tokio::spawn(Executor::new(Arc::clone(&controller)).drive());
    tokio::spawn(echo::watch(Arc::clone(&controller)));
    let log = WriteAheadLog::open(&controller.config.database()).map_err(cannot_open)?;
    tokio::spawn(carry_over(log));
    let nodes = tokio::spawn(axum::serve(tcp, api::node(Arc::clone(&controller))).into_future());
    tokio::spawn(api::settle_audit(Arc::clone(&controller)));
    let local = api::operator(Arc::clone(&controller)).into_make_service_with_connect_info::<Origin>();
    let operators = tokio::spawn(axum::serve(unix, local).into_future());

    let mut ready = format!("ready listen={bound} socket={}", socket.0.display());
    if let Some((listener, address, identity)) = api {
        controller.remote.door.get_or_init(|| (address, identity.pin));
        let (router, tls) = (api::operator(Arc::clone(&controller)), TlsAcceptor::from(identity.tls));
        tokio::spawn(remote::serve(listener, tls, router, Arc::clone(&controller)));
        ready.push_str(&format!(" api={address} fingerprint={}", identity.pin));
    }
    // Whoever started us may have stopped reading; that is no reason to end.
    let _ = writeln!(std::io::stdout(), "{ready}");
    log::info!("farmcast ccm {}: {ready}", env!("CARGO_PKG_VERSION"));

    let ended = tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
        ended = executor => Err(format!("the executor ended: {ended:?}")),
        ended = nodes => Err(format!("the listener on {bound} ended: {ended:?}")),
        ended = operators => Err(format!("the listener on {} ended: {ended:?}", socket.0.display())),
    };
    match ended {
        Ok(signal) => {
            log::info!("{signal}: stopping; runs go on at the next start");
            Ok(())
        }
        Err(message) => Err(Stop::new(1, message)),
    }
}

/// The kernel says whose process it is (SO_PEERCRED); where it cannot, it is nobody's.
impl Connected<IncomingStream<'_, UnixListener>> for Origin {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        const NOBODY: u32 = u32::MAX;
        Self::Local { uid: stream.io().peer_cred().map_or(NOBODY, |peer| peer.uid()) }
    }
}

/// Carries what was written into the database, away from those who write.
async fn carry_over(mut log: WriteAheadLog) {
    loop {
        tokio::time::sleep(CARRY_OVER_EVERY).await;
        let (done, back) = blocking(move || (log.carry_over(), log)).await;
        log = back;
        if let Err(error) = done {
            log::warn!("{error}");
        }
    }
}

/// The socket's file goes when we go.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Makes the directories that are missing and removes what composing left when it was killed.
fn prepare_state(config: &Config) -> Result<(), Stop> {
    let stop =
        |path: &Path, error: std::io::Error| Stop::new(EX_CANTCREAT, format!("{}: {error}", path.display()));
    remove_tree(&config.dir, config.rebuilt().file_name().unwrap_or_default().as_encoded_bytes());
    for folder in ["objects", "shadow", "cache"] {
        let path = config.dir.join(folder);
        std::fs::create_dir_all(&path).map_err(|error| stop(&path, error))?;
    }
    let objects = config.objects();
    for entry in std::fs::read_dir(&objects).map_err(|error| stop(&objects, error))? {
        let path = entry.map_err(|error| stop(&objects, error))?.path();
        if path.extension().is_none_or(|extension| extension != "asg") {
            std::fs::remove_file(&path).map_err(|error| stop(&path, error))?;
        }
    }
    Ok(())
}

async fn listen_tcp(config: &Config) -> Result<TcpListener, Stop> {
    bind("listen", config.listen).await
}

/// The listener of the API over TLS, if there is to be one, where it listens, and as whom it answers.
async fn listen_api(config: &Config) -> Result<Option<(TcpListener, SocketAddr, Identity)>, Stop> {
    let Some(api) = config.api else { return Ok(None) };
    let identity =
        certificate::load(config).map_err(|error| Stop::new(EX_CONFIG, format!("api: {error}")))?;
    let listener = bind("api", api).await?;
    let address = listener.local_addr().map_err(|error| Stop::new(1, error))?;
    Ok(Some((listener, address, identity)))
}

/// `key` is that of the address in ccm.toml.
async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, Stop> {
    TcpListener::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("; another program has the port: stop it, or set `{key}` in ccm.toml to another (0: any free)")
            }
            std::io::ErrorKind::AddrNotAvailable => {
                format!("; this machine has no such address: see `{key}` in ccm.toml")
            }
            _ => String::new(),
        };
        Stop::new(EX_UNAVAILABLE, format!("{key} {address}: {error}{advice}"))
    })
}

/// A socket that nobody answers on was left behind by a crash and is taken over.
async fn listen_unix(path: &Path) -> Result<UnixListener, Stop> {
    let name = path.display();
    if UnixStream::connect(path).await.is_ok() {
        let advice = "another ccm runs there: stop it, or set `socket` in ccm.toml to another path";
        return Err(Stop::new(EX_UNAVAILABLE, format!("socket {name}: in use; {advice}")));
    }
    let is_socket = |metadata: std::fs::Metadata| {
        use std::os::unix::fs::FileTypeExt;
        metadata.file_type().is_socket()
    };
    if std::fs::symlink_metadata(path).is_ok_and(is_socket) {
        let removed = std::fs::remove_file(path);
        removed.map_err(|error| Stop::new(EX_UNAVAILABLE, format!("socket {name}: {error}")))?;
    }
    let listener = UnixListener::bind(path).map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::NotFound => "; make its directory first, or set `socket` in ccm.toml",
            std::io::ErrorKind::AddrInUse => "; a file that is no socket is there",
            _ => "",
        };
        Stop::new(EX_UNAVAILABLE, format!("socket {name}: {error}{advice}"))
    })?;
    let mode = std::fs::Permissions::from_mode(0o660);
    std::fs::set_permissions(path, mode)
        .map_err(|error| Stop::new(EX_UNAVAILABLE, format!("socket {name}: {error}")))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::testing::controller;

    #[tokio::test]
    async fn a_socket_in_use_is_left_alone_and_one_left_behind_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ccm.sock");
        let first = listen_unix(&path).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let stop = listen_unix(&path).await.unwrap_err();
        assert_eq!(stop.code, EX_UNAVAILABLE);
        assert!(stop.message.contains("another ccm runs there"), "{}", stop.message);
        drop(first);
        assert!(path.exists(), "as after a crash");
        listen_unix(&path).await.unwrap();

        let file = dir.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        assert_eq!(listen_unix(&file).await.unwrap_err().code, EX_UNAVAILABLE);
        assert_eq!(std::fs::read(&file).unwrap(), b"precious");
        let nowhere = listen_unix(&dir.path().join("no/ccm.sock")).await.unwrap_err();
        assert!(nowhere.message.contains("make its directory first"), "{}", nowhere.message);
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_what_to_do() {
        let (_dir, controller) = controller(0);
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Config { listen: taken.local_addr().unwrap(), ..controller.config.clone() };
        let stop = listen_tcp(&config).await.unwrap_err();
        assert_eq!(stop.code, EX_UNAVAILABLE);
        assert!(stop.message.starts_with(&format!("listen {}: ", config.listen)), "{}", stop.message);
        assert!(stop.message.contains("set `listen`"), "{}", stop.message);
    }

    #[test]
    fn what_composing_left_behind_goes_and_objects_stay() {
        let (_dir, controller) = controller(0);
        let objects = controller.config.objects();
        std::fs::write(objects.join("run-7.tmp"), "half").unwrap();
        std::fs::write(objects.join("aa.asg"), "whole").unwrap();
        prepare_state(&controller.config).unwrap();
        assert!(!objects.join("run-7.tmp").exists() && objects.join("aa.asg").exists());
    }
}
