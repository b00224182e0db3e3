//! Configuration files of node and controller.

use crate::memory::bounded;
use farmcast::{ccm, node};
use std::net::SocketAddr;
use std::path::Path;

/// A table in TOML costs so much for each byte: keys of one letter become entries of ordered maps.
const FACTOR: u64 = 2_000;

pub fn node(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    // A CCM by name would be looked up in the network.
    let table = text.parse::<toml::Table>().unwrap_or_default();
    let ccm = table.get("ccm").and_then(toml::Value::as_str);
    if ccm.is_some_and(|ccm| ccm.parse::<SocketAddr>().is_err()) {
        return false;
    }
    match bounded(bytes, FACTOR, || node::config::Config::parse(Path::new("farmcastd.toml"), text)) {
        Ok(config) => {
            assert!(config.control_channel.ip().is_multicast());
            assert!(config.profile.check().is_ok() && config.rate_start <= config.rate_max);
            true
        }
        Err(error) => {
            assert!(error.line <= text.lines().count() + 1 && !error.message.is_empty(), "{error}");
            false
        }
    }
}

pub fn ccm(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match bounded(bytes, FACTOR, || ccm::Config::parse("ccm.toml", text)) {
        Ok(_) => true,
        Err(error) => {
            assert!((1..=text.lines().count() + 1).contains(&error.line), "{error}");
            assert!(!error.message.is_empty() && !error.message.contains('\n'), "{error}");
            false
        }
    }
}

pub fn node_seeds() -> Vec<Vec<u8>> {
    let full = r#"
name = "web01"
segment = "boston"
ccm = "127.0.0.1:7400"
state_dir = "/var/lib/farmcast"

[network]
interface = "127.0.0.1"
control_channel = "239.255.70.1:7401"
data_channel = "239.255.70.2:7401"
datagram_port = 7402
http_port = 7403
text_port = 7404
ttl = 2

[control]
socket = "/run/farmcast/farmcastd.sock"

[election]
profile = "classic"
can_lead = true
factor = 120
leaders = ["web01", "web02"]
alive_ms = 1500

[transport]
rate_max_mbit = 900
rate_start_mbit = 100

[store]
max_bytes = 1000000

[log]
level = "debug"

[[site]]
name = "www"
root = "/srv/www"

[fault]
loss_pct = 1.5
seed = 7
"#;
    let small = "ccm = \"127.0.0.1:1\"\n[network]\ninterface = \"127.0.0.1\"\n";
    vec![full.as_bytes().to_vec(), [b"name = \"n\"\n", small.as_bytes()].concat()]
}

pub fn ccm_seeds() -> Vec<Vec<u8>> {
    vec![
        include_bytes!("../../../sysconfig/ccm.toml").to_vec(),
        b"dir = \"/var/lib/farmcast-ccm\"\nlisten = \"127.0.0.1:7400\"\nsocket = \"/run/farmcast/ccm.sock\"\n\
          first_level = 2\nreport_timeout_s = 60\ncommit_lead_ms = 500\nadvertise = \"10.0.0.1:7400\"\n"
            .to_vec(),
    ]
}
