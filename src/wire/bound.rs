//! What may be sent while bandwidth windows are open, from instant to instant.

use super::{Decoder, Encoder, Malformed};

/// Bytes per second that one sender may send, with all that it sends. `None`: as much as the way carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Of all sites together.
    pub farm: Option<u64>,
    /// Of this site.
    pub site: Option<u64>,
}

impl Bound {
    /// The smaller of both.
    pub fn least(self) -> Option<u64> {
        [self.farm, self.site].into_iter().flatten().min()
    }
}

/// From this instant on, by the CCM's clock in nanoseconds since 1970, until the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub from_ns: u64,
    pub bound: Bound,
}

/// The bounds of one site as they follow each other: the first holds already, the last until another is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds(pub Vec<Step>);

impl Bounds {
    /// Most steps: whoever sends learns of later ones in time.
    pub const STEPS_MAX: usize = 4;

    /// Nothing is bounded, now or later.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What holds at an instant of the CCM's clock; the first where the clock is not known.
    pub fn at(&self, ccm_ns: Option<u64>) -> Bound {
        let begun = |step: &&Step| ccm_ns.is_some_and(|now| step.from_ns <= now);
        let step = self.0.iter().rev().find(begun).or(self.0.first());
        step.map_or_else(Bound::default, |step| step.bound)
    }

    /// Whether whoever was told these does from `now_ns` on as these later ones say, as far as it was told.
    pub fn agree(&self, later: &Self, now_ns: u64) -> bool {
        let to_come = |bounds: &Self| bounds.0.iter().filter(|step| step.from_ns > now_ns).copied().collect();
        let (own, other): (Vec<Step>, Vec<Step>) = (to_come(self), to_come(later));
        self.at(Some(now_ns)) == later.at(Some(now_ns)) && other.starts_with(&own)
    }

    pub fn encode(&self, out: &mut Encoder) {
        out.list(&self.0, |out, step| {
            out.u64(step.from_ns);
            for rate in [step.bound.farm, step.bound.site] {
                out.u64(rate.unwrap_or(0));
            }
        });
    }

    pub fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let rate = |from: &mut Decoder<'_>| Ok(Some(from.u64("rate")?).filter(|rate| *rate > 0));
        let steps = from.list(Self::STEPS_MAX, "bounds", |from| {
            let from_ns = from.u64("bound")?;
            Ok(Step { from_ns, bound: Bound { farm: rate(from)?, site: rate(from)? } })
        })?;
        Ok(Self(steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(from_ns: u64, rate: u64) -> Step {
        Step { from_ns, bound: Bound { farm: Some(rate).filter(|rate| *rate > 0), site: None } }
    }

    #[test]
    fn the_last_step_that_has_begun_holds_and_the_first_where_nobody_knows_the_time() {
        let bounds = Bounds(vec![step(10, 5), step(20, 0), step(30, 7)]);
        for (now, rate) in
            [(None, Some(5)), (Some(0), Some(5)), (Some(19), Some(5)), (Some(20), None), (Some(99), Some(7))]
        {
            assert_eq!(bounds.at(now).least(), rate, "{now:?}");
        }
        assert_eq!(Bounds::default().at(Some(7)), Bound::default());
        let both = Bound { farm: Some(9), site: Some(4) };
        assert_eq!((both.least(), Bound { site: None, ..both }.least()), (Some(4), Some(9)));
    }

    #[test]
    fn what_was_told_agrees_with_what_is_so_until_something_else_is() {
        let told = Bounds(vec![step(10, 5), step(20, 0), step(30, 7)]);
        let more = Bounds(vec![step(15, 5), step(20, 0), step(30, 7), step(40, 0)]);
        assert!(told.agree(&more, 15), "more is known of what is to come");
        assert!(!told.agree(&more, 40), "which is so now");
        assert!(!told.agree(&Bounds(vec![step(15, 5), step(25, 0)]), 15), "another end");
        assert!(!told.agree(&Bounds::default(), 15) && told.agree(&Bounds(vec![step(31, 7)]), 31));
        assert!(Bounds::default().agree(&Bounds(vec![step(15, 0), step(20, 3)]), 15));
        assert!(!Bounds::default().agree(&Bounds(vec![step(20, 3)]), 20));
    }

    #[test]
    fn bounds_come_back_as_they_were_written_and_more_than_four_steps_do_not() {
        let bounds = Bounds(vec![step(10, 5), step(20, 0)]);
        let mut out = Encoder::new();
        bounds.encode(&mut out);
        assert_eq!(Bounds::decode(&mut Decoder::new(out.as_bytes())), Ok(bounds));
        let mut out = Encoder::new();
        Bounds((0..5).map(|at| step(at, 1)).collect()).encode(&mut out);
        assert_eq!(Bounds::decode(&mut Decoder::new(out.as_bytes())), Err(Malformed::OutOfBounds("bounds")));
    }
}
