//! Lines of the text port: requests, the verb table behind them, and replies as a client reads them.

use crate::memory::bounded;
use farmcast::node::verbs::{self, Level};
use farmcast::wire::console::{Line, Output, Request};

/// The first byte tells on which side of the port the line is read.
pub fn run(data: &[u8]) -> bool {
    let Some((choice, line)) = data.split_first() else { return false };
    if choice % 2 == 1 {
        return bounded(line, 64, || Line::parse(line)).is_ok();
    }
    for level in Level::ALL {
        let parsed = bounded(line, 64, || verbs::parse(line, level));
        if let Err(refusal) = parsed.command {
            for output in [Output::Logfmt, Output::Json] {
                // What is refused is quoted in the answer, which must be lines all the same.
                let lines = refusal.print(parsed.tag, output);
                assert!(lines.lines().all(|line| Line::parse(line.as_bytes()).is_ok()), "{lines:?}");
            }
        }
    }
    let Ok(request) = bounded(line, 64, || Request::parse(line)) else { return false };
    assert_eq!(Request::parse(request.to_string().as_bytes()).as_ref(), Ok(&request));
    true
}

pub fn seeds() -> Vec<Vec<u8>> {
    let requests = [
        "@17 show status json",
        "help show counters",
        "notify document=0123abCD",
        "order document=\"0123\"\r",
        "show segment \"quoted\\\"\\x00\\n\" key=va-lue key2=\"\"",
        "commands",
    ];
    let replies = [
        "@17 201-row name=web01 free_bytes=12 text=\"two words\"",
        "200 ok rows=1",
        "100 farmcast-ctl/1 server=farmcastd",
        "@x 201-{\"kind\":\"row\",\"n\":1}",
        "422 bad-value arg=document text=\"not \\xff hexadecimal\"",
    ];
    let seed = |choice: u8| move |text: &&str| [&[choice][..], text.as_bytes()].concat();
    requests.iter().map(seed(0)).chain(replies.iter().map(seed(1))).collect()
}
