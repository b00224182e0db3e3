//! How long a segment is without a leader, as a table that is checked in and reviewed as a diff (EL-13, H-9).
//!
//! For both profiles. `start`: from the first node's start, all within half a second, to one leader whom all
//! follow. `failover`: from the crash of that leader to the next. `calls`: messages of one failover, a
//! multicast counted once. `lost`: changes of leader in an hour without any fault but the loss; `doubts`: how
//! often a member took its leader for gone, or a leader had to ask for its place, in that hour. Milliseconds.

use crate::faults::Who;
use crate::options::Options;
use crate::sweep;
use crate::world::World;
use farmcast::time::Duration;
use std::fmt::Write;

const SHOTS: u64 = 25;
const STEADY_LAN: Duration = Duration::from_secs(300);
const STEADY_CLASSIC: Duration = Duration::from_secs(3_600);
/// Nodes of the segments of the table; a debug build measures the smallest ones.
const SIZES: &[usize] = if cfg!(debug_assertions) { &[3] } else { &[3, 12, 32] };
const TABLE: &str = include_str!("snapshots/election.txt");

/// What was measured with so many nodes at so much loss.
#[derive(Debug, Default)]
struct Row {
    start: Vec<u64>,
    failover: Vec<u64>,
    calls: Vec<u64>,
    changes: u64,
    doubts: u64,
}

/// Milliseconds, or calls, in the middle, at 99 % and at the worst.
fn percentiles(mut values: Vec<u64>) -> String {
    values.sort_unstable();
    let at = |share: usize| values[(values.len() - 1) * share / 100];
    format!("{:>6} {:>6} {:>6}", at(50), at(99), at(100))
}

fn agree(world: &mut World) -> Result<Duration, String> {
    let began = world.context.now;
    let end = began + Duration::from_secs(180);
    let agreed = world.run_until(end, |world| world.agreed(0).is_ok())?;
    assert!(agreed, "no leader within three minutes");
    Ok(world.context.now.since(began))
}

fn measure(classic: bool, nodes: usize, loss: f64, shots: u64) -> Result<Row, String> {
    let mut row = Row::default();
    let alive = Options { classic, ..Options::quiet(nodes) }.profile().alive_period;
    for seed in 0..shots {
        let mut options = Options { classic, ..Options::quiet(nodes) };
        options.weather.loss = loss;
        let mut world = World::new(seed, options, false);
        // Not before all have started, for a leader of half the nodes is none yet.
        world.run(Duration::from_millis(500))?;
        row.start.push(500 + agree(&mut world)?.as_millis());
        // At another point between two leader-alives each time.
        world.run(Duration::from_millis(1_500) + alive * (seed * 7 % 50) / 50)?;
        agree(&mut world)?;
        let calls = world.context.messages;
        world.strike(crate::faults::Fault::kill(Who::Leader(0), Duration::from_secs(3_600)));
        row.failover.push(agree(&mut world)?.as_millis());
        row.calls.push(world.context.messages - calls);
    }
    let mut options = Options { classic, ..Options::quiet(nodes) };
    options.weather.loss = loss;
    let mut world = World::new(99, options, false);
    agree(&mut world)?;
    world.run(Duration::from_secs(3))?;
    let doubts = |world: &World| -> u64 {
        world.nodes.iter().filter_map(|node| node.engine()).map(|engine| engine.counters().elections).sum()
    };
    let (before, doubts_before) = (world.leaders.len() as u64, doubts(&world));
    world.run(if classic { STEADY_CLASSIC } else { STEADY_LAN })?;
    row.doubts = doubts(&world) - doubts_before;
    row.changes = world.leaders.len() as u64 - before;
    Ok(row)
}

fn table() -> Result<String, String> {
    let mut text = String::from(
        "                                  start ms             failover ms           calls of a failover\n\
         profile  nodes  loss     p50    p99    max     p50    p99    max     p50    p99    max   lost/h  doubts/h\n",
    );
    let losses = |nodes: &usize| [0, 1, 5, 20].map(|loss_pct: u8| (*nodes, loss_pct));
    let rows = SIZES.iter().flat_map(losses);
    for (classic, (nodes, loss_pct)) in
        rows.clone().map(|row| (false, row)).chain(rows.map(|row| (true, row)))
    {
        let shots = if nodes > 12 { SHOTS / 3 } else { SHOTS };
        let row = measure(classic, nodes, f64::from(loss_pct) / 100.0, shots)?;
        let steady = if classic { STEADY_CLASSIC } else { STEADY_LAN };
        let per_hour = |count: u64| count as f64 * 3_600.0 / steady.as_secs_f64();
        let (lost, doubts) = (per_hour(row.changes), per_hour(row.doubts));
        let (start, failover, calls) =
            (percentiles(row.start), percentiles(row.failover), percentiles(row.calls));
        let profile = if classic { "classic" } else { "lan" };
        writeln!(
            text,
            "{profile:<7}  {nodes:>5} {loss_pct:>4}%  {start}  {failover}  {calls}  {lost:>6.0}  {doubts:>8.0}"
        )
        .expect("a string takes all");
    }
    Ok(text)
}

#[test]
fn the_table_of_elections_is_the_one_checked_in() {
    let table = table().expect("no promise is broken");
    if std::env::var_os("SIM_UPDATE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/snapshots/election.txt");
        let whole = table.lines().count() == TABLE.lines().count();
        assert!(whole, "this build measures a part: SIM_UPDATE=1 cargo test --release --test sim table");
        std::fs::write(path, &table).expect("the sources can be written");
        return;
    }
    if cfg!(debug_assertions) {
        sweep::tell(
            "SKIPPED: the_table_of_elections_is_the_one_checked_in: 12 and 32 nodes in this debug build",
        );
    }
    let is_measured = |line: &&str| {
        let nodes = line.split_whitespace().nth(1).and_then(|nodes| nodes.parse().ok());
        nodes.is_none_or(|nodes| SIZES.contains(&nodes))
    };
    let before: Vec<&str> = TABLE.lines().filter(is_measured).collect();
    assert!(
        table.lines().eq(before.iter().copied()),
        "elections take another time than before; if that is meant: \
         SIM_UPDATE=1 cargo test --release --test sim table\nbefore:\n{TABLE}\nnow:\n{table}"
    );
}

/// Design section 8: 12 nodes, 5 % loss, p99 below a second.
#[test]
fn a_dead_leader_is_replaced_within_a_second_at_five_percent_loss() {
    let mut failover = measure(false, 12, 0.05, 60).expect("no promise is broken").failover;
    failover.sort_unstable();
    let p99 = failover[(failover.len() - 1) * 99 / 100];
    assert!(p99 < 1_000, "p99 {p99} ms of {failover:?}");
}
