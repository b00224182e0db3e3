use super::super::ipc::{self, Channel};
use super::super::{Config, configure};
use super::*;
use crate::content::testing::{Draft, MTIME, Signed, publisher};
use crate::content::tree::hash_tree;
use crate::wire::id::OrderId;
use crate::wire::order::Action;
use crate::wire::seal::SigningKey;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::thread::JoinHandle;

mod ahead;
mod alone;
mod sealed;

/// An applier with the site `www`, in a thread instead of a process.
struct Farm {
    net: Channel,
    applier: JoinHandle<io::Result<()>>,
    root: tempfile::TempDir,
}

fn director() -> SigningKey {
    SigningKey::from_seed([43; 32])
}

fn www() -> Name {
    Name::new("www").unwrap()
}

fn first() -> Draft {
    let draft = Draft::new(1, None).mkdir("d").put("d/f", b"one").utimes("d", MTIME);
    draft.promising_after(Vec::new())
}

fn second() -> Draft {
    Draft::new(2, Some(1)).put("d/f", b"two").promising_after(vec![first()])
}

impl Farm {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &[None])
    }

    fn start_in(root: tempfile::TempDir, versions: &[Option<u64>]) -> Self {
        let (net, service) = ipc::pair().unwrap();
        let applier = std::thread::spawn(|| match Applier::start(service)? {
            Some(applier) => applier.serve(),
            None => Ok(()),
        });
        let config = Config {
            sites: vec![SiteConfig { name: www(), root: root.path().join("www"), keep: 2 }],
            publisher: publisher().public(),
            director: director().public(),
        };
        configure(&net, &config).unwrap();
        let farm = Self { net, applier, root };
        for version in versions {
            farm.expect_version(*version);
        }
        farm
    }

    fn reply(&self) -> Reply {
        self.net.recv().unwrap().expect("the applier lives")
    }

    fn expect_version(&self, version: Option<u64>) {
        let version = version.map(AssignmentId);
        assert_eq!(self.reply(), Reply::Sites(vec![SiteState { site: www(), version }]));
    }

    fn stage(&self, signed: &Signed) -> Outcome {
        self.stage_as(signed, signed.shape, signed.buffer.header.assignment)
    }

    fn stage_as(&self, signed: &Signed, shape: Shape, assignment: AssignmentId) -> Outcome {
        let request = Request::Stage { run: RunId(7), assignment, shape, clock_offset_ns: 0 };
        self.net.send(&request, Some(signed.file.as_fd())).unwrap();
        match self.reply() {
            Reply::Staged { run: RunId(7), assignment: answered, outcome } if answered == assignment => {
                outcome
            }
            other => panic!("{other:?}"),
        }
    }

    fn order(&self, order: &Order) -> Outcome {
        self.order_with(order, 0)
    }

    fn order_with(&self, order: &Order, clock_offset_ns: i64) -> Outcome {
        let document = order.sign(&director());
        self.net.send(&Request::Order { document, clock_offset_ns }, None).unwrap();
        match self.reply() {
            Reply::Ordered { run: RunId(7), order: answered, site, outcome } => {
                assert_eq!((answered, &site), (order.order, &order.site));
                outcome
            }
            other => panic!("{other:?}"),
        }
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.path().join("www/live").join(path)).unwrap()
    }

    fn stop(self) -> tempfile::TempDir {
        drop(self.net);
        self.applier.join().unwrap().unwrap();
        self.root
    }
}

fn commit(order: u64, assignment: u64) -> Order {
    Order {
        order: OrderId(order),
        run: RunId(7),
        site: www(),
        action: Action::Commit { assignment: AssignmentId(assignment) },
        at: None,
        expires: u64::MAX,
    }
}

fn assert_failed(outcome: &Outcome, expected: Reason, part: &str) {
    let Outcome::Failed { reason, text } = outcome else { panic!("{outcome:?}") };
    assert_eq!(*reason, expected, "{text}");
    assert!(text.contains(part), "{text}");
}

