//! What jobs go by: the options of several commands, and `farmcast site policy`.

use super::client::{Client, segment};
use super::failure::Failure;
use super::output::{Output, bytes, printable};
use crate::ccm::api::types::Policy;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct PolicyArgs {
    /// Nodes that must have staged before any switches: all, a number, or a share as 90%; the others stay as they are
    #[arg(long, value_name = "all|N|P%")]
    quorum: Option<String>,
    /// Of the nodes that are to have the site, those that must be online at the start [default: 50%]
    #[arg(long, value_name = "all|N|P%")]
    online_quorum: Option<String>,
    /// Members of a segment that must have it before its multicast ends [default: as ccm.toml says]
    #[arg(long, value_name = "all|N|P%")]
    local_quorum: Option<String>,
    /// Of the nodes that were waited for, those that must be live in the end, or all go back to the version before
    /// [default: 50%]
    #[arg(long, value_name = "all|N|P%")]
    threshold: Option<String>,
    /// Where another job goes to the same site on the same nodes [default: queue]
    #[arg(long, value_name = "queue|cancel")]
    on_conflict: Option<String>,
    /// Where a freeze or a blackout is on [default: wait]
    #[arg(long, value_name = "wait|cancel")]
    on_freeze: Option<String>,
    /// Attempts after the first where a run fails [default: 0]
    #[arg(long, value_name = "N")]
    retries: Option<u8>,
    /// Seconds before each of them [default: 60]
    #[arg(long, value_name = "SECONDS")]
    retry_after: Option<u32>,
}

/// What only a site has.
#[derive(clap::Args)]
pub struct SitePolicyArgs {
    #[command(flatten)]
    jobs: PolicyArgs,
    /// When nodes go live: all at one instant, or each by itself as soon as it has staged [default: commit]
    #[arg(long, value_name = "commit|autonomous")]
    activation: Option<String>,
    /// Encrypt what is sent, so that only nodes that are to have the site can read it [default: false]
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    encrypt: Option<bool>,
    /// Checkpoints that stay when another is made; the oldest go [default: 5]
    #[arg(long, value_name = "N")]
    checkpoints: Option<u8>,
    /// Seconds for which a node is online and lacks what is live before a job brings it along by itself; 0: never
    /// [default: 60]
    #[arg(long, value_name = "SECONDS")]
    bring_along_after: Option<u32>,
    /// Bytes of one upload, as they are sent: 500M, 2G [default: 64G]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    upload_bytes: Option<u64>,
    /// Bytes of the largest assignment, from 64K: a larger update is sent in parts; 0: no bound [default: 0]
    #[arg(long, value_name = "BYTES", value_parser = bound)]
    assignment_max: Option<u64>,
    /// Entries of one upload [default: 1000000]
    #[arg(long, value_name = "N")]
    upload_entries: Option<u64>,
}

impl PolicyArgs {
    pub fn wish(&self) -> Policy {
        Policy {
            quorum: self.quorum.clone(),
            online_quorum: self.online_quorum.clone(),
            local_quorum: self.local_quorum.clone(),
            threshold: self.threshold.clone(),
            on_conflict: self.on_conflict.clone(),
            on_freeze: self.on_freeze.clone(),
            activation: None,
            encrypt: None,
            retries: self.retries,
            retry_after_s: self.retry_after,
            ..Policy::default()
        }
    }
}

/// `farmcast site policy`
pub async fn run(
    client: &Client,
    output: &Output,
    site: &str,
    args: &SitePolicyArgs,
    default: bool,
) -> Result<ExitCode, Failure> {
    let path = format!("/v1/sites/{}/policy", segment(site));
    let (checkpoints, bring_along_after_s) = (args.checkpoints, args.bring_along_after);
    let (activation, encrypt) = (args.activation.clone(), args.encrypt);
    let (upload_bytes, upload_entries) = (args.upload_bytes, args.upload_entries);
    let assignment_max = args.assignment_max;
    let wish = Policy {
        activation,
        encrypt,
        checkpoints,
        bring_along_after_s,
        upload_bytes,
        upload_entries,
        assignment_max,
        ..args.jobs.wish()
    };
    let policy: Policy = match wish == Policy::default() && !default {
        true => client.get(&path).await?,
        false => client.post(&path, &wish).await?,
    };
    if output.is_json() {
        output.value(&policy)?;
    } else {
        output.line(&format!("{}: {}", printable(site), words(&policy)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `quorum 90%, retries 2`; `defaults` where it says nothing.
pub fn words(policy: &Policy) -> String {
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    let fields = [
        ("quorum", policy.quorum.clone()),
        ("online quorum", policy.online_quorum.clone()),
        ("local quorum", policy.local_quorum.clone()),
        ("threshold", policy.threshold.clone()),
        ("on conflict", policy.on_conflict.clone()),
        ("on freeze", policy.on_freeze.clone()),
        ("activation", policy.activation.clone()),
        ("encrypt", policy.encrypt.map(|encrypt| encrypt.to_string())),
        ("retries", number(policy.retries.map(u32::from))),
        ("retry after", number(policy.retry_after_s).map(|seconds| seconds + " s")),
        ("checkpoints", number(policy.checkpoints.map(u32::from))),
        ("bring along after", number(policy.bring_along_after_s).map(|seconds| seconds + " s")),
        ("bytes of an upload", policy.upload_bytes.map(bytes)),
        ("largest assignment", policy.assignment_max.map(largest)),
        ("entries of an upload", policy.upload_entries.map(|entries| entries.to_string())),
    ];
    let set: Vec<String> = fields
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name} {}", printable(&value?))))
        .collect();
    if set.is_empty() { "defaults".to_owned() } else { set.join(", ") }
}

/// A bound of bytes; 0 stands for none.
fn bound(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { size(text) }
}

fn largest(max: u64) -> String {
    if max == 0 { "of any size".to_owned() } else { bytes(max) }
}

/// Reads `4096`, `500M`, `2G`: binary units.
fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        Some(b'T') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    number
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("{text:?} is no number of bytes: give a number, and K, M, G or T behind it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_and_a_binary_unit() {
        for (text, expected) in
            [("1", 1), ("4K", 4_096), ("500M", 500 << 20), ("2G", 2 << 30), ("1T", 1 << 40)]
        {
            assert_eq!(size(text), Ok(expected));
        }
        for text in ["", "0", "G", "-1", "1.5G", "2g", "99999999999T"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!((bound("0"), bound("64K")), (Ok(0), Ok(64 << 10)));
    }
}
