//! `GET /install.sh` and `GET /dist/FILE`: the hub as a mirror of the folder that `cargo xtask dist`
//! makes. The folder is read at each request, so a new build is served at once.

use crate::app::App;
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

/// Returns the absolute path of the folder to serve, which must exist when the hub starts.
pub(crate) fn prepare(dir: &Path) -> Result<PathBuf, Error> {
    let failed = |cause: &dyn std::fmt::Display| {
        let hint = "give --dist the folder that `cargo xtask dist` has made, or leave it out";
        Error::new(format!("serving {}", dir.display()), cause, hint)
    };
    let absolute = dir.canonicalize().map_err(|cause| failed(&cause))?;
    if absolute.is_dir() {
        Ok(absolute)
    } else {
        Err(failed(&"it is not a folder"))
    }
}

/// Serves the installer. By default it downloads from this hub and enrols into it.
pub(crate) async fn installer(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let file = app.dist.as_ref().ok_or_else(no_file)?.join(INSTALLER);
    let script = match read(&file).await {
        Ok(script) => script,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Err(no_file()),
        Err(cause) => return Err(failed(&file, &cause)),
    };
    let base = app.origins.selected_by(&headers).to_string();
    let script = with_defaults(&script, &base).map_err(|cause| failed(&file, &cause))?;
    let headers = [
        (CONTENT_TYPE, SHELL_SCRIPT),
        // The script depends on the name by which this client reaches the hub.
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, script).into_response())
}

/// Serves one file of the folder. Subfolders and special files are a 404.
pub(crate) async fn file(
    State(app): State<Arc<App>>,
    name: Result<PathSegment<String>, PathRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let dir = app.dist.as_ref().ok_or_else(no_file)?;
    let PathSegment(name) = name.map_err(|_| no_file())?;
    if !is_plain_name(&name) {
        return Err(no_file());
    }
    let file = dir.join(&name);
    if !metadata(&file).await.is_ok_and(|file| file.is_file()) {
        return Err(no_file());
    }
    let Ok(response) = ServeFile::new(file).oneshot(request).await;
    let mut response = response.map(Body::new);
    if response.status().is_success() {
        let content_type = HeaderValue::from_static(content_type(&name));
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    Ok(response)
}

fn no_file() -> Refusal {
    Refusal::not_found("file")
}

fn failed(file: &Path, cause: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(file = %file.display(), %cause, "dist");
    Refusal::internal()
}

/// Returns whether the name is that of a file in the folder itself, and not hidden.
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

/// Replaces the two default addresses in the script. Each has one line of its own.
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
