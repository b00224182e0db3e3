//! What a node is and has, measured: its profile for the segment, and what its priority is made of.

use super::config::Config;
use super::priority::{Merits, Tenure};
use super::reliability::Reliability;
use crate::wire::control::{Machine, Profile, SiteState};
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
    /// Clock of a processor, MHz: the highest where the kernel knows it, else the present one.
    pub cpu_mhz: u32,
    /// TCP connections now.
    pub connections: u32,
}

impl Resources {
    pub fn measure(state_dir: &Path) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u16);
        let free_memory = std::fs::read_to_string("/proc/meminfo").map_or(0, |text| mem_available(&text));
        let free_disk = nix::sys::statvfs::statvfs(state_dir)
            .map_or(0, |stat| stat.blocks_available() * stat.fragment_size());
        let load_pct = std::fs::read_to_string("/proc/loadavg").map_or(0, |text| load_pct(&text));
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let highest = read("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq");
        let cpu_mhz = cpu_mhz(&highest, &read("/proc/cpuinfo"));
        let connections =
            connections(&read("/proc/net/sockstat")) + connections(&read("/proc/net/sockstat6"));
        Self { processors, free_memory, free_disk, load_pct, cpu_mhz, connections }
    }

    /// Together with what else speaks for the node as leader.
    pub fn merits(
        &self,
        nic_mbit: Option<u32>,
        tenure: Tenure,
        reliability: &Reliability,
        sites: &[SiteState],
    ) -> Merits {
        let reliability_pct = (reliability.share() * 100.0).round() as u32;
        let Self { processors, free_memory, free_disk, load_pct, .. } = *self;
        let sites_live = sites.iter().filter(|site| site.version.is_some()).count() as u16;
        let sites = sites.len() as u16;
        Merits {
            processors,
            free_memory,
            free_disk,
            load_pct,
            nic_mbit,
            tenure,
            reliability_pct,
            sites_live,
            sites,
        }
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
        leads: config.can_lead && certificate.can_lead,
        machine: Machine {
            location: config.location.clone(),
            cpu_mhz: resources.cpu_mhz,
            load_pct: resources.load_pct,
            connections: resources.connections,
        },
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

/// Of `cpuinfo_max_freq` (kHz), else of the first processor of /proc/cpuinfo; 0 where neither tells.
fn cpu_mhz(highest: &str, cpuinfo: &str) -> u32 {
    let highest = highest.trim().parse::<u32>().ok().map(|khz| khz / 1_000);
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("cpu MHz")?.split_once(':'));
    let now = line.and_then(|(_, mhz)| mhz.trim().parse::<f64>().ok()).map(|mhz| mhz as u32);
    highest.or(now).unwrap_or(0)
}

/// `TCP: inuse 7 orphan 0 ...` or `TCP6: inuse 3`.
fn connections(sockstat: &str) -> u32 {
    let line = sockstat.lines().find(|line| line.starts_with("TCP"));
    let mut words = line.unwrap_or_default().split_whitespace().skip_while(|word| *word != "inuse");
    words.nth(1).and_then(|count| count.parse().ok()).unwrap_or(0)
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
        assert_eq!(cpu_mhz("", "processor\t: 0\ncpu MHz\t\t: 2899.998\n"), 2_899);
        assert_eq!(cpu_mhz("3500000\n", "cpu MHz\t\t: 800.0\n"), 3_500);
        assert_eq!(cpu_mhz("", ""), 0);
        assert_eq!(connections("sockets: used 30\nTCP: inuse 7 orphan 0 tw 1 alloc 9 mem 1\n"), 7);
        assert_eq!(connections("TCP6: inuse 3\nUDP6: inuse 2\n"), 3);
        assert_eq!(connections(""), 0);
    }

    #[test]
    fn only_sites_with_a_live_version_count_as_held() {
        let site = |name: &str, version: Option<u64>| SiteState {
            site: crate::wire::id::Name::new(name).unwrap(),
            version: version.map(crate::wire::id::AssignmentId),
        };
        let sites = [site("www", Some(7)), site("shop", None), site("blog", Some(1))];
        let dir = tempfile::tempdir().unwrap();
        let reliability = Reliability::open(dir.path(), crate::time::Instant::ZERO, 0);
        let merits = Resources::default().merits(Some(10), Tenure::default(), &reliability, &sites);
        assert_eq!((merits.sites_live, merits.sites, merits.nic_mbit), (2, 3, Some(10)));
        assert_eq!(merits.reliability_pct, 100);
    }
}