#[test]
fn what_is_staged_goes_live_by_order_and_survives_a_restart() {
    let farm = Farm::start();
    assert_eq!(farm.stage(&first().sign()), Outcome::Staged);
    assert_eq!(farm.stage(&first().sign()), Outcome::Staged);
    let before = clock::monotonic().as_nanos();
    let Outcome::Switched { at } = farm.order(&commit(1, 1)) else { panic!("it was staged") };
    assert!((before..=clock::monotonic().as_nanos()).contains(&at));
    farm.expect_version(Some(1));
    assert_eq!(farm.read("d/f"), "one");

    assert_eq!(farm.stage(&second().sign()), Outcome::Staged);
    assert_eq!(farm.read("d/f"), "one");
    let farm = Farm::start_in(farm.stop(), &[Some(1)]);
    let Outcome::Switched { at } = farm.order(&commit(2, 2)) else { panic!("it was staged") };
    farm.expect_version(Some(2));
    assert_eq!(farm.read("d/f"), "two");
    // The same order again is answered as before.
    assert_eq!(farm.order(&commit(2, 2)), Outcome::Switched { at });
    farm.expect_version(Some(2));
    let root = farm.stop();
    assert_eq!(hash_tree(&root.path().join("www/live")).unwrap().hash, second().header.result);
    assert_eq!(std::fs::read_dir(root.path().join("www/.farmcast/trash")).unwrap().count(), 0);
}

#[test]
fn what_is_forged_or_truncated_is_refused() {
    let farm = Farm::start();
    let signed = first().sign();
    let shape = signed.shape;

    // Every part of the file matters.
    for at in [0, shape.command_offset(), shape.command_offset() + 40, shape.file_len() - 1] {
        let signed = first().sign();
        let mut byte = [0];
        signed.file.read_exact_at(&mut byte, at).unwrap();
        signed.file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        assert_failed(&farm.stage(&signed), Reason::Forged, "");
    }
    // One of another publisher; another name; another number.
    let mut other = shape;
    other.name.0[0] ^= 1;
    assert_failed(
        &farm.stage_as(&signed, other, AssignmentId(1)),
        Reason::Forged,
        "command buffer does not verify",
    );
    assert_failed(
        &farm.stage_as(&signed, shape, AssignmentId(9)),
        Reason::Forged,
        "its number does not verify",
    );
    let promised = first().put("more", b"").sign();
    assert_failed(&farm.stage(&promised), Reason::Forged, "not what the publisher signed");

    let short = first().sign();
    short.file.set_len(shape.file_len() - 1).unwrap();
    assert_failed(&farm.stage(&short), Reason::Incomplete, "bytes");
    let request = Request::Stage { run: RunId(7), assignment: AssignmentId(1), shape, clock_offset_ns: 0 };
    farm.net.send(&request, None).unwrap();
    let Reply::Staged { outcome, .. } = farm.reply() else { panic!("an answer to the staging") };
    assert_failed(&outcome, Reason::Incomplete, "no file came with it");

    // Nothing of all that is left, and the whole one is still welcome.
    assert_failed(&farm.order(&commit(1, 1)), Reason::NotStaged, "assignment 1 is not staged here");
    assert_eq!(farm.stage(&signed), Outcome::Staged);
    farm.stop();
}

#[test]
fn an_assignment_of_another_publisher_is_refused() {
    let farm = Farm::start();
    let draft = first();
    let stranger = SigningKey::from_seed([1; 32]);
    let (shape, bytes) = CommandBuffer::sign(draft.header.clone(), &[], 0, &[], &stranger);
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&bytes, shape.command_offset()).unwrap();
    let signed = Signed { shape, file, buffer: draft.sign().buffer };
    assert_failed(&farm.stage(&signed), Reason::Forged, "signature does not verify");
    farm.stop();
}

#[test]
fn an_unknown_site_and_a_stale_base_are_named() {
    let farm = Farm::start();
    let mut draft = first();
    draft.header.site = Name::new("shop").unwrap();
    assert_failed(&farm.stage(&draft.sign()), Reason::NoSite, "this node has no site shop");
    let order = Order { site: Name::new("shop").unwrap(), ..commit(1, 1) };
    assert_failed(&farm.order(&order), Reason::NoSite, "this node has no site shop");
    assert_failed(&farm.stage(&second().sign()), Reason::StaleBase, "changes version 1, the site has none");
    farm.stop();
}

