//! Who else is there: a daemon that runs here already, whoever holds our ports, the CCM and its clock.

use super::{Finding, Report};
use crate::io::clock;
use crate::io::http::client::{Client, Event};
use crate::io::reactor::Reactor;
use crate::node::config::Config;
use crate::node::identity::Identity;
use crate::time::Duration;
use crate::wire::console::{GREETING, Line};
use crate::wire::tls;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;

/// A daemon on this machine, and a CCM in reach, answer within this time.
const PATIENCE: Duration = Duration::from_secs(3);
/// A clock further off than this is set wrong, or not set at all.
const OFFSET_MAX_NS: u64 = 1_000_000_000;
/// Longest greeting of a text port in bytes.
const GREETING_MAX: u64 = 1_024;

pub fn check(config: &Config, report: &mut Report) {
    let daemon = running_daemon(config);
    report.add(judge_daemon(config.name.as_str(), daemon.as_ref()));
    let address = |port| SocketAddrV4::new(config.interface, port);
    let ports = [
        (
            "datagram_port",
            "UDP",
            config.datagram_port,
            UdpSocket::bind(address(config.datagram_port)).map(drop),
        ),
        ("http_port", "TCP", config.http_port, TcpListener::bind(address(config.http_port)).map(drop)),
        ("text_port", "TCP", config.text_port, TcpListener::bind(address(config.text_port)).map(drop)),
    ];
    for (key, protocol, port, tried) in ports {
        report.add(judge_port(key, &format!("{protocol} {}", address(port)), port, tried, daemon.is_some()));
    }
    let ccm = ask_ccm(config.ccm);
    let (reached, clock) = judge_ccm(config.ccm, ccm);
    report.add(reached);
    report.add_all(clock);
}

/// How a running daemon introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Daemon {
    server: String,
    node: String,
}

/// Asks at the operator's socket, and at the text port where the socket is not for us.
fn running_daemon(config: &Config) -> Option<Daemon> {
    let patience = std::time::Duration::from(PATIENCE);
    let by_socket = || {
        let stream = UnixStream::connect(&config.socket).ok()?;
        stream.set_read_timeout(Some(patience)).ok()?;
        greeted(stream)
    };
    let by_port = || {
        // Our own key at both ends: whoever shows it there is the daemon of this configuration.
        let Identity { key, certificate, .. } = Identity::load(&config.state_dir).ok()?;
        let address = SocketAddr::from((config.interface, config.text_port));
        let name = ServerName::from(address.ip());
        let connection = ClientConnection::new(tls::client(&key, certificate.node()), name).ok()?;
        let socket = TcpStream::connect_timeout(&address, patience).ok()?;
        socket.set_read_timeout(Some(patience)).ok()?;
        socket.set_write_timeout(Some(patience)).ok()?;
        greeted(StreamOwned::new(connection, socket))
    };
    by_socket().or_else(|| if config.text_port == 0 { None } else { by_port() })
}

fn greeted(stream: impl Read) -> Option<Daemon> {
    let mut line = Vec::new();
    BufReader::new(stream.take(GREETING_MAX)).read_until(b'\n', &mut line).ok()?;
    let line = Line::parse(line.strip_suffix(b"\n")?).ok().filter(|line| line.code == GREETING)?;
    Some(Daemon { server: line.text("server")?.to_owned(), node: line.text("node")?.to_owned() })
}

fn judge_daemon(name: &str, daemon: Option<&Daemon>) -> Finding {
    let what = "daemon";
    match daemon {
        None => Finding::ok(what, "none runs here now"),
        Some(Daemon { server, node }) if node == name => {
            Finding::ok(what, format!("{server} runs as {node}"))
        }
        Some(Daemon { server, node }) => Finding::fail(
            what,
            format!("{server} runs as {node}, and this configuration is of {name}"),
            "give each node of a machine a control.socket and ports of its own",
        ),
    }
}

