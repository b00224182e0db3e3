//! Plots as SVG: lines over time, and bars. Colours are classes, which the page's style gives a colour each.

use super::run::Point;
use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 220.0;
/// Room for the labels of the axes.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 36.0;
/// Height of a bar with the space around it.
const ROW: f64 = 20.0;
/// Width of the names of bars, and of the figures behind them.
const NAMES: f64 = 110.0;
const FIGURES: f64 = 90.0;
/// Steps of an axis at most.
const STEPS: f64 = 5.0;

pub struct Line {
    /// Shown in the legend; lines with an empty name are not.
    pub name: String,
    /// `a` to `d`, or `thin` for one of many.
    pub class: &'static str,
    pub points: Vec<Point>,
}

/// Lines over seconds. An axis begins at 0.
pub fn lines(title: &str, unit: &str, lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| &line.points).filter(|(x, y)| x.is_finite() && y.is_finite());
    let right = axis_end(all().map(|(x, _)| *x));
    let top = axis_end(all().map(|(_, y)| *y));
    let x = |value: f64| LEFT + (value / right).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - (value / top).clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM);
    let mut svg = open(title, HEIGHT);
    for value in ticks(top) {
        let at = y(value);
        put(&mut svg, &format!("<path class='grid' d='M{LEFT} {at:.1}H{:.1}'/>", WIDTH - RIGHT));
        put(
            &mut svg,
            &format!("<text class='end' x='{}' y='{:.1}'>{}</text>", LEFT - 6.0, at + 4.0, figure(value)),
        );
    }
    for value in ticks(right) {
        let (at, below) = (x(value), HEIGHT - BOTTOM + 16.0);
        put(&mut svg, &format!("<text class='middle' x='{at:.1}' y='{below}'>{}</text>", figure(value)));
    }
    let (middle, foot) = ((WIDTH + LEFT) / 2.0, HEIGHT - 4.0);
    put(&mut svg, &format!("<text class='middle' x='{middle}' y='{foot}'>seconds</text>"));
    put(&mut svg, &format!("<text x='4' y='11'>{}</text>", escape(unit)));
    for line in lines {
        let mut path = String::new();
        for (at, value) in line.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite() && *x >= 0.0) {
            let letter = if path.is_empty() { 'M' } else { 'L' };
            write!(path, "{letter}{:.1} {:.1}", x(*at), y(*value)).expect("a string takes all");
        }
        put(&mut svg, &format!("<path class='line {}' d='{path}'/>", line.class));
    }
    let mut at = LEFT + 90.0;
    for line in lines.iter().filter(|line| !line.name.is_empty()) {
        put(&mut svg, &format!("<path class='line {}' d='M{at} 7h18'/>", line.class));
        put(&mut svg, &format!("<text x='{}' y='11'>{}</text>", at + 22.0, escape(&line.name)));
        at += 40.0 + 6.5 * line.name.chars().count() as f64;
    }
    svg + "</svg>\n"
}

pub struct Bar {
    pub name: String,
    pub class: &'static str,
    pub value: f64,
    /// A second, shorter bar within: what had come until then.
    pub within: Option<f64>,
    /// Behind the bar.
    pub figure: String,
}

pub fn bars(title: &str, bars: &[Bar]) -> String {
    let longest = axis_end(bars.iter().map(|bar| bar.value).filter(|value| value.is_finite()));
    let len = |value: f64| (value / longest).clamp(0.0, 1.0) * (WIDTH - NAMES - FIGURES);
    let mut svg = open(title, ROW * bars.len() as f64 + 4.0);
    for (row, bar) in bars.iter().enumerate() {
        let top = ROW * row as f64 + 3.0;
        let text = top + 11.0;
        put(
            &mut svg,
            &format!("<text class='end' x='{}' y='{text}'>{}</text>", NAMES - 8.0, escape(&bar.name)),
        );
        if bar.value.is_finite() {
            let width = len(bar.value);
            let class = bar.class;
            put(
                &mut svg,
                &format!("<rect class='{class}' x='{NAMES}' y='{top}' width='{width:.1}' height='14'/>"),
            );
        }
        if let Some(within) = bar.within.filter(|within| within.is_finite()) {
            let width = len(within);
            put(&mut svg, &format!("<rect class='b' x='{NAMES}' y='{top}' width='{width:.1}' height='14'/>"));
        }
        let behind = NAMES + if bar.value.is_finite() { len(bar.value) } else { 0.0 } + 6.0;
        put(&mut svg, &format!("<text x='{behind:.1}' y='{text}'>{}</text>", escape(&bar.figure)));
    }
    svg + "</svg>\n"
}

fn open(title: &str, height: f64) -> String {
    format!(
        "<svg viewBox='0 0 {WIDTH} {height}' role='img' aria-label='{title}'><title>{title}</title>\n",
        title = escape(title)
    )
}

fn put(svg: &mut String, element: &str) {
    svg.push_str(element);
    svg.push('\n');
}

/// A round number at or above the largest value.
fn axis_end(values: impl Iterator<Item = f64>) -> f64 {
    let most = values.fold(0.0, f64::max);
    if most > 0.0 { (most / step(most)).ceil() * step(most) } else { 1.0 }
}

/// 1, 2 or 5 times a power of ten, so that at most [`STEPS`] of them reach `end`.
fn step(end: f64) -> f64 {
    let rough = end / STEPS;
    let unit = 10_f64.powf(rough.log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0].into_iter().find(|times| times * unit >= rough * 0.999);
    times.unwrap_or(10.0) * unit
}

fn ticks(end: f64) -> Vec<f64> {
    let step = step(end);
    (0..).map(|number| f64::from(number) * step).take_while(|value| *value <= end * 1.001).collect()
}

/// A number without needless zeros.
pub fn figure(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text that a page may hold as it is.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '\'' => safe.push_str("&#39;"),
            '"' => safe.push_str("&quot;"),
            _ => safe.push(letter),
        }
    }
    safe
}