#[test]
fn orders_that_are_old_expired_or_early_are_refused() {
    let farm = Farm::start();
    assert_failed(&farm.order(&commit(5, 1)), Reason::NotStaged, "assignment 1 is not staged here");
    assert_eq!(farm.stage(&first().sign()), Outcome::Staged);
    let now = clock::monotonic().as_nanos();
    let expired = Order { expires: now / 1_000_000_000 - 3, ..commit(5, 1) };
    assert_failed(&farm.order(&expired), Reason::OldOrder, "order 5 expired");
    // By the CCM's clock it is not: this machine's is a minute fast.
    let early = Order { at: Some(now + 61_000_000_000), ..commit(5, 1) };
    assert_failed(&farm.order(&early), Reason::System, "more than 60.0s");
    let Outcome::Switched { at } = farm.order_with(&expired, -60_000_000_000) else { panic!("it is staged") };
    assert!(at < now);
    farm.expect_version(Some(1));
    assert_eq!(farm.stage(&second().sign()), Outcome::Staged);
    assert_failed(&farm.order(&commit(4, 2)), Reason::OldOrder, "order 4 is not newer than 5");
    // Carried out, then expired: still answered as before.
    assert_eq!(farm.order(&expired), Outcome::Switched { at });
    farm.expect_version(Some(1));
    assert_eq!(farm.read("d/f"), "one");
    farm.stop();
}

#[test]
fn a_forged_order_is_logged_and_does_nothing() {
    let farm = Farm::start();
    assert_eq!(farm.stage(&first().sign()), Outcome::Staged);
    let document = commit(1, 1).sign(&SigningKey::from_seed([1; 32]));
    farm.net.send(&Request::Order { document, clock_offset_ns: 0 }, None).unwrap();
    let log = Reply::Log { level: log::Level::Warn, text: "an order: signature does not verify".to_owned() };
    assert_eq!(farm.reply(), log);
    assert!(!farm.root.path().join("www/live/d").exists());
    farm.stop();
}

#[test]
fn an_order_with_an_instant_is_carried_out_at_it_by_the_controllers_clock() {
    // Since the machine started, since 1970, and a clock of before both.
    for clock_offset_ns in [0, clock::wall_ns() as i64, -(clock::monotonic().as_nanos() as i64 / 2)] {
        let farm = Farm::start();
        assert_eq!(farm.stage(&first().sign()), Outcome::Staged);
        let instant = clock::monotonic().as_nanos().saturating_add_signed(clock_offset_ns) + 400_000_000;
        let order = Order { at: Some(instant), ..commit(1, 1) };
        let Outcome::Switched { at } = farm.order_with(&order, clock_offset_ns) else {
            panic!("it is staged")
        };
        assert!(at >= instant);
        // How late is the machine's load; that it waited at all, and not for an hour, is ours.
        assert!(at - instant < 2_000_000_000, "{} ns late", at - instant);
        farm.stop();
    }
}

#[test]
fn a_site_that_cannot_be_opened_is_reported_and_tried_again() {
    let root = tempfile::tempdir().unwrap();
    let held = Site::open(&root.path().join("www")).unwrap();
    let farm = Farm::start_in(root, &[]);
    let Reply::Log { level: log::Level::Error, text } = farm.reply() else { panic!("a complaint") };
    assert!(text.contains("another process has this site open"), "{text}");
    farm.expect_version(None);
    assert_failed(&farm.stage(&first().sign()), Reason::System, "another process has this site open");
    drop(held);
    assert_eq!(farm.stage(&first().sign()), Outcome::Staged);
    farm.expect_version(None);
    assert_eq!(farm.stage(&first().sign()), Outcome::Staged);
    farm.stop();
}

#[test]
fn a_site_that_another_applier_is_about_to_let_go_is_waited_for() {
    let farm = Farm::start();
    assert_eq!(farm.stage(&first().sign()), Outcome::Staged);
    farm.order(&commit(1, 1));
    let root = farm.stop();
    let held = Site::open(&root.path().join("www")).unwrap();
    let keeper = std::thread::spawn(move || {
        clock::sleep_until(clock::monotonic() + Duration::from_millis(200));
        drop(held);
    });
    Farm::start_in(root, &[Some(1)]).stop();
    keeper.join().unwrap();
}

#[test]
fn more_sites_than_a_node_may_have_are_refused() {
    let (net, _service) = ipc::pair().unwrap();
    let site = SiteConfig { name: www(), root: PathBuf::from("/srv/www"), keep: 2 };
    let config =
        Config { sites: vec![site; 257], publisher: publisher().public(), director: director().public() };
    assert_eq!(configure(&net, &config).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_net_that_closes_the_socket_ends_the_applier() {
    let (net, service) = ipc::pair().unwrap();
    drop(net);
    assert!(Applier::start(service).unwrap().is_none());
    Farm::start().stop();
}
