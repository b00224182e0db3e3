//! The page: for each set of links the tools beside each other, and how each run of farmcast with a series went.

use super::plot::{self, Bar, Line, escape, figure};
use super::run::{Member, Point, Run, Series};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2733; --dim: #66717d; --grid: #e3e7eb; --paper: #fff;
  --a: #1f6fb2; --b: #7db4e0; --c: #c4572e; --d: #2e8b57; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --dim: #97a3af; --grid: #2f3a45; --paper: #141a21;
  --a: #5aa9e6; --b: #2f628c; --c: #f08a5d; --d: #63c393; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1340px; margin: 2em auto; padding: 0 1.2em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.1em; margin-top: 2.2em; border-top: 1px solid var(--grid);
  padding-top: 1em; } h3 { font-size: .95em; margin: 1.2em 0 .2em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6em 0; }
th, td { text-align: right; padding: .15em .8em .15em 0; } th { color: var(--dim); font-weight: 500; }
th:first-child, td:first-child { text-align: left; } .own td { font-weight: 600; }
p.note { color: var(--dim); }
div.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: .4em 2em; }
svg { width: 100%; font: 11px system-ui, sans-serif; } svg text { fill: var(--dim); }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; }
svg .grid { stroke: var(--grid); fill: none; } svg .line { fill: none; stroke-width: 1.8; }
svg .line.a { stroke: var(--a); } svg .line.b { stroke: var(--b); } svg .line.c { stroke: var(--c); }
svg .line.d { stroke: var(--d); stroke-dasharray: 5 4; } svg .line.thin { stroke: var(--a); stroke-width: 1;
  opacity: .55; }
svg rect.a { fill: var(--a); } svg rect.b { fill: var(--b); } svg rect.c { fill: var(--c); }
";

/// The whole page.
pub fn write(runs: &[Run]) -> String {
    let mut headings: Vec<String> = Vec::new();
    for run in runs {
        let heading = run.heading();
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    let mut page = format!(
        "<!doctype html>\n<html lang='en'>\n<meta charset='utf-8'>\n\
         <meta name='viewport' content='width=device-width'>\n<title>farmcast: the lab</title>\n\
         <style>{STYLE}</style>\n<h1>farmcast: what the lab measured</h1>\n\
         <p class='note'>Seconds run until the last member had the content stored; of farmcast until it was verified \
         and staged. MB are 10<sup>6</sup> bytes. Compare within a section only.</p>\n"
    );
    for heading in &headings {
        let of: Vec<&Run> = runs.iter().filter(|run| run.heading() == *heading).collect();
        page += &format!("<h2>{}</h2>\n", escape(heading));
        page += &section(&of);
    }
    page + "</html>\n"
}

fn section(runs: &[&Run]) -> String {
    let mut html = tools(runs);
    for run in runs.iter().filter(|run| run.skipped.is_some()) {
        let why = run.skipped.as_deref().unwrap_or_default();
        html += &format!("<p class='note'>{} was skipped: {}</p>\n", escape(&run.tool), escape(why));
    }
    for ratio in runs.iter().filter_map(|run| run.ratio.as_ref()).filter(|ratio| !ratio.is_empty()) {
        let words: Vec<String> = ratio.iter().map(|(tool, times)| format!("{times} × {tool}")).collect();
        html += &format!("<p>Medians: farmcast was {} as fast.</p>\n", escape(&words.join(", ")));
    }
    for run in runs.iter().filter(|run| run.goodput_mb_s.is_none() && run.skipped.is_none()) {
        html += &figures(run);
    }
    let mut number = 0;
    for (run, series) in runs.iter().filter_map(|run| Some((run, run.series.as_ref()?))) {
        number += 1;
        html += &format!("<h3>{}, run {number}</h3>\n<div class='plots'>\n", escape(&run.tool));
        html += &session(run, series);
        html += "</div>\n";
    }
    html
}

/// A table of all runs that tell a goodput, and bars beside it.
fn tools(runs: &[&Run]) -> String {
    let measured: Vec<&&Run> = runs.iter().filter(|run| run.goodput_mb_s.is_some()).collect();
    if measured.is_empty() {
        return String::new();
    }
    let mut html =
        "<table><tr><th>tool<th>seconds<th>MB/s<th>received at<th>of the link<th>wire per byte<th>complete\
                    <th>CPU s, sender<th>CPU s, members</tr>\n"
            .to_owned();
    let mut bars = Vec::new();
    for run in measured {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), figure);
        let share =
            |value: Option<f64>| value.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0));
        let cells = [
            escape(&run.tool),
            number(run.seconds),
            number(run.goodput_mb_s),
            number(run.received_mb_s),
            share(run.link_share),
            number(run.wire_per_byte),
            run.completed.map_or("-".to_owned(), |count| format!("{count} of {}", run.members)),
            number(run.cpu_sender_s),
            number(run.cpu_members_s),
        ];
        let own = if run.tool == "farmcast" { " class='own'" } else { "" };
        html += &format!("<tr{own}><td>{}</tr>\n", cells.join("<td>"));
        let value = run.goodput_mb_s.unwrap_or(f64::NAN);
        bars.push(Bar {
            name: run.tool.clone(),
            class: if run.tool == "farmcast" { "a" } else { "c" },
            value,
            within: None,
            figure: format!("{} MB/s", figure(value)),
        });
    }
    html + "</table>\n" + &plot::bars("goodput by tool", &bars)
}

