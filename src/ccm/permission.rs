//! The order that travels inside an assignment: where a site's policy says so, a node goes live by itself as soon as
//! it has staged what it was sent (CO-11). What a leader says does not count: the director signed it.

use super::clock::NS_PER_S;
use super::controller::Controller;
use super::db::DbError;
use super::model::{IssuedOrder, Run};
use super::policy::Activation;
use crate::wire::id::AssignmentId;
use crate::wire::order::{Action, Order};

/// An order is void so long after its instant.
pub const ORDER_LIFE_S: u64 = 24 * 3_600;

/// The order to put `assignment` live at once; `None` where the run's nodes wait for one another. A number that was
/// taken and is not used does no harm.
pub fn permission(
    controller: &Controller,
    run: &Run,
    assignment: AssignmentId,
    now_ns: u64,
) -> Result<Option<IssuedOrder>, DbError> {
    if run.terms.rules.activation == Activation::Commit {
        return Ok(None);
    }
    let id = controller.store_blocking(|store| store.next_order())?;
    let action = Action::Commit { assignment };
    let expires = now_ns / NS_PER_S + ORDER_LIFE_S;
    let order = Order { order: id, run: run.id, site: run.site.clone(), action, at: None, expires };
    Ok(Some(IssuedOrder { id, bytes: order.sign(&controller.keys.director), action, at_ns: now_ns }))
}
