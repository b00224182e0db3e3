//! What a node is and has, measured: its profile for the segment, and what its priority is made of.

use super::config::Config;
use super::priority::{Merits, Tenure};
use crate::wire::control::{Profile, SiteState};
use crate::wire::id::ListNumber;
use crate::wire::seal::Certificate;
use std::net::SocketAddr;
use std::path::Path;

/// The addresses under which a node is reached.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub datagram: SocketAddr,
    pub http: SocketAddr,
    pub text: SocketAddr,
}

/// Resources of the machine now. What cannot be read counts as none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub processors: u16,
    pub free_memory: u64,
    pub free_disk: u64,
    /// Load average over one minute, in hundredths.
    pub load_pct: u32,
}

impl Resources {
    pub fn measure(state_dir: &Path) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u16);
        let free_memory = std::fs::read_to_string("/proc/meminfo").map_or(0, |text| mem_available(&text));
        let free_disk = nix::sys::statvfs::statvfs(state_dir)
            .map_or(0, |stat| stat.blocks_available() * stat.fragment_size());
        let load_pct = std::fs::read_to_string("/proc/loadavg").map_or(0, |text| load_pct(&text));
        Self { processors, free_memory, free_disk, load_pct }
    }

    /// Together with what else speaks for the node as leader.
    pub fn merits(&self, nic_mbit: Option<u32>, tenure: Tenure, sites: &[SiteState]) -> Merits {
        let Self { processors, free_memory, free_disk, load_pct } = *self;
        let sites_live = sites.iter().filter(|site| site.version.is_some()).count() as u16;
        let sites = sites.len() as u16;
        Merits { processors, free_memory, free_disk, load_pct, nic_mbit, tenure, sites_live, sites }
    }
}

/// What the node says of itself.
pub fn profile(
    config: &Config,
    certificate: &Certificate,
    addresses: Addresses,
    resources: Resources,
    priority: u32,
    mtu: usize,
    sites: Vec<SiteState>,
) -> Profile {
    Profile {
        certificate: certificate.clone(),
        name: config.name.clone(),
        datagram: addresses.datagram,
        http: addresses.http,
        text: addresses.text,
        priority,
        processors: resources.processors,
        free_memory: resources.free_memory,
        free_disk: resources.free_disk,
        // The engine knows better, and says so in our name.
        groups: ListNumber(0),
        mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        sites,
    }
}

fn mem_available(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: Option<u64> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kib.map_or(0, |kib| kib * 1_024)
}

fn load_pct(loadavg: &str) -> u32 {
    let first: Option<f64> = loadavg.split_whitespace().next().and_then(|word| word.parse().ok());
    first.map_or(0, |load| (load * 100.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_prints_is_read() {
        assert_eq!(mem_available("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), 2 << 20);
        assert_eq!(mem_available("nothing"), 0);
        assert_eq!(load_pct("1.25 0.5 0.1 1/2 3"), 125);
        assert_eq!(load_pct(""), 0);
    }

    #[test]
    fn only_sites_with_a_live_version_count_as_held() {
        let site = |name: &str, version: Option<u64>| SiteState {
            site: crate::wire::id::Name::new(name).unwrap(),
            version: version.map(crate::wire::id::AssignmentId),
        };
        let sites = [site("www", Some(7)), site("shop", None), site("blog", Some(1))];
        let merits = Resources::default().merits(Some(10), Tenure::default(), &sites);
        assert_eq!((merits.sites_live, merits.sites, merits.nic_mbit), (2, 3, Some(10)));
    }
}
