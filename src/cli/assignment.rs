//! `farmcast assignment inspect|verify`: what stands in an assignment's file. Asks no controller.

use super::failure::Failure;
use super::output::{Output, Table, bytes, cell, count, date_time, printable};
use crate::content::proof;
use crate::wire::assignment::{
    ALIGN, COMMAND_BUFFER_MAX, Command as Instruction, Kind, Place, Unproven, place,
};
use crate::wire::content_key::ContentSecret;
use crate::wire::id::{ObjectName, hex, unhex};
use crate::wire::order::Order;
use crate::wire::seal::{PublicKey, SigningKey};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bytes that are searched for the command buffer at once.
const SEARCH: u64 = 1 << 20;
/// Longest file that is read for a key.
const KEY_FILE_MAX: u64 = 4_096;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Show header, sizes and commands of an assignment
    Inspect(Subject),
    /// Check an assignment: signature, hashes, every command and item; exit code 1 with the first thing wrong
    Verify(Subject),
}

#[derive(clap::Args)]
pub struct Subject {
    /// `NAME.asg` of a controller's `objects/` or of a node's `spool/`, or a copy of one
    file: PathBuf,
    /// The publisher's public key in 64 hexadecimal digits, or a file that holds it or the controller's
    /// `publisher.key` [default: the key beside the controller's `objects/`]
    #[arg(long, value_name = "HEX|FILE")]
    key: Option<String>,
}

