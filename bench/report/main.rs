//! Turns what the lab printed with `--json` into one page with plots (`cargo bench --bench report -- RUNS`).
//!
//! - `run.rs`: the lines that the lab printed, as figures and series
//! - `plot.rs`: lines and bars as SVG
//! - `page.rs`: the page around them; it loads nothing from anywhere

mod page;
mod plot;
mod run;

use clap::Parser;
use run::Run;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "report", about = "Writes a page with plots of what the lab has measured")]
struct Options {
    /// Files of JSON lines, as `cargo bench --bench lab -- local --series --json` prints them.
    runs: Vec<PathBuf>,
    /// Where the page goes.
    #[arg(long, default_value = "target/report.html")]
    out: PathBuf,
    /// Given by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.runs.is_empty() {
        println!("report: no runs given; see `cargo bench --bench report -- --help` and bench/README.md");
        return ExitCode::SUCCESS;
    }
    match write(&options) {
        Ok(count) => {
            println!("{}: {count} runs", options.out.display());
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("report: {text}");
            ExitCode::FAILURE
        }
    }
}

fn write(options: &Options) -> Result<usize, String> {
    let mut runs = Vec::new();
    for path in &options.runs {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        runs.extend(Run::read_all(&name, &text)?);
    }
    let page = page::write(&runs);
    std::fs::write(&options.out, page).map_err(|error| format!("{}: {error}", options.out.display()))?;
    Ok(runs.len())
}
