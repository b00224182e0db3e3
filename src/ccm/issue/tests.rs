use super::*;
use crate::ccm::testing::{T0, enrol, id, key, name, profile, segment_report, store};
use crate::wire::id::NodeId;
use std::path::Path;
use tempfile::TempDir;

/// Segments boston with n1 and n2, paris with n3; every node hosts www, n2 and n3 shop.
fn farm() -> (TempDir, Store) {
    let (dir, mut store) = store();
    (1..=3).for_each(|number| enrol(&mut store, number));
    let boston = vec![profile(1, &[("www", 0)]), profile(2, &[("www", 0), ("shop", 0)])];
    report(&mut store, 1, "boston", boston);
    report(&mut store, 3, "paris", vec![profile(3, &[("www", 0), ("shop", 0)])]);
    (dir, store)
}

fn report(store: &mut Store, leader: u8, segment: &str, members: Vec<crate::wire::control::Profile>) {
    store.take_segment_report(id(leader), &segment_report(segment, 1, members), T0).unwrap().unwrap();
}

fn issue(store: &mut Store, segment: &str, range: &str) -> Result<Option<GroupList>, IssueError> {
    let (director, range) = (key(100), range.parse().unwrap());
    let issued = refresh(store, Issuer { director: &director, range: &range }, &name(segment))?;
    Ok(issued.map(|issued| {
        let list = GroupList::open(&issued.document, &director.public()).unwrap();
        assert_eq!(list.number, issued.number);
        list
    }))
}

const WIDE: &str = "239.255.128.0/17:7402";

fn list(store: &mut Store, segment: &str) -> GroupList {
    issue(store, segment, WIDE).unwrap().expect("it has groups")
}

fn members(list: &GroupList, group: &str) -> Vec<NodeId> {
    list.groups.iter().find(|listed| listed.name == name(group)).map_or_else(Vec::new, |g| g.members.clone())
}

#[test]
fn a_farm_without_groups_gets_lists_of_its_default_groups_and_a_new_one_only_for_a_change() {
    let (_dir, mut store) = farm();
    assert_eq!(issue(&mut store, "boston", WIDE).unwrap(), None, "there is no site");
    store.add_site(&name("www"), Path::new("/srv"), T0).unwrap();
    let first = list(&mut store, "boston");
    assert_eq!((first.number, first.groups.len()), (ListNumber(1), 1));
    assert_eq!(members(&first, "www").len(), 2);
    assert_eq!(list(&mut store, "boston"), first, "nothing has changed");

    store.add_site(&name("shop"), Path::new("/srv"), T0).unwrap();
    let second = list(&mut store, "boston");
    assert_eq!((second.number, members(&second, "shop")), (ListNumber(2), vec![id(2)]));
    assert_eq!(second.groups[1].channel, first.groups[0].channel, "what was given stays");

    // A node that is out of reach stays a member, one that does not host a site any more does not.
    report(&mut store, 1, "boston", vec![profile(1, &[("www", 0)])]);
    assert_eq!(list(&mut store, "boston"), second);
    report(&mut store, 1, "boston", vec![profile(1, &[("www", 0)]), profile(2, &[("www", 0)])]);
    let third = list(&mut store, "boston");
    assert_eq!((third.number, third.groups.len()), (ListNumber(3), 1));
}

#[test]
fn an_operators_group_holds_whom_it_chooses_in_each_segment() {
    let (_dir, mut store) = farm();
    for site in ["www", "shop"] {
        store.add_site(&name(site), Path::new("/srv"), T0).unwrap();
    }
    let choices = ["n1".parse().unwrap(), "segment:paris".parse().unwrap()];
    store.create_group(&name("eu"), &choices, T0).unwrap().unwrap();
    store.set_site_group(&name("www"), Some(&name("eu")), T0).unwrap().unwrap();
    assert_eq!(members(&list(&mut store, "boston"), "eu"), [id(1)]);
    let paris = list(&mut store, "paris");
    assert_eq!((members(&paris, "eu"), members(&paris, "shop")), (vec![id(3)], vec![id(3)]));

    // It moves to the other segment, with its machine.
    report(&mut store, 1, "boston", [1, 2, 3].map(|number| profile(number, &[("www", 0)])).to_vec());
    let boston = list(&mut store, "boston");
    assert_eq!(members(&boston, "eu"), [id(1)]);
    let paris = list(&mut store, "paris");
    assert!(paris.groups.is_empty() && paris.number > boston.number, "it says that nobody is there");
}

#[test]
fn no_two_groups_share_a_channel_and_one_too_many_is_named() {
    let (_dir, mut store) = farm();
    for site in ["www", "shop"] {
        store.add_site(&name(site), Path::new("/srv"), T0).unwrap();
    }
    let narrow = "239.1.1.0/30:7402";
    let lists = [issue(&mut store, "boston", narrow), issue(&mut store, "paris", narrow)];
    let groups = lists.into_iter().flat_map(|list| list.unwrap().unwrap().groups);
    let given: BTreeSet<SocketAddrV4> = groups.map(|group| group.channel).collect();
    assert_eq!(given.len(), 4, "each has its own in each segment");

    store.add_site(&name("blog"), Path::new("/srv"), T0).unwrap();
    report(&mut store, 3, "paris", vec![profile(3, &[("blog", 0)])]);
    let error = issue(&mut store, "paris", narrow).unwrap_err().to_string();
    assert!(error.contains("blog") && error.contains("all 4") && error.contains("data_channels"), "{error}");
    // A wider range gives it one. What lies outside of a new range is given anew.
    assert!(issue(&mut store, "paris", "239.1.1.0/29:7402").is_ok());
    let elsewhere = issue(&mut store, "boston", WIDE).unwrap().unwrap();
    assert!(elsewhere.groups.iter().all(|group| group.channel.ip().octets()[1] == 255), "{elsewhere:?}");
}

#[test]
fn a_deleted_groups_channel_is_free_again() {
    let (_dir, mut store) = farm();
    store.add_site(&name("www"), Path::new("/srv"), T0).unwrap();
    store.create_group(&name("eu"), &["n1".parse().unwrap()], T0).unwrap().unwrap();
    store.set_site_group(&name("www"), Some(&name("eu")), T0).unwrap().unwrap();
    let one = "239.1.1.1/32:7402";
    issue(&mut store, "boston", one).unwrap();
    store.set_site_group(&name("www"), None, T0).unwrap().unwrap();
    assert!(matches!(issue(&mut store, "boston", one), Err(IssueError::NoChannel { .. })));
    store.delete_group(&name("eu"), T0).unwrap().unwrap();
    assert_eq!(members(&issue(&mut store, "boston", one).unwrap().unwrap(), "www").len(), 2);
}

/// LD-3: where a segment was moved to no content comes, and content has come to no segment's control channel.
#[test]
fn a_control_channel_that_an_operator_chose_is_not_given_to_a_group() {
    let (_dir, mut store) = farm();
    store.add_site(&name("www"), Path::new("/srv"), T0).unwrap();
    let narrow = "239.255.128.0/31:7402";
    let control = "239.255.128.0:7402".parse().unwrap();
    store.decide("paris", &crate::ccm::db::Decision::Channel(Some(control)), T0).unwrap().unwrap();
    let boston = issue(&mut store, "boston", narrow).unwrap().expect("it has a group");
    assert_eq!(boston.groups[0].channel, "239.255.128.1:7402".parse().unwrap());
    assert!(matches!(issue(&mut store, "paris", narrow), Err(IssueError::NoChannel { .. })));
}
