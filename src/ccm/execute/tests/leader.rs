//! A made-up group leader: speaks the real formats over real sockets, and misbehaves on request.

use crate::ccm::testing::{free_port, http, id, key, name, profile, segment_report, uplink};
use crate::ccm::{controller::Controller, textport::TextPorts};
use crate::wire::assignment::CommandBuffer;
use crate::wire::id::{AssignmentId, ListNumber, Name, hex, unhex};
use crate::wire::key_grant::{KeyGrant, KeyRequest, Recipient};
use crate::wire::notify::{NextReply, NextRequest, Notification, UplinkBody};
use crate::wire::order::{Action, Order};
use crate::wire::report::{Outcome, Reason, RunReport, StatusReport, Subject};
use crate::wire::tls;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What a leader does with documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    Obey,
    /// Takes notifications and says nothing more.
    Silent,
    /// Obeys for the first part of an update, and says nothing of the later ones.
    FirstPart,
    /// Does all but switch.
    DeafToOrders,
    /// Its last member reports that its disk is full.
    NoSpace,
    /// What its last member has live is not what was signed, where it would go on from that.
    WrongBase,
    /// Its last member does not switch.
    HalfSwitch,
}

/// A made-up group leader that also answers for its members.
pub struct Leader {
    numbers: Vec<u8>,
    segment: String,
    epoch: u64,
    pub ccm: Mutex<SocketAddr>,
    farm: crate::wire::join::Farm,
    text: SocketAddr,
    pub http: SocketAddr,
    seq: AtomicU64,
    pub version: AtomicU64,
    conduct: Mutex<Conduct>,
    /// Objects it holds; it serves the last.
    held: Mutex<Vec<u8>>,
    sources: Mutex<Vec<SocketAddr>>,
    /// Group and list of each notification.
    pub told: Mutex<Vec<(Name, ListNumber)>>,
    /// Assignments of the notifications, each once for every run of repetitions.
    pub fetched: Mutex<Vec<AssignmentId>>,
    pub orders: AtomicU64,
    /// Commands that it could read only with a key.
    pub decrypted: AtomicU64,
}

impl Leader {
    pub async fn start(controller: &Controller, numbers: Vec<u8>, segment: &str, epoch: u64) -> Arc<Self> {
        let (text_port, text) = free_port().await;
        let (http_port, http) = free_port().await;
        let leader = Arc::new(Self {
            numbers,
            segment: segment.to_owned(),
            epoch,
            ccm: Mutex::new(controller.reachable_at),
            farm: controller.keys.farm(),
            text,
            http,
            seq: AtomicU64::new(0),
            version: AtomicU64::new(0),
            conduct: Mutex::new(Conduct::Obey),
            held: Mutex::default(),
            sources: Mutex::default(),
            told: Mutex::default(),
            fetched: Mutex::default(),
            orders: AtomicU64::new(0),
            decrypted: AtomicU64::new(0),
        });
        tokio::spawn(Arc::clone(&leader).serve_object(http_port));
        tokio::spawn(Arc::clone(&leader).listen(text_port));
        leader
    }

    fn conduct(&self) -> Conduct {
        *self.conduct.lock().unwrap()
    }

    pub fn behave(&self, conduct: Conduct) {
        *self.conduct.lock().unwrap() = conduct;
    }

    async fn send(&self, body: UplinkBody) -> Vec<u8> {
        let bytes = uplink(self.numbers[0], self.seq.fetch_add(1, SeqCst) + 1, body);
        let ccm = *self.ccm.lock().unwrap();
        let answer = http(ccm, "POST /v1/uplink", &bytes).await;
        assert!(matches!(answer.status, 200 | 204), "{answer:?}");
        answer.body
    }

    pub async fn report(&self) {
        let version = self.version.load(SeqCst);
        let mut members: Vec<_> =
            self.numbers.iter().map(|&number| profile(number, &[("www", version)])).collect();
        (members[0].text, members[0].http) = (self.text, self.http);
        let report = segment_report(&self.segment, self.epoch, members);
        self.send(UplinkBody::Segment(report)).await;
    }

    async fn serve_object(self: Arc<Self>, port: TcpListener) {
        while let Ok((mut stream, _)) = port.accept().await {
            let object = self.held.lock().unwrap().clone();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", object.len());
            stream.write_all(&[head.as_bytes(), &object].concat()).await.unwrap();
        }
    }

    async fn listen(self: Arc<Self>, port: TcpListener) {
        while let Ok((stream, _)) = port.accept().await {
            if let Some(line) = self.take_line(stream).await {
                tokio::spawn(Arc::clone(&self).act(line));
            }
        }
    }

    async fn take_line(&self, stream: TcpStream) -> Option<String> {
        let stream = TlsAcceptor::from(tls::server(&key(self.numbers[0]))).accept(stream).await.ok()?;
        let (read, mut write) = tokio::io::split(stream);
        write.write_all(b"100 farmcast-ctl/1 server=test\n").await.ok()?;
        let line = BufReader::new(read).lines().next_line().await.ok()??;
        write.write_all(b"202 accepted\n").await.ok()?;
        Some(line)
    }

