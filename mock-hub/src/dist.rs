//! `GET /install.sh` and `GET /dist/FILE`: the hub as a mirror of what `cargo xtask dist` made.
//!
//! The folder is read at each request, so a new build of it is served at once.

use crate::App;
use crate::error::Error;
use crate::refusal::Refusal;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path as PathSegment, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::fs::{metadata, read};
use tower::ServiceExt as _;
use tower_http::services::ServeFile;

const INSTALLER: &str = "install.sh";
const SHELL_SCRIPT: &str = "text/x-shellscript; charset=utf-8";

/// The folder to serve, made absolute. It has to be there when the hub starts.
pub(crate) fn prepare(dir: &Path) -> Result<PathBuf, Error> {
    let failed = |cause: &dyn std::fmt::Display| {
        let next = "Give --dist the folder that `cargo xtask dist` has made, or leave it out.";
        Error::new(format!("serving {}", dir.display()), cause, next)
    };
    let whole = dir.canonicalize().map_err(|cause| failed(&cause))?;
    if whole.is_dir() {
        Ok(whole)
    } else {
        Err(failed(&"it is no folder"))
    }
}

/// The installer, which downloads from this hub and enrols into it, unless it is told otherwise.
pub(crate) async fn installer(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let file = app.dist.as_ref().ok_or_else(nothing)?.join(INSTALLER);
    let script = match read(&file).await {
        Ok(script) => script,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Err(nothing()),
        Err(cause) => return Err(broken(&file, &cause)),
    };
    let base = app.origins.meant_by(&headers).to_string();
    let script = with_defaults(&script, &base).map_err(|cause| broken(&file, &cause))?;
    let headers = [
        (CONTENT_TYPE, SHELL_SCRIPT),
        // It depends on which of the hub's names this client uses.
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, script).into_response())
}

/// One file of the folder. What lies deeper, or is no plain file, is not there.
pub(crate) async fn file(
    State(app): State<Arc<App>>,
    name: Result<PathSegment<String>, PathRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let dir = app.dist.as_ref().ok_or_else(nothing)?;
    let PathSegment(name) = name.map_err(|_| nothing())?;
    if !is_plain_name(&name) {
        return Err(nothing());
    }
    let file = dir.join(&name);
    if !metadata(&file).await.is_ok_and(|file| file.is_file()) {
        return Err(nothing());
    }
    let Ok(response) = ServeFile::new(file).oneshot(request).await;
    let mut response = response.map(Body::new);
    if response.status().is_success() {
        let content_type = HeaderValue::from_static(content_type(&name));
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    Ok(response)
}

fn nothing() -> Refusal {
    Refusal::not_found("file")
}

fn broken(file: &Path, cause: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(file = %file.display(), %cause, "dist");
    Refusal::internal()
}

/// A name that leads nowhere but into the folder itself, and to nothing hidden.
fn is_plain_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+~".contains(&byte);
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_plain)
}

fn content_type(name: &str) -> &'static str {
    let types = [
        (".sh", SHELL_SCRIPT),
        (".tar.gz", "application/gzip"),
        (".deb", "application/vnd.debian.binary-package"),
        (".rpm", "application/x-rpm"),
        (".cdx.json", "application/vnd.cyclonedx+json"),
        ("SHA256SUMS", "text/plain; charset=utf-8"),
        (".minisig", "text/plain; charset=utf-8"),
    ];
    types
        .into_iter()
        .find(|(end, _)| name.ends_with(end))
        .map_or("application/octet-stream", |(_, content_type)| content_type)
}

/// The script with its two default addresses replaced. Each has one line of its own.
fn with_defaults(script: &[u8], base: &str) -> Result<Vec<u8>, String> {
    let mut defaults = [
        ("DEFAULT_DOWNLOAD_URL=", format!("{base}/dist"), 0),
        ("DEFAULT_HUB_URL=", base.to_owned(), 0),
    ];
    let mut replaced = Vec::with_capacity(script.len() + 2 * base.len());
    for line in script.split_inclusive(|byte| *byte == b'\n') {
        let default = defaults
            .iter_mut()
            .find(|(prefix, ..)| line.starts_with(prefix.as_bytes()));
        match default {
            Some((prefix, url, found)) => {
                *found += 1;
                replaced.extend(format!("{prefix}'{url}'\n").into_bytes());
            }
            None => replaced.extend_from_slice(line),
        }
    }
    match defaults.iter().find(|(.., found)| *found != 1) {
        None => Ok(replaced),
        Some((prefix, _, found)) => Err(format!(
            "it has {found} lines that begin with {prefix}, not one"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_default_is_one_line() {
        let script = b"#!/bin/sh\nDEFAULT_DOWNLOAD_URL='a'\n# DEFAULT_HUB_URL=\nDEFAULT_HUB_URL=''";
        let replaced = with_defaults(script, "https://h").unwrap();
        assert_eq!(
            String::from_utf8(replaced).unwrap(),
            "#!/bin/sh\nDEFAULT_DOWNLOAD_URL='https://h/dist'\n# DEFAULT_HUB_URL=\n\
             DEFAULT_HUB_URL='https://h'\n"
        );
        for script in [
            "",
            "DEFAULT_HUB_URL=''\n",
            "DEFAULT_HUB_URL=''\nDEFAULT_HUB_URL=''\n",
        ] {
            assert!(with_defaults(script.as_bytes(), "https://h").is_err());
        }
    }
}
