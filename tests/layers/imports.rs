//! The imports between the files of a crate, read from their text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Path of a file's module, from the root of the crate: empty for `lib.rs`.
type Module = Vec<String>;

/// The files of one crate.
pub(crate) struct Crate {
    /// Text of each file, without comments, string literals and tests.
    files: BTreeMap<Module, String>,
}

impl Crate {
    /// Reads the files below `source`.
    pub(crate) fn read(source: &Path) -> Self {
        let mut files = BTreeMap::new();
        read_folder(source, &[], &mut files);
        Self { files }
    }

    /// Returns each file's name and text.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (String, &str)> {
        let files = self.files.iter();
        files.map(|(module, text)| (name(module), text.as_str()))
    }

    /// Returns the circles of imports: of each, its arrows.
    pub(crate) fn circles(&self) -> Vec<Vec<String>> {
        let arrows: BTreeMap<&Module, BTreeSet<&Module>> = self
            .files
            .iter()
            .map(|(module, text)| (module, self.imported_by(module, text)))
            .collect();
        let reach: BTreeMap<&Module, BTreeSet<&Module>> = arrows
            .keys()
            .map(|module| (*module, reached(module, &arrows)))
            .collect();
        let mut seen = BTreeSet::new();
        let mut circles = Vec::new();
        for (module, reached) in &reach {
            if !reached.contains(module) || seen.contains(module) {
                continue;
            }
            let circle: BTreeSet<&Module> = reached
                .iter()
                .filter(|other| reach[**other].contains(module))
                .copied()
                .collect();
            let inner = circle.iter().flat_map(|from| {
                let targets = arrows[*from].intersection(&circle);
                targets.map(|to| format!("{} -> {}", name(from), name(to)))
            });
            circles.push(inner.collect());
            seen.extend(circle);
        }
        circles
    }

    /// Returns the files that `module` imports from, its own parents and children aside.
    fn imported_by(&self, module: &Module, text: &str) -> BTreeSet<&Module> {
        let mut found = BTreeSet::new();
        for path in paths(text) {
            let Some(target) = self.target(module, &path) else {
                continue;
            };
            let is_own = module.starts_with(target) || target.starts_with(module);
            if !is_own {
                found.insert(target);
            }
        }
        found
    }

    /// Returns the deepest file on a path.
    fn target(&self, module: &Module, path: &[String]) -> Option<&Module> {
        let mut base = module.clone();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => {
                base.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            child => {
                let of_child = [base.as_slice(), &[child.to_owned()]].concat();
                self.files.get(&of_child)?;
            }
        }
        let whole = [base.as_slice(), rest].concat();
        (0..=whole.len())
            .rev()
            .find_map(|length| self.files.get_key_value(&whole[..length]))
            .map(|(module, _)| module)
    }
}

fn name(module: &Module) -> String {
    if module.is_empty() {
        "lib".into()
    } else {
        module.join("/")
    }
}

fn reached<'a>(
    from: &'a Module,
    arrows: &BTreeMap<&'a Module, BTreeSet<&'a Module>>,
) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(module) = next.pop() {
        for target in &arrows[module] {
            if reached.insert(*target) {
                next.push(target);
            }
        }
    }
    reached
}

fn read_folder(folder: &Path, module: &[String], files: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            read_folder(&path, &[module, &[stem]].concat(), files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = without_tests(&code(&fs::read_to_string(&path).unwrap()));
            let is_tests = stem == "tests" || module.iter().any(|part| part == "tests");
            let own = match stem.as_str() {
                _ if is_tests => continue,
                "lib" | "mod" => module.to_vec(),
                _ => [module, &[stem]].concat(),
            };
            files.insert(own, text);
        }
    }
}

/// Returns the text without comments and without what stands in string literals.
fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let mut is_in_string = false;
    while let Some(character) = rest.next() {
        match character {
            '\\' if is_in_string => drop(rest.next()),
            '"' => is_in_string = !is_in_string,
            _ if is_in_string => {}
            // A quotation mark as a character.
            '\'' if rest.peek() == Some(&'"') => drop((rest.next(), rest.next())),
            '/' if rest.peek() == Some(&'/') => {
                for comment in rest.by_ref() {
                    if comment == '\n' {
                        code.push('\n');
                        break;
                    }
                }
            }
            _ => code.push(character),
        }
    }
    code
}

/// Returns the text up to the tests, which stand last in a file.
fn without_tests(code: &str) -> String {
    let end = code.find("#[cfg(test)]\nmod tests {");
    let end = end.or_else(|| code.find("#[cfg(test)]\npub(crate) mod tests {"));
    code[..end.unwrap_or(code.len())].to_owned()
}

/// Returns the paths that the text imports or names from `crate`, `self` or `super`.
fn paths(text: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for (start, _) in text.match_indices("use ") {
        let is_word = text[..start]
            .chars()
            .next_back()
            .is_none_or(|before| before.is_whitespace() || before == ')');
        if let Some(end) = text[start..].find(';').filter(|_| is_word) {
            expand(&[], &text[start + 4..start + end], &mut paths);
        }
    }
    for root in ["crate::", "self::", "super::"] {
        for (start, _) in text.match_indices(root) {
            let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let end = text[start..].find(|c| !is_path(c));
            let path = &text[start..end.map_or(text.len(), |end| start + end)];
            paths.push(parts(path));
        }
    }
    paths
}

fn parts(path: &str) -> Vec<String> {
    let parts = path.split("::").map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Adds each path of a tree such as `a::{b, c::{self, D}}`.
fn expand(before: &[String], tree: &str, paths: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let Some((prefix, inner)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree);
        if !path.is_empty() {
            paths.push([before, &parts(path)].concat());
        }
        return;
    };
    let before = [before, &parts(prefix)].concat();
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let (mut depth, mut start) = (0_usize, 0);
    for (place, character) in inner.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                expand(&before, &inner[start..place], paths);
                start = place + 1;
            }
            _ => {}
        }
    }
    expand(&before, &inner[start..], paths);
}
