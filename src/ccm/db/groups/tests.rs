use super::*;
use crate::ccm::model::JobKind;
use crate::ccm::testing::{SECOND, T0, enrol, id, name, profile, segment_report, store};
use std::path::Path;
use tempfile::TempDir;

fn choices(words: &[&str]) -> Vec<Choice> {
    words.iter().map(|word| word.parse().unwrap()).collect()
}

/// Nodes n1 to n3 in boston, sites www and shop.
fn farm() -> (TempDir, Store) {
    let (dir, mut store) = store();
    (1..=3).for_each(|number| enrol(&mut store, number));
    let all = (1..=3).map(|number| profile(number, &[("www", 0), ("shop", 0)])).collect();
    store.take_segment_report(id(1), &segment_report("boston", 1, all), T0).unwrap().unwrap();
    for site in ["www", "shop"] {
        store.add_site(&name(site), Path::new("/srv"), T0).unwrap();
    }
    (dir, store)
}

#[test]
fn every_site_has_its_default_group_until_it_is_given_another() {
    let (dir, mut store) = farm();
    let all = store.groups().unwrap();
    assert_eq!(all.iter().map(|group| group.name.as_str()).collect::<Vec<_>>(), ["shop", "www"]);
    assert!(all.iter().all(|group| group.nodes == Nodes::All && group.sites == [group.name.clone()]));

    store.create_group(&name("eu"), &choices(&["n1", "segment:boston", "web*"]), T0).unwrap().unwrap();
    store.set_site_group(&name("www"), Some(&name("eu")), T0).unwrap().unwrap();
    drop(store);
    let mut store = Store::open(&dir.path().join("ccm.db")).unwrap();
    let eu = &store.groups().unwrap()[0];
    let chosen = Nodes::Chosen(choices(&["n1", "segment:boston", "web*"]));
    assert_eq!((eu.name.as_str(), &eu.nodes, &eu.sites[..]), ("eu", &chosen, &[name("www")][..]));
    assert_eq!(store.groups().unwrap().len(), 2, "www has no default group now");
    assert_eq!(store.site(&name("www")).unwrap().unwrap().group, name("eu"));

    store.change_group(&name("eu"), &choices(&["n2"]), &choices(&["n1", "web*"]), T0).unwrap().unwrap();
    let eu = &store.groups().unwrap()[0];
    assert_eq!(eu.nodes, Nodes::Chosen(choices(&["n2", "segment:boston"])));
    store.set_site_group(&name("www"), None, T0).unwrap().unwrap();
    store.delete_group(&name("eu"), T0).unwrap().unwrap();
    assert_eq!(store.groups().unwrap(), all);
    assert_eq!(store.events(1).unwrap()[0].0, "group eu");
}

#[test]
fn what_cannot_be_is_refused_with_the_reason_and_nothing_changes() {
    let (_dir, mut store) = farm();
    store.create_group(&name("eu"), &choices(&["n1"]), T0).unwrap().unwrap();
    store.set_site_group(&name("www"), Some(&name("eu")), T0).unwrap().unwrap();
    let before = store.groups().unwrap();

    let create = |store: &mut Store, group, words: &[&str]| {
        store.create_group(&name(group), &choices(words), T0).unwrap().unwrap_err()
    };
    assert_eq!(create(&mut store, "eu", &[]), GroupRefused::Exists(name("eu")));
    assert_eq!(create(&mut store, "shop", &[]), GroupRefused::SitesName(name("shop")));
    assert_eq!(create(&mut store, "us", &["n2", "n9"]), GroupRefused::NoNode("n9".to_owned()));
    assert_eq!(create(&mut store, "us", &["segment:x"]), GroupRefused::NoSegment("x".to_owned()));

    let change = |store: &mut Store, group, add: &[&str], remove: &[&str]| {
        store.change_group(&name(group), &choices(add), &choices(remove), T0).unwrap().unwrap_err()
    };
    assert_eq!(change(&mut store, "us", &["n1"], &[]), GroupRefused::NoGroup(name("us")));
    assert_eq!(change(&mut store, "shop", &["n1"], &[]), GroupRefused::Default(name("shop")));
    let not_chosen = change(&mut store, "eu", &["n2"], &["n3"]);
    assert_eq!(not_chosen.to_string(), "group eu does not choose n3; it chooses n1");
    let in_use = store.delete_group(&name("eu"), T0).unwrap().unwrap_err();
    assert!(in_use.to_string().starts_with("group eu serves www: give it another"), "{in_use}");
    assert_eq!(store.delete_group(&name("shop"), T0).unwrap(), Err(GroupRefused::Default(name("shop"))));
    let set = |store: &mut Store, site, group: Option<&str>| {
        store.set_site_group(&name(site), group.map(name).as_ref(), T0).unwrap().unwrap_err()
    };
    assert_eq!(set(&mut store, "blog", None), GroupRefused::NoSite(name("blog")));
    assert_eq!(set(&mut store, "shop", Some("us")), GroupRefused::NoGroup(name("us")));
    assert_eq!(store.groups().unwrap(), before);
}

