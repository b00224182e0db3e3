//! Grammar of the text control port `farmcast-ctl/1` (docs/PROTOCOL.md).
