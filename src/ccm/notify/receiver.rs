//! Who is notified: `[[notify]]` in `ccm.toml`.

use super::notice::Kind;
use crate::wire::id::Name;
use axum::http::Uri;
use serde::Deserialize;
use std::path::PathBuf;

/// Receivers that a farm can have.
pub const RECEIVERS_MAX: usize = 32;
const TIMEOUT_MAX_S: u64 = 300;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    pub name: String,
    /// Where events are posted; `http://` or `https://`.
    #[serde(default)]
    pub url: String,
    /// Program and arguments that are run for each event, which is on its standard input.
    #[serde(default)]
    pub command: Vec<String>,
    /// Kinds of events; none: all.
    #[serde(default)]
    pub events: Vec<String>,
    /// The key that signs what is posted, all bytes of the file but line breaks at its end.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// Certificates, in PEM, of who may vouch for the other side; those of the system unless set.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Seconds for one try, 1..=300.
    #[serde(default = "default_timeout")]
    pub timeout_s: u64,
}

const fn default_timeout() -> u64 {
    10
}

impl Receiver {
    /// Whether it is told of events of this kind.
    pub fn wants(&self, kind: &str) -> bool {
        self.events.is_empty() || self.events.iter().any(|wanted| wanted == kind)
    }

    /// Where to, as far as everybody may know: paths of hooks are secrets.
    pub fn shown(&self) -> String {
        match (self.command.first(), self.url.parse::<Uri>()) {
            (Some(program), _) => program.clone(),
            (None, Ok(uri)) => {
                format!("{}://{}/...", uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default())
            }
            (None, Err(_)) => String::new(),
        }
    }

    fn fault(&self) -> Option<String> {
        let bad = |text: String| Some(format!("{:?}: {text}", self.name));
        if Name::new(&self.name).is_err() {
            return bad("a name is 1 to 63 of a-z A-Z 0-9 . _ -, not beginning with a dot".to_owned());
        }
        match (self.url.is_empty(), self.command.is_empty()) {
            (true, true) => return bad("give `url` or `command`".to_owned()),
            (false, false) => return bad("give `url` or `command`, not both".to_owned()),
            (true, false) if !self.command[0].starts_with('/') => {
                return bad(format!("command {:?} is no absolute path of a program", self.command[0]));
            }
            (true, false) if self.secret_file.is_some() || self.ca_file.is_some() => {
                return bad("`secret_file` and `ca_file` go with `url`".to_owned());
            }
            (true, false) => {}
            (false, true) => match self.url.parse::<Uri>() {
                Ok(uri)
                    if matches!(uri.scheme_str(), Some("http" | "https"))
                        && uri.host().is_some_and(|host| !host.is_empty())
                        && !uri.authority().is_some_and(|authority| authority.as_str().contains('@')) => {}
                _ => return bad("url is no http:// or https:// address with a host, and no user".to_owned()),
            },
        }
        let known = |word: &str| Kind::ALL.iter().any(|(_, kind)| *kind == word);
        if let Some(unknown) = self.events.iter().find(|word| !known(word)) {
            let all: Vec<&str> = Kind::ALL.iter().map(|(_, word)| *word).collect();
            return bad(format!("{unknown:?} is no kind of event; these are: {}", all.join(", ")));
        }
        if [&self.secret_file, &self.ca_file].into_iter().flatten().any(|path| !path.is_absolute()) {
            return bad("`secret_file` and `ca_file` are absolute paths".to_owned());
        }
        match self.timeout_s {
            1..=TIMEOUT_MAX_S => None,
            _ => bad(format!("timeout_s is not within 1 to {TIMEOUT_MAX_S}")),
        }
    }
}

/// The first thing that is wrong with all of them.
pub fn fault(receivers: &[Receiver]) -> Option<String> {
    if receivers.len() > RECEIVERS_MAX {
        return Some(format!("{} are given, {RECEIVERS_MAX} are the most", receivers.len()));
    }
    receivers.iter().enumerate().find_map(|(at, receiver)| {
        let twice = receivers[..at].iter().any(|other| other.name == receiver.name);
        receiver.fault().or_else(|| twice.then(|| format!("{:?} is given twice", receiver.name)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Receiver {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_receiver_is_an_address_or_a_program_and_what_makes_no_sense_is_named() {
        let good =
            read("name = 'ops'\nurl = 'https://hooks.example.org/T0/secret?x=1'\nevents = ['job-failed']");
        assert_eq!(fault(std::slice::from_ref(&good)), None);
        assert_eq!(good.shown(), "https://hooks.example.org/...");
        assert!(good.wants("job-failed") && !good.wants("job-done"));
        let mail = read("name = 'mail'\ncommand = ['/usr/bin/mailer', 'ops@example.org']");
        assert_eq!((fault(std::slice::from_ref(&mail)), mail.shown().as_str()), (None, "/usr/bin/mailer"));
        assert!(mail.wants("anything"));
        assert!(fault(&[good.clone(), good.clone()]).unwrap().contains("twice"));
        for (text, said) in [
            ("name = 'a b'\nurl = 'http://x'", "a name is"),
            ("name = 'a'", "give `url` or `command`"),
            ("name = 'a'\nurl = 'http://x'\ncommand = ['/x']", "not both"),
            ("name = 'a'\nurl = 'ftp://x'", "url is no http:// or https://"),
            ("name = 'a'\nurl = 'http://u:p@x'", "no user"),
            ("name = 'a'\nurl = '/x'", "url is no http://"),
            ("name = 'a'\ncommand = ['mail']", "no absolute path"),
            ("name = 'a'\ncommand = ['/m']\nsecret_file = '/s'", "go with `url`"),
            ("name = 'a'\nurl = 'http://x'\nevents = ['job']", "\"job\" is no kind of event"),
            ("name = 'a'\nurl = 'http://x'\nsecret_file = 's'", "absolute paths"),
            ("name = 'a'\nurl = 'http://x'\ntimeout_s = 0", "timeout_s is not within"),
        ] {
            let found = fault(&[read(text)]).unwrap();
            assert!(found.contains(said), "{found} does not hold {said}");
        }
        assert!(toml::from_str::<Receiver>("name = 'a'\ncolour = 1").is_err());
    }
}
