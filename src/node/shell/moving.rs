//! The interface went down, came up, has another MTU or another address: the node goes on.

use super::{Shell, TOKEN_PORTS};
use crate::node::channels::Port;
use crate::node::measure::Addresses;
use crate::time::Instant;
use mio::Token;
use mio::net::TcpListener;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

impl Shell {
    pub(super) fn on_links(&mut self, now: Instant) {
        let changes = self.links.handle_event();
        if changes.mtu {
            // Sessions that run keep the payload that they announced.
            self.measure(now);
        }
        if changes.returned {
            match self.channels.rejoin() {
                Ok(()) => log::info!("joined the groups anew on {}", self.config.interface_name),
                Err(error) => log::warn!("the groups cannot be joined anew: {error}"),
            }
        }
        if let Some(address) = changes.moved_to {
            if !self.config.follow_address {
                log::warn!("network.interface is set to {}: waiting for it to return", self.config.interface);
                return;
            }
            match self.move_to(now, address) {
                Ok(()) => log::info!("{} has the address {address} now", self.config.interface_name),
                Err(error) => log::error!("cannot move to the address {address}: {error}; restart the node"),
            }
        }
    }

    /// All sockets that are bound to our address are bound to another. Who leads, whom we follow and what is
    /// being transferred stays; others learn the address with our next message.
    fn move_to(&mut self, now: Instant, address: Ipv4Addr) -> io::Result<()> {
        let listen = |before: SocketAddr| TcpListener::bind(SocketAddr::new(address.into(), before.port()));
        let (http, text) = (listen(self.addresses.http)?, listen(self.addresses.text)?);
        self.channels.move_to(address)?;
        for (port, fd) in self.channels.fds().into_iter().filter(|(port, _)| *port != Port::Control) {
            self.reactor.watch_fd(fd, Token(TOKEN_PORTS + port as usize))?;
        }
        let (http_addr, text_addr) = (http.local_addr()?, text.local_addr()?);
        self.http.listen_on(http, self.reactor.registry())?;
        self.console.listen_on(text, self.reactor.registry())?;
        self.addresses =
            Addresses { datagram: self.channels.datagram_addr()?, http: http_addr, text: text_addr };
        self.config.interface = address;
        self.links.use_address(address);
        self.measure(now);
        Ok(())
    }
}
