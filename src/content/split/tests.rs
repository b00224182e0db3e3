//! Both halves against each other: whatever is cut, a site that stages the parts in order ends with the tree that
//! was packed, and in no other way.

use super::super::fixture::{Scratch, build, noise, open, steps, with_own_times, write};
use super::super::pack::{Pack, Packed, Policy, pack};
use super::super::site::{Site, StageError, Staged};
use super::super::tree::hash_tree;
use super::super::walk::ALL;
use super::*;
use crate::wire::content_key::ContentSecret;
use crate::wire::id::{JobId, Name, OrderId};
use crate::wire::report::Reason;
use proptest::prelude::*;
use std::fs;

const SECRET: ContentSecret = ContentSecret([3; 32]);
const MAX: u64 = 64 << 10;

fn publisher() -> SigningKey {
    SigningKey::from_seed([5; 32])
}

fn sealing(assignment: AssignmentId) -> Sealing {
    let salt = crate::wire::content_key::Salt([assignment.part() as u8 + 1; 16]);
    Sealing { salt, key: SECRET.key(&Name::new("www").unwrap(), assignment, &salt) }
}

/// Staging, the site that follows it, and where assignments lie.
struct Line {
    scratch: Scratch,
    staging: PathBuf,
    site: Site,
    next: u64,
    sealed: bool,
}

/// A part and its file.
struct Signed {
    id: AssignmentId,
    buffer: CommandBuffer,
    file: File,
}

impl Line {
    fn new(sealed: bool) -> Self {
        let scratch = Scratch::new();
        let (staging, root) = (scratch.dir("staging"), scratch.dir("site"));
        Self { staging, site: Site::open(&root).unwrap(), next: 1, scratch, sealed }
    }

    fn pack(&self) -> Packed {
        let base = self.site.version();
        let sealing = self.sealed.then(|| sealing(AssignmentId(self.next)));
        pack(&Pack {
            staging: &self.staging,
            picks: ALL,
            shadow: &self.site.live_path(),
            base,
            assignment: AssignmentId(self.next),
            job: JobId(1),
            site: Name::new("www").unwrap(),
            issued: 2_000_000_000,
            pass_tick: &|_| {},
            policy: &Policy::default(),
            out: &self.scratch.path().join("whole"),
            checksum: false,
            origins: base.map(|base| self.site.inventory_path(base)).as_deref(),
            known: None,
            cache: None,
            order: None,
            sealing: sealing.as_ref(),
            publisher: &publisher(),
        })
        .unwrap()
    }

    fn open(&self, name: &str, id: AssignmentId, shape: &Shape) -> Signed {
        let path = self.scratch.path().join(name);
        let (mut buffer, file) = open(&path, shape, &publisher().public());
        if self.sealed {
            let salt = buffer.header.salt.unwrap();
            buffer.unseal(SECRET.key(&buffer.header.site, id, &salt)).unwrap();
        }
        Signed { id, buffer, file }
    }

    /// What staging is now, in parts of at most so many bytes.
    fn split(&mut self, max: u64) -> (Packed, Vec<Signed>) {
        let packed = self.pack();
        let id = AssignmentId(self.next);
        self.next += 1;
        let whole = self.open("whole", id, &packed.shape.expect("something changed"));
        let cut = Split {
            whole: &whole.buffer,
            file: &whole.file,
            max,
            out: &|id| self.scratch.path().join(id.to_string()),
            sealing: &|id| self.sealed.then(|| sealing(id)),
            publisher: &publisher(),
        };
        let parts: Vec<Signed> =
            cut.cut().unwrap().iter().map(|(id, shape)| self.open(&id.to_string(), *id, shape)).collect();
        if parts.is_empty() { (packed, vec![whole]) } else { (packed, parts) }
    }

    fn stage(&mut self, part: &Signed) -> Result<Staged, StageError> {
        self.site.stage(&part.buffer, &part.file)
    }

    fn restart(&mut self) {
        let elsewhere = Site::open(&self.scratch.path().join("elsewhere")).unwrap();
        drop(std::mem::replace(&mut self.site, elsewhere));
        self.site = Site::open(&self.scratch.path().join("site")).unwrap();
    }

    fn commit(&mut self, id: AssignmentId) -> Result<u64, super::super::site::SwitchError> {
        self.site.commit(OrderId(self.next), id, || 1)
    }

    /// Brings the site to staging by its parts, restarting between them.
    fn follow(&mut self, max: u64) {
        let live = hash_tree(&self.site.live_path()).unwrap();
        let (packed, parts) = self.split(max);
        for part in &parts {
            assert_eq!(self.site.staged(), None);
            assert!(self.commit(part.id.version()).is_err() && self.commit(part.id).is_err());
            assert_eq!(self.stage(part).unwrap(), Staged::Now);
            self.restart();
            assert_eq!(hash_tree(&self.site.live_path()).unwrap(), live, "live changed before the switch");
        }
        self.commit(parts[0].id.version()).unwrap();
        assert_eq!(hash_tree(&self.site.live_path()).unwrap(), packed.tree);
        assert_eq!(self.trees(), 0);
    }

