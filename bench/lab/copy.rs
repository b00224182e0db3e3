//! Parallel TCP copies of one file, one connection and thread per receiver: what one does without multicast.
//! `io::copy` between a file and a socket lets the kernel move the bytes.

use crate::Scenario;
use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

/// The two ends of the TCP peer, started by the lab itself.
#[derive(clap::Args)]
pub struct CopyOut {
    file: PathBuf,
    to: Vec<SocketAddr>,
}

#[derive(clap::Args)]
pub struct CopyIn {
    port: u16,
    file: PathBuf,
}

impl Scenario for CopyOut {
    const NAME: &str = "copy-out";
    const ABOUT: &str = "Sends a file to several addresses at once";
    const IN_LAB: bool = false;

    fn run(&self, _: &Path) -> Result<(), String> {
        send(&self.file, &self.to)
    }
}

impl Scenario for CopyIn {
    const NAME: &str = "copy-in";
    const ABOUT: &str = "Stores what one connection brings";
    const IN_LAB: bool = false;

    fn run(&self, _: &Path) -> Result<(), String> {
        receive(self.port, &self.file)
    }
}

/// Sends the file to everybody at once.
fn send(file: &Path, to: &[SocketAddr]) -> Result<(), String> {
    let copy = |addr: SocketAddr| -> io::Result<()> {
        let mut stream = TcpStream::connect(addr)?;
        io::copy(&mut File::open(file)?, &mut stream)?;
        stream.flush()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = to.iter().map(|addr| scope.spawn(move || copy(*addr))).collect();
        for thread in threads {
            thread.join().expect("a copy does not panic").map_err(|error| error.to_string())?;
        }
        Ok(())
    })
}

/// Takes one connection and stores what comes.
fn receive(port: u16, file: &Path) -> Result<(), String> {
    let store = || -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
        let (mut stream, _) = listener.accept()?;
        io::copy(&mut stream, &mut File::create(file)?)?;
        Ok(())
    };
    store().map_err(|error| format!("{}: {error}", file.display()))
}
