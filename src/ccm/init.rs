//! `farmcast ccm init`: a new farm.

use super::config::DEFAULT_SOCKET;
use super::db::{DbError, Store};
use super::keys::{KeyError, Keys};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file that `init` writes; sysconfig/ccm.toml with the values of this farm.
const TEMPLATE: &str = include_str!("../../sysconfig/ccm.toml");

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitOptions {
    /// Default as in `ccm.toml`.
    pub listen: Option<SocketAddr>,
    pub advertise: Option<SocketAddr>,
    /// Where the operator's API answers over TLS; it does not where this is `None`.
    pub api: Option<SocketAddr>,
    /// Default: `/run/farmcast/ccm.sock` for root, `DIR/ccm.sock` for others, who cannot write to `/run`.
    pub socket: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("{0} exists: nothing was changed; choose another directory, or remove it to start a new farm")]
    Exists(PathBuf),
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: std::io::Error },
    #[error("{0}: the path must be UTF-8 without control characters, for it goes into ccm.toml")]
    Path(PathBuf),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Makes `dir` with keys, database and `ccm.toml`, whose path it returns. Refuses where one of them
/// exists, before it writes anything.
pub fn init(dir: &Path, options: &InitOptions) -> Result<PathBuf, InitError> {
    let io = |path: &Path, error| InitError::Io { path: path.to_owned(), error };
    let mut make = std::fs::DirBuilder::new();
    make.mode(0o700).recursive(true).create(dir).map_err(|error| io(dir, error))?;
    let dir = dir.canonicalize().map_err(|error| io(dir, error))?;
    let (config, database) = (dir.join("ccm.toml"), dir.join("ccm.db"));
    for path in [&config, &database, &Keys::dir(&dir)] {
        if path.try_exists().map_err(|error| io(path, error))? {
            return Err(InitError::Exists(path.clone()));
        }
    }
    let text = config_text(&dir, options)?;
    Keys::create(&dir)?;
    Store::create(&database)?;
    for folder in ["objects", "shadow", "cache"] {
        let path = dir.join(folder);
        make.create(&path).map_err(|error| io(&path, error))?;
    }
    let mut file = std::fs::OpenOptions::new();
    let mut file =
        file.write(true).create_new(true).mode(0o640).open(&config).map_err(|error| io(&config, error))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| io(&config, error))?;
    Ok(config)
}

/// The template with `dir` and what differs from the defaults set.
fn config_text(dir: &Path, options: &InitOptions) -> Result<String, InitError> {
    let socket = match &options.socket {
        Some(socket) => socket.clone(),
        None if nix::unistd::geteuid().is_root() => DEFAULT_SOCKET.into(),
        None => dir.join("ccm.sock"),
    };
    let mut values = vec![("dir", quoted(dir)?)];
    if socket != Path::new(DEFAULT_SOCKET) {
        values.push(("socket", quoted(&socket)?));
    }
    values.extend(options.listen.map(|listen| ("listen", format!("\"{listen}\""))));
    values.extend(options.api.map(|api| ("api", format!("\"{api}\""))));
    values.extend(options.advertise.map(|advertise| ("advertise", format!("\"{advertise}\""))));
    let set = |line: &str| {
        let key = line.trim_start_matches('#').split(" = ").next().unwrap_or_default();
        match values.iter().find(|(name, _)| *name == key) {
            Some((name, value)) => format!("{name} = {value}\n"),
            None => format!("{line}\n"),
        }
    };
    Ok(TEMPLATE.lines().map(set).collect())
}

fn quoted(path: &Path) -> Result<String, InitError> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control));
    let text = text.ok_or_else(|| InitError::Path(path.to_owned()))?;
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::config::Config;

    #[test]
    fn a_new_farm_can_be_started_and_is_never_made_twice() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a \"farm\"");
        let options = InitOptions {
            listen: Some("0.0.0.0:0".parse().unwrap()),
            advertise: Some("10.1.2.3:0".parse().unwrap()),
            socket: Some("/tmp/x.sock".into()),
            api: Some("127.0.0.1:0".parse().unwrap()),
        };
        let path = init(&dir, &options).unwrap();
        let config = Config::load(&path).unwrap();
        assert_eq!(config.dir, dir.canonicalize().unwrap());
        assert_eq!((Some(config.listen), config.advertise), (options.listen, options.advertise));
        assert_eq!((config.socket.as_path(), config.api), (Path::new("/tmp/x.sock"), options.api));
        Keys::load(&config.dir).unwrap();
        Store::open(&config.database()).unwrap();
        assert!(matches!(init(&dir, &options), Err(InitError::Exists(_))));
    }

    #[test]
    fn nothing_is_written_where_a_part_of_a_farm_is() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("ccm.db"), "precious").unwrap();
        assert!(matches!(init(temp.path(), &InitOptions::default()), Err(InitError::Exists(_))));
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
    }
}
