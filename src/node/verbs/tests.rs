use super::*;

fn answer(line: &str, level: Level) -> String {
    let parsed = parse(line.as_bytes(), level);
    parsed.command.unwrap_err().print(parsed.tag, parsed.output)
}

fn call(line: &str, level: Level) -> Command {
    parse(line.as_bytes(), level).command.unwrap()
}

#[test]
fn every_example_of_the_table_is_its_command_and_needs_its_level() {
    for verb in VERBS {
        for level in Level::ALL {
            let parsed = parse(verb.example.as_bytes(), level);
            if level >= verb.level {
                assert!(parsed.command.is_ok(), "{} as {level}", verb.example);
            } else {
                let denied = Reply::new(Code::Denied).with("need", verb.level.as_str());
                assert_eq!(parsed.command, Err(denied), "{} as {level}", verb.example);
            }
        }
    }
}

#[test]
fn the_table_holds_each_command_once_and_in_the_grammar() {
    for (at, verb) in VERBS.iter().enumerate() {
        assert!(VERBS[..at].iter().all(|other| other.words != verb.words), "{}", verb.name());
        // The first match is taken, so no command may hide a longer one.
        assert!(VERBS[at + 1..].iter().all(|later| !later.words.starts_with(verb.words)), "{}", verb.name());
        let request = Request::parse(verb.name().as_bytes()).unwrap();
        assert_eq!(request.words, verb.words);
        assert!(!verb.help.is_empty() && !verb.help.ends_with('.'), "{}", verb.help);
    }
}

#[test]
fn commands_become_calls_with_their_arguments() {
    assert_eq!(call("show members", Level::Observe), Command::Node(Call::Show(Subject::Members)));
    assert_eq!(call("shutdown", Level::Admin), Command::Node(Call::Shutdown));
    assert_eq!(call("notify document=00fF", Level::Document), Command::Node(Call::Notify(vec![0, 255])));
    assert_eq!(call("order document=\"07\"", Level::Admin), Command::Node(Call::Order(vec![7])));
    assert_eq!(call("charter document=07", Level::Document), Command::Node(Call::Charter(vec![7])));
    assert_eq!(call("refresh", Level::Operate), Command::Node(Call::Refresh));
    let to = "239.1.2.3:7401".parse().unwrap();
    assert_eq!(call("channel to=239.1.2.3:7401", Level::Operate), Command::Node(Call::Channel(to)));
    let parsed = parse(b"@x9 commands json\r", Level::Observe);
    assert_eq!((parsed.tag, parsed.output), (Tag::new("x9"), Output::Json));
    assert_eq!(parsed.command, Ok(Command::Commands));
}

#[test]
fn the_longest_documents_fit_a_line() {
    for (word, max) in [("notify", Notification::MAX), ("order", Order::MAX), ("charter", Charter::MAX)] {
        let line = |len: usize| Request::new(&[word]).with("document", "ab".repeat(len)).to_string();
        assert!(parse(line(max).as_bytes(), Level::Document).command.is_ok());
        let reply = answer(&line(max + 1), Level::Document);
        assert!(reply.starts_with("422 bad-value arg=document text="), "{reply}");
        assert!(reply.contains(&format!("max={max}")), "{reply}");
    }
}

#[test]
fn an_unknown_command_is_answered_with_the_nearest_one_allowed() {
    for (line, expected) in [
        ("show member", "405 unknown-command did-you-mean=\"show members\"\n"),
        ("shwo members", "405 unknown-command did-you-mean=\"show members\"\n"),
        ("show conters json", "405 {\"kind\":\"unknown-command\",\"did-you-mean\":\"show counters\"}\n"),
        ("@1 pong", "@1 405 unknown-command did-you-mean=ping\n"),
        ("frobnicate everything", "405 unknown-command text=\"help lists the commands\"\n"),
        ("help show member", "405 unknown-command did-you-mean=\"show members\"\n"),
    ] {
        assert_eq!(answer(line, Level::Observe), expected, "{line}");
    }
    assert_eq!(answer("shutdwn", Level::Admin), "405 unknown-command did-you-mean=shutdown\n");
    assert!(!answer("shutdwn", Level::Observe).contains("shutdown"));
}

