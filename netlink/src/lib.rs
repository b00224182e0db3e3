//! Links, addresses, routes and qdiscs of the Linux kernel, over rtnetlink.
