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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::testing::{id, name, node_with, seen, site};

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
