//! Composing, staging and switching beside the tools that do as much
//! (`cargo bench --bench content -- delta|compare|stage|switch|large`, bench/README.md):
//! what one file's change costs, and how fast trees are compared. All tools in one run, one after the other,
//! medians of several rounds.
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]

mod compare;
mod delta;
mod large;
mod peers;
mod stage;
mod switch;
mod table;
mod trees;

use clap::{Parser, Subcommand};
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "Measures composing beside rsync, xdelta3 and zstd")]
struct Options {
    #[command(subcommand)]
    what: What,
    /// Print a JSON object per line instead of a table
    #[arg(long, global = true)]
    json: bool,
    /// Rounds; figures are medians
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Where trees and outputs go; a disk in memory measures the tools and not the disk
    #[arg(long, global = true, default_value = "/dev/shm", value_name = "DIR")]
    place: PathBuf,
    /// `cargo bench` says so
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum What {
    /// A percent of one file changed, in place and shifted
    Delta {
        /// MiB of the file
        #[arg(long, default_value_t = 256)]
        size: u64,
    },
    /// Two equal trees
    Compare {
        #[arg(long, default_value_t = 100_000)]
        files: u32,
    },
    /// A whole tree staged, beside creating its files in a loop
    Stage {
        #[arg(long, default_value_t = 10_000)]
        files: u32,
    },
    /// The instant of a switch, of a tree of a hundredth of the files and of all
    Switch {
        #[arg(long, default_value_t = 100_000)]
        files: u32,
    },
    /// The most memory of composing, staging and comparing a large tree
    #[command(group = clap::ArgGroup::new("size").required(true))]
    Large {
        /// GiB of the tree, most of them holes
        #[arg(long, group = "size", value_parser = clap::value_parser!(u64).range(4..=1_024))]
        gigabytes: Option<u64>,
        /// Small files of the tree
        #[arg(long, group = "size", value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
        files: Option<u64>,
    },
    /// One step of it in a process of its own
    #[command(hide = true)]
    LargeStep { step: String, number: u64, scratch: PathBuf },
    /// One composing in a process of its own, for its peak of memory
    #[command(hide = true)]
    Compose { scratch: PathBuf },
}

fn main() {
    let options = Options::parse();
    let rounds = table::Rounds { json: options.json, runs: options.runs };
    match options.what {
        What::Delta { size } => delta::run(&rounds, &options.place, size << 20),
        What::Compare { files } => compare::run(&rounds, &options.place, files),
        What::Stage { files } => stage::run(&rounds, &options.place, files),
        What::Switch { files } => switch::run(&rounds, &options.place, files),
        What::Large { gigabytes, files } => {
            let size = gigabytes.map(large::Size::Gigabytes).or(files.map(large::Size::Files));
            large::run(options.json, &options.place, size.expect("one of them is required"));
        }
        What::LargeStep { step, number, scratch } => large::step_here(&step, number, &scratch),
        What::Compose { scratch } => peers::compose_here(&scratch),
    }
}
