use super::*;
use crate::proto::random::Rng;
use proptest::prelude::*;

fn bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
    (0..len).map(|_| rng.next_u64() as u8).collect()
}

fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut product) = (a, 0);
    for bit in 0..8 {
        product ^= if b >> bit & 1 == 1 { a } else { 0 };
        a = (a << 1) ^ if a & 0x80 == 0 { 0 } else { POLYNOMIAL };
    }
    product
}

#[test]
fn every_element_times_its_inverse_is_one() {
    assert!((1..=255).all(|value| multiply(value, inverse(value)) == 1));
}

#[test]
fn a_parity_frame_is_the_sum_that_the_header_of_the_file_names() {
    let mut rng = Rng::new(3);
    let (frame_len, k) = (1_300, 7);
    let block = bytes(&mut rng, frame_len * k - 41);
    for index in [7, 8, 100, 254] {
        let mut out = vec![0xa5; frame_len];
        parity(index, &block, &mut out);
        for (at, &byte) in out.iter().enumerate() {
            let sum = (0..k).fold(0, |sum, j| {
                let source = block.get(j * frame_len + at).copied().unwrap_or(0);
                sum ^ multiply(source, inverse((usize::from(index) ^ j) as u8))
            });
            assert_eq!(byte, sum, "byte {at} of parity {index}");
        }
    }
}

#[test]
fn what_cannot_be_rebuilt_is_refused_and_nothing_panics() {
    let mut block = vec![1; 40];
    let frame = [0; 10];
    let mut refuse = |missing: &[u16], parities: &[(u16, &[u8])]| {
        recover(&mut block, 10, missing, parities).expect_err("refused")
    };
    assert_eq!(refuse(&[0, 1], &[(4, &frame)]), Unrecoverable::TooFew { missing: 2, parities: 1 });
    assert_eq!(refuse(&[4], &[(5, &frame)]), Unrecoverable::Frame(4));
    assert_eq!(refuse(&[0], &[(3, &frame)]), Unrecoverable::Frame(3));
    assert_eq!(refuse(&[0], &[(255, &frame)]), Unrecoverable::Frame(255));
    assert_eq!(refuse(&[0, 0], &[(4, &frame), (5, &frame)]), Unrecoverable::Frame(0));
    assert_eq!(refuse(&[0, 1], &[(4, &frame), (4, &frame)]), Unrecoverable::Frame(4));
    assert_eq!(refuse(&[0], &[(4, &frame[..9])]), Unrecoverable::Length);
    assert_eq!(recover(&mut block, 10, &[], &[]), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_k_frames_give_the_block_back(
        seed: u64, frame_len in 1_usize..700, k in 1_usize..60, short in 0_usize..700, lose in 0_usize..60,
    ) {
        let mut rng = Rng::new(seed);
        let block = bytes(&mut rng, frame_len * k - short % frame_len);
        let count = lose.min(k);
        let mut pick = |from: u16, to: u16, count: usize| {
            let mut all: Vec<u16> = (from..to).collect();
            (0..count).map(|_| all.swap_remove(rng.below(all.len() as u64) as usize)).collect::<Vec<_>>()
        };
        let missing = pick(0, k as u16, count);
        let parities: Vec<(u16, Vec<u8>)> = pick(k as u16, SYMBOLS_MAX, count)
            .into_iter()
            .map(|index| {
                let mut frame = vec![0; frame_len];
                parity(index, &block, &mut frame);
                (index, frame)
            })
            .collect();
        let mut damaged = block.clone();
        for &index in &missing {
            let frame = damaged.chunks_mut(frame_len).nth(usize::from(index)).expect("below k");
            frame.fill(0x5a);
        }
        let parities: Vec<(u16, &[u8])> = parities.iter().map(|(i, frame)| (*i, &frame[..])).collect();
        recover(&mut damaged, frame_len, &missing, &parities).expect("enough parity");
        prop_assert_eq!(damaged, block);
    }
}

/// Prints what the code does on this machine; run it with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn speed_of_the_code_on_this_machine() {
    let mut rng = Rng::new(1);
    for frame_len in [1_436, 8_936] {
        let block = bytes(&mut rng, 256 * 1024);
        let k = source_frames(block.len(), frame_len) as u16;
        let rounds: u16 = 4_000;
        let mut out = vec![0; frame_len];
        let start = std::time::Instant::now();
        for round in 0..rounds {
            parity(k + round % (SYMBOLS_MAX - k), std::hint::black_box(&block), &mut out);
        }
        let spent = start.elapsed().as_secs_f64() / f64::from(rounds);
        println!(
            "frames of {frame_len}: one parity frame of {k} sources in {:.1} us, {:.0} MB/s of source",
            spent * 1e6,
            block.len() as f64 / spent / 1e6
        );
        for missing in [1_u16, 2, 4, 8, 16] {
            let frames: Vec<Vec<u8>> = (0..missing)
                .map(|index| {
                    parity(k + index, &block, &mut out);
                    out.clone()
                })
                .collect();
            let parities: Vec<(u16, &[u8])> = (k..).zip(frames.iter().map(|frame| &frame[..])).collect();
            let lost: Vec<u16> = (0..missing).map(|j| j * 7 % k).collect();
            let mut damaged = block.clone();
            let start = std::time::Instant::now();
            for _ in 0..300 {
                recover(std::hint::black_box(&mut damaged), frame_len, &lost, &parities).expect("enough");
            }
            let spent = start.elapsed().as_secs_f64() / 300.0;
            assert_eq!(damaged, block);
            println!(
                "  {missing} of {k} missing: rebuilt in {:.0} us, {:.0} MB/s of block",
                spent * 1e6,
                block.len() as f64 / spent / 1e6
            );
        }
    }
}
