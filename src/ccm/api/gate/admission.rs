//! Whether somebody may do what is asked for: by role, and by the sites of a token.

use super::Asked;
use crate::ccm::access::{Need, Right, Role, Subject};
use crate::ccm::api::caller::Caller;
use crate::ccm::api::problem::Refusal;
use crate::ccm::controller::Controller;
use crate::ccm::db::{DbError, Store};
use crate::wire::id::{JobId, Name};

/// The site that it is about, where the path tells.
///
/// # Errors
/// The caller may not.
pub async fn admit(
    controller: &Controller,
    caller: &Caller,
    need: Need,
    asked: &Asked,
) -> Result<Option<Name>, Refusal> {
    if caller.role().right() < need.right {
        let (is, wanted) = (caller.role().word(), Role::with(need.right).word());
        return Err(Refusal::denied(format!(
            "{} is a {is}, and this takes a token of role {wanted}",
            caller.who()
        )));
    }
    let site = match need.subject {
        Subject::Anybody | Subject::Body | Subject::List => return Ok(None),
        Subject::Farm => return caller.check_farm().map(|()| None),
        Subject::Site => {
            let name = asked.part("name").and_then(|name| Name::new(name).ok());
            // What is no name is nobody's site; the handler says so to those who may ask for any.
            let Some(name) = name else { return caller.check_farm().map(|()| None) };
            Some(name)
        }
        Subject::Job | Subject::Schedule | Subject::Window => {
            let is_change = need.right != Right::Look;
            if caller.scope().is_farm() && !is_change {
                return Ok(None);
            }
            let (id, name) = (asked.part("id").map(str::to_owned), asked.part("name").map(str::to_owned));
            let read = move |store: &mut Store| owner(store, need.subject, id.as_deref(), name.as_deref());
            match controller.store(read).await? {
                Owner::Site(site) => Some(site),
                Owner::Nobody => return Ok(None),
                Owner::Farm if is_change => return caller.check_farm().map(|()| None),
                Owner::Farm => return Ok(None),
            }
        }
    };
    match site {
        Some(site) => caller.check(&site).map(|()| Some(site)),
        None => Ok(None),
    }
}

/// Whose a job, a schedule or a window is.
#[derive(Debug)]
enum Owner {
    Site(Name),
    Farm,
    /// It is not there, as the handler will say.
    Nobody,
}

fn owner(store: &Store, of: Subject, id: Option<&str>, name: Option<&str>) -> Result<Owner, DbError> {
    let name = name.and_then(|name| Name::new(name).ok());
    Ok(match (of, id.and_then(|id| id.parse().ok()), name) {
        (Subject::Job, Some(id), _) => {
            store.run_of_job(JobId(id))?.map_or(Owner::Nobody, |run| Owner::Site(run.site))
        }
        (Subject::Schedule, _, Some(name)) => {
            store.schedule(&name)?.map_or(Owner::Nobody, |schedule| Owner::Site(schedule.site))
        }
        (Subject::Window, _, Some(name)) => {
            match store.windows()?.into_iter().find(|window| window.name == name) {
                Some(window) => window.site.map_or(Owner::Farm, Owner::Site),
                None => Owner::Nobody,
            }
        }
        _ => Owner::Nobody,
    })
}
