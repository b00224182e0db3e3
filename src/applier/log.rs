//! Log lines of the applier go to net, which alone writes the node's log.

use super::ipc::{Reply, Service};
use log::{LevelFilter, Log, Metadata, Record};
use std::sync::Mutex;

struct Forward(Mutex<Service>);

impl Log for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = Reply::Log { level: record.level(), text: record.args().to_string() };
        if let Ok(service) = self.0.lock() {
            // Where net is gone there is nobody to tell.
            let _ = service.send(&line);
        }
    }

    fn flush(&self) {}
}

/// Makes this process's `log` lines replies.
pub fn install(service: Service) {
    if log::set_boxed_logger(Box::new(Forward(Mutex::new(service)))).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}
