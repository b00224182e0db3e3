//! Trees of files, the same on both sides: the CCM composes assignments out of them, a node carries
//! assignments out on them.
//!
//! | file | subject |
//! |---|---|
//! | [`walk`] | the entries of a tree, depth first, never following a symbolic link |
//! | [`tree`] | the hash of a whole tree |
//! | [`hashes`] | content hashes remembered from one walk to the next |
//! | [`sparse`] | data and holes of a file |
//! | [`diff`] | what differs between two walks |
//! | [`delta`] | which bytes differ between two files, in place or shifted |
//! | [`data`] | the data file of an assignment while it is written |
//! | [`spill`] | bytes that memory does not hold |
//! | [`contents`] | which contents an assignment holds already |
//! | [`items`] | content to items of the data file, raw or compressed |
//! | [`links`] | hard links |
//! | [`inodes`] | files by their inode numbers |
//! | [`origins`] | where the base holds content that has another name now |
//! | [`borrowed`] | files that take their content from the base |
//! | [`chunks`] | pieces of files by their hash, each stored once |
//! | [`manifest`] | what a checkpoint holds, entry by entry |
//! | [`checkpoint`] | whole copies of trees, deduplicated |
//! | [`reader`] | one file to the command that brings it to a node |
//! | [`proof`] | whether an assignment's file is what was signed |
//! | [`pack`] | two trees to one signed assignment |
//! | [`split`] | an assignment that is too large, cut into parts |
//! | [`dir`] | directory descriptors that paths cannot leave |
//! | [`scrub`] | live against what was signed |
//! | [`site`] | one site: live, temp, backup, and the switch |
//! | `stage` | an assignment becomes a proven tree in temp |
//! | `parts` | what of an update is there that comes in parts |
//! | `interpret` | the commands of an assignment |
//! | `written` | content hashes of what a staging wrote |
//! | `write` | the bytes of files, decoded and checked |
//! | `journal` | what a site remembers on disk |

pub mod borrowed;
pub mod checkpoint;
pub mod chunks;
pub mod contents;
pub mod data;
pub mod delta;
pub mod diff;
pub mod dir;
pub mod hashes;
pub mod inodes;
mod interpret;
pub mod items;
mod journal;
pub mod links;
pub mod manifest;
pub mod origins;
pub mod pack;
mod parts;
pub mod proof;
pub mod range;
pub mod reader;
pub mod scrub;
pub mod site;
pub mod source;
pub mod sparse;
pub mod spill;
pub mod split;
mod stage;
#[cfg(test)]
pub(crate) mod testing;
pub mod tree;
pub mod walk;
mod write;
mod written;

#[cfg(test)]
mod fixture;
