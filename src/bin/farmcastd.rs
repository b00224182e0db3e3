//! `farmcastd`: the appliance daemon, a node and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == "applier") {
        farmcast::applier::main()
    } else {
        farmcast::node::main()
    }
}
