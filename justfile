# Short names for what docs/TESTING.md explains. `just` alone lists them.

_list:
    @just --list --unsorted

# Everything a change has to pass
ci:
    .ci/run

# All tests
test *args:
    cargo test --workspace {{args}}

# Layers, bans, lengths: under a second
tidy:
    cargo test --test tidy

# Format and lint, as strict as continuous integration
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo fmt --manifest-path fuzz/Cargo.toml --check
    CARGO_TARGET_DIR=target cargo clippy --manifest-path fuzz/Cargo.toml --locked -- -D warnings

# The appliance daemon alone, without the controller's dependencies
appliance:
    cargo build --release --locked --no-default-features --features node --bin farmcastd

# A farm on this machine, until Ctrl-C
demo *args:
    cargo run --release -- demo {{args}}

# The netlink crate against the real kernel, in a namespace of its own
netlink:
    cargo test -p farmcast-netlink

# Every scenario of the lab, and a page with plots of it: target/results.html (some ten minutes, a quiet machine)
results:
    bench/results target/results

# Hostile bytes for every parser: seconds for each, then targets (all); an hour finds more than the 2 s of `ci`
fuzz *args:
    fuzz/run {{args}}

# Licences and known holes of the dependencies; wants cargo-deny
deny:
    cargo deny --all-features check

# How far systemd shuts the services in (below 2.5 is good)
units:
    systemd-analyze security --offline=true --threshold=25 sysconfig/farmcastd.service
    systemd-analyze security --offline=true --threshold=25 sysconfig/farmcast-ccm.service
