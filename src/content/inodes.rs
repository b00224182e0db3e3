//! Files by their inode numbers, in little memory: the numbers of one tree lie close together.

use super::walk::Inode;
use std::collections::BTreeMap;

/// A set of files: 64 neighbours in 24 bytes.
#[derive(Default)]
pub struct Inodes {
    groups: BTreeMap<Inode, u64>,
}

impl Inodes {
    /// Returns whether it was not there.
    pub fn insert(&mut self, (device, number): Inode) -> bool {
        let group = self.groups.entry((device, number / 64)).or_default();
        let bit = 1 << (number % 64);
        let is_new = *group & bit == 0;
        *group |= bit;
        is_new
    }
}

/// Neighbours that lie together.
const NEAR: u64 = 16;

/// What is known of each file.
pub struct ByInode<T> {
    /// By the place within their group, each at most once.
    groups: BTreeMap<Inode, Vec<(u8, T)>>,
}

impl<T> Default for ByInode<T> {
    fn default() -> Self {
        Self { groups: BTreeMap::new() }
    }
}

impl<T> ByInode<T> {
    pub fn get(&self, (device, number): Inode) -> Option<&T> {
        let group = self.groups.get(&(device, number / NEAR))?;
        group.iter().find(|(at, _)| u64::from(*at) == number % NEAR).map(|(_, value)| value)
    }

    /// What is known of a file, or from now on `value`.
    pub fn get_or_insert(&mut self, (device, number): Inode, value: T) -> &T {
        let group = self.groups.entry((device, number / NEAR)).or_default();
        let within = (number % NEAR) as u8;
        let known = group.iter().position(|(at, _)| *at == within);
        let index = known.unwrap_or_else(|| {
            group.push((within, value));
            group.len() - 1
        });
        &group[index].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_and_devices_are_told_apart() {
        let all: Vec<Inode> = [0, 1, 15, 16, 63, 64, u64::MAX]
            .into_iter()
            .flat_map(|number| [(1, number), (2, number)])
            .collect();
        let (mut set, mut map) = (Inodes::default(), ByInode::default());
        for (at, &inode) in all.iter().enumerate() {
            assert_eq!(map.get(inode), None);
            assert!(set.insert(inode));
            assert!(!set.insert(inode));
            assert_eq!(map.get_or_insert(inode, at), &at);
            assert_eq!(map.get_or_insert(inode, 1_000), &at, "the first value stays");
        }
        for (at, &inode) in all.iter().enumerate() {
            assert_eq!(map.get(inode), Some(&at));
        }
    }
}
