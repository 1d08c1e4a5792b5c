//! One case: a file, a run of the scrubber, and the check of the result.

use std::fs;
use std::path::Path;

use crate::documents::{Documents, layers_of};
use crate::forms::Form;
use crate::leaf::{self, Filler, Sought};
use crate::node::{Node, Part};
use crate::packers;
use crate::searcher::Searcher;
use crate::source::Source;
use crate::subject::{self, Fate, Wanted};

/// Number of nested layers that the scrubber has to decode.
const LAYERS: usize = 3;

/// A file and the token that is sought.
pub(crate) struct Case {
    pub(crate) sought: Sought,
    pub(crate) file: Node,
}

/// The result of a run.
pub(crate) struct Outcome {
    pub(crate) fate: Fate,
    pub(crate) after: Vec<u8>,
}

impl Case {
    /// Draws a case; a `large` one is longer than the chunks of a reader.
    pub(crate) fn draw(source: &mut Source, large: bool) -> Self {
        let sought = Sought::draw(source);
        let with_token = !source.one_in(10);
        let mut documents = Documents {
            source,
            sought: &sought,
            with_token,
            is_pure: false,
        };
        let file = match documents.source.below(40) {
            0..24 => documents.document(LAYERS),
            24..27 => utf16(&mut documents),
            27..31 => {
                let layout = documents.any_base64();
                documents.document(LAYERS - 1).in_form(layout)
            }
            31..37 => documents.packed(LAYERS),
            _ => near_a_boundary(&mut documents, large),
        };
        Self { sought, file }
    }

    /// Draws a case whose documents parsers can read completely.
    pub(crate) fn parsed(source: &mut Source) -> Self {
        let sought = Sought::draw(source);
        let mut documents = Documents {
            source,
            sought: &sought,
            with_token: true,
            is_pure: true,
        };
        let file = match documents.source.below(6) {
            0..4 => documents.document(LAYERS),
            4 => documents.packed(LAYERS),
            _ => documents.quoted(LAYERS),
        };
        Self { sought, file }
    }

    /// Scrubs the file below `folder`.
    ///
    /// # Errors
    /// The violated property.
    pub(crate) fn run(&self, folder: &Path) -> Result<Outcome, String> {
        let searcher = Searcher::of_pieces(&self.sought.token, &packers::unpack_other);
        let has_token = self.file.has_token();
        match searcher.find(&self.file.bytes) {
            None if has_token => return Err("TEST: the searcher does not find the token".into()),
            Some(how) if !has_token => return Err(format!("TEST: the searcher finds {how}")),
            _ => {}
        }
        let path = folder.join("file");
        let wanted = || {
            if self.sought.by_shape {
                Wanted::any_token()
            } else {
                Wanted::secret(&self.sought.token)
            }
        };
        let scrub = || {
            let fate = subject::file(&path, &wanted());
            let after = fs::read(&path).map_err(|error| format!("cannot be read: {error}"))?;
            Ok::<_, String>(Outcome { fate, after })
        };
        fs::write(&path, &self.file.bytes).map_err(|error| error.to_string())?;
        let outcome = scrub()?;
        self.check(&outcome, searcher.find(&outcome.after))?;
        let again = scrub()?;
        if again.after != outcome.after {
            return Err("scrubbed twice, it is another file".into());
        }
        match (&again.fate, &outcome.fate) {
            (Fate::Clean, Fate::Clean | Fate::Scrubbed) | (Fate::Left(_), Fate::Left(_)) => {}
            (again, first) => return Err(format!("first {first:?}, then {again:?}")),
        }
        Ok(outcome)
    }

    fn check(&self, outcome: &Outcome, found: Option<String>) -> Result<(), String> {
        let fate = &outcome.fate;
        let is_changed = outcome.after != self.file.bytes;
        self.file.check_file(&outcome.after)?;
        if let Some(how) = found
            && !matches!(fate, Fate::Left(_))
        {
            return Err(format!("{fate:?}, and the token can be read: {how}"));
        }
        if is_changed && !self.file.has_token() {
            return Err("no token in it, and it is changed".into());
        }
        match fate {
            Fate::Clean if is_changed => Err("clean, and changed".into()),
            Fate::Scrubbed if !is_changed => Err("scrubbed, and as before".into()),
            Fate::Gone => Err("gone, and it is there".into()),
            Fate::Left(reason) if reason.is_empty() => {
                Err("reported as left without a reason".into())
            }
            Fate::Left(reason) if !self.may_be_left() => {
                Err(format!("left ({reason}), without a permitted reason"))
            }
            _ => Ok(()),
        }
    }

