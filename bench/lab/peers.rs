//! The same file to the same members by other tools. Each stores the file; only the lab checks it.

use crate::content::same;
use crate::local::Peer;
use crate::process::{self, Running};
use crate::report::Measured;
use crate::segment::Segment;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const GROUP: &str = "239.255.77.1";
const PRIVATE_GROUP: &str = "239.255.77.2";
const PORT: u16 = 7_900;
/// Seconds after which a tool that has not finished is given up.
const PATIENCE: u64 = 300;

pub fn measure(peer: Peer, segment: &Segment, file: &Path, place: &Path) -> Result<Measured, String> {
    let tool = match peer {
        Peer::Udpcast => "udpcast",
        Peer::Uftp => "uftp",
        Peer::Tcp => "tcp",
    };
    let dir = place.join(tool);
    std::fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let file_name = file.file_name().ok_or("a file without a name")?;
    let own = std::env::current_exe().map_err(|error| format!("cannot find the own program: {error}"))?;
    let own = own.to_str().ok_or("the own program's path is not UTF-8")?;

    let mut receivers = Vec::new();
    let mut stored = Vec::new();
    for (number, member) in segment.members.iter().enumerate() {
        let home = dir.join(format!("{number}"));
        std::fs::create_dir(&home).map_err(|error| format!("{}: {error}", home.display()))?;
        let target = home.join(file_name);
        let mut command = match peer {
            Peer::Udpcast => member.command("udp-receiver"),
            Peer::Uftp => member.command("uftpd"),
            Peer::Tcp => member.command(own),
        };
        match peer {
            Peer::Udpcast => command
                .args(["--nokbd", "--interface", "eth0", "--rcvbuf", "4194304", "--no-progress"])
                .args(["--exit-wait", "50", "--nosync", "--file"])
                .arg(&target),
            Peer::Uftp => {
                let uid = format!("{:#010x}", number + 1);
                command.args(["-d", "-I", "eth0", "-U", &uid, "-M", GROUP, "-B", "4194304", "-D"]).arg(&home)
            }
            Peer::Tcp => command.arg("copy-in").arg(PORT.to_string()).arg(&target),
        };
        receivers.push(Running::start(&mut command, &dir.join(format!("{number}.log")))?);
        stored.push(target);
    }
    // Joins and sockets of the receivers; none of the tools says when it is ready.
    std::thread::sleep(std::time::Duration::from_millis(500));

    let before = segment.sender.sent_bytes()?;
    let mut command = sender(peer, segment, file, own);
    let start = Instant::now();
    let mut sender = Running::start(&mut command, &dir.join("sender.log"))?;
    let mut ok = true;
    if peer == Peer::Uftp {
        // Its receivers are daemons: the sender's end is the file's end at everybody.
        ok &= sender.wait("uftp", PATIENCE)?.1;
    } else {
        for receiver in &mut receivers {
            ok &= receiver.wait(tool, PATIENCE)?.1;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    ok &= sender.wait(tool, PATIENCE)?.1;
    receivers.iter_mut().for_each(Running::stop);
    let wire_bytes = segment.sender.sent_bytes()? - before;
    ok &= stored.iter().all(|path| same(file, path));
    if !ok {
        let log = std::fs::read_to_string(dir.join("sender.log")).unwrap_or_default();
        eprintln!("lab: {tool} did not deliver everywhere; its sender said:\n{log}");
    }
    std::fs::remove_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok(Measured { tool, seconds, wire_bytes, ok, farm: None })
}

fn sender(peer: Peer, segment: &Segment, file: &Path, own: &str) -> Command {
    let members = segment.members.len();
    match peer {
        Peer::Udpcast => {
            let mut command = segment.sender.command("udp-sender");
            command.args(["--nokbd", "--interface", "eth0", "--no-progress", "--mcast-data-address", GROUP]);
            command.args(["--min-receivers", &members.to_string(), "--full-duplex", "--max-wait", "3"]);
            command.args(["--slice-size", "1024", "--rexmit-hello-interval", "50", "--file"]).arg(file);
            command
        }
        Peer::Uftp => {
            let ids: Vec<String> = (1..=members).map(|number| format!("{number:#010x}")).collect();
            // It has to be told the rate: 95 % of the link leaves room for headers; -1 is as fast as it can.
            let rate =
                segment.shape.rate.map_or("-1".to_owned(), |rate| (rate / 1_000 * 95 / 100).to_string());
            let mut command = segment.sender.command("uftp");
            command.args(["-I", "eth0", "-M", GROUP, "-P", PRIVATE_GROUP, "-B", "4194304", "-b", "1400"]);
            command.args(["-H", &ids.join(","), "-r", "0.05:0.01:15.0", "-R", &rate]).arg(file);
            command
        }
        Peer::Tcp => {
            let mut command = process::inside(&segment.sender.namespace, own);
            command.arg("copy-out").arg(file);
            command.args(segment.members.iter().map(|member| format!("{}:{PORT}", member.address)));
            command
        }
    }
}
