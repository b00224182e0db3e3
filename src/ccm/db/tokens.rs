//! Tokens of the API: what each is good for, by the hash of its secret.

use super::{DbError, Store, events, int, parsed, uint, unreadable};
use crate::ccm::access::{ApiToken, Grant, Scope};
use crate::wire::Malformed;
use crate::wire::id::Name;
use rusqlite::{OptionalExtension, Row};

/// Tokens that a farm can have, void ones included.
pub const TOKENS_MAX: u32 = 1_000;
/// The last use of a token is written down at most so often: reading must not write.
const USED_EVERY_NS: u64 = 600 * 1_000_000_000;

const TOKENS: &str =
    "SELECT name, role, sites, expires_ns, revoked_ns, created_ns, created_by, used_ns FROM tokens";

/// A token with its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownToken {
    pub grant: Grant,
    pub created_ns: u64,
    /// Who made it.
    pub created_by: String,
    /// To some minutes; 0 where it never was.
    pub used_ns: u64,
}

/// Why a token is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    #[error("there is a token {0}; `farmcast token revoke {0}` first, or choose another name")]
    Exists(Name),
    #[error("there are {TOKENS_MAX} tokens that count: revoke one first")]
    Full,
    #[error("there is no site {0}; `farmcast site list` has them")]
    NoSite(Name),
}

impl Store {
    /// Keeps what a new token is good for. One of the same name that counts no more makes room.
    pub fn add_token(
        &mut self,
        token: &ApiToken,
        grant: &Grant,
        by: &str,
        now_ns: u64,
    ) -> Result<Result<(), TokenRefused>, DbError> {
        if let Scope::Sites(sites) = &grant.scope {
            for site in sites {
                if self.site(site)?.is_none() {
                    return Ok(Err(TokenRefused::NoSite(site.clone())));
                }
            }
        }
        let step = self.write()?;
        let void = "(revoked_ns != 0 OR expires_ns <= ?1)";
        step.execute(
            &format!("DELETE FROM tokens WHERE name = ?2 AND {void}"),
            (int(now_ns), grant.name.as_str()),
        )?;
        let mut count: u32 = step.query_row("SELECT count(*) FROM tokens", [], |row| row.get(0))?;
        if count >= TOKENS_MAX {
            let gone = step.execute(&format!("DELETE FROM tokens WHERE {void}"), [int(now_ns)])?;
            count = count.saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX));
        }
        if count >= TOKENS_MAX {
            return Ok(Err(TokenRefused::Full));
        }
        let sql = "INSERT INTO tokens (name, hash, role, sites, created_ns, created_by, expires_ns) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING";
        let name = grant.name.as_str();
        let row = (
            name,
            token.hash(),
            grant.role.word(),
            column(&grant.scope),
            int(now_ns),
            by,
            int(grant.expires_ns),
        );
        if step.execute(sql, row)? == 0 {
            return Ok(Err(TokenRefused::Exists(grant.name.clone())));
        }
        let text = format!("made by {by}: {} of {}", grant.role.word(), grant.scope);
        events::record(&step, &format!("token {name}"), &text, now_ns)?;
        step.commit()?;
        Ok(Ok(()))
    }

    /// What a token is good for, whether it counts or not; `None` where nobody made it. Notes that it was used.
    pub fn use_token(&mut self, token: &ApiToken, now_ns: u64) -> Result<Option<Grant>, DbError> {
        let known = {
            let mut query = self.db.prepare_cached(&format!("{TOKENS} WHERE hash = ?1"))?;
            query.query_row([token.hash()], read_token).optional()?
        };
        let Some(known) = known else { return Ok(None) };
        let is_due = now_ns.saturating_sub(known.used_ns) >= USED_EVERY_NS;
        if is_due && known.grant.check(now_ns).is_ok() {
            let sql = "UPDATE tokens SET used_ns = ?2 WHERE name = ?1";
            self.db.execute(sql, (known.grant.name.as_str(), int(now_ns)))?;
        }
        Ok(Some(known.grant))
    }

    /// All tokens by name.
    pub fn tokens(&self) -> Result<Vec<KnownToken>, DbError> {
        let mut query = self.db.prepare_cached(&format!("{TOKENS} ORDER BY name"))?;
        Ok(query.query_map([], read_token)?.collect::<Result<_, _>>()?)
    }

    /// From now on it lets nobody in. False where there is none, or it was revoked before.
    pub fn revoke_token(&mut self, name: &Name, by: &str, now_ns: u64) -> Result<bool, DbError> {
        let step = self.write()?;
        let sql = "UPDATE tokens SET revoked_ns = ?2 WHERE name = ?1 AND revoked_ns = 0";
        let revoked = step.execute(sql, (name.as_str(), int(now_ns)))? == 1;
        if revoked {
            events::record(&step, &format!("token {name}"), &format!("revoked by {by}"), now_ns)?;
        }
        step.commit()?;
        Ok(revoked)
    }
}

