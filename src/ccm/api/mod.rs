//! The API: JSON over HTTP, one file per resource.
//!
//! Two routers: [`operator`] for those who run the farm, behind a gate that knows whom it lets in (`gate`); [`node`],
//! where every request proves itself (a signature, a token) or asks for what proves itself (objects).

mod audit;
mod caller;
mod checkpoints;
mod database;
mod diff;
mod events;
mod gate;
mod groups;
mod invites;
mod jobs;
mod join;
mod nodes;
mod notify;
mod objects;
mod once;
mod page;
mod plan;
mod problem;
mod remote;
mod schedules;
mod segments;
mod sites;
mod status;
#[cfg(test)]
mod tests;
mod tokens;
pub mod types;
mod uplink;
mod upload_file;
mod uploads;
mod verify;
mod version;
mod versions;
mod windows;

pub use audit::settle as settle_audit;
pub use database::look;

use super::clock;
use super::controller::Controller;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, Uri};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use problem::Refusal;
use std::sync::Arc;

/// The controller's clock, on every reply to a node: nanoseconds since 1970 (AT-5).
pub const TIME_HEADER: &str = "x-farmcast-time";
/// Longest request to join in bytes.
const JOIN_BODY_MAX: usize = 4_096;

/// A request needs [`ConnectInfo`](axum::extract::ConnectInfo) of an [`Origin`](crate::ccm::access::Origin).
pub fn operator(controller: Arc<Controller>) -> Router {
    Router::new()
        .route("/v1/status", get(status::show))
        .route("/v1/version", get(version::show))
        .route("/v1/sites", get(sites::list).post(sites::add))
        .route("/v1/sites/{name}", get(sites::show))
        .route("/v1/sites/{name}/filter", post(sites::set_filter))
        .route("/v1/sites/{name}/group", post(sites::set_group))
        .route("/v1/sites/{name}/diff", get(diff::show))
        .route("/v1/sites/{name}/plan", get(plan::show))
        .route("/v1/sites/{name}/versions", get(versions::list))
        .route("/v1/sites/{name}/checkpoints", get(checkpoints::list))
        .route("/v1/sites/{name}/checkpoints/{number}/verify", get(checkpoints::verify))
        .route("/v1/sites/{name}/uploads", get(uploads::list).post(uploads::begin))
        .route("/v1/sites/{name}/uploads/file", put(upload_file::put))
        .route("/v1/sites/{name}/uploads/{id}", get(uploads::show).delete(uploads::cancel))
        .route("/v1/sites/{name}/uploads/{id}/bytes", post(uploads::append))
        .route("/v1/sites/{name}/uploads/{id}/finish", post(uploads::finish))
        .route("/v1/groups", get(groups::list).post(groups::create))
        .route("/v1/groups/{name}", get(groups::show).post(groups::change).delete(groups::delete))
        .route("/v1/nodes", get(nodes::list))
        .route("/v1/nodes/{name}/verify", post(verify::verify))
        .route("/v1/nodes/{name}", delete(nodes::remove))
        .route("/v1/segments", get(segments::list))
        .route("/v1/segments/{id}", get(segments::show))
        .route("/v1/segments/{id}/name", post(segments::rename))
        .route("/v1/segments/{id}/channel", post(segments::set_channel))
        .route("/v1/segments/{id}/leaders", post(segments::set_leaders))
        .route("/v1/segments/{id}/refresh", post(segments::refresh))
        .route("/v1/jobs", get(jobs::list).post(jobs::add))
        .route("/v1/jobs/{id}", get(jobs::show))
        .route("/v1/jobs/{id}/report", get(jobs::report))
        .route("/v1/jobs/{id}/log", get(jobs::log))
        .route("/v1/jobs/{id}/{wish}", post(jobs::wish))
        .route("/v1/events", get(events::list))
        .route("/v1/schedules", get(schedules::list).post(schedules::add))
        .route("/v1/schedules/{name}", get(schedules::show).delete(schedules::remove))
        .route("/v1/schedules/{name}/enabled", post(schedules::enable))
        .route("/v1/triggers/{name}", post(schedules::call))
        .route("/v1/lookahead", get(schedules::check))
        .route("/v1/windows", get(windows::list).post(windows::add))
        .route("/v1/windows/{name}", get(windows::show).delete(windows::remove))
        .route("/v1/sites/{name}/policy", get(schedules::policy).post(schedules::set_policy))
        .route("/v1/notify", get(notify::list))
        .route("/v1/notify/{name}/test", post(notify::test))
        .route("/v1/invites", post(invites::add))
        .route("/v1/database", get(database::show))
        .route("/v1/database/backup", post(database::backup))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{name}", delete(tokens::revoke))
        .route("/v1/audit", get(audit::list))
        .route("/v1/remote", get(remote::show))
        .fallback(unknown)
        .layer(from_fn_with_state(Arc::clone(&controller), gate::keep))
        .layer(DefaultBodyLimit::max(gate::BODY_MAX))
        .with_state(controller)
}

pub fn node(controller: Arc<Controller>) -> Router {
    Router::new()
        .route("/o/{name}", get(objects::fetch))
        .route("/v1/uplink", post(uplink::take))
        .route("/v1/join", post(join::take).layer(DefaultBodyLimit::max(JOIN_BODY_MAX)))
        .fallback(unknown)
        .layer(map_response(stamp))
        .with_state(controller)
}

async fn unknown(uri: Uri) -> Refusal {
    Refusal::not_found(format!("there is no {} at this port", uri.path()))
}

/// As late as possible, for the leader takes it for the time at which the reply left.
async fn stamp(mut response: Response) -> Response {
    response.headers_mut().insert(TIME_HEADER, HeaderValue::from(clock::now_ns()));
    response
}
