//! `farmcast completions SHELL` and `farmcast man DIR`: made from the definitions that parse the command line, so they
//! cannot say anything else.

use super::failure::Failure;
use super::output::{Output, count};
use clap_complete::aot::{Bash, Fish, Zsh};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const NAME: &str = "farmcast";

#[derive(clap::Args)]
pub struct Completions {
    /// Whose completions to print
    shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(clap::Args)]
pub struct Man {
    /// Where to write the pages; made where it is not there
    dir: PathBuf,
}

pub fn completions(mut command: clap::Command, wish: &Completions) -> Result<ExitCode, Failure> {
    std::io::stdout().write_all(&script(&mut command, wish.shell))?;
    Ok(ExitCode::SUCCESS)
}

fn script(command: &mut clap::Command, shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    match shell {
        Shell::Bash => clap_complete::generate(Bash, command, NAME, &mut script),
        Shell::Zsh => clap_complete::generate(Zsh, command, NAME, &mut script),
        Shell::Fish => clap_complete::generate(Fish, command, NAME, &mut script),
    }
    script
}

/// Writes one page for each command: `farmcast.1`, `farmcast-schedule-add.1`.
pub fn man(command: clap::Command, output: &Output, wish: &Man) -> Result<ExitCode, Failure> {
    let written = write_pages(command, &wish.dir)
        .map_err(|error| Failure::Ran(format!("cannot write to {}: {error}", wish.dir.display())))?;
    if !output.is_json() {
        output.line(&format!("{} in {}", count(written, "page"), wish.dir.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_pages(command: clap::Command, dir: &Path) -> std::io::Result<u64> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(command.clone(), dir)?;
    Ok(names(&command, NAME).len() as u64)
}

/// The commands that a page stands for.
fn names(command: &clap::Command, name: &str) -> Vec<String> {
    let below = command.get_subcommands().filter(|below| !below.is_hide_set());
    let below = below.flat_map(|below| names(below, &format!("{name}-{}", below.get_name())));
    std::iter::once(name.to_owned()).chain(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::process::{Command, Stdio};

    fn cli() -> clap::Command {
        super::super::Cli::command()
    }

    #[test]
    fn the_completions_of_each_shell_know_every_command_and_are_a_script() {
        let words: Vec<String> = cli()
            .get_subcommands()
            .flat_map(|noun| noun.get_subcommands().map(|verb| verb.get_name().to_owned()))
            .collect();
        assert!(words.len() > 20, "{words:?}");
        for (shell, program) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            let script = String::from_utf8(super::script(&mut cli(), shell)).unwrap();
            for word in &words {
                assert!(script.contains(word.as_str()), "{program} does not complete {word}");
            }
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("script");
            std::fs::write(&path, script).unwrap();
            match Command::new(program).arg("-n").arg(&path).stderr(Stdio::inherit()).status() {
                Ok(status) => assert!(status.success(), "{program} does not read its completions"),
                Err(error) => eprintln!("SKIPPED, not shown here: that {program} reads them: {error}"),
            }
        }
    }

    #[test]
    fn there_is_a_page_for_every_command_and_none_for_what_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let pages = dir.path().join("man/man1");
        let written = write_pages(cli(), &pages).unwrap();
        let mut expected: Vec<String> = names(&cli(), NAME).iter().map(|name| format!("{name}.1")).collect();
        let mut found: Vec<String> = std::fs::read_dir(&pages)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        assert_eq!(written, found.len() as u64);
        assert!(found.contains(&"farmcast-schedule-add.1".to_owned()), "{found:?}");
        let page = std::fs::read_to_string(pages.join("farmcast-schedule-add.1")).unwrap();
        assert!(page.contains(".TH") && page.contains("on\\-change"), "{page}");
        std::fs::write(dir.path().join("file"), "in the way").unwrap();
        assert!(write_pages(cli(), &dir.path().join("file")).is_err());
    }
}
