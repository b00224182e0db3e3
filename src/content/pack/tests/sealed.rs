//! Encrypted assignments (AS-15..AS-17).

use super::super::super::proof::prove;
use super::super::super::site;
use super::*;
use crate::wire::content_key::{ContentSecret, PIECE_LEN, Salt, plain_len};

fn sealing(secret: u8) -> Sealing {
    let salt = Salt([5; 16]);
    let key = ContentSecret([secret; 32]).key(&Name::new("www").unwrap(), AssignmentId(9), &salt);
    Sealing { salt, key }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn what_is_encrypted_shows_no_name_and_no_content_and_is_staged_as_it_was() {
    for len in [0, 5, PIECE_LEN as usize, PIECE_LEN as usize + 1, 3 * PIECE_LEN as usize - 1, 900_000] {
        let mut site = Site::new();
        write(&site.staging, "d/confidential-name", &noise(1, len), time(1));
        write(&site.staging, "small", b"confidential words", time(2));
        let plain = site.replicate().shape.unwrap();
        site.sealing = Some(sealing(1));
        let packed = site.replicate();
        let shape = packed.shape.unwrap();
        assert_eq!(plain_len(shape.data_len), Ok(plain.data_len));
        let bytes = fs::read(site.out()).unwrap();
        assert!(!holds(&bytes, b"confidential"), "{len}");
        assert!(len < 100 || !holds(&bytes, &noise(1, len)[..64]), "{len}");

        let (mut buffer, data) = open(&site.out(), &shape, &site.publisher.public());
        prove(&buffer, &data).unwrap();
        let mut sealed = buffer.commands();
        assert!(matches!(sealed.next(), Some(Err(crate::wire::Malformed::Sealed))));
        assert!(sealed.next().is_none());
        assert!(buffer.clone().unseal(sealing(2).key).is_err(), "another key");
        buffer.unseal(sealing(1).key).unwrap();
        prove(&buffer, &data).unwrap();
        let root = site.scratch.dir("node");
        let mut node = site::Site::open(&root).unwrap();
        node.stage(&buffer, &data).unwrap();
        node.carry_out(
            crate::wire::id::OrderId(1),
            crate::wire::order::Action::Commit { assignment: AssignmentId(9) },
            || 1,
        )
        .unwrap();
        assert_eq!(hash_tree(&node.live_path()).unwrap(), packed.tree, "{len}");
    }
}

/// Two times the same content: nobody who looks on learns that it is.
#[test]
fn the_same_content_under_another_salt_has_nothing_in_common() {
    let mut site = Site::new();
    write(&site.staging, "a", &noise(1, 300_000), time(1));
    let of = |site: &mut Site, salt: u8| {
        let salt = Salt([salt; 16]);
        let key = ContentSecret([1; 32]).key(&Name::new("www").unwrap(), AssignmentId(9), &salt);
        site.sealing = Some(Sealing { salt, key });
        let shape = site.replicate().shape.unwrap();
        let (buffer, _) = open(&site.out(), &shape, &site.publisher.public());
        *buffer.leaf(0).unwrap()
    };
    assert_ne!(of(&mut site, 1), of(&mut site, 2));
}
