//! How much may be sent while bandwidth windows are open, now and as far as it is known.

use super::timing::rfc3339;
use super::window::{Opens, Window};
use crate::wire::bound::{Bound, Bounds, Step};
use crate::wire::id::Name;

/// Nobody is told of what comes later than this: a notification is void by then.
const AHEAD_NS: u64 = 24 * 3_600 * 1_000_000_000;
/// Changes that are looked at to find those that count.
const CHANGES_MAX: usize = 32;

/// Windows of this site, or of all, that bound what is sent, with their rates.
fn rated<'a>(windows: &'a [Window], site: &'a Name) -> impl Iterator<Item = (&'a Window, u64)> {
    let covering = windows.iter().filter(|window| window.covers(site));
    covering.filter_map(|window| Some((window, window.rate?)))
}

/// What holds for a site at this instant: of several open windows the smallest rate counts.
pub fn bound(windows: &[Window], site: &Name, now_ns: u64) -> Bound {
    let least = |of_site: bool| {
        let open = rated(windows, site).filter(|(window, _)| window.site.is_some() == of_site);
        open.filter(|(window, _)| window.open(now_ns).is_some()).map(|(_, rate)| rate).min()
    };
    Bound { farm: least(false), site: least(true) }
}

/// What holds for a site from now on, with the next changes, as far as a notification says it.
pub fn bounds(windows: &[Window], site: &Name, now_ns: u64) -> Bounds {
    if rated(windows, site).next().is_none() {
        return Bounds::default();
    }
    let mut steps = vec![Step { from_ns: now_ns, bound: bound(windows, site, now_ns) }];
    let mut at = now_ns;
    for _ in 0..CHANGES_MAX {
        let changes = rated(windows, site).flat_map(|(window, _)| changes(window, at)).flatten();
        let Some(next) = changes.filter(|next| *next < now_ns.saturating_add(AHEAD_NS)).min() else { break };
        at = next;
        let then = bound(windows, site, at);
        if steps.last().is_some_and(|last| last.bound == then) {
            continue;
        }
        if steps.len() == Bounds::STEPS_MAX {
            break;
        }
        steps.push(Step { from_ns: at, bound: then });
    }
    let never = steps.iter().all(|step| step.bound == Bound::default());
    if never { Bounds::default() } else { Bounds(steps) }
}

/// When this window ends, and when it opens, next after `at_ns`.
fn changes(window: &Window, at_ns: u64) -> [Option<u64>; 2] {
    let opens = match &window.opens {
        Opens::At(at) => Some(*at).filter(|at| *at > at_ns),
        Opens::Cron(cron) => cron.next(at_ns),
    };
    [window.open(at_ns).flatten(), opens]
}

/// The smallest bound that has held for a site at any time since then, by the windows that are known.
pub fn slowest(windows: &[Window], site: &Name, since_ns: u64, now_ns: u64) -> Option<u64> {
    let held = |window: &Window| {
        window.last_opened(now_ns).is_some_and(|opened| window.end(opened).is_none_or(|end| end > since_ns))
    };
    rated(windows, site).filter(|(window, _)| held(window)).map(|(_, rate)| rate).min()
}

/// One sentence on what bounds a site now; `None` where nothing does.
pub fn sentence(windows: &[Window], site: &Name, now_ns: u64) -> Option<String> {
    let open = rated(windows, site).filter_map(|(window, rate)| Some((window, rate, window.open(now_ns)?)));
    let (window, rate, until) = open.min_by_key(|(_, rate, _)| *rate)?;
    let until = until.map_or_else(String::new, |until| format!(" until {}", rfc3339(until)));
    let rate = rate / BYTES_PER_MBIT;
    Some(format!("no more than {rate} Mbit/s is sent{until} ({}: {})", window.name, window.reason))
}

/// Bytes per second of one Mbit/s.
pub const BYTES_PER_MBIT: u64 = 125_000;

#[cfg(test)]
mod tests {
    use super::super::timing::instant;
    use super::*;

