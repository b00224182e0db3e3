use super::*;
use crate::captures::{bytes, sequence};
use crate::message::{Attributes, Messages};

const MILLIS: u64 = 1_000_000;

fn link_of(capture: &[u8]) -> u32 {
    u32::from_ne_bytes(capture[20..24].try_into().unwrap())
}

#[test]
fn netem_is_asked_for_in_the_bytes_that_tc_sends() {
    let captured = bytes("request-netem");
    let bad = Impairment {
        delay_nanos: 20 * MILLIS,
        jitter_nanos: 2 * MILLIS,
        loss: Chance::percent(1.0),
        duplicate: Chance::percent(0.5),
        reorder: Chance::percent(2.0),
        corrupt: Chance::percent(0.1),
        limit_packets: 5_000,
        bursts: None,
    };
    assert_eq!(impairment(link_of(&captured), bad).encode(sequence(&captured), libc::NLM_F_ACK), captured);
}

#[test]
fn bursts_of_loss_are_asked_for_in_the_bytes_that_tc_sends() {
    let captured = bytes("request-netem-bursts");
    let bursts = Bursts { begin: Chance::percent(1.0), end: Chance::percent(30.0) };
    let bad = Impairment { bursts: Some(bursts), loss: Chance::percent(7.0), ..Impairment::default() };
    assert_eq!(impairment(link_of(&captured), bad).encode(sequence(&captured), libc::NLM_F_ACK), captured);
}

#[test]
fn a_delay_that_ticks_cannot_say_is_sent_in_nanoseconds_too() {
    let bad = Impairment { delay_nanos: 300_000 * MILLIS + 1, ..Impairment::default() };
    let encoded = impairment(7, bad).encode(1, 0);
    let options = options_of(&encoded);
    assert_eq!(options[..4], u32::MAX.to_ne_bytes(), "as far as ticks reach");
    let exact = Attributes::new(&options[24..]).flatten().find(|a| a.kind == NETEM_LATENCY64).unwrap();
    assert_eq!(exact.value, bad.delay_nanos.to_ne_bytes());
}

#[test]
fn a_rate_over_32_bits_is_sent_in_64() {
    for (rate, wide) in [(1_250_000, false), (12_500_000_000, true)] {
        let bucket = TokenBucket { rate, burst: 10_000, limit: 30_000 };
        let encoded = token_bucket(7, bucket).encode(1, 0);
        let options = options_of(&encoded);
        let found: Vec<_> = Attributes::new(options).map(Result::unwrap).collect();
        assert_eq!(found[0].value[24..28], 30_000u32.to_ne_bytes());
        assert_eq!(found[1].u32(), Ok(10_000));
        assert_eq!(found.iter().any(|a| a.kind == TBF_RATE64 && a.value == rate.to_ne_bytes()), wide);
    }
}

#[test]
fn a_chance_stays_within_its_bounds() {
    assert_eq!(Chance::percent(100.0), Chance(u32::MAX));
    assert_eq!(Chance::percent(250.0), Chance(u32::MAX));
    assert_eq!(Chance::percent(-1.0), Chance::NEVER);
    assert_eq!(Chance::percent(f64::NAN), Chance::NEVER);
}

fn options_of(encoded: &[u8]) -> &[u8] {
    let message = Messages::new(encoded).next().unwrap().unwrap();
    let (_, attributes) = message.split("a qdisc", FIXED_BYTES).unwrap();
    attributes.flatten().find(|attribute| attribute.kind == libc::TCA_OPTIONS).unwrap().value
}
