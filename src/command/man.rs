//! `monsys-agent man`.

use serde_json::json;

use super::{Report, pages};
use crate::cli::ManArgs;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::store::atomic::{self, Owner};

/// Reports the page of the program, or writes that page and one page per command to a folder.
///
/// # Errors
/// [`ErrorId::PagesUnwritable`], and those of [`pages::all`].
pub(super) fn run(args: &ManArgs) -> Result<Report> {
    let pages = pages::all()?;
    let mut pages = pages.iter().filter(|page| page.name.ends_with(".1"));
    let Some(folder) = &args.folder else {
        let text = pages.next().map(|page| page.text.as_str());
        let text = text.unwrap_or_default();
        return Ok(Report::new(text.to_owned(), json!({ "page": text })));
    };
    let mut files = Vec::new();
    for page in pages {
        let path = folder.join(&page.name);
        atomic::write(&path, page.text.as_bytes(), 0o644, Owner::ours()).map_err(|error| {
            Error::new(ErrorId::PagesUnwritable, error.to_string()).about(path.display())
        })?;
        files.push(path);
    }
    let text = format!("Wrote {} pages to {}\n", files.len(), folder.display());
    Ok(Report::new(text, json!({ "files": files })))
}
