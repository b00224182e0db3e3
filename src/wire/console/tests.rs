use super::*;
use proptest::prelude::*;

fn parse(line: &str) -> Request {
    Request::parse(line.as_bytes()).unwrap_or_else(|refused| panic!("{line:?}: {refused}"))
}

fn why(line: &[u8]) -> Unreadable {
    Request::parse(line).unwrap_err().why
}

#[test]
fn a_request_has_a_tag_words_arguments_and_an_output() {
    let request = parse("  @a7 session  abort id=88 reason=\"too \\\"slow\\\"\\n\\x00\" \"more\" json\r");
    assert_eq!(request.tag, Tag::new("a7"));
    assert_eq!(request.words, ["session", "abort"]);
    let arg = |key: Option<&str>, value: &[u8]| Argument { key: key.map(Into::into), value: value.into() };
    assert_eq!(
        request.args,
        [arg(Some("id"), b"88"), arg(Some("reason"), b"too \"slow\"\n\0"), arg(None, b"more")]
    );
    assert_eq!(request.output, Output::Json);
    assert_eq!(
        request.to_string(),
        "@a7 session abort id=88 reason=\"too \\\"slow\\\"\\n\\x00\" \"more\" json"
    );
}

#[test]
fn the_word_json_is_an_output_only_at_the_end_bare_and_after_a_command() {
    assert_eq!(parse("show members json").words, ["show", "members"]);
    assert_eq!(parse("json").words, ["json"]);
    assert_eq!(parse("json show").output, Output::Logfmt);
    assert_eq!(parse("show \"json\"").output, Output::Logfmt);
    assert_eq!(parse("show x=json").output, Output::Logfmt);
}

#[test]
fn words_after_an_argument_are_values() {
    let request = parse("drain id=1 on");
    assert_eq!(request.words, ["drain"]);
    assert_eq!(request.args[1], Argument { key: None, value: b"on".into() });
}

#[test]
fn an_equals_sign_belongs_to_the_value_after_the_first() {
    assert_eq!(parse("x a=b=c").args, [Argument { key: Some("a".into()), value: b"b=c".into() }]);
    assert_eq!(parse("x A=b").args, [Argument { key: None, value: b"A=b".into() }]);
}

#[test]
fn a_terminal_may_send_utf8_in_quotes_and_nowhere_else() {
    assert_eq!(parse("x a=\"ü\"").args[0].value, "ü".as_bytes());
    assert_eq!(why("x a=ü".as_bytes()), Unreadable::Byte { at: 4, byte: 0xc3 });
}

#[test]
fn what_breaks_the_grammar_is_named_with_its_place() {
    for (line, expected) in [
        ("", Unreadable::NoCommand),
        ("   ", Unreadable::NoCommand),
        ("@7", Unreadable::NoCommand),
        ("@", Unreadable::Tag),
        ("@a-b show", Unreadable::Tag),
        ("@123456789 show", Unreadable::Tag),
        ("Show status", Unreadable::Word),
        ("id=7", Unreadable::Word),
        ("\"show\"", Unreadable::Word),
        ("show\tstatus", Unreadable::Byte { at: 4, byte: b'\t' }),
        ("show a\\b", Unreadable::Byte { at: 6, byte: b'\\' }),
        ("show a\"b\"", Unreadable::Byte { at: 6, byte: b'"' }),
        ("show \"abc", Unreadable::Unclosed { at: 5 }),
        ("show \"abc\\", Unreadable::Escape { at: 9 }),
        ("show \"\\x1\"", Unreadable::Escape { at: 6 }),
        ("show \"\\q\"", Unreadable::Escape { at: 6 }),
        ("show \"\0\"", Unreadable::Byte { at: 6, byte: 0 }),
        ("show \"a\"b", Unreadable::Glued { at: 7 }),
        ("show a=", Unreadable::Empty { at: 7 }),
    ] {
        assert_eq!(why(line.as_bytes()), expected, "{line:?}");
    }
}

#[test]
fn an_error_carries_the_tag_where_one_was_readable() {
    assert_eq!(Request::parse(b"@7 show a=").unwrap_err().tag, Tag::new("7"));
    assert_eq!(Request::parse(b"@- show").unwrap_err().tag, None);
}

