//! What tests of several files need: a farm with nodes that have keys.