    /// Returns whether the file contains a form that may not be writable in place.
    pub(crate) fn may_be_left(&self) -> bool {
        // In indented quoted-printable, the end of a token cannot be found by its shape.
        if self.sought.by_shape && indents_quoted(&self.file, false) {
            return true;
        }
        // Quoted-printable is for text: text with an archive in it is not changed.
        if quotes_archive(&self.file) {
            return true;
        }
        let inside = |parts: &[Part]| parts.iter().any(excuses);
        match self.file.parts.as_slice() {
            [part] if self.file.is_archive() && is_gzip(&part.form) => inside(&part.inner.parts),
            parts => inside(parts),
        }
    }

    /// Returns the names of the forms that contain the token, each once.
    pub(crate) fn forms(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        forms(&self.file, &mut names);
        if self.file.is_archive() {
            names.push("a complete archive");
        }
        if layers_of(&self.file) >= LAYERS {
            names.push("three layers");
        }
        if !self.file.has_token() {
            names = vec!["no token"];
        }
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Returns whether quoted-printable is anywhere in an indented block.
fn indents_quoted(node: &Node, is_indented: bool) -> bool {
    node.parts.iter().any(|part| {
        let is_quoted = matches!(part.form, Form::Quoted { .. });
        let is_indented = is_indented || matches!(part.form, Form::Indent(_));
        (is_quoted && is_indented) || indents_quoted(&part.inner, is_indented)
    })
}

/// Returns whether the bytes of an archive are anywhere in quoted-printable.
fn quotes_archive(node: &Node) -> bool {
    node.parts.iter().any(|part| {
        let shows = |part: &Part| part.form.is_archive();
        let is_quoted = matches!(part.form, Form::Quoted { .. });
        (is_quoted && part.inner.parts.iter().any(shows)) || quotes_archive(&part.inner)
    })
}

fn is_gzip(form: &Form) -> bool {
    matches!(form, Form::Packed(packer) if packer.is_gzip())
}

/// Returns whether there is an archive other than gzip, which the scrubber need not be able to read.
fn excuses(part: &Part) -> bool {
    let is_unreadable = part.form.is_archive() && !is_gzip(&part.form);
    let is_stuck = part.inner.has_token() && part.form.may_be_left();
    is_unreadable || is_stuck || part.inner.parts.iter().any(excuses)
}

fn forms(node: &Node, names: &mut Vec<&'static str>) {
    let mut rest = node.mask.clone();
    for part in node.parts.iter().filter(|part| part.inner.has_token()) {
        names.push(part.form.name());
        forms(&part.inner, names);
        rest[part.range.clone()].fill(0);
    }
    if rest.iter().any(|mark| *mark != 0) {
        names.push("plain");
    }
}

fn utf16(documents: &mut Documents<'_>) -> Node {
    let big = documents.source.one_in(2);
    let mut node = Node::default();
    if documents.source.one_in(2) {
        node.push([[0xff, 0xfe], [0xfe, 0xff]][usize::from(big)]);
    }
    let document = documents.document(LAYERS - 1);
    let document = if document.is_text() {
        document
    } else {
        leaf::leaf(
            documents.source,
            documents.sought,
            documents.with_token,
            false,
        )
    };
    node.enclose(Form::Utf16 { big }, document);
    node
}

/// Returns a log with a value near the possible end of a reader's chunk.
fn near_a_boundary(documents: &mut Documents<'_>, large: bool) -> Node {
    const SIZES: [usize; 7] = [
        4 << 10,
        8 << 10,
        64 << 10,
        128 << 10,
        1 << 20,
        2 << 20,
        4 << 20,
    ];
    let sizes = match documents.source.below(8) {
        7 if large => &SIZES[4..],
        6 if large => &SIZES[2..4],
        _ => &SIZES[..2],
    };
    let boundary = documents.source.pick(sizes);
    let value = documents.document(LAYERS);
    let reach = value.bytes.len().min(boundary / 2);
    let back = documents.source.below(reach + 16);
    let filler = documents
        .source
        .pick(&[Filler::Words, Filler::Digits, Filler::Binary]);
    let mut bulk = documents.source.bulk();
    let mut node = Node::of(leaf::fill(
        &mut bulk,
        filler,
        boundary - back.min(boundary) + 8,
    ));
    node.push("\n");
    node.append(value);
    node.push("\n");
    let behind = documents.source.pick(&[0, 100, 5000]);
    node.push(leaf::fill(&mut bulk, filler, behind));
    node
}
