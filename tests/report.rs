//! The page of `cargo bench --bench report`: what the lab prints becomes figures and plots, and nothing of a
//! line gets into the page as it is.
#![cfg(all(feature = "node", feature = "ccm"))]

#[path = "../bench/report/page.rs"]
mod page;
#[path = "../bench/report/plot.rs"]
mod plot;
#[path = "../bench/report/run.rs"]
mod run;

use run::Run;
use serde_json::{Value, json};

fn line(tool: &str, more: Value) -> String {
    let mut line = json!({
        "scenario": "local", "tool": tool, "members": 2, "bytes": 33_554_432, "rate_mbit": 200.0, "mtu": 1_500,
        "impairment": "tbf", "loss_pct": 1.0,
    });
    let more = more.as_object().expect("an object").clone();
    line.as_object_mut().expect("an object").extend(more);
    line.to_string()
}

fn with_series() -> String {
    let member = json!({ "at_s": [0.05, 0.15], "frames": [40, 130], "verified": [0.0, 0.5] });
    line(
        "farmcast",
        json!({
            "seconds": 1.5, "goodput_mb_s": 22.4, "link_share": 0.9, "completed": 2,
            "members_received_seconds": [1.2, 1.3], "members_staged_seconds": [1.4, null],
            "series": {
                "at_s": [0.0, 0.1, 0.2], "frames": [0, 100, 200], "repair_frames": [0, 0, 20],
                "rate_bytes_s": [1_000_000, 25_000_000, 25_000_000], "members": [member, member],
            },
        }),
    )
}

fn read(text: &str) -> Vec<Run> {
    Run::read_all("runs.jsonl", text).expect("lines of the lab")
}

#[test]
fn a_run_with_a_series_gets_plots_of_rate_loss_repair_and_completion() {
    let page = page::write(&read(&with_series()));
    for title in ["rate", "lost, by member", "frames", "verified, by member", "received and staged"] {
        assert!(page.contains(&format!("<title>{title}")), "{title} is missing:\n{page}");
    }
    assert!(page.contains("200 Mbit/s, tbf") && page.contains("not staged"), "{page}");
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    assert!(!page.contains("http") && !page.contains("<script"), "it loads nothing:\n{page}");
}

#[test]
fn a_series_becomes_the_rate_and_the_loss_that_it_tells() {
    let runs = read(&with_series());
    let series = runs[0].series.as_ref().expect("a series");
    let rate = series.rate(1_500);
    // 100 frames of 1,500 bytes in 0.1 s.
    assert!(rate.iter().all(|(_, mbit)| (mbit - 12.0).abs() < 1e-6), "{rate:?}");
    let [first, repair] = series.frames();
    assert!((first[1].1 - 800.0).abs() < 1e-6 && (repair[1].1 - 200.0).abs() < 1e-6, "{first:?} {repair:?}");
    // 50 sent and 40 there, then 150 and 130: of 100 more 90 came.
    let lost = series.lost(&series.members[0]);
    assert!(lost.len() == 1 && (lost[0].1 - 10.0).abs() < 1e-6, "{lost:?}");
}

#[test]
fn tools_are_compared_and_those_that_are_missing_are_named() {
    let text = [
        line("udpcast", json!({ "seconds": 3.0, "goodput_mb_s": 11.2, "completed": 2 })),
        line("uftp", json!({ "skipped": "not installed: apt install uftp" })),
        with_series(),
        line("farmcast", json!({ "ratio": { "udpcast": 2.0 }, "runs": 1 })),
    ];
    let page = page::write(&read(&text.join("\n")));
    assert!(page.contains("2.0 × udpcast"), "{page}");
    assert!(page.contains("uftp was skipped: not installed"), "{page}");
    assert_eq!(page.matches("<h2>").count(), 1, "the same links make one section:\n{page}");
}

#[test]
fn a_line_cannot_put_anything_of_its_own_into_the_page() {
    let text = line(
        "<script>alert(1)</script>",
        json!({ "seconds": 1.0, "goodput_mb_s": 1.0, "impairment": "'\"<b>" }),
    );
    let page = page::write(&read(&text));
    assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
}

#[test]
fn a_line_that_is_wrong_is_named_by_file_and_number() {
    let broken = format!("lab: some words\n{}", r#"{"scenario":"local"}"#);
    let error = Run::read_all("runs.jsonl", &broken).expect_err("a line without a tool");
    assert!(error.starts_with("runs.jsonl:2: ") && error.contains("--json"), "{error}");
    let uneven = with_series().replace("[0,100,200]", "[0,100]");
    let error = Run::read_all("runs.jsonl", &uneven).expect_err("arrays of two lengths");
    assert!(error.contains("one length"), "{error}");
}