fn column(scope: &Scope) -> String {
    match scope {
        Scope::Farm => String::new(),
        Scope::Sites(sites) => sites.iter().map(Name::as_str).collect::<Vec<_>>().join(" "),
    }
}

fn read_token(row: &Row<'_>) -> rusqlite::Result<KnownToken> {
    let sites: String = row.get(2)?;
    let names = sites.split_whitespace().map(Name::new).collect::<Result<_, Malformed>>();
    let names = names.map_err(|error| unreadable(2, error))?;
    let grant = Grant {
        name: parsed(row, 0)?,
        role: parsed(row, 1)?,
        scope: if sites.is_empty() { Scope::Farm } else { Scope::Sites(names) },
        expires_ns: uint(row, 3)?,
        revoked: uint(row, 4)? != 0,
    };
    Ok(KnownToken { grant, created_ns: uint(row, 5)?, created_by: row.get(6)?, used_ns: uint(row, 7)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::access::{Role, Void};
    use crate::ccm::testing::{SECOND, T0, name, store};
    use std::path::Path;

    fn grant(of: &str, scope: Scope, expires_ns: u64) -> Grant {
        Grant { name: name(of), role: Role::Operator, scope, expires_ns, revoked: false }
    }

    #[test]
    fn a_token_is_known_by_its_secret_until_it_is_revoked_or_expires() {
        let (_dir, mut store) = store();
        store.add_site(&name("www"), Path::new("/srv"), T0).unwrap();
        let (token, other) = (ApiToken::new([1; 32]), ApiToken::new([2; 32]));
        let sites = Scope::Sites([name("www")].into());
        let ci = grant("ci", sites, T0 + SECOND);
        assert_eq!(store.add_token(&token, &ci, "uid:0", T0).unwrap(), Ok(()));
        assert_eq!(store.use_token(&token, T0).unwrap(), Some(ci.clone()));
        assert_eq!(store.use_token(&other, T0).unwrap(), None);
        let kept: String = store.db.query_row("SELECT hash FROM tokens", [], |row| row.get(0)).unwrap();
        assert!(kept == token.hash() && !token.to_string().contains(&kept));

        // The name is taken while it counts, and free when it does not.
        let again = grant("ci", Scope::Farm, T0 + 9 * SECOND);
        assert!(matches!(store.add_token(&other, &again, "x", T0).unwrap(), Err(TokenRefused::Exists(_))));
        assert_eq!(store.add_token(&other, &again, "x", T0 + SECOND).unwrap(), Ok(()));
        assert_eq!(store.use_token(&token, T0 + SECOND).unwrap(), None);
        assert!(store.revoke_token(&name("ci"), "uid:0", T0 + 2 * SECOND).unwrap());
        assert!(!store.revoke_token(&name("ci"), "uid:0", T0 + 2 * SECOND).unwrap());
        assert!(!store.revoke_token(&name("none"), "uid:0", T0).unwrap());
        let revoked = store.use_token(&other, T0 + 2 * SECOND).unwrap().unwrap();
        assert_eq!(revoked.check(T0), Err(Void::Revoked));

        let lost = grant("lost", Scope::Sites([name("shop")].into()), T0 + SECOND);
        let refused = store.add_token(&token, &lost, "x", T0).unwrap();
        assert_eq!(refused, Err(TokenRefused::NoSite(name("shop"))));
    }

    #[test]
    fn the_last_use_is_written_down_every_ten_minutes() {
        let (_dir, mut store) = store();
        let token = ApiToken::new([1; 32]);
        store.add_token(&token, &grant("ci", Scope::Farm, u64::MAX >> 1), "x", T0).unwrap().unwrap();
        let used = |store: &mut Store, now| {
            store.use_token(&token, now).unwrap().unwrap();
            store.tokens().unwrap()[0].used_ns
        };
        assert_eq!(used(&mut store, T0), T0);
        assert_eq!(used(&mut store, T0 + 599 * SECOND), T0);
        assert_eq!(used(&mut store, T0 + 600 * SECOND), T0 + 600 * SECOND);
    }

    #[test]
    fn tokens_are_bounded_and_void_ones_make_room() {
        let (_dir, mut store) = store();
        let token = |number: u32| {
            let mut secret = [0; 32];
            secret[..4].copy_from_slice(&number.to_be_bytes());
            ApiToken::new(secret)
        };
        for number in 0..TOKENS_MAX {
            let expires = if number == 0 { T0 + SECOND } else { T0 + 9 * SECOND };
            let grant = grant(&format!("t{number}"), Scope::Farm, expires);
            store.add_token(&token(number), &grant, "x", T0).unwrap().unwrap();
        }
        let late = grant("late", Scope::Farm, T0 + 9 * SECOND);
        let full = store.add_token(&token(TOKENS_MAX), &late, "x", T0).unwrap();
        assert_eq!(full, Err(TokenRefused::Full));
        store.add_token(&token(TOKENS_MAX), &late, "x", T0 + SECOND).unwrap().unwrap();
    }
}