pub fn run(output: &Output, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Inspect(subject) => inspect(output, subject)?,
        Command::Verify(subject) => verify(output, subject)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// An assignment's file, its command buffer read and of one piece.
struct Opened {
    file: File,
    unproven: Unproven,
}

/// A publisher's key, and where it is from.
struct Key {
    candidates: Vec<PublicKey>,
    from: String,
}

fn inspect(output: &Output, subject: &Subject) -> Result<(), Failure> {
    let Opened { mut unproven, .. } = open(&subject.file)?;
    let encryption = decrypt(&mut unproven, &subject.file)?;
    let signer = match key(subject)? {
        Some(key) => Some(signer(&unproven, &key).map_err(|text| wrong(&subject.file, text))?),
        None => None,
    };
    let (shape, header) = (*unproven.shape(), unproven.header());
    let kind = match header.kind {
        Kind::Publish => "publish",
        Kind::Replicate => "replicate",
    };
    let order = header.order.as_deref().map(Order::peek).transpose();
    let order =
        order.map_err(|error| wrong(&subject.file, format!("the order in it is malformed: {error}")))?;
    if output.is_json() {
        output.value(&json!({
            "schema": "farmcast.assignment/1",
            "object": shape.name.to_string(),
            "signer": signer.map(|key| key.to_hex()),
            "assignment": header.assignment.0,
            "job": header.job.0,
            "kind": kind,
            "part": header.part.map(|part| part.number),
            "parts": header.part.map(|part| part.of),
            "behind": header.part.and_then(|part| part.behind).map(|behind| behind.before.to_string()),
            "site": header.site.as_str(),
            "base": header.base.map(|base| base.0),
            "result": hex(&header.result),
            "issued_s": header.issued,
            "commands": header.command_count,
            "command_bytes": shape.command_len,
            "data_bytes": shape.data_len,
            "space_bytes": header.space,
            "files": header.files,
            "largest_file_bytes": header.largest_file,
            "encrypted": encryption != Encryption::None,
            "order": order.as_ref().map(|order| order.order.0),
        }))?;
    } else {
        let base = header.base.map_or_else(String::new, |base| format!(" over version {base}"));
        let signer = match signer {
            Some(key) => key.to_hex(),
            None => "not checked: name the publisher's key with --key".to_owned(),
        };
        let issued = date_time(header.issued.saturating_mul(1_000_000_000));
        output.line(&format!("    object: {}", shape.name))?;
        output.line(&format!("assignment: {} ({kind}{base}) of site {}", header.assignment, header.site))?;
        if let Some(part) = &header.part {
            let behind = part.behind.map_or_else(String::new, |behind| format!(", behind {}", behind.before));
            let live = if part.is_last() { "goes live with all" } else { "never goes live by itself" };
            output.line(&format!("      part: {} of {}{behind}; {live}", part.number, part.of))?;
        }
        output.line(&format!("    signer: {signer}"))?;
        output.line(&format!("    issued: {issued}, job {}", header.job))?;
        output.line(&format!("    result: {}", hex(&header.result)))?;
        let (commands, data) = (bytes(shape.command_len), bytes(shape.data_len));
        output.line(&format!("     sizes: command buffer {commands}, data {data}"))?;
        let files = count(u64::from(header.files), "file");
        let largest = bytes(header.largest_file);
        let space = bytes(header.space);
        output.line(&format!("    limits: {files}, the largest {largest}; {space} free on a node"))?;
        if let Some(text) = encryption.text() {
            output.line(&format!(" encrypted: {text}"))?;
        }
        if let Some(order) = &order {
            output.line(&format!(" goes live: when it is staged, by order {} in it", order.order))?;
        }
    }
    if encryption == Encryption::Closed {
        return Ok(());
    }
    let mut totals = BTreeMap::<&str, (u64, u64)>::new();
    for (command, number) in unproven.commands().zip(1_u64..) {
        let command = command
            .map_err(|error| wrong(&subject.file, format!("command {number} is malformed: {error}")))?;
        let (word, sent) = (word(&command), command.item().map_or(0, |item| item.len));
        let total = totals.entry(word).or_default();
        *total = (total.0 + 1, total.1.saturating_add(sent));
        if output.is_json() {
            output.value(&command_json(word, sent, &command))?;
        } else {
            let other = other_path(&command).map_or_else(String::new, |other| format!(" <- {other}"));
            output.line(&format!("{word:>8} {sent:>12}  {}{other}", command.path()))?;
        }
    }
    if output.is_json() {
        let total = |(word, (count, sent)): (&&str, &(u64, u64))| {
            ((*word).to_owned(), json!({ "commands": count, "bytes": sent }))
        };
        let totals: serde_json::Map<String, Value> = totals.iter().map(total).collect();
        return output.value(&json!({ "totals": totals }));
    }
    let mut table = Table::new(&["command", ">count", ">bytes"]);
    for (word, (count, sent)) in &totals {
        table.row([cell(word), cell(count), cell(sent)]);
    }
    output.line("")?;
    output.table(&table)
}

fn command_json(word: &str, sent: u64, command: &Instruction) -> Value {
    json!({
        "command": word,
        "path": command.path().to_string(),
        "from": other_path(command),
        "bytes": sent,
        "size_bytes": proof::size(command),
    })
}

fn verify(output: &Output, subject: &Subject) -> Result<(), Failure> {
    let key = key(subject)?.ok_or_else(|| {
        Failure::Usage(
            "whose signature? name the publisher's public key with --key: `farmcast assignment verify` at the \
             controller shows it"
                .to_owned(),
        )
    })?;
    let Opened { file, mut unproven } = open(&subject.file)?;
    let encryption = decrypt(&mut unproven, &subject.file)?;
    let publisher = signer(&unproven, &key).map_err(|text| wrong(&subject.file, text))?;
    let header = unproven.header().clone();
    let buffer = unproven.prove(&publisher).map_err(|error| wrong(&subject.file, error))?;
    proof::prove(&buffer, &file).map_err(|flaw| wrong(&subject.file, flaw))?;
    if output.is_json() {
        return output.value(&json!({
            "schema": "farmcast.proof/1",
            "object": buffer.shape.name.to_string(),
            "assignment": header.assignment.0,
            "site": header.site.as_str(),
            "signer": publisher.to_hex(),
            "commands": header.command_count,
            "encrypted": encryption != Encryption::None,
            "decrypted": encryption == Encryption::Opened,
            "leaves": buffer.shape.leaves(),
        }));
    }
    if encryption == Encryption::Closed {
        return output.line(&format!(
            "assignment {} of site {} is encrypted; its {} of data are those that {} signed; commands and content were \
             not looked at",
            header.assignment,
            header.site,
            bytes(buffer.shape.data_len),
            publisher.to_hex()
        ));
    }
    output.line(&format!(
        "assignment {} of site {} is whole: {}, {} of data, signed by {}",
        header.assignment,
        header.site,
        count(u64::from(header.command_count), "command"),
        bytes(buffer.shape.data_len),
        publisher.to_hex()
    ))
}

/// Opens a file and finds the command buffer at its end. The name of an object is held against its bytes.
fn open(path: &Path) -> Result<Opened, Failure> {
    let failed = |error: io::Error| wrong(path, error);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(wrong(path, "is no regular file"));
    }
    let file_len = metadata.size();
    let (offset, command_len, data_len) = match find(&file, file_len).map_err(failed)? {
        Search::Found { offset, command_len, data_len } => (offset, command_len, data_len),
        Search::Ends(end) if end > file_len => {
            return Err(wrong(path, format!("it is cut: {file_len} bytes of {end} are there")));
        }
        Search::Ends(end) => {
            return Err(wrong(path, format!("{} bytes follow its end", file_len - end)));
        }
        Search::Nothing => {
            let what =
                "no command buffer at its end: it is no assignment, cut, or not fetched to the end yet";
            return Err(wrong(path, what));
        }
    };
    let mut buffer = vec![0; usize::try_from(command_len).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut buffer, offset).map_err(failed)?;
    let unproven = Unproven::read(&buffer, data_len).map_err(|error| wrong(path, error))?;
    let named = path.file_stem().and_then(|stem| stem.to_str()?.parse::<ObjectName>().ok());
    let name = unproven.shape().name;
    if named.is_some_and(|named| named != name) {
        return Err(wrong(path, format!("holds another object than its name says: {name}")));
    }
    Ok(Opened { file, unproven })
}

