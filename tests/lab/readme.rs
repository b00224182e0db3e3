//! The farm of two machines that README.md promises, by the very commands that stand there.

use crate::farm::FLOODS;
use crate::harness::{FARMCAST, LATER, SOON, noise, run, tree, wait_for};
use crate::world::{Machine, create_switch, in_lab, plug};
use farmcast::ccm::api::types::{Job, Node as NodeRow, Phase, Status};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};

/// The addresses of the page are for documentation; these are those of the lab.
const CONTROL: &str = "10.7.0.10";
const WEB1: &str = "10.7.0.11";

/// The commands and files of the chapter, as they stand there.
struct Steps {
    /// The blocks of commands, in their order.
    blocks: Vec<Vec<String>>,
    config: String,
}

impl Steps {
    fn read() -> Self {
        let page = include_str!("../../README.md").replace("192.0.2.10", CONTROL);
        let chapter = page.split("## A farm of two machines").nth(1).expect("the chapter");
        let chapter = chapter.split("\n## ").next().expect("its end");
        let (configs, commands): (Vec<&str>, Vec<&str>) =
            chapter.split("```").skip(1).step_by(2).partition(|block| block.starts_with("toml\n"));
        let lines = |block: &str| block.lines().skip(1).map(str::to_owned).collect();
        let [config] = configs[..] else { panic!("one configuration file: {configs:?}") };
        Self {
            blocks: commands.into_iter().map(lines).collect(),
            config: config["toml\n".len()..].to_owned(),
        }
    }
}

/// Types the lines of a block one after the other; one that stays in the foreground is the last.
fn type_block(machine: &Machine, lines: &[String], log: &Path) -> (String, Option<Started>) {
    let mut said = String::new();
    for line in lines {
        if matches!(line.as_str(), "farmcast ccm run" | "farmcastd") {
            return (said, Some(start(machine, line, log)));
        }
        said += &type_in(machine, line);
    }
    (said, None)
}

/// A program that runs until it is dropped; what it says goes to a file.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command line of the page in the foreground of another terminal.
fn start(machine: &Machine, line: &str, log: &Path) -> Started {
    let log = fs::File::create(log).expect("a log");
    let child = machine
        .command(&["sh", "-c", &format!("exec {line}")])
        .env("PATH", path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a descriptor"))
        .stderr(log)
        .spawn();
    Started(child.expect("the shell starts"))
}

#[track_caller]
fn type_in(machine: &Machine, line: &str) -> String {
    let mut command = machine.command(&["sh", "-c", line]);
    command.env("PATH", path());
    let said = run(command, LATER);
    assert_eq!(said.code, Some(0), "{}: {line}: {said:?}", machine.name);
    said.stdout
}

/// Both programs lie where the tests are built.
fn path() -> String {
    let dir = Path::new(FARMCAST).parent().expect("a directory").display();
    format!("{dir}:{}", std::env::var("PATH").unwrap_or_default())
}

#[test]
fn the_commands_of_the_readme_make_a_farm_of_two_machines() {
    in_lab("readme::the_commands_of_the_readme_make_a_farm_of_two_machines", &[], || {
        let steps = Steps::read();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = |name: &str| dir.path().join(name);
        create_switch("switch", FLOODS);
        let (control, web1) = (Machine::with_own_files("control"), Machine::with_own_files("web1"));
        let address = |text: &str| text.parse::<Ipv4Addr>().expect("an address");
        plug(&control, "eth0", "switch", "port-control", address(CONTROL));
        plug(&web1, "eth0", "switch", "port-web1", address(WEB1));

        let [make, add, join, publish] = &steps.blocks[..] else { panic!("{:?}", steps.blocks) };
        let (_, ccm) = type_block(&control, make, &log("ccm"));
        let _ccm = ccm.expect("the controller is started");
        wait_for("the controller", SOON, || UnixStream::connect(control.file("/run/farmcast/ccm.sock")).ok());
        let (printed, _) = type_block(&control, add, &log("add"));
        let token = |printed: &str| {
            let mut words = printed.split_whitespace();
            words.find(|word| word.starts_with("fcj1-")).expect("a token").to_owned()
        };
        assert!(printed.contains("farmcastd join"), "it prints what to type on the node: {printed}");
        let with_token = |token: &str| -> Vec<String> {
            join.iter().map(|line| line.replace("fcj1-...", token)).collect()
        };
        write_config(&web1, &steps.config);
        let (_, node) = type_block(&web1, &with_token(&token(&printed)), &log("web1"));
        let _web1 = node.expect("the node is started");

        // "Further servers are set up as `web1`": here the controller's own machine.
        let printed = type_in(&control, "farmcast node invite web2");
        write_config(&control, &steps.config.replace("\"web1\"", "\"web2\""));
        let (_, node) = type_block(&control, &with_token(&token(&printed)), &log("web2"));
        let _web2 = node.expect("the node is started");

        let logs = || ["ccm", "web1", "web2"].map(|name| fs::read_to_string(log(name)).unwrap_or_default());
        let ask = |words: &str| type_in(&control, &format!("farmcast {words} --json"));
        wait_for(&format!("two nodes online: {:?}", logs()), LATER, || {
            let rows: Vec<NodeRow> = serde_json::from_str(&ask("node list")).expect("JSON");
            let leads = rows.iter().filter(|row| row.state == "leader").count();
            let whole = rows.iter().filter(|row| row.state != "offline" && !row.sites.is_empty()).count();
            ((leads, whole) == (1, 2)).then_some(())
        });
        let status: Status = serde_json::from_str(&ask("status")).expect("JSON");
        assert_eq!(
            (status.nodes_online, status.nodes_total, status.segments.len()),
            (2, 2, 1),
            "{status:#?}"
        );
        assert_eq!(status.segments[0].name, "rack1");
        assert!(type_in(&control, "farmcast status").contains("rack1"));

        let staging = control.file("/srv/staging/www");
        fs::write(staging.join("index.html"), "<h1>hello</h1>").expect("content");
        fs::create_dir(staging.join("images")).expect("content");
        fs::write(staging.join("images/noise"), noise(1, 3 << 20)).expect("content");
        type_block(&control, publish, &log("publish"));
        for (machine, name) in [(&web1, "web1"), (&control, "web2")] {
            assert_eq!(tree(&machine.file("/srv/farm/www/live")), tree(&staging), "{name}: {:?}", logs());
        }
        let jobs: Vec<Job> = serde_json::from_str(&ask("job list")).expect("JSON");
        assert_eq!((jobs.len(), jobs[0].phase), (1, Phase::Done), "{jobs:#?}");
        let job: Job = serde_json::from_str(&ask("job show 1")).expect("JSON");
        assert!(job.nodes.iter().all(|node| node.state == "live") && job.nodes.len() == 2, "{job:#?}");
    });
}

fn write_config(machine: &Machine, config: &str) {
    fs::create_dir(machine.file("/etc/farmcast")).expect("a directory");
    fs::write(machine.file("/etc/farmcast/farmcastd.toml"), config).expect("a configuration");
}