/// JT-14: whom a run goes to is settled when it begins to compose.
#[test]
fn while_a_run_is_under_way_its_group_stays_and_all_others_may_change() {
    let (_dir, mut store) = farm();
    store.create_group(&name("eu"), &choices(&["n1"]), T0).unwrap().unwrap();
    store.create_group(&name("us"), &choices(&["n2"]), T0).unwrap().unwrap();
    store.set_site_group(&name("www"), Some(&name("eu")), T0).unwrap().unwrap();
    let run = store.add_job(JobKind::Publish { checksum: false }, &name("www"), T0).unwrap();
    store.change_group(&name("eu"), &choices(&["n2"]), &[], T0).unwrap().expect("it is queued only");

    store.start_run(&run, T0).unwrap();
    let busy = GroupRefused::RunUnderWay { job: run.job, site: name("www") };
    assert_eq!(store.change_group(&name("eu"), &choices(&["n3"]), &[], T0).unwrap(), Err(busy));
    let moved = store.set_site_group(&name("www"), Some(&name("us")), T0).unwrap().unwrap_err();
    assert!(moved.to_string().contains("farmcast job watch 1"), "{moved}");
    store.change_group(&name("us"), &choices(&["n3"]), &[], T0).unwrap().expect("another group");
    store.set_site_group(&name("shop"), Some(&name("us")), T0).unwrap().expect("another site");

    let failed = crate::ccm::api::types::Phase::Failed;
    store.end_run(run.id, failed, "x", None, T0 + SECOND).unwrap();
    store.change_group(&name("eu"), &choices(&["n3"]), &[], T0).unwrap().expect("it is over");
}

#[test]
fn a_list_and_its_channels_are_kept_under_one_number() {
    let (_dir, mut store) = farm();
    let channel = |last: u8| format!("239.1.1.{last}:7").parse::<SocketAddrV4>().unwrap();
    let boston = name("boston");
    let sign = |number: ListNumber| vec![number.0 as u8];
    let given = [(name("www"), channel(1)), (name("shop"), channel(2))];
    let first = store.put_group_list(&boston, &given, sign).unwrap();
    assert_eq!(first, (ListNumber(1), vec![1]));
    let paris = store.put_group_list(&name("paris"), &[(name("www"), channel(3))], sign).unwrap();
    assert_eq!(paris.0, ListNumber(2), "numbers count over the farm");
    store.put_group_list(&boston, &[], sign).unwrap();
    assert_eq!(store.group_list(&boston).unwrap(), Some((ListNumber(3), vec![3])));
    assert_eq!(store.group_list(&name("rome")).unwrap(), None);
    assert_eq!(store.group_list_numbers().unwrap()[&name("paris")], ListNumber(2));
    assert_eq!(store.group_channels().unwrap().len(), 3);
}

#[test]
fn a_database_of_an_earlier_version_is_brought_up_with_what_it_holds() {
    for version in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ccm.db");
        let db = Connection::open(&path).unwrap();
        for migration in &super::super::MIGRATIONS[..version] {
            db.execute_batch(migration).unwrap();
        }
        db.execute_batch(&format!(
            "PRAGMA user_version = {version};
             INSERT INTO sites (name, staging, version, created_ns) VALUES ('www', '/srv', 7, 1);
             INSERT INTO nodes (id, name, public_key, can_lead, joined_ns)
                 VALUES ('{0}', 'n1', '{1}', 1, 1);
             INSERT INTO segments VALUES ('boston', '{0}', 1, 1);
             INSERT INTO members
                 VALUES ('{0}', 'boston', 1, 1, '127.0.0.1:1', '127.0.0.1:2', '127.0.0.1:3', 1, 1, 1, 1);
             INSERT INTO node_sites (node, site, version) VALUES ('{0}', 'www', 7);",
            id(1),
            crate::ccm::testing::key(1).public().to_hex(),
        ))
        .unwrap();
        drop(db);
        let store = Store::open(&path).unwrap();
        let site = store.site(&name("www")).unwrap().unwrap();
        assert_eq!((site.group, site.version.unwrap().0), (name("www"), 7), "from {version}");
        let node = store.nodes().unwrap().remove(0);
        assert_eq!(node.seen.as_ref().unwrap().groups, ListNumber(0));
        assert!(store.groups().unwrap()[0].holds(&node), "it hosts it as before");
        assert_eq!(store.nodes_in(&name("boston")).unwrap(), [node]);
        assert_eq!(store.nodes_in(&name("paris")).unwrap(), []);
    }
}