    async fn act(self: Arc<Self>, line: String) {
        let (verb, document) = line.split_once(" document=").unwrap();
        let document = unhex(document).unwrap();
        match verb {
            "notify" => self.fetch(&document).await,
            "order" => self.obey(&document).await,
            _ => panic!("{line}"),
        }
    }

    async fn fetch(&self, document: &[u8]) {
        let notification = Notification::open(document, &self.farm.director).unwrap();
        assert_eq!(notification.leader, id(self.numbers[0]));
        self.sources.lock().unwrap().push(notification.source);
        self.told.lock().unwrap().push((notification.group.clone(), notification.groups));
        {
            let mut fetched = self.fetched.lock().unwrap();
            fetched.push(notification.assignment);
            fetched.dedup();
        }
        let part = notification.assignment.part();
        if self.conduct() == Conduct::Silent || (self.conduct() == Conduct::FirstPart && part != 1) {
            return;
        }
        let shape = notification.shape;
        let object = http(notification.source, &format!("GET /o/{}", shape.name), b"").await;
        let command = &object.body[shape.command_offset() as usize..];
        let mut buffer = CommandBuffer::open(&shape, command, &self.farm.publisher).unwrap();
        if let Some(salt) = buffer.header.salt {
            let asker = Recipient::default();
            let (site, assignment) = (buffer.header.site.clone(), buffer.header.assignment);
            let request = KeyRequest { site, assignment, salt, recipient: asker.public() };
            let answer = self.send(UplinkBody::Key(request)).await;
            let (_, key) = KeyGrant::open(&answer, &self.farm.director, &asker).unwrap();
            buffer.unseal(key).unwrap();
            self.decrypted.fetch_add(buffer.commands().map(Result::unwrap).count() as u64, SeqCst);
        }
        *self.held.lock().unwrap() = object.body;
        let (run, assignment) = (notification.run, notification.assignment);
        loop {
            let reply = self.send(UplinkBody::Next(NextRequest { run, assignment, whole: true })).await;
            match NextReply::decode(&reply).unwrap() {
                NextReply::Serve(next) => {
                    let line = format!("notify document={}", hex(&next.notification));
                    let to = Notification::open(&next.notification, &self.farm.director).unwrap().leader;
                    TextPorts::new(&key(self.numbers[0])).request(to, next.text, &line).await.unwrap();
                }
                NextReply::Wait { millis } => {
                    tokio::time::sleep(std::time::Duration::from_millis(millis.into())).await;
                }
                NextReply::Nobody => break,
            }
        }
        let subject = Subject::Assignment { run, assignment };
        let (but, reason) = match buffer.header.base {
            Some(_) if self.conduct() == Conduct::WrongBase => (Conduct::WrongBase, Reason::StaleBase),
            _ => (Conduct::NoSpace, Reason::NoSpace),
        };
        let Some(order) = buffer.header.order else {
            return self.report_all(subject, Outcome::Staged, but, reason).await;
        };
        // Each goes live by itself.
        let order = Order::open(&order, &self.farm.director).unwrap();
        assert_eq!((order.run, order.action), (run, Action::Commit { assignment }));
        self.report_all(subject, Outcome::Switched { at: u64::from(self.numbers[0]) }, but, reason).await;
        self.version.store(assignment.0, SeqCst);
        self.report().await;
    }

    async fn obey(&self, document: &[u8]) {
        let order = Order::open(document, &self.farm.director).unwrap();
        self.orders.fetch_add(1, SeqCst);
        if self.conduct() == Conduct::DeafToOrders {
            return;
        }
        let assignment = order.action.assignment();
        self.version.store(assignment.0, SeqCst);
        let subject = Subject::Order { run: order.run, order: order.order };
        let switched = Outcome::Switched { at: order.at.unwrap() + u64::from(self.numbers[0]) * 1_000 };
        // Who did not stage has nothing to switch to.
        let but = if self.conduct() == Conduct::NoSpace { Conduct::NoSpace } else { Conduct::HalfSwitch };
        self.report_all(subject, switched, but, Reason::System).await;
        self.report().await;
    }

    /// All members report `outcome`; where the leader's conduct is `but`, the last one fails.
    async fn report_all(&self, subject: Subject, outcome: Outcome, but: Conduct, reason: Reason) {
        let fails = (self.conduct() == but).then(|| self.numbers[self.numbers.len() - 1]);
        let said = |&number: &u8| {
            let outcome = if Some(number) == fails {
                Outcome::Failed { reason, text: "it would not".to_owned() }
            } else {
                outcome.clone()
            };
            StatusReport { node: id(number), subject, outcome }.sign(&key(number))
        };
        let reports = self.numbers.iter().map(said).collect();
        let segment = name(&self.segment);
        let report = RunReport { segment, subject, reports, missing: vec![], last: true };
        self.send(UplinkBody::Run(report)).await;
    }

    pub fn sources(&self) -> Vec<SocketAddr> {
        self.sources.lock().unwrap().clone()
    }
}
