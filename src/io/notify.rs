//! Telling the service manager how we are (sd_notify(3)).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::time::Duration;

/// The socket of the service manager. All messages are lost rather than waited for.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    manager: SocketAddr,
}

impl Notifier {
    /// The one named by `NOTIFY_SOCKET`; `None` where we run without a service manager.
    pub fn from_env() -> io::Result<Option<Self>> {
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(address) if !address.is_empty() => Self::new(&address).map(Some),
            _ => Ok(None),
        }
    }

    /// Speaks to a path, or to an abstract name written with a leading `@`.
    pub fn new(address: &OsStr) -> io::Result<Self> {
        let manager = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "NOTIFY_SOCKET is neither a path nor @name",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, manager })
    }

    /// Start-up is over.
    pub fn ready(&self) -> io::Result<()> {
        self.tell("READY=1")
    }

    /// One line for `systemctl status`.
    pub fn status(&self, text: &str) -> io::Result<()> {
        self.tell(&format!("STATUS={}", text.replace('\n', " ")))
    }

    /// We are about to end on purpose.
    pub fn stopping(&self) -> io::Result<()> {
        self.tell("STOPPING=1")
    }

    /// The loop still turns.
    pub fn watchdog(&self) -> io::Result<()> {
        self.tell("WATCHDOG=1")
    }

    fn tell(&self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.manager).map(drop)
    }
}

/// How often [`Notifier::watchdog`] is to be called: half of what the manager would bear (`WATCHDOG_USEC`).
/// `None` where it does not watch this process.
pub fn watchdog_interval() -> Option<Duration> {
    let number = |name| std::env::var(name).ok();
    interval(number("WATCHDOG_USEC").as_deref(), number("WATCHDOG_PID").as_deref(), std::process::id())
}

fn interval(micros: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let micros: u64 = micros?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_hears_what_it_is_told_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("farmcast-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&abstract_name).unwrap();
        for (manager, address) in [(by_path, path.into_os_string()), (by_name, format!("@{name}").into())] {
            let notifier = Notifier::new(&address).unwrap();
            notifier.ready().unwrap();
            notifier.status("leader of boston\nREADY=0").unwrap();
            notifier.watchdog().unwrap();
            notifier.stopping().unwrap();
            let mut heard = Vec::new();
            for _ in 0..4 {
                let mut buffer = [0; 64];
                let len = manager.recv(&mut buffer).unwrap();
                heard.push(String::from_utf8(buffer[..len].to_vec()).unwrap());
            }
            assert_eq!(heard, ["READY=1", "STATUS=leader of boston READY=0", "WATCHDOG=1", "STOPPING=1"]);
        }
    }

    #[test]
    fn an_address_that_is_no_path_is_refused() {
        assert!(Notifier::new(OsStr::new("relative")).is_err());
    }

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_asked_and_only_by_the_watched_process() {
        assert_eq!(interval(Some("2000000"), Some("7"), 7), Some(Duration::from_secs(1)));
        assert_eq!(interval(Some("2000000"), None, 7), Some(Duration::from_secs(1)));
        assert_eq!(interval(Some("2000000"), Some("8"), 7), None);
        assert_eq!(interval(Some("0"), None, 7), None);
        assert_eq!(interval(Some("often"), None, 7), None);
        assert_eq!(interval(None, None, 7), None);
    }
}
