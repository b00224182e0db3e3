//! What a node is and has, measured: its profile for the segment and its priority as a leader (EL-12).

use super::config::Config;
use crate::proto::election::PRIORITY_SCALE;
use crate::wire::control::{Profile, SiteState};
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

    /// 1 to [`PRIORITY_SCALE`]: processors, memory and disk on logarithmic scales, less what the load takes,
    /// weighted by the operator's `factor` in percent.
    pub fn priority(&self, factor: u32) -> u32 {
        let log = |value: u64, least: u64, most: u64| {
            let value = value.clamp(least, most) as f64;
            (value / least as f64).log2() / (most as f64 / least as f64).log2()
        };
        let processors = log(u64::from(self.processors), 1, 128);
        let memory = log(self.free_memory, 64 << 20, 256 << 30);
        let disk = log(self.free_disk, 1 << 30, 16 << 40);
        let busy = f64::from(self.load_pct) / 100.0 / f64::from(self.processors.max(1));
        let idle = 1.0 - busy.min(1.0);
        let share = 0.3 * processors + 0.25 * memory + 0.15 * disk + 0.3 * idle;
        let weighted = share * f64::from(PRIORITY_SCALE) * f64::from(factor) / 100.0;
        (weighted as u32).clamp(1, PRIORITY_SCALE)
    }
}

/// What the node says of itself.
pub fn profile(
    config: &Config,
    certificate: &Certificate,
    addresses: Addresses,
    resources: Resources,
    sites: Vec<SiteState>,
) -> Profile {
    Profile {
        certificate: certificate.clone(),
        name: config.name.clone(),
        datagram: addresses.datagram,
        http: addresses.http,
        text: addresses.text,
        priority: resources.priority(config.factor),
        processors: resources.processors,
        free_memory: resources.free_memory,
        free_disk: resources.free_disk,
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
    fn a_better_machine_has_the_higher_priority_and_the_operator_the_last_word() {
        let small = Resources { processors: 2, free_memory: 1 << 30, free_disk: 10 << 30, load_pct: 0 };
        let large = Resources { processors: 64, free_memory: 128 << 30, free_disk: 4 << 40, load_pct: 0 };
        let busy = Resources { load_pct: 6_400, ..large };
        assert!(small.priority(100) < large.priority(100));
        assert!(busy.priority(100) < large.priority(100));
        assert!(large.priority(10) < small.priority(100));
        assert_eq!(large.priority(0), 1);
        assert_eq!(large.priority(100_000), PRIORITY_SCALE);
    }
}