    /// Trees of parts on the disk.
    fn trees(&self) -> usize {
        fs::read_dir(self.scratch.path().join("site/.farmcast/parts")).unwrap().count()
    }

    /// Ten files of 20,000 bytes that do not compress.
    fn ten_files(&mut self, seed: u64) {
        for number in 0..10 {
            write(&self.staging, &format!("d{}/f{number}", number % 3), &noise(seed + number, 20_000), 1_000);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_site_follows_a_tree_through_its_life_in_parts(
        first in steps(30), second in steps(8), third in steps(8), sealed: bool, max in 5_000..20_000_u64,
    ) {
        let mut line = Line::new(sealed);
        for (number, steps) in [first, second, third].iter().enumerate() {
            build(&line.staging, &with_own_times(steps, 1_000 * number as i64));
            if line.pack().shape.is_some() {
                line.follow(max);
            }
            prop_assert!(line.pack().shape.is_none());
        }
    }

    #[test]
    fn no_part_is_larger_than_allowed_unless_it_is_one_command(
        first in steps(40), sealed: bool, max in 5_000..40_000_u64,
    ) {
        let mut line = Line::new(sealed);
        build(&line.staging, &with_own_times(&first, 0));
        let whole = line.pack();
        let (_, parts) = line.split(max);
        let (mut commands, of) = (0, parts.len());
        for (part, number) in parts.iter().zip(1..) {
            let Signed { id, buffer, file } = part;
            let (header, len) = (&buffer.header, buffer.shape.file_len());
            prop_assert!(len <= max || header.command_count == 1 || of == 1, "{} of {}", len, max);
            prop_assert_eq!(file.metadata().unwrap().len(), len);
            super::super::proof::prove(buffer, file).unwrap();
            commands += header.command_count;
            prop_assert_eq!((header.result, header.base), (whole.tree.hash, None));
            if of > 1 {
                let said = header.part.unwrap();
                prop_assert_eq!((said.number, usize::from(said.of)), (number, of));
                prop_assert_eq!(id.part(), if said.is_last() { 0 } else { number.into() });
                prop_assert_eq!(said.behind.is_none(), number == 1);
            }
        }
        let whole = line.open("whole", AssignmentId(1), &whole.shape.unwrap());
        prop_assert_eq!(commands, whole.buffer.header.command_count);
    }
}

#[test]
fn what_is_small_enough_is_left_whole_and_so_is_one_command() {
    let mut line = Line::new(false);
    write(&line.staging, "a", b"a", 1_000);
    let (_, parts) = line.split(MAX);
    assert!(parts.len() == 1 && parts[0].buffer.header.part.is_none());
    let mut line = Line::new(false);
    write(&line.staging, "large", &noise(1, 200_000), 1_000);
    assert_eq!(line.split(MAX).1.len(), 1);
    // Beside others it is a part of its own.
    write(&line.staging, "a", &noise(2, 30_000), 1_000);
    write(&line.staging, "z", &noise(3, 30_000), 1_000);
    let (_, parts) = line.split(MAX);
    let counts: Vec<u32> = parts.iter().map(|part| part.buffer.header.command_count).collect();
    assert_eq!(counts, [1, 1, 1]);
}

/// AS-13: it is found before anything is written that the node has no room for all of them.
#[test]
fn every_part_says_how_much_is_still_needed() {
    let mut line = Line::new(false);
    line.ten_files(0);
    let (packed, parts) = line.split(MAX);
    let needed: Vec<u64> = parts.iter().map(|part| part.buffer.header.space).collect();
    assert!(parts.len() >= 4 && needed[0] == packed.space, "{needed:?}");
    assert!(needed.windows(2).all(|pair| pair[0] > pair[1]), "{needed:?}");
}

#[test]
fn a_part_is_staged_behind_the_one_before_it_and_behind_no_other() {
    let mut line = Line::new(false);
    line.ten_files(0);
    let (_, parts) = line.split(MAX);
    let error = line.stage(&parts[1]).unwrap_err();
    assert!(matches!(error, StageError::PartBefore { number: 2, .. }), "{error}");
    assert_eq!(error.reason(), Reason::NotStaged);
    assert_eq!(line.stage(&parts[0]).unwrap(), Staged::Now);
    assert!(line.stage(&parts[2]).is_err());
    // What it failed at is no loss: it goes on where it was.
    assert_eq!(line.stage(&parts[1]).unwrap(), Staged::Now);
    assert_eq!((line.site.is_in_parts(), line.site.staged(), line.trees()), (true, None, 1));
    // One that is asked for again, by a leader that knows no better, begins nothing anew.
    for part in &parts[..2] {
        assert_eq!(line.stage(part).unwrap(), Staged::Before);
    }
    for part in &parts[2..] {
        assert_eq!(line.stage(part).unwrap(), Staged::Now);
    }
    assert_eq!(
        (line.site.is_in_parts(), line.site.staged(), line.trees()),
        (false, Some(AssignmentId(1)), 0)
    );
    for part in &parts {
        assert_eq!(line.stage(part).unwrap(), Staged::Before);
        line.restart();
    }
    line.commit(AssignmentId(1)).unwrap();
    for part in &parts {
        assert_eq!(line.stage(part).unwrap(), Staged::Live);
    }
}

#[test]
fn another_update_takes_the_place_of_one_that_is_not_whole() {
    let mut line = Line::new(false);
    line.ten_files(0);
    let (_, old) = line.split(MAX);
    line.ten_files(100);
    let (packed, new) = line.split(MAX);
    assert_eq!(line.stage(&old[0]).unwrap(), Staged::Now);
    assert_eq!(line.stage(&new[0]).unwrap(), Staged::Now);
    assert!(matches!(line.stage(&old[1]).unwrap_err(), StageError::PartBefore { .. }));
    assert_eq!(line.trees(), 1);
    new[1..].iter().for_each(|part| assert_eq!(line.stage(part).unwrap(), Staged::Now));
    assert!(line.commit(AssignmentId(1)).is_err());
    line.commit(AssignmentId(2)).unwrap();
    assert_eq!(hash_tree(&line.site.live_path()).unwrap(), packed.tree);

    // And so does one that is not in parts.
    line.ten_files(200);
    let (_, old) = line.split(MAX);
    assert_eq!(line.stage(&old[0]).unwrap(), Staged::Now);
    write(&line.staging, "d0/f0", b"whole", 2_000);
    let (packed, whole) = line.split(1 << 30);
    assert_eq!(line.stage(&whole[0]).unwrap(), Staged::Now);
    assert_eq!((line.trees(), line.site.is_in_parts()), (0, false));
    assert!(line.stage(&old[1]).is_err());
    line.commit(whole[0].id).unwrap();
    assert_eq!(hash_tree(&line.site.live_path()).unwrap(), packed.tree);
}

/// A process may be killed between any two steps of keeping a part.
#[test]
fn a_part_that_was_not_kept_to_the_end_is_staged_again() {
    let mut line = Line::new(false);
    line.ten_files(0);
    let (packed, parts) = line.split(MAX);
    let hidden = line.scratch.path().join("site/.farmcast");
    line.stage(&parts[0]).unwrap();
    let record = fs::read(hidden.join("part")).unwrap();
    let first = hidden.join("parts").join(parts[0].buffer.shape.name.to_string());
    let copy = line.scratch.dir("copy");
    super::super::fixture::linked_copy(&first, &copy);
    line.stage(&parts[1]).unwrap();
    // The tree is there, the record still says the one before.
    fs::write(hidden.join("part"), record).unwrap();
    fs::create_dir(&first).unwrap();
    super::super::fixture::linked_copy(&copy, &first);
    fs::create_dir(hidden.join("temp")).unwrap();
    line.restart();
    assert_eq!((line.trees(), hidden.join("temp").exists()), (1, false));
    parts[1..].iter().for_each(|part| assert_eq!(line.stage(part).unwrap(), Staged::Now));
    line.commit(AssignmentId(1)).unwrap();
    assert_eq!(hash_tree(&line.site.live_path()).unwrap(), packed.tree);
}

#[test]
fn a_part_whose_tree_is_gone_counts_as_absent() {
    let mut line = Line::new(false);
    line.ten_files(0);
    let (_, parts) = line.split(MAX);
    line.stage(&parts[0]).unwrap();
    let trees = line.scratch.path().join("site/.farmcast/parts");
    fs::remove_dir_all(&trees).unwrap();
    line.restart();
    assert!(!line.site.is_in_parts());
    assert!(line.stage(&parts[1]).is_err());
    assert_eq!(line.stage(&parts[0]).unwrap(), Staged::Now);
    assert_eq!(line.stage(&parts[1]).unwrap(), Staged::Now);
}

#[test]
fn a_part_of_a_number_that_is_none_or_with_an_order_is_refused() {
    let mut line = Line::new(false);
    line.ten_files(0);
    let (_, parts) = line.split(MAX);
    let header = &parts[0].buffer.header;
    let refused = |header: Header| {
        let (shape, bytes) = CommandBuffer::sign(Header { data_len: 0, ..header }, &[], 0, &[], &publisher());
        CommandBuffer::open(&shape, &bytes, &publisher().public()).is_err()
    };
    let part = |number, of| Some(Part { number, of, behind: None });
    assert!(!refused(header.clone()));
    assert!(refused(Header { order: Some(vec![1]), ..header.clone() }));
    assert!(refused(Header { assignment: AssignmentId(1), ..header.clone() }));
    assert!(refused(Header { part: None, ..header.clone() }));
    assert!(refused(Header { part: part(1, 1), ..header.clone() }));
    assert!(refused(Header { part: part(0, 3), ..header.clone() }));
    assert!(refused(Header { part: part(1, AssignmentId::PARTS_MAX + 2), ..header.clone() }));
}
