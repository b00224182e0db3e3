//! Sizes, rates and shares as they are given on the command line.

/// Bytes: a number with K, M or G (of 1,024) behind it.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return Err("a number with K, M or G behind it, as 256M".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "a number with K, M or G behind it, as 256M".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

/// Bits per second: a number with kbit, mbit or gbit behind it.
pub fn rate(text: &str) -> Result<u64, String> {
    let text = text.to_ascii_lowercase();
    let advice = "a number with kbit, mbit or gbit behind it, as 200mbit";
    let units = [("kbit", 1_000), ("mbit", 1_000_000), ("gbit", 1_000_000_000)];
    let found = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)));
    let (digits, unit) = found.ok_or(advice)?;
    let number: u64 = digits.parse().map_err(|_| advice)?;
    number.checked_mul(*unit).filter(|rate| *rate > 0).ok_or_else(|| advice.to_owned())
}

/// At most 90: beyond that nothing arrives.
pub fn percent(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "a number of percent".to_owned())?;
    if (0.0..=90.0).contains(&number) { Ok(number) } else { Err("between 0 and 90".to_owned()) }
}

/// Microseconds: a number with ms or us behind it.
pub fn micros(text: &str) -> Result<u64, String> {
    let advice = "a number with ms or us behind it, as 20ms";
    let units = [("ms", 1_000.0), ("us", 1.0)];
    let found = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)));
    let (digits, unit) = found.ok_or(advice)?;
    let number: f64 = digits.parse().map_err(|_| advice)?;
    if (0.0..=10_000.0).contains(&number) { Ok((number * unit) as u64) } else { Err(advice.to_owned()) }
}

/// Mean packets of a loss.
pub fn burst(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "a number of packets".to_owned())?;
    if (1.0..=1_000.0).contains(&number) { Ok(number) } else { Err("between 1 and 1000".to_owned()) }
}
