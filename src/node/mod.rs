//! The net process of a node: one loop that owns every socket and parses every byte of the network.
//!
//! | file | subject |
//! |---|---|
//! | [`config`] | the configuration file |
//! | [`identity`] | key, certificate, farm |
//! | [`join`] | how a node becomes one of a farm |
//! | [`shell`] | the loop: events in, the engine's decisions out |
//! | [`channels`] | datagram sockets and envelopes |
//! | [`data_channels`] | the sockets among them that content comes on, one per group |
//! | [`groups`] | the list of content groups on disk |
//! | [`sessions`] | frames between sockets and spool |
//! | [`store`] | the spool |
//! | [`transfers`] | pulls, posts and notifications over TCP |
//! | [`console`] | sessions of the text port |
//! | [`verbs`] | the one table of its commands |
//! | [`view`] | what `show` shows |
//! | [`news`] | what happens, for the log and for who watches |
//! | [`measure`] | resources of the machine |
//! | [`priority`] | what speaks for the node as leader |
//! | [`reliability`] | how it has fared of late, over restarts |
//! | [`charter`] | what the CCM decided of the segment, kept |
//! | [`state_file`] | small files of the state directory |
//! | [`links`] | the interface, over netlink |
//! | [`command`] | the daemon's own command line |
//! | [`troubles`] | warnings that are not repeated without end |
//! | [`doctor`] | whether this machine can be a good node |
//! | [`fatal`] | why it ends, as an exit code |

pub mod channels;
pub mod charter;
pub mod command;
pub mod config;
pub mod console;
pub mod data_channels;
pub mod doctor;
pub mod fatal;
pub mod groups;
pub mod identity;
pub mod join;
pub mod links;
pub mod measure;
pub mod news;
pub mod peers;
pub mod priority;
pub mod reliability;
pub mod sessions;
pub mod shell;
pub mod state_file;
pub mod store;
pub mod transfers;
pub mod troubles;
pub mod verbs;
pub mod view;

pub use command::main;
