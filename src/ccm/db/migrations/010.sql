-- Who holds another version of a site than the one that is live is asked every second.
CREATE INDEX node_sites_of_version ON node_sites (site, version);
-- Nodes are counted by segment, those that are online apart, from the index alone; few are offline.
DROP INDEX members_of_segment;
CREATE INDEX members_of_segment ON members (segment, online);
CREATE INDEX members_offline ON members (node) WHERE online = 0;
