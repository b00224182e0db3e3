//! `farmcast upload`: a directory or a file goes into the staging of a site, in pieces, so that what broke goes on.

mod stream;

use super::client::{Client, segment};
use super::failure::Failure;
use super::job;
use super::output::{Output, Table, Tone, bytes, cell, count, date_time, printable};
use crate::ccm::api::types::{FinishUpload, NewJob, NewUpload, Upload};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use stream::{Stream, StreamError};

/// Bytes that are sent at a time: what is sent again at most where the connection breaks.
const PIECE: usize = 4 << 20;
/// How often a directory that changes is begun anew.
const BEGINNINGS_MAX: u32 = 3;
/// Longest wait between two tries, and how long nothing comes of them before we give up.
const WAIT_MAX: Duration = Duration::from_secs(4);
const GIVE_UP_AFTER: Duration = Duration::from_secs(180);
/// The same before the first byte: there may be no controller at all.
const FIRST_GIVE_UP_AFTER: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub struct Wish {
    /// Name of the site
    site: String,
    /// Directory or file to send
    #[arg(value_name = "DIR", required_unless_present_any = ["list", "cancel"])]
    from: Option<PathBuf>,
    /// Put its files beside what is in staging, instead of making the directory all of staging
    #[arg(long)]
    merge: bool,
    /// Below this directory of staging; goes with --merge, or a file
    #[arg(long, value_name = "SUBDIR")]
    into: Option<String>,
    /// Publish the site when it has arrived
    #[arg(long)]
    publish: bool,
    /// List uploads to the site
    #[arg(long, conflicts_with_all = ["from", "merge", "into", "publish"])]
    list: bool,
    /// End an upload, and remove what was sent
    #[arg(long, value_name = "ID", conflicts_with_all = ["from", "merge", "into", "publish", "list"])]
    cancel: Option<u64>,
}

