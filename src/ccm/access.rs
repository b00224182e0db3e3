//! Who may do what at the operator's API: roles, scopes, and the table from routes to what they ask for.
//!
//! Pure: [`need`] is the whole of the table, and a route that is not in it is refused to everybody.

use crate::wire::id::Name;
use crate::wire::id::{hex, unhex};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// What a request wants to do. A role has its own right and those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// To read.
    Look,
    /// To bring content into staging.
    Upload,
    /// To run and steer jobs, versions, schedules and windows.
    Operate,
    /// All else: nodes, groups, segments, sites, policies, tokens, the database.
    Administer,
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Viewer,
    Creator,
    Operator,
    Admin,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Creator, Self::Operator, Self::Admin];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Creator => "creator",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The furthest of its rights.
    pub const fn right(self) -> Right {
        match self {
            Self::Viewer => Right::Look,
            Self::Creator => Right::Upload,
            Self::Operator => Right::Operate,
            Self::Admin => Right::Administer,
        }
    }

    /// The least role that has a right.
    pub const fn with(right: Right) -> Self {
        match right {
            Right::Look => Self::Viewer,
            Right::Upload => Self::Creator,
            Right::Operate => Self::Operator,
            Right::Administer => Self::Admin,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role: viewer, creator, operator and admin are")]
pub struct NoRole(String);

impl FromStr for Role {
    type Err = NoRole;

    fn from_str(text: &str) -> Result<Self, NoRole> {
        Self::ALL.into_iter().find(|role| role.word() == text).ok_or_else(|| NoRole(text.to_owned()))
    }
}

/// The sites that somebody may have to do with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them, and what is of no site.
    Farm,
    /// These only.
    Sites(BTreeSet<Name>),
}

impl Scope {
    pub fn holds(&self, site: &Name) -> bool {
        match self {
            Self::Farm => true,
            Self::Sites(sites) => sites.contains(site),
        }
    }

    pub const fn is_farm(&self) -> bool {
        matches!(self, Self::Farm)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Farm => f.write_str("the whole farm"),
            Self::Sites(sites) => {
                let names: Vec<&str> = sites.iter().map(Name::as_str).collect();
                f.write_str(&names.join(", "))
            }
        }
    }
}

/// How a route tells whose site it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Of no site, or of all: only for those who may have to do with the whole farm.
    Farm,
    /// Every site alike, and nothing of any.
    Anybody,
    /// The site whose name stands in the path as `{name}`.
    Site,
    /// The site of the job whose number stands in the path as `{id}`.
    Job,
    /// The site of the schedule whose name stands in the path.
    Schedule,
    /// The site of the window whose name stands in the path, or the farm.
    Window,
    /// The site that the body names: the handler asks.
    Body,
    /// What is of other sites is left out of the answer: the handler does so.
    List,
}

/// What a route asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    pub right: Right,
    pub subject: Subject,
}

/// Where the routes of uploads begin.
const UPLOADS: &str = "/v1/sites/{name}/upload";