    const MINUTE: u64 = 60 * 1_000_000_000;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn window(label: &str, site: Option<&str>, opens: &str, lasts_s: Option<u64>, mbit: u64) -> Window {
        let rate = (mbit > 0).then_some(mbit * BYTES_PER_MBIT);
        let opens = opens.parse().unwrap();
        Window { name: name(label), site: site.map(name), opens, lasts_s, rate, reason: "office".to_owned() }
    }

    fn mbit(farm: u64, site: u64) -> Bound {
        let rate = |mbit| (mbit > 0).then_some(mbit * BYTES_PER_MBIT);
        Bound { farm: rate(farm), site: rate(site) }
    }

    #[test]
    fn of_several_open_windows_the_smallest_counts_and_changes_are_told_in_their_order() {
        let (www, noon) = (name("www"), instant("2026-11-20T12:00:00Z").unwrap());
        let windows = [
            window("day", None, "cron UTC 0 8 * * *", Some(10 * 3_600), 50),
            window("lunch", None, "at 2026-11-20T12:30:00Z", Some(600), 20),
            window("shop", Some("shop"), "at 2026-11-20T00:00:00Z", None, 1),
            window("www", Some("www"), "at 2026-11-20T12:00:00Z", Some(2_400), 30),
            window("blackout", None, "at 2026-11-20T00:00:00Z", Some(86_400), 0),
        ];
        assert_eq!(bound(&windows, &www, noon - 1), mbit(50, 0));
        assert_eq!(bound(&windows, &www, noon), mbit(50, 30));
        let told = bounds(&windows, &www, noon);
        let at = |minutes: u64, bound| Step { from_ns: noon + minutes * MINUTE, bound };
        let expected =
            [at(0, mbit(50, 30)), at(30, mbit(20, 30)), at(40, mbit(50, 0)), at(6 * 60, mbit(0, 0))];
        assert_eq!(told.0, expected, "no fifth is told");
        for minutes in 0..6 * 60 + 1 {
            let now = noon + minutes * MINUTE;
            assert_eq!(told.at(Some(now)), bound(&windows, &www, now), "{minutes}");
            assert!(told.agree(&bounds(&windows, &www, now), now), "{minutes}");
        }
        let morning = instant("2026-11-21T08:00:00Z").unwrap();
        assert!(told.agree(&bounds(&windows, &www, morning - 1), morning - 1));
        assert!(!told.agree(&bounds(&windows, &www, morning), morning), "it is told then");
        let said = sentence(&windows, &www, noon).unwrap();
        assert_eq!(said, "no more than 30 Mbit/s is sent until 2026-11-20T12:40:00Z (www: office)");
    }

    #[test]
    fn where_nothing_is_bounded_within_a_day_nothing_is_told() {
        let (www, noon) = (name("www"), instant("2026-11-20T12:00:00Z").unwrap());
        let late = [window("late", None, "at 2026-11-22T12:00:00Z", Some(600), 50)];
        let over = [window("over", None, "at 2026-11-19T12:00:00Z", Some(600), 50)];
        let other = [window("shop", Some("shop"), "at 2026-11-20T00:00:00Z", None, 1)];
        for windows in [&[][..], &late, &over, &other] {
            assert_eq!(bounds(windows, &www, noon), Bounds::default());
            assert_eq!(sentence(windows, &www, noon), None);
        }
    }

    #[test]
    fn the_slowest_window_since_then_is_known_though_it_has_closed() {
        let (www, noon) = (name("www"), instant("2026-11-20T12:00:00Z").unwrap());
        let windows = [
            window("night", None, "cron UTC 0 11 * * *", Some(1_800), 1),
            window("now", None, "at 2026-11-20T11:00:00Z", None, 8),
        ];
        assert_eq!(slowest(&windows, &www, noon - 31 * MINUTE, noon), Some(BYTES_PER_MBIT));
        assert_eq!(slowest(&windows, &www, noon - 29 * MINUTE, noon), Some(8 * BYTES_PER_MBIT));
        assert_eq!(slowest(&windows[..1], &www, noon - 29 * MINUTE, noon), None);
    }
}