#[test]
fn a_line_and_its_pieces_are_bounded() {
    let longest = format!("x {}", "y".repeat(LINE_MAX - 2));
    assert!(Request::parse(longest.as_bytes()).is_ok());
    assert!(Request::parse(format!("{longest}\r").as_bytes()).is_ok());
    assert_eq!(why(format!("{longest}y").as_bytes()), Unreadable::TooLong(LINE_MAX));
    assert!(Request::parse("x ".repeat(ARGS_MAX).as_bytes()).is_ok());
    assert_eq!(why("x ".repeat(ARGS_MAX + 1).as_bytes()), Unreadable::TooMany);
    assert_eq!(Line::parse(&vec![b'2'; REPLY_LINE_MAX + 1]), Err(Unreadable::TooLong(REPLY_LINE_MAX)));
}

fn members() -> Reply {
    Reply::table()
        .row("member", vec![("id", "web01".into()), ("free_bytes", 81234567168u64.into())])
        .row(
            "member",
            vec![("id", b"\xff \"x\\\n"[..].into()), ("stale", true.into()), ("skew_us", (-3i64).into())],
        )
        .with("gl", "web 03")
}

#[test]
fn a_reply_prints_as_the_protocol_shows_it() {
    assert_eq!(
        members().print(Tag::new("7"), Output::Logfmt),
        "@7 201-member id=web01 free_bytes=81234567168\n\
         @7 201-member id=\"\\xff \\\"x\\\\\\n\" stale=true skew_us=-3\n\
         @7 200 ok rows=2 gl=\"web 03\"\n"
    );
    assert_eq!(Reply::table().print(None, Output::Logfmt), "200 ok rows=0\n");
    assert_eq!(
        Reply::refused(Code::NotFound, "no such session; running: 91").print(None, Output::Logfmt),
        "404 not-found text=\"no such session; running: 91\"\n"
    );
}

#[test]
fn a_reply_in_json_is_one_object_per_line_that_any_reader_takes() {
    let text = members().with("note", "größe 😀 \u{1}\u{7f}").print(None, Output::Json);
    assert!(text.is_ascii());
    let objects: Vec<serde_json::Value> = text
        .lines()
        .map(|line| match Line::parse(line.as_bytes()).unwrap().body {
            Body::Json(json) => serde_json::from_str(&json).unwrap(),
            body => panic!("{body:?}"),
        })
        .collect();
    assert_eq!(
        objects[0],
        serde_json::json!({"kind": "member", "id": "web01", "free_bytes": 81234567168u64})
    );
    assert_eq!(
        objects[1],
        serde_json::json!({"kind": "member", "id": "\\xff \"x\\\\\\n", "stale": true, "skew_us": -3})
    );
    assert_eq!(
        objects[2],
        serde_json::json!({"kind": "ok", "rows": 2, "gl": "web 03", "note": "größe 😀 \u{1}\u{7f}"})
    );
}

#[test]
fn no_value_can_forge_a_line() {
    let evil = "x\n200 ok\r\n\"\u{85}\u{2028}";
    for output in [Output::Logfmt, Output::Json] {
        let text = Reply::ok().with("text", evil).with("name", evil.as_bytes()).print(None, output);
        assert_eq!(text.matches('\n').count(), 1);
        assert!(text.trim_end().bytes().all(|c| matches!(c, b' '..=b'~')), "{text}");
    }
}