fn judge_port(key: &str, shown: &str, port: u16, tried: io::Result<()>, daemon_runs: bool) -> Finding {
    match tried {
        Ok(()) if port == 0 => Finding::ok(key, "any free port will do"),
        Ok(()) => Finding::ok(key, format!("{shown} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && daemon_runs => {
            Finding::ok(key, format!("{shown} is in use, as it is while the node runs"))
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::fail(
            key,
            format!("{shown} is held by another program"),
            format!("see `ss -lnp`, or set network.{key} to a free port"),
        ),
        Err(error) => Finding::fail(key, format!("{shown}: {error}"), format!("see network.{key}")),
    }
}

/// What the CCM said of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    /// Its clock minus ours, in nanoseconds; `None` where whoever answered did not tell the time.
    offset_ns: Option<i64>,
    /// Half of the time that the question took: the offset is no more exact than this.
    error_ns: u64,
}

/// Asks for an object that nobody has: any answer of a CCM tells its time.
fn ask_ccm(ccm: SocketAddr) -> Result<Answer, String> {
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let (begun, sent) = (clock::monotonic(), clock::wall_ns());
    let mut client = Client::get(ccm, "/o/0", None, begun, PATIENCE).map_err(|error| error.to_string())?;
    client.register(reactor.registry(), mio::Token(0)).map_err(|error| error.to_string())?;
    loop {
        let now = clock::monotonic();
        match client.next(now) {
            Some(Event::Head { time, .. }) => {
                let error_ns = now.since(begun).as_nanos() / 2;
                let here = i128::from(sent) + i128::from(error_ns);
                let offset = |there| i64::try_from(i128::from(there) - here).unwrap_or(i64::MAX);
                return Ok(Answer { offset_ns: time.map(offset), error_ns });
            }
            Some(Event::Failed(error)) => return Err(error.to_string()),
            Some(Event::Body(_) | Event::Done) => {}
            None => {
                reactor.wait(now, client.deadline()).map_err(|error| error.to_string())?;
            }
        }
    }
}

fn judge_ccm(ccm: SocketAddr, answer: Result<Answer, String>) -> (Finding, Option<Finding>) {
    let what = "ccm";
    let answer = match answer {
        Ok(answer) => answer,
        Err(text) => {
            let remedy = "start `farmcast ccm run` there, see `ccm` in the configuration and the firewalls";
            return (Finding::fail(what, text, remedy), None);
        }
    };
    let Some(offset) = answer.offset_ns else {
        let text = format!("what answers at {ccm} does not tell the time: it is no CCM");
        let remedy = "set `ccm` to HOST:PORT as `farmcast node invite` prints it";
        return (Finding::fail(what, text, remedy), None);
    };
    (Finding::ok(what, format!("{ccm} answers")), Some(judge_clock(offset, answer.error_ns)))
}

fn judge_clock(offset_ns: i64, error_ns: u64) -> Finding {
    let what = "clock";
    let milli = |ns: u64| ns as f64 / 1e6;
    let way = if offset_ns > 0 { "behind" } else { "ahead of" };
    let (off, error) = (milli(offset_ns.unsigned_abs()), milli(error_ns));
    let text = format!("{off:.1} ms {way} the CCM's, measured to within {error:.1} ms");
    if offset_ns.unsigned_abs() > OFFSET_MAX_NS.saturating_add(error_ns) {
        let remedy =
            "keep both by NTP; sites still switch together, for nodes correct their clock by the CCM's";
        return Finding::warn(what, text, remedy);
    }
    Finding::ok(what, text)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use std::io::Write;

    #[test]
    fn a_port_in_use_is_all_right_only_while_our_daemon_runs() {
        let in_use = || Err(io::Error::from(io::ErrorKind::AddrInUse));
        let denied = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
        for (port, tried, daemon_runs, level, part) in [
            (0, Ok(()), false, Level::Ok, "any free port"),
            (7412, Ok(()), false, Level::Ok, "is free"),
            (7412, in_use(), true, Level::Ok, "while the node runs"),
            (7412, in_use(), false, Level::Fail, "another program"),
            (80, denied(), false, Level::Fail, "permission denied"),
        ] {
            let finding = judge_port("http_port", "TCP 10.0.0.1:7412", port, tried, daemon_runs);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.text.contains(part), "{finding:?}");
            assert_eq!(finding.remedy.contains("network.http_port"), level == Level::Fail);
        }
    }

    #[test]
    fn another_node_behind_our_socket_is_named() {
        let daemon = Daemon { server: "farmcastd/1".to_owned(), node: "web2".to_owned() };
        assert_eq!(judge_daemon("web1", None).level, Level::Ok);
        assert_eq!(judge_daemon("web2", Some(&daemon)).level, Level::Ok);
        assert_eq!(judge_daemon("web1", Some(&daemon)).level, Level::Fail);
    }

    #[test]
    fn only_a_greeting_of_our_protocol_counts_as_a_daemon() {
        let good = b"100 farmcast-ctl/1 server=farmcastd/0.1.0 node=web1 seg=rack1\n";
        let daemon = Daemon { server: "farmcastd/0.1.0".to_owned(), node: "web1".to_owned() };
        assert_eq!(greeted(&good[..]), Some(daemon));
        for bad in [&b"SSH-2.0-OpenSSH_9\r\n"[..], b"", b"100 farmcast-ctl/1", b"200 ok node=a server=b\n"] {
            assert_eq!(greeted(bad), None);
        }
        assert_eq!(greeted(&[b'x'; 4_096][..]), None);
    }

    #[test]
    fn a_clock_is_wrong_beyond_a_second_and_the_error_of_the_measure() {
        let second = OFFSET_MAX_NS as i64;
        for (offset, error, level, part) in [
            (0, 0, Level::Ok, "0.0 ms ahead of"),
            (-2_000_000, 500_000, Level::Ok, "2.0 ms ahead of the CCM's, measured to within 0.5 ms"),
            (second, 0, Level::Ok, "behind"),
            (second + 1, 0, Level::Warn, "1000.0 ms behind"),
            (-second - 1, 0, Level::Warn, "ahead of"),
            (second + 1, 1, Level::Ok, "behind"),
            (i64::MIN, 0, Level::Warn, "ahead of"),
        ] {
            let finding = judge_clock(offset, error);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.text.contains(part), "{finding:?}");
        }
        assert!(judge_clock(second * 2, 0).remedy.contains("still switch together"));
    }

    #[test]
    fn a_ccm_must_answer_and_tell_the_time() {
        let ccm = SocketAddr::from(([10, 0, 0, 1], 7400));
        for (answer, level, clocked) in [
            (Ok(Answer { offset_ns: Some(5), error_ns: 1 }), Level::Ok, true),
            (Ok(Answer { offset_ns: None, error_ns: 1 }), Level::Fail, false),
            (Err("cannot connect".to_owned()), Level::Fail, false),
        ] {
            let (finding, clock) = judge_ccm(ccm, answer);
            assert_eq!((finding.level, clock.is_some()), (level, clocked), "{finding:?}");
        }
    }

    #[test]
    fn the_time_is_taken_from_whatever_a_ccm_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1_024]).unwrap();
            let later = clock::wall_ns() + 60_000_000_000;
            write!(stream, "HTTP/1.1 404 Not Found\r\nx-farmcast-time: {later}\r\ncontent-length: 0\r\n\r\n")
                .unwrap();
        });
        let answer = ask_ccm(address).unwrap();
        server.join().unwrap();
        let offset = answer.offset_ns.unwrap();
        assert!((offset - 60_000_000_000).unsigned_abs() <= answer.error_ns + 50_000_000, "{answer:?}");
        assert!(ask_ccm(address).unwrap_err().contains("cannot connect"));
    }
}
