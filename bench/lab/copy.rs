//! Parallel TCP copies of one file, one connection and thread per receiver: what one does without multicast.
//! `io::copy` between a file and a socket lets the kernel move the bytes.

use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

/// Sends the file to everybody at once.
pub fn send(file: &Path, to: &[SocketAddr]) -> Result<(), String> {
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
pub fn receive(port: u16, file: &Path) -> Result<(), String> {
    let store = || -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
        let (mut stream, _) = listener.accept()?;
        io::copy(&mut stream, &mut File::create(file)?)?;
        Ok(())
    };
    store().map_err(|error| format!("{}: {error}", file.display()))
}