#[test]
fn a_client_reads_the_marks_the_keyword_and_the_fields() {
    let line = Line::parse(b"@7 201-member id=web01 name=\"\\xff\"\r").unwrap();
    assert_eq!((line.tag, line.code, line.mark), (Tag::new("7"), 201, Mark::More));
    assert_eq!(line.text("id"), Some("web01"));
    assert_eq!(line.text("name"), None);
    assert_eq!(Line::parse(b"212+session id=9").unwrap().mark, Mark::Event);
    let greeting = Line::parse(b"100 farmcast-ctl/1 server=farmcastd/0.9.2").unwrap();
    assert!(matches!(greeting.body, Body::Fields { keyword: Some(name), .. } if name == PROTOCOL));
    for bad in ["", "20", "20x ok", "200", "200:ok", "@7", "@ 200 ok", "@7200 ok"] {
        assert!(Line::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert!(matches!(Line::parse(b"200 ok stray"), Err(Unreadable::NoKey { at: 3 })));
    assert!(Line::parse("200 {\"a\":\"ü\"}".as_bytes()).is_err());
}

#[test]
fn codes_and_keywords_are_used_once() {
    for (at, code) in Code::ALL.iter().enumerate() {
        for other in &Code::ALL[..at] {
            assert_ne!(code.number(), other.number());
            assert_ne!(code.keyword(), other.keyword());
        }
    }
}

fn tag() -> impl Strategy<Value = Option<Tag>> {
    proptest::option::of("[A-Za-z0-9]{1,8}".prop_map(|text| Tag::new(&text).unwrap()))
}

prop_compose! {
    fn request()(
        tag in tag(),
        words in proptest::collection::vec("[a-z][a-z0-9-]{0,8}", 1..5),
        args in proptest::collection::vec(
            (proptest::option::of("[a-z][a-z0-9_-]{0,5}"), proptest::collection::vec(any::<u8>(), 0..12)),
            0..6,
        ),
        json in any::<bool>(),
    ) -> Request {
        let args: Vec<_> = args.into_iter().map(|(key, value)| Argument { key, value }).collect();
        let output = if json { Output::Json } else { Output::Logfmt };
        Request { tag, words, args, output }
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<String>().prop_map(Value::Text),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
        any::<u64>().prop_map(Value::Number),
        any::<i64>().prop_map(Value::Signed),
        any::<bool>().prop_map(Value::Flag),
    ]
}

fn bytes_of(value: &Value) -> Vec<u8> {
    match value {
        Value::Text(text) => text.clone().into_bytes(),
        Value::Bytes(bytes) => bytes.clone(),
        Value::Number(number) => number.to_string().into_bytes(),
        Value::Signed(number) => number.to_string().into_bytes(),
        Value::Flag(flag) => flag.to_string().into_bytes(),
    }
}

proptest! {
    #[test]
    fn a_request_reads_back_as_it_was_printed(request in request()) {
        prop_assume!(request.output == Output::Json || request.words.last().unwrap() != "json");
        let line = request.to_string();
        prop_assert!(line.bytes().all(|c| matches!(c, b' '..=b'~')));
        prop_assert_eq!(Request::parse(line.as_bytes()), Ok(request));
    }

    #[test]
    fn a_reply_reads_back_as_it_was_printed(
        tag in tag(),
        rows in proptest::collection::vec(proptest::collection::vec(value(), 0..4), 0..4),
        last in value(),
    ) {
        const KEYS: [&str; 4] = ["a", "b_ms", "c-d", "e9"];
        let mut reply = Reply::table().with("last", last.clone());
        for row in &rows {
            reply.push("row", KEYS.into_iter().zip(row.iter().cloned()).collect());
        }
        let text = reply.print(tag, Output::Logfmt);
        let lines: Vec<_> = text.lines().map(|line| Line::parse(line.as_bytes()).unwrap()).collect();
        prop_assert_eq!(lines.len(), rows.len() + 1);
        for (line, row) in lines.iter().zip(&rows) {
            let fields = KEYS.iter().zip(row).map(|(key, value)| (key.to_string(), bytes_of(value))).collect();
            let body = Body::Fields { keyword: Some("row".into()), fields };
            prop_assert_eq!(line, &Line { tag, code: 201, mark: Mark::More, body });
        }
        let count = rows.len().to_string().into_bytes();
        let fields = vec![("rows".to_string(), count), ("last".to_string(), bytes_of(&last))];
        let body = Body::Fields { keyword: Some("ok".into()), fields };
        prop_assert_eq!(lines.last().unwrap(), &Line { tag, code: 200, mark: Mark::Last, body });
        for line in reply.print(tag, Output::Json).lines() {
            let Body::Json(json) = Line::parse(line.as_bytes()).unwrap().body else { panic!("{line}") };
            prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{}", json);
        }
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Request::parse(&bytes);
        let _ = Line::parse(&bytes);
    }

    #[test]
    fn nothing_that_looks_like_a_line_makes_a_parser_panic(
        line in "@?[a-c0]{0,9} ?[0-9]{0,3}[- +]?([a-z]{0,3}[= ]?[\"\\\\x0-9a-f{}+\u{fc} ]{0,6}){0,6}",
    ) {
        let _ = Line::parse(line.as_bytes());
        if let Ok(request) = Request::parse(line.as_bytes()) {
            prop_assert_eq!(Request::parse(request.to_string().as_bytes()), Ok(request));
        }
    }
}
