//! Sessions that run at the same time share the way out: each has a rate that its members could take, and what
//! the fastest of them may send is divided among all (LD-1; design D5).
//!
//! Every session finds its rate by what its own members lose, and a full queue loses frames of all sessions
//! alike; so the highest of the rates is what the way carries in all. It is divided so that nobody can get more
//! without somebody getting less who has less already: a session with slow members takes what they can take,
//! the others share the rest evenly. Whichever channels they use, they leave through one interface.

/// What a session gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub bytes_per_second: u64,
    /// It gets less than an even part, for it asked for less: if it is not its members that hold it back, it
    /// may catch up.
    pub is_behind: bool,
}

/// A share for each session, in the order of the rates that they ask for. In all they are no more than the
/// highest of these.
pub fn divide(rates: &[u64]) -> Vec<Share> {
    let all = rates.iter().copied().max().unwrap_or(0);
    let even = all / rates.len().max(1) as u64;
    let mut shares = vec![Share { bytes_per_second: 0, is_behind: false }; rates.len()];
    let mut order: Vec<usize> = (0..rates.len()).collect();
    order.sort_by_key(|&at| rates[at]);
    let (mut left, mut waiting) = (all, rates.len() as u64);
    for at in order {
        let bytes_per_second = rates[at].min(left / waiting);
        shares[at] = Share { bytes_per_second, is_behind: bytes_per_second < even };
        left -= bytes_per_second;
        waiting -= 1;
    }
    shares
}

#[cfg(test)]
mod tests;