/// What a method at a route asks for, the route as the router writes it; `None` where nobody has said, and then
/// nobody may.
pub fn need(method: &str, route: &str) -> Option<Need> {
    use Right::{Administer, Look, Operate, Upload};
    use Subject::{Anybody, Body, Farm, Job, List, Schedule, Site, Window};
    // Whoever may read may ask for the head alone.
    let method = if method == "HEAD" { "GET" } else { method };
    if route.strip_prefix(UPLOADS).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', 's'])) {
        return match method {
            "GET" => Some(Need { right: Look, subject: Site }),
            "POST" | "PUT" | "PATCH" | "DELETE" => Some(Need { right: Upload, subject: Site }),
            _ => None,
        };
    }
    let (right, subject) = match (method, route) {
        ("GET", "/v1/version") => (Look, Anybody),
        ("GET", "/v1/status" | "/v1/groups" | "/v1/groups/{name}" | "/v1/nodes") => (Look, Farm),
        ("GET", "/v1/segments" | "/v1/segments/{id}" | "/v1/database" | "/v1/remote") => (Look, Farm),
        ("GET", "/v1/notify") => (Look, Farm),

        ("GET", "/v1/sites" | "/v1/jobs" | "/v1/events" | "/v1/schedules") => (Look, List),
        ("GET", "/v1/lookahead" | "/v1/windows") => (Look, List),
        ("GET", "/v1/sites/{name}" | "/v1/sites/{name}/diff" | "/v1/sites/{name}/plan") => (Look, Site),
        ("GET", "/v1/sites/{name}/versions" | "/v1/sites/{name}/policy") => (Look, Site),
        ("GET", "/v1/sites/{name}/checkpoints") => (Look, Site),
        ("GET", "/v1/sites/{name}/checkpoints/{number}/verify") => (Look, Site),
        ("GET", "/v1/jobs/{id}" | "/v1/jobs/{id}/report" | "/v1/jobs/{id}/log") => (Look, Job),
        ("GET", "/v1/schedules/{name}") => (Look, Schedule),
        ("GET", "/v1/windows/{name}") => (Look, Window),

        ("POST", "/v1/jobs" | "/v1/schedules" | "/v1/windows") => (Operate, Body),
        ("POST", "/v1/jobs/{id}/{wish}") => (Operate, Job),
        ("POST", "/v1/schedules/{name}/enabled") => (Operate, Schedule),
        ("DELETE", "/v1/schedules/{name}") => (Operate, Schedule),
        ("DELETE", "/v1/windows/{name}") => (Operate, Window),
        ("POST", "/v1/nodes/{name}/verify" | "/v1/triggers/{name}") => (Operate, Farm),

        ("POST", "/v1/sites/{name}/filter" | "/v1/sites/{name}/policy") => (Administer, Site),
        ("POST", "/v1/sites" | "/v1/sites/{name}/group") => (Administer, Farm),
        ("POST", "/v1/groups" | "/v1/groups/{name}") => (Administer, Farm),
        ("DELETE", "/v1/groups/{name}" | "/v1/nodes/{name}") => (Administer, Farm),
        ("POST", "/v1/segments/{id}/name" | "/v1/segments/{id}/channel") => (Administer, Farm),
        ("POST", "/v1/segments/{id}/leaders" | "/v1/segments/{id}/refresh") => (Administer, Farm),
        ("POST", "/v1/invites" | "/v1/database/backup") => (Administer, Farm),
        ("GET" | "POST", "/v1/tokens") => (Administer, Farm),
        ("DELETE", "/v1/tokens/{name}") => (Administer, Farm),
        ("GET", "/v1/audit") => (Administer, Farm),
        ("POST", "/v1/notify/{name}/test") => (Administer, Farm),
        _ => return None,
    };
    Some(Need { right, subject })
}

/// From where a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Through the Unix socket, from a process of this user.
    Local { uid: u32 },
    /// Over the network.
    Remote { address: IpAddr },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { .. } => f.write_str("unix"),
            // One of IPv4 that came through a socket for both reads as what it is.
            Self::Remote { address } => write!(f, "{}", address.to_canonical()),
        }
    }
}

/// What a token was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub name: Name,
    pub role: Role,
    pub scope: Scope,
    pub expires_ns: u64,
    pub revoked: bool,
}

/// Why a token lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Void {
    Revoked,
    Expired { at_ns: u64 },
}

impl Grant {
    /// # Errors
    /// It counts no more.
    pub const fn check(&self, now_ns: u64) -> Result<(), Void> {
        match self {
            Self { revoked: true, .. } => Err(Void::Revoked),
            Self { expires_ns, .. } if now_ns >= *expires_ns => Err(Void::Expired { at_ns: *expires_ns }),
            _ => Ok(()),
        }
    }
}