#[test]
fn a_command_is_told_its_syntax_when_arguments_do_not_fit() {
    for (line, expected) in [
        ("notify", "400 syntax text=\"the command is: notify document=HEX\"\n"),
        ("notify 00", "400 syntax text=\"the command is: notify document=HEX\"\n"),
        ("notify file=00", "400 syntax text=\"the command is: notify document=HEX\" surplus=file\n"),
        ("notify document=00 document=00", "400 syntax text=\"the command is: notify document=HEX\"\n"),
        ("notify document=0", "422 bad-value arg=document text=\"not hexadecimal\"\n"),
        ("notify document=\"\"", "422 bad-value arg=document text=empty\n"),
        ("notify document=\"\\xff\"", "422 bad-value arg=document text=\"not hexadecimal\"\n"),
        ("channel", "400 syntax text=\"the command is: channel to=ADDRESS:PORT\"\n"),
        ("channel at=1", "400 syntax text=\"the command is: channel to=ADDRESS:PORT\" surplus=at\n"),
        ("ping me", "400 syntax text=\"the command is: ping\" surplus=me\n"),
        ("ping id=7", "400 syntax text=\"the command is: ping\" surplus=id\n"),
        ("show status \"\\xff\"", "400 syntax text=\"the command is: show status\" surplus=\"\\xff\"\n"),
        ("help id=7", "400 syntax text=\"the command is: help [COMMAND]\" surplus=id\n"),
    ] {
        assert_eq!(answer(line, Level::Admin), expected, "{line}");
    }
}

/// EL-6: what cannot be a channel is refused before anybody moves.
#[test]
fn a_channel_is_a_multicast_group_that_may_be_used_and_a_port() {
    for to in ["10.0.0.1:7401", "224.0.0.1:7401", "239.1.2.3:0", "239.1.2.3", "[ff02::1]:7", "\"\"", "x"] {
        let reply = answer(&format!("channel to={to}"), Level::Admin);
        assert!(reply.starts_with("422 bad-value arg=to text="), "{to}: {reply}");
    }
}

#[test]
fn a_line_out_of_the_grammar_is_answered_under_its_tag() {
    assert_eq!(
        answer("@9 show a=", Level::Admin),
        "@9 400 syntax text=\"no value at 10; an empty one is written \\\"\\\"\"\n"
    );
    assert!(answer(&"x".repeat(5000), Level::Admin).starts_with("413 too-long "));
    assert!(answer(&"x ".repeat(65), Level::Admin).starts_with("413 too-long "));
    assert!(answer("GET / HTTP/1.1", Level::Document).starts_with("400 syntax "));
}

#[test]
fn help_lists_what_the_session_may_use_and_explains_one() {
    let names =
        |level| -> Vec<_> { help(None, level).rows().iter().map(|row| row.fields[0].1.clone()).collect() };
    let syntax: Vec<_> = VERBS.iter().map(|verb| verb.syntax().into()).collect();
    assert_eq!(names(Level::Admin), syntax);
    assert_eq!(
        names(Level::Document),
        [
            "help [COMMAND]",
            "ping",
            "quit",
            "hello document=HEX",
            "notify document=HEX",
            "order document=HEX",
            "charter document=HEX",
            "scrub document=HEX"
        ]
        .map(|s| s.into())
    );
    let Command::Help(verb) = call("help notify", Level::Document) else { panic!() };
    assert_eq!(
        help(verb, Level::Document).print(None, Output::Logfmt),
        "200 ok syntax=\"notify document=HEX\" level=document help=\"fetch an assignment and hand it on\" \
         example=\"notify document=00ff\" arg=\"a notification signed by the director\" max_bytes=512\n"
    );
    assert_eq!(help(None, Level::Observe).code(), Code::Ok);
    assert_eq!(commands().rows().len(), VERBS.len());
}

#[test]
fn distances_count_letters_inserted_deleted_replaced_and_swapped() {
    assert_eq!(distance("show", "show"), 0);
    assert_eq!(distance("shwo", "show"), 1);
    assert_eq!(distance("", "abc"), 3);
    assert_eq!(distance("kitten", "sitting"), 3);
    assert_eq!(distance(&"x".repeat(4096), "show"), 4096);
}