/// What a scenario of its own kind tells, name by name.
fn figures(run: &Run) -> String {
    let plain = run.rest.iter().filter(|(_, value)| value.is_number() || value.is_string());
    let ignored = ["seed", "loss_pct", "run", "runs"];
    let cells: Vec<String> = plain
        .filter(|(name, _)| !ignored.contains(&name.as_str()))
        .map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("<tr><td>{}<td>{}</tr>", escape(&name.replace('_', " ")), escape(&value))
        })
        .collect();
    if cells.is_empty() { String::new() } else { format!("<table>{}</table>\n", cells.join("\n")) }
}

fn session(run: &Run, series: &Series) -> String {
    let line = |name: &str, class, points| Line { name: name.to_owned(), class, points };
    let [source, repair] = series.frames();
    let mut rate = vec![line("aimed at", "d", series.aim()), line("sent", "a", series.rate(run.mtu))];
    if let (Some(link), Some(end)) = (run.rate_mbit, series.at_s.last()) {
        rate.push(line("link", "c", vec![(0.0, link), (*end, link)]));
    }
    let of_members = |points: fn(&Series, &Member) -> Vec<Point>| -> Vec<Line> {
        series.members.iter().map(|member| line("", "thin", points(series, member))).collect()
    };
    let lost = of_members(|series, member| series.lost(member));
    let progress = of_members(|_, member| member.progress());
    let mut html = plot::lines("rate", "Mbit/s", &rate);
    html += &plot::lines("lost, by member", "% lost in the last half second, a line per member", &lost);
    html +=
        &plot::lines("frames", "frames/s", &[line("first pass", "a", source), line("repair", "c", repair)]);
    html += &plot::lines("verified, by member", "% verified, a line per member", &progress);
    html + &completion(run)
}

/// When each member had received and when it had staged the file.
fn completion(run: &Run) -> String {
    let times = run.members_staged_seconds.iter().zip(&run.members_received_seconds).enumerate();
    let bars: Vec<Bar> = times
        .map(|(at, (staged, received))| Bar {
            name: format!("member {}", at + 1),
            class: "a",
            value: staged.unwrap_or(f64::NAN),
            within: *received,
            figure: match (received, staged) {
                (Some(received), Some(staged)) => format!("{} / {} s", figure(*received), figure(*staged)),
                _ => "not staged".to_owned(),
            },
        })
        .collect();
    if bars.is_empty() { String::new() } else { plot::bars("received and staged, by member", &bars) }
}
