//! Nodes that do not hold the version that is live, and what each of them lacks (CM-7, JT-5, VC-6). Pure.

use super::model::{Node, Site};
use crate::wire::id::{AssignmentId, Name, NodeId};
use std::collections::BTreeMap;

/// Nodes that one assignment brings to the version that is live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// What they hold and the shadow keeps, so that the difference will do; `None`: they get everything.
    pub base: Option<AssignmentId>,
    pub nodes: Vec<NodeId>,
}

/// The online nodes that lack the site's version, by what they hold, the newest first; `kept`: versions that the
/// shadow keeps beside it. Those that get everything are last: whoever still lacks something then would get it too.
/// Where nothing is live nobody lacks it.
pub fn lacking(site: &Site, nodes: &[Node], kept: &[AssignmentId]) -> Vec<Lacking> {
    let mut by_base: BTreeMap<Option<AssignmentId>, Vec<NodeId>> = BTreeMap::new();
    for (node, version) in holders(&site.name, nodes) {
        if site.version.is_some() && version != site.version {
            by_base.entry(version.filter(|version| kept.contains(version))).or_default().push(node.id);
        }
    }
    by_base.into_iter().rev().map(|(base, nodes)| Lacking { base, nodes }).collect()
}

/// The online nodes that serve a site, each with the version it holds.
pub fn holders<'a>(
    site: &Name,
    nodes: &'a [Node],
) -> impl Iterator<Item = (&'a Node, Option<AssignmentId>)> + Clone {
    let online = nodes.iter().filter(|node| node.is_online());
    online.filter_map(move |node| Some((node, node.site(site)?.version)))
}

/// Nodes that lack what is live, since when, and what was tried for them by itself (JT-20). Pure.
#[derive(Debug, Default)]
pub struct Watch {
    nodes: BTreeMap<(Name, NodeId), Lack>,
}

#[derive(Debug)]
struct Lack {
    /// When it is brought along.
    due_ns: u64,
    tries: u32,
}

impl Watch {
    /// After so many tries the pause between them grows no more.
    const DOUBLINGS_MAX: u32 = 7;

    /// `lacking`: the nodes that lack the version of a site now. Who has lacked it for `after_ns`, and was not tried in
    /// vain a moment ago.
    pub fn due(&mut self, site: &Name, lacking: &[NodeId], after_ns: u64, now_ns: u64) -> Vec<NodeId> {
        self.nodes.retain(|(of, node), _| of != site || lacking.contains(node));
        let mut due = Vec::new();
        for node in lacking {
            let began = Lack { due_ns: now_ns + after_ns, tries: 0 };
            let lack = self.nodes.entry((site.clone(), *node)).or_insert(began);
            // A clock that was set back must not keep it waiting.
            let longest = after_ns << lack.tries.min(Self::DOUBLINGS_MAX);
            lack.due_ns = lack.due_ns.min(now_ns.saturating_add(longest));
            if lack.due_ns <= now_ns {
                due.push(*node);
            }
        }
        due
    }

    /// They are being brought along: the next try, should they still lack it then, comes twice as late as the one
    /// before.
    pub fn tried(&mut self, site: &Name, nodes: &[NodeId], after_ns: u64, now_ns: u64) {
        for node in nodes {
            if let Some(lack) = self.nodes.get_mut(&(site.clone(), *node)) {
                lack.tries += 1;
                lack.due_ns = now_ns.saturating_add(after_ns << lack.tries.min(Self::DOUBLINGS_MAX));
            }
        }
    }

    /// Forgets all sites but these.
    pub fn keep(&mut self, sites: &[Name]) {
        self.nodes.retain(|(site, _), _| sites.contains(site));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::testing::{id, name, node_with, seen, site};

    #[test]
    fn a_node_is_due_after_a_time_and_less_and_less_often_while_it_is_in_vain() {
        let (mut watch, www) = (Watch::default(), name("www"));
        let (one, both) = ([id(1)], [id(1), id(2)]);
        assert_eq!(watch.due(&www, &one, 10, 100), []);
        assert_eq!(watch.due(&www, &both, 10, 109), []);
        assert_eq!(watch.due(&www, &both, 10, 110), one);
        watch.tried(&www, &one, 10, 110);
        assert_eq!(watch.due(&www, &both, 10, 119), [id(2)]);
        watch.tried(&www, &[id(2)], 10, 119);
        assert_eq!(watch.due(&www, &both, 10, 129), []);
        assert_eq!(watch.due(&www, &both, 10, 130), one, "twice as late");
        watch.tried(&www, &one, 10, 130);
        assert_eq!(watch.due(&www, &both, 10, 169), [id(2)]);
        assert_eq!(watch.due(&www, &both, 10, 170), both);
        // Who had it meanwhile begins anew, as does one of a site that was current everywhere.
        assert_eq!(watch.due(&www, &[id(2)], 10, 171), [id(2)]);
        assert_eq!(watch.due(&www, &one, 10, 171), []);
        watch.keep(&[]);
        assert_eq!(watch.due(&www, &one, 10, 181), []);
        // Clocks are set back.
        assert_eq!(watch.due(&www, &one, 10, 50), []);
        assert_eq!(watch.due(&www, &one, 10, 60), one);
        (0..200).for_each(|_| watch.tried(&www, &one, 10, 60));
        assert_eq!(watch.due(&www, &one, 10, 60 + 10 * 128), one, "the pause is bounded");
    }

    #[test]
    fn nodes_that_lack_a_version_stand_together_by_what_they_hold() {
        let node =
            |number, online, version| node_with(number, Some(seen("boston", online, &[("www", version)])));
        let nodes = [
            node(1, true, 7),
            node(2, true, 5),
            node(3, true, 0),
            node(4, true, 5),
            node(5, true, 2),
            node(6, false, 5),
            node(7, true, 9),
            node_with(8, Some(seen("boston", true, &[("shop", 1)]))),
            node_with(9, None),
        ];
        let kept = [6, 5].map(AssignmentId);
        let of = |base: u64, nodes: &[u8]| Lacking {
            base: (base > 0).then_some(AssignmentId(base)),
            nodes: nodes.iter().map(|&number| id(number)).collect(),
        };
        assert_eq!(lacking(&site("www", 7), &nodes, &kept), [of(5, &[2, 4]), of(0, &[3, 5, 7])]);
        assert_eq!(lacking(&site("www", 7), &nodes, &[]), [of(0, &[2, 3, 4, 5, 7])]);
        assert_eq!(lacking(&site("www", 0), &nodes, &kept), []);
        assert_eq!(lacking(&site("www", 7), &nodes[..1], &kept), []);
        assert_eq!(holders(&name("shop"), &nodes).count(), 1);
    }
}