/// A token of the operator's API, as its holder carries it: `fca1-` and 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiToken([u8; 32]);

impl ApiToken {
    pub const fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// What the controller keeps: nobody finds 32 random bytes from it, and by looking it up nothing is compared
    /// that would take longer for a better guess.
    pub fn hash(&self) -> String {
        blake3::hash(&self.0).to_hex().to_string()
    }
}

impl fmt::Display for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fca1-{}", hex(&self.0))
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiToken(..)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no token: `fca1-` and 64 hexadecimal digits are expected")]
pub struct NoToken;

impl FromStr for ApiToken {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Self, NoToken> {
        let bytes = text.strip_prefix("fca1-").and_then(unhex).ok_or(NoToken)?;
        bytes.try_into().map(Self).map_err(|_| NoToken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_its_own_right_and_those_before_it() {
        let mut held = Vec::new();
        for role in Role::ALL {
            held.push(role.right());
            assert!(held.is_sorted() && Role::with(role.right()) == role);
            assert_eq!(role.word().parse(), Ok(role));
        }
        assert!("Admin".parse::<Role>().is_err() && "".parse::<Role>().is_err());
    }

    #[test]
    fn a_route_that_is_in_no_table_is_for_nobody() {
        for (method, route) in [
            ("GET", "/v1/new"),
            ("PUT", "/v1/jobs"),
            ("DELETE", "/v1/jobs"),
            ("GET", "/v1/jobs/"),
            ("TRACE", "/v1/sites/{name}/upload"),
            ("POST", "/v1/sites/{name}/uploading"),
            ("", ""),
        ] {
            assert_eq!(need(method, route), None, "{method} {route}");
        }
        assert_eq!(need("HEAD", "/v1/jobs"), need("GET", "/v1/jobs"));
    }

    #[test]
    fn whoever_uploads_needs_the_site_and_no_more() {
        for route in
            ["/v1/sites/{name}/upload", "/v1/sites/{name}/uploads", "/v1/sites/{name}/upload/{*path}"]
        {
            let needed = need("PUT", route);
            assert_eq!(needed, Some(Need { right: Right::Upload, subject: Subject::Site }), "{route}");
            assert_eq!(need("GET", route).map(|need| need.right), Some(Right::Look));
        }
    }

    #[test]
    fn a_scope_holds_the_sites_that_it_names() {
        let name = |text: &str| Name::new(text).unwrap();
        let scope = Scope::Sites([name("www"), name("shop")].into());
        assert!(scope.holds(&name("www")) && !scope.holds(&name("ww")) && !scope.is_farm());
        assert!(Scope::Farm.holds(&name("ww")) && Scope::Farm.is_farm());
        assert_eq!(scope.to_string(), "shop, www");
        assert!(!Scope::Sites(BTreeSet::new()).holds(&name("www")));
    }

    #[test]
    fn a_grant_ends_at_its_instant_and_when_it_is_revoked() {
        let grant = Grant {
            name: Name::new("ci").unwrap(),
            role: Role::Viewer,
            scope: Scope::Farm,
            expires_ns: 10,
            revoked: false,
        };
        assert_eq!(grant.check(9), Ok(()));
        assert_eq!(grant.check(10), Err(Void::Expired { at_ns: 10 }));
        assert_eq!(Grant { revoked: true, ..grant }.check(9), Err(Void::Revoked));
    }

    #[test]
    fn a_token_reads_back_and_does_not_show_in_a_log() {
        let token = ApiToken::new([7; 32]);
        assert_eq!(token.to_string().parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("07"));
        assert_ne!(token.hash(), ApiToken::new([8; 32]).hash());
        for bad in ["", "fca1-", "fca1-07", &format!("fcj1-{}", "07".repeat(32)), &format!("{token}0")] {
            assert_eq!(bad.parse::<ApiToken>(), Err(NoToken), "{bad}");
        }
    }
}
