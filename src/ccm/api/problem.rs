//! Errors as RFC 9457 asks for them: what happened, and what to do next.

use super::types::Problem;
use crate::ccm::db::DbError;
use axum::Json;
use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A request that is not carried out.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
}

impl Refusal {
    pub fn bad_request(detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request makes no sense", detail)
    }

    /// Nobody knows who asks.
    pub fn unauthorized(detail: String) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Who are you?", detail)
    }

    pub fn no_method(detail: String) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "no-method", "Not for this address", detail)
    }

    pub fn denied(detail: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "denied", "Not allowed", detail)
    }

    pub fn not_found(detail: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    pub fn gone(detail: String) -> Self {
        Self::new(StatusCode::GONE, "gone", "No longer kept", detail)
    }

    pub fn conflict(detail: String) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Conflict with what is", detail)
    }

    pub fn key_reused(detail: String) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "key-reused",
            "The key stands for another request",
            detail,
        )
    }

    pub fn unsatisfiable(detail: String) -> Self {
        let status = StatusCode::RANGE_NOT_SATISFIABLE;
        Self::new(status, "bad-range", "The range lies outside", detail)
    }

    pub fn full(detail: String) -> Self {
        log::error!("{detail}");
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "no-space", "No space is left", detail)
    }

    pub fn internal(detail: String) -> Self {
        log::error!("{detail}");
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "internal", "The controller failed", detail)
    }

    pub const fn status(&self) -> StatusCode {
        self.status
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Whether it is for want of a right.
    pub const fn is_denial(&self) -> bool {
        is_denial(self.status)
    }

    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: String) -> Self {
        Self { status, kind, title, detail }
    }
}

/// Whether an answer says that somebody may not.
pub const fn is_denial(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// Beside an answer, for the audit: why it is no success.
#[derive(Clone, Debug)]
pub struct Told(pub String);

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Self {
        let detail = error.to_string();
        match error {
            DbError::Full => Self::full(detail),
            DbError::Exists(_) => Self::conflict(detail),
            DbError::Write { .. } => Self::bad_request(detail),
            _ => Self::internal(detail),
        }
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<BytesRejection> for Refusal {
    fn from(rejection: BytesRejection) -> Self {
        let status = rejection.status();
        Self::new(status, "bad-request", "The body cannot be read", rejection.body_text())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: self.kind.to_owned(),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
        };
        let mut response = (self.status, Json(problem)).into_response();
        let media_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(Told(self.detail));
        response
    }
}
