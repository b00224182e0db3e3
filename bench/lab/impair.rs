//! What makes the links slow and bad: tbf, netem, and what stands in where the kernel has no netem.
//!
//! | wish | netem | stand-in |
//! |---|---|---|
//! | independent loss | members' ports of the bridge | nft `numgen` where members receive |
//! | loss in bursts | members' ports | nft: a set remembers who is in a burst (Gilbert) |
//! | delay, jitter, overtaking | members' ports, for each its own | `relay.rs` on the sender's link, for all the same |

use crate::links::{Links, Place};
use crate::process;
use crate::segment::{Machine, told};
use netlink::qdisc::{Bursts, Chance, Impairment, TokenBucket};
use netlink::{Error, Lab};

/// Bytes that the bottleneck sends at once; less than a segmented batch, so that it goes out packet by packet.
const BURST: u32 = 64 << 10;
/// Packets that netem may hold; at 20 ms these are 5 million a second.
const HELD_MAX: u32 = 100_000;
/// nft draws from so many numbers.
const LOTS: u32 = 1_000_000;

/// Whether this kernel has netem; `link` is left as it was.
pub fn has_netem(lab: &mut Lab, link: u32) -> Result<bool, String> {
    match lab.impair(link, Impairment::default()) {
        Ok(()) => lab.restore(link).map(|()| true).map_err(told),
        Err(Error::Unsupported { .. }) => Ok(false),
        Err(error) => Err(told(error)),
    }
}

pub fn needs_relay(links: &Links, netem: bool) -> bool {
    links.is_delayed() && !(netem && ports_are_free(links))
}

/// A link has one qdisc: where members' ports are slow, netem has no place there.
fn ports_are_free(links: &Links) -> bool {
    links.rate.is_none() || links.bottleneck == Place::Sender
}

/// Slows and spoils the links, and says by what. The sender is the first machine.
pub fn spoil(lab: &mut Lab, links: &Links, machines: &[Machine], netem: bool) -> Result<String, String> {
    let mut words = Vec::new();
    if let Some(rate) = links.rate {
        words.push(slow_down(lab, links, rate, machines)?);
    }
    let netem = netem && ports_are_free(links);
    if netem && (links.loss > 0.0 || links.is_delayed()) {
        for machine in &machines[1..] {
            let index = lab.link(&machine.port).map_err(told)?.index;
            lab.impair(index, as_netem(links)).map_err(told)?;
        }
    }
    let percent = links.loss;
    if percent > 0.0 {
        let how = match links.burst {
            1.0 => "independent".to_owned(),
            burst => format!("in bursts of {burst}"),
        };
        if netem {
            words.push(format!("loss {percent} % {how} by netem on the members' ports"));
        } else {
            machines[1..].iter().try_for_each(|machine| lose(machine, links))?;
            words.push(format!("loss {percent} % {how} by nft where members receive (stand-in)"));
        }
    }
    if links.is_delayed() {
        let [delay, jitter] = [links.delay, links.jitter].map(|micros| micros as f64 / 1e3);
        let what = format!("delay {delay} ms, jitter {jitter} ms, {} % skip it", links.reorder);
        words.push(match netem {
            true => format!("{what}: by netem on the members' ports"),
            false => format!("{what}: by a relay on the sender's link (stand-in)"),
        });
    }
    if words.is_empty() {
        words.push("none".to_owned());
    }
    words.push(if links.offloads_on() { "offloads on" } else { "offloads off" }.to_owned());
    Ok(words.join(", "))
}

/// Loses what arrives at one machine.
pub fn lose(machine: &Machine, links: &Links) -> Result<(), String> {
    process::run(machine.command("nft").arg(nft_rules(links))).map(|_| ())
}

fn slow_down(lab: &mut Lab, links: &Links, rate: u64, machines: &[Machine]) -> Result<String, String> {
    Ok(match links.bottleneck {
        Place::Sender => {
            let mut inside = Lab::inside(&machines[0].namespace).map_err(told)?;
            let eth0 = inside.link("eth0").map_err(told)?.index;
            inside.slow_down(eth0, bucket(rate, links.queue)).map_err(told)?;
            "tbf on the sender's link".to_owned()
        }
        Place::Ports => {
            for machine in &machines[1..] {
                slow_port(lab, machine, rate, links.queue)?;
            }
            "tbf on the members' ports of the bridge".to_owned()
        }
    })
}

/// Slows what one machine receives.
pub fn slow_port(lab: &mut Lab, machine: &Machine, rate: u64, queue: u64) -> Result<(), String> {
    let index = lab.link(&machine.port).map_err(told)?.index;
    lab.slow_down(index, bucket(rate, queue)).map_err(told)
}

fn bucket(rate: u64, queue: u64) -> TokenBucket {
    TokenBucket { rate: rate / 8, burst: BURST, limit: u32::try_from(queue).unwrap_or(u32::MAX).max(BURST) }
}

fn as_netem(links: &Links) -> Impairment {
    let (begin, end) = links.bursts();
    let bursts = Bursts { begin: Chance::percent(begin * 100.0), end: Chance::percent(end * 100.0) };
    let in_bursts = links.loss > 0.0 && links.burst > 1.0;
    Impairment {
        delay_nanos: links.delay * 1_000,
        jitter_nanos: links.jitter * 1_000,
        loss: if in_bursts { Chance::NEVER } else { Chance::percent(links.loss) },
        bursts: in_bursts.then_some(bursts),
        reorder: Chance::percent(links.reorder),
        limit_packets: HELD_MAX,
        ..Impairment::default()
    }
}

fn nft_rules(links: &Links) -> String {
    let lots = |chance: f64| (chance * f64::from(LOTS)).round() as u32;
    let head = "type filter hook prerouting priority -300";
    if links.burst <= 1.0 {
        let loss = lots(links.loss / 100.0);
        let rule = format!("iifname \"eth0\" numgen random mod {LOTS} < {loss} drop");
        return format!("table ip lab {{\n chain arriving {{\n {head}\n {rule}\n }}\n }}");
    }
    // An address in the set is in a burst. Members deleted from a set take room until they are collected.
    let (begin, end) = links.bursts();
    let (begin, end) = (lots(begin), lots(end));
    format!(
        "table ip lab {{
            set bad {{
                type ipv4_addr
                size 65535
                flags dynamic, timeout
                timeout 10s
                gc-interval 500ms
            }}
            chain arriving {{
                {head}
                iifname != \"eth0\" accept
                ip daddr @bad numgen random mod {LOTS} < {end} delete @bad {{ ip daddr }} accept
                ip daddr @bad drop
                numgen random mod {LOTS} < {begin} add @bad {{ ip daddr }} drop
            }}
        }}"
    )
}
