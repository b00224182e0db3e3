//! `farmcast`: the controller, the operator's commands, a node, the demo.

use std::process::ExitCode;

fn main() -> ExitCode {
    // `--json` may stand before the command, as everywhere.
    let arguments: Vec<_> = std::env::args_os().skip(1).skip_while(|word| word == "--json").collect();
    match arguments.first().and_then(|first| first.to_str()) {
        Some("applier") => farmcast::applier::main(),
        Some("node") if !farmcast::cli::is_node_query(&arguments[1..]) => farmcast::node::main(),
        Some("doctor") => farmcast::node::main(),
        _ => farmcast::cli::main(),
    }
}