/// What a search for the command buffer found.
enum Search {
    Found {
        offset: u64,
        command_len: u64,
        data_len: u64,
    },
    /// One that begins in the file and ends at this byte, which is not the last.
    Ends(u64),
    Nothing,
}

/// Searches from the end, for the data may hold assignments as content.
fn find(file: &File, file_len: u64) -> io::Result<Search> {
    let first = file_len.saturating_sub(COMMAND_BUFFER_MAX).next_multiple_of(ALIGN);
    let mut search = Search::Nothing;
    let mut stop = file_len.next_multiple_of(ALIGN);
    let mut bytes = vec![0; SEARCH as usize];
    while stop > first {
        let start = stop.saturating_sub(SEARCH).max(first);
        let part = &mut bytes[..(stop.min(file_len) - start) as usize];
        file.read_exact_at(part, start)?;
        for at in (0..part.len()).step_by(ALIGN as usize).rev() {
            let page = &part[at..part.len().min(at + ALIGN as usize)];
            let offset = start + at as u64;
            match place(page, offset, file_len) {
                Some(Place::Whole { command_len, data_len }) => {
                    return Ok(Search::Found { offset, command_len, data_len });
                }
                Some(Place::Elsewhere { end }) if matches!(search, Search::Nothing) => {
                    search = Search::Ends(end);
                }
                Some(Place::Elsewhere { .. }) | None => {}
            }
        }
        stop = start;
    }
    Ok(search)
}

/// Which of the keys signed it.
fn signer(unproven: &Unproven, key: &Key) -> Result<PublicKey, String> {
    let signed = key.candidates.iter().find(|candidate| unproven.is_signed_by(candidate).is_ok());
    signed.copied().ok_or_else(|| format!("its signature is not that of the publisher's key of {}", key.from))
}