pub async fn run(client: &Client, output: &Output, wish: &Wish) -> Result<ExitCode, Failure> {
    if wish.list {
        return list(client, output, &wish.site).await;
    }
    if let Some(id) = wish.cancel {
        client.delete(&format!("{}/{id}", path(&wish.site))).await?;
        if !output.is_json() {
            output.line(&format!("upload {id}: cancelled"))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let interrupted = async {
        // Without a handler for it there is nothing to wait for.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let upload = tokio::select! {
        sent = send(client, wish, output.is_json()) => sent?,
        () = interrupted => {
            let text = "interrupted; the same command goes on with what was sent".to_owned();
            return Err(Failure::Interrupted(text));
        }
    };
    if output.is_json() {
        output.value(&upload)?;
    } else {
        let (files, size) = (count(upload.files, "file"), bytes(upload.content_bytes));
        output.line(&format!(
            "upload {} to {}: {files}, {size}, in staging",
            upload.id,
            printable(&upload.site)
        ))?;
    }
    if wish.publish {
        let job = NewJob { kind: "publish".to_owned(), site: wish.site.clone(), ..NewJob::default() };
        return job::start(client, output, &job, true).await;
    }
    Ok(ExitCode::SUCCESS)
}

fn path(site: &str) -> String {
    format!("/v1/sites/{}/uploads", segment(site))
}

async fn list(client: &Client, output: &Output, site: &str) -> Result<ExitCode, Failure> {
    let uploads: Vec<Upload> = client.get(&path(site)).await?;
    if output.is_json() {
        output.value(&uploads)?;
    } else if uploads.is_empty() {
        output.line("no uploads within the last day")?;
    } else {
        let mut table = Table::new(&[">upload", "kind", "into", "state", ">received", "last", "text"]);
        for upload in &uploads {
            let tone = match upload.state.as_str() {
                "done" => Tone::Good,
                "failed" => Tone::Bad,
                _ => Tone::Plain,
            };
            let received = match upload.bytes {
                Some(of) => format!("{}/{}", bytes(upload.received), bytes(of)),
                None => bytes(upload.received),
            };
            table.row([
                cell(upload.id),
                cell(&upload.kind),
                cell(if upload.into.is_empty() { "." } else { &upload.into }),
                (upload.state.clone(), tone),
                cell(received),
                cell(date_time(upload.touched_ns)),
                cell(&upload.text),
            ]);
        }
        output.table(&table)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is announced of a stream.
fn announcement(wish: &Wish, stream: &Stream) -> Result<NewUpload, Failure> {
    let into = wish.into.as_deref().unwrap_or_default().trim_matches('/').to_owned();
    let (kind, into) = match stream.file_name() {
        Some(name) if into.is_empty() => ("file", name.to_owned()),
        Some(name) => ("file", format!("{into}/{name}")),
        None if wish.merge => ("merge", into),
        None if into.is_empty() => ("replace", into),
        None => return Err(Failure::Usage("--into goes with --merge: say that too".to_owned())),
    };
    let (kind, print) = (kind.to_owned(), stream.print().to_owned());
    Ok(NewUpload { kind, into, bytes: Some(stream.len()), blake3: String::new(), print })
}

/// Sends all of it, from the beginning again where it changes under our hands.
async fn send(client: &Client, wish: &Wish, json: bool) -> Result<Upload, Failure> {
    let from = wish.from.as_deref().expect("clap wants a directory where nothing else is asked for");
    for _ in 0..BEGINNINGS_MAX {
        let mut stream = Stream::of(from).map_err(|error| error.failure())?;
        for left_out in stream.left_out() {
            eprintln!("warning: {}", printable(left_out));
        }
        let new = announcement(wish, &stream)?;
        let mut patience = Patience::of(FIRST_GIVE_UP_AFTER);
        let mut upload = loop {
            match resume_or_begin(client, &wish.site, &new).await {
                // It may be starting again; what it began for us is found.
                Err(failure) if failure.is_silence() => patience.wait(failure).await?,
                begun => break begun?,
            }
        };
        let bar = bar(stream.len(), json);
        match transfer(client, &mut upload, &mut stream, &bar).await {
            Ok(done) => return Ok(done),
            Err(Trouble::Failed(failure)) => return Err(failure),
            Err(Trouble::Changed(error)) => {
                eprintln!("{}: what was sent does not count, begun anew", printable(&error.to_string()));
                client.delete(&format!("{}/{}", path(&wish.site), upload.id)).await?;
            }
        }
    }
    let text = format!("{} changes all the time: nothing was sent; wait until it rests", from.display());
    Err(Failure::Ran(text))
}

/// The upload of the very same that was interrupted, or a new one.
async fn resume_or_begin(client: &Client, site: &str, new: &NewUpload) -> Result<Upload, Failure> {
    let open: Vec<Upload> = client.get(&path(site)).await?;
    let same = |upload: &Upload| {
        upload.state == "open"
            && (&upload.kind, &upload.into, &upload.print) == (&new.kind, &new.into, &new.print)
            && upload.bytes == new.bytes
    };
    match open.into_iter().rfind(same) {
        Some(upload) => {
            eprintln!("upload {}: goes on behind the first {}", upload.id, bytes(upload.received));
            Ok(upload)
        }
        None => client.post(&path(site), new).await,
    }
}

fn bar(len: u64, json: bool) -> ProgressBar {
    if json || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::stderr());
    let template = "{msg} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
    bar.with_style(ProgressStyle::with_template(template).expect("the template is constant"))
}

/// Why a transfer did not come to its end.
enum Trouble {
    Failed(Failure),
    Changed(StreamError),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// How long to go on trying.
struct Patience {
    wait: Duration,
    waited: Duration,
    longest: Duration,
}

impl Patience {
    const fn of(longest: Duration) -> Self {
        Self { wait: Duration::from_millis(250), waited: Duration::ZERO, longest }
    }

    /// Waits before the next try; fails where nothing came of the last ones.
    async fn wait(&mut self, failure: Failure) -> Result<(), Failure> {
        if self.waited >= self.longest {
            return Err(failure);
        }
        tokio::time::sleep(self.wait).await;
        self.waited += self.wait;
        self.wait = (self.wait * 2).min(WAIT_MAX);
        Ok(())
    }
}

async fn transfer(
    client: &Client,
    upload: &mut Upload,
    stream: &mut Stream,
    bar: &ProgressBar,
) -> Result<Upload, Trouble> {
    let at = format!("{}/{}", path(&upload.site), upload.id);
    bar.set_message(format!("upload {}", upload.id));
    let mut patience = Patience::of(GIVE_UP_AFTER);
    loop {
        let failure = match upload.state.as_str() {
            "done" => {
                bar.finish_and_clear();
                return Ok(upload.clone());
            }
            "failed" => return Err(Failure::Refused(printable(&upload.text)).into()),
            "open" if upload.received < stream.len() => {
                bar.set_position(upload.received);
                match piece(client, &at, upload.received, stream).await {
                    Ok(next) => {
                        *upload = next;
                        patience = Patience::of(GIVE_UP_AFTER);
                        continue;
                    }
                    Err(Trouble::Failed(failure)) => failure,
                    Err(changed) => return Err(changed),
                }
            }
            "open" => {
                let blake3 = stream.hash().map_err(trouble)?;
                match client.post_patiently(&format!("{at}/finish"), &FinishUpload { blake3 }).await {
                    Ok(next) => {
                        *upload = next;
                        continue;
                    }
                    Err(failure) => failure,
                }
            }
            _ => Failure::Ran(format!("upload {} is being unpacked", upload.id)),
        };
        // Refused: somebody else sends to it, or our last try does; what has failed for good its state says.
        if !failure.is_silence() && !matches!(failure, Failure::Refused(_) | Failure::Ran(_)) {
            return Err(failure.into());
        }
        patience.wait(failure).await?;
        match client.get(&at).await {
            Ok(next) => *upload = next,
            Err(failure) if failure.is_silence() => {}
            Err(failure) => return Err(failure.into()),
        }
    }
}

async fn piece(client: &Client, at: &str, offset: u64, stream: &mut Stream) -> Result<Upload, Trouble> {
    let bytes = stream.read(offset, PIECE).map_err(trouble)?;
    Ok(client.send(&format!("{at}/bytes?offset={offset}"), bytes).await?)
}

fn trouble(error: StreamError) -> Trouble {
    match error {
        StreamError::Changed(_) => Trouble::Changed(error),
        error => Trouble::Failed(error.failure()),
    }
}
