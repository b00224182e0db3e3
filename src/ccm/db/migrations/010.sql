-- Who holds another version of a site than the one that is live is asked every second.
CREATE INDEX node_sites_of_version ON node_sites (site, version);