/// The key that the operator named, or that of the controller whose object it is; `None` where there is none.
fn key(subject: &Subject) -> Result<Option<Key>, Failure> {
    let Some(text) = &subject.key else {
        let full = std::path::absolute(&subject.file)?;
        let Some(state) = full.parent().and_then(Path::parent) else { return Ok(None) };
        let path = state.join("keys/publisher.key");
        return if path.exists() { key_file(&path).map(Some) } else { Ok(None) };
    };
    match PublicKey::from_hex(text) {
        Ok(key) => Ok(Some(Key { candidates: vec![key], from: "--key".to_owned() })),
        Err(_) => key_file(Path::new(text)).map(Some),
    }
}

/// Public keys and the publisher's own are 32 bytes alike: the signature tells which one the file holds.
fn key_file(path: &Path) -> Result<Key, Failure> {
    let digits = secret_file(path)?;
    let candidates = vec![SigningKey::from_seed(digits).public(), PublicKey(digits)];
    Ok(Key { candidates, from: printable(&path.display().to_string()) })
}

fn secret_file(path: &Path) -> Result<[u8; 32], Failure> {
    let shown = printable(&path.display().to_string());
    let failed = |what: &dyn std::fmt::Display| Failure::Usage(format!("key {shown}: {what}"));
    let metadata = fs::metadata(path).map_err(|error| failed(&error))?;
    let no_key = "is no key: 64 hexadecimal digits are expected";
    if !metadata.is_file() || metadata.size() > KEY_FILE_MAX {
        return Err(failed(&no_key));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
    let digits = unhex(text.trim_end()).and_then(|digits| <[u8; 32]>::try_from(digits).ok());
    digits.ok_or_else(|| failed(&no_key))
}

/// Whether an assignment is encrypted, and whether its key was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    None,
    Closed,
    Opened,
}

impl Encryption {
    const fn text(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Closed => Some("AES-256-GCM; only its controller can show the commands"),
            Self::Opened => Some("AES-256-GCM, decrypted with the controller's secret"),
        }
    }
}

/// Decrypts the commands where the file lies among the objects of the controller that encrypted it.
fn decrypt(unproven: &mut Unproven, file: &Path) -> Result<Encryption, Failure> {
    let Some(salt) = unproven.header().salt else { return Ok(Encryption::None) };
    let full = std::path::absolute(file)?;
    let secret = full.parent().and_then(Path::parent).map(|state| state.join("keys/content.secret"));
    let Some(secret) = secret.filter(|path| path.is_file()) else { return Ok(Encryption::Closed) };
    let secret = ContentSecret(secret_file(&secret)?);
    let header = unproven.header();
    let key = secret.key(&header.site, header.assignment, &salt);
    unproven.unseal(key).map_err(|error| wrong(file, error))?;
    Ok(Encryption::Opened)
}

/// A file that is not what it should be.
fn wrong(path: &Path, what: impl std::fmt::Display) -> Failure {
    Failure::Ran(format!("{}: {what}", printable(&path.display().to_string())))
}

const fn word(command: &Instruction) -> &'static str {
    match command {
        Instruction::Mkdir { .. } => "mkdir",
        Instruction::Put { .. } => "put",
        Instruction::Patch { .. } => "patch",
        Instruction::Splice { .. } => "splice",
        Instruction::Copy { .. } => "copy",
        Instruction::Move { .. } => "move",
        Instruction::Link { .. } => "link",
        Instruction::Symlink { .. } => "symlink",
        Instruction::Remove { .. } => "remove",
        Instruction::Chmod { .. } => "chmod",
        Instruction::Utimes { .. } => "utimes",
    }
}

/// The path that a command takes something from, or the text of a symbolic link.
fn other_path(command: &Instruction) -> Option<String> {
    match command {
        Instruction::Copy { from, .. } | Instruction::Move { from, .. } => Some(from.to_string()),
        Instruction::Link { target, .. } => Some(target.to_string()),
        Instruction::Symlink { text, .. } => Some(text.escape_ascii().to_string()),
        _ => None,
    }
}
