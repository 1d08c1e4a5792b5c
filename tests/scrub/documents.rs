//! Nested documents of the kinds that cloud-init stores.

use crate::forms::{Base64, Form};
use crate::leaf::{self, Sought};
use crate::node::Node;
use crate::packers::Packer;
use crate::source::Source;

/// Draws documents with one token.
pub(crate) struct Documents<'a> {
    pub(crate) source: &'a mut Source,
    pub(crate) sought: &'a Sought,
    pub(crate) with_token: bool,
    /// True if each value is one document, instead of text with documents in it.
    pub(crate) is_pure: bool,
}

impl Documents<'_> {
    /// Draws a document that contains others down to this depth of layers.
    pub(crate) fn document(&mut self, layers: usize) -> Node {
        match self.source.below(10) {
            0 => self.leaf(true),
            1 if !self.is_pure => self.log(layers),
            1..5 => self.cloud_config(layers),
            5 | 6 => self.message(layers),
            7 | 8 => self.json(layers),
            _ => self.pickle(layers),
        }
    }

    fn leaf(&mut self, may_be_binary: bool) -> Node {
        leaf::leaf(self.source, self.sought, self.with_token, may_be_binary)
    }

    /// Draws a value: a leaf, or a document in some layers.
    fn value(&mut self, layers: usize) -> Node {
        if layers == 0 || self.source.one_in(3) {
            return self.leaf(true);
        }
        match self.source.below(8) {
            0..3 => self.document(layers),
            3 | 4 => {
                let layout = self.any_base64();
                self.value(layers - 1).in_form(layout)
            }
            5 => {
                let big = self.source.one_in(2);
                self.text(layers - 1).in_form(Form::Utf16 { big })
            }
            6 => self.packed(layers),
            _ => self.quoted(layers),
        }
    }

    /// Draws a value that is text.
    fn text(&mut self, layers: usize) -> Node {
        let value = self.value(layers);
        if value.is_text() {
            return value;
        }
        if layers > 0 && layers_of(&value) < layers {
            return value.in_form(self.any_base64());
        }
        self.leaf(false)
    }

    /// Draws an archive.
    pub(crate) fn packed(&mut self, layers: usize) -> Node {
        let packer = if self.source.one_in(5) {
            Packer::other(self.source)
        } else {
            Packer::gzip(self.source)
        };
        self.value(layers - 1).in_form(Form::Packed(packer))
    }

    /// Draws quoted-printable.
    pub(crate) fn quoted(&mut self, layers: usize) -> Node {
        let inner = self.value(layers - 1);
        let binary = !inner.is_text() || inner.bytes.contains(&b'\r');
        let form = Form::Quoted {
            eol: self.source.pick(&["\n", "\r\n"]),
            width: self.source.pick(&[76, 76, 40, 20]),
            binary,
            odd: self.source.one_in(12),
        };
        inner.in_form(form)
    }

    /// Draws base64 in a layout that is valid on its own.
    pub(crate) fn any_base64(&mut self) -> Form {
        let between = match self.source.below(5) {
            0 => "\n".to_owned(),
            1 => "\r\n".to_owned(),
            2 => format!("\n{}", " ".repeat(self.source.between(1, 12))),
            3 => "\n\t".to_owned(),
            // A line break in single quotes, as written by PyYAML.
            _ => "\n\n  ".to_owned(),
        };
        let width = self.source.pick(&[0, 0, 76, 76, 64, 60, 70, 72, 77, 19, 4]);
        self.base64(width, between)
    }

    fn base64(&mut self, width: usize, between: String) -> Form {
        Form::Base64(Base64 {
            url: self.source.one_in(6),
            width,
            between,
            padded: !self.source.one_in(3),
        })
    }

    /// Draws lines of a log with a value between them.
    fn log(&mut self, layers: usize) -> Node {
        let mut node = self.leaf(false);
        node.push("\n");
        let value = self.value(layers);
        node.append(value);
        node.push("\n2026-01-01 00:00:00,000 - handlers.py[DEBUG]: finish: modules-final\n");
        node
    }

    fn cloud_config(&mut self, layers: usize) -> Node {
        let mut node = Node::of("#cloud-config\nwrite_files:\n");
        for file in 0..self.source.between(1, 2) {
            node.push(format!("- path: /run/file-{file}\n"));
            self.content(layers, &mut node);
            node.push("  permissions: '0600'\n");
        }
        if self.source.one_in(2) && layers > 0 {
            // Unpadded base64, and a key after the line break.
            let layout = Form::Base64(Base64 {
                url: self.source.one_in(6),
                width: 0,
                between: String::new(),
                padded: false,
            });
            let value = self.value(layers - 1);
            node.push("seed_random_data: ");
            node.enclose(layout, value);
            node.push("\nhostname: web\n");
        }
        if self.source.one_in(2) {
            node.push("runcmd:\n- [sh, -c, \"");
            self.json_string(layers, &mut node);
            node.push("\"]\n- echo enrl_...\n");
        }
        node
    }

    /// Draws a `content:` of `write_files`, in one of the encodings of cloud-init and YAML.
    fn content(&mut self, layers: usize, node: &mut Node) {
        let indent = self.source.pick(&[4, 3, 6, 8]);
        let spaces = " ".repeat(indent);
        match self.source.below(if layers > 0 { 6 } else { 2 }) {
            0 => {
                let text = self.text(layers);
                // Leading space would count as indentation.
                let starts_blank = text.bytes.first().is_none_or(u8::is_ascii_whitespace);
                let width = if starts_blank {
                    (indent - 2).to_string()
                } else {
                    String::new()
                };
                node.push(format!("  content: |{width}\n"));
                if !matches!(text.bytes.first(), Some(b'\n' | b'\r')) {
                    node.push(&spaces);
                }
                node.enclose(Form::Indent(indent), text);
                node.push("\n");
            }
            1 => {
                node.push("  content: \"");
                self.json_string(layers, node);
                node.push("\"\n");
            }
            2 => {
                let value = self.value(layers - 1);
                node.push(format!("  content: !!binary |\n{spaces}"));
                let layout = Form::Base64(Base64 {
                    url: false,
                    width: self.source.pick(&[76, 72, 64, 0]),
                    between: format!("\n{spaces}"),
                    padded: true,
                });
                node.enclose(layout, value);
                node.push("\n");
            }
            3 => {
                let value = self.value(layers - 1);
                node.push("  encoding: b64\n  content: ");
                let layout = self.base64(0, String::new());
                node.enclose(layout, value);
                node.push("\n");
            }
            4 if layers > 1 => {
                let archive = self.packed(layers - 1);
                node.push("  encoding: gz+b64\n  content: |\n");
                node.push(&spaces);
                let layout = self.base64(76, format!("\n{spaces}"));
                node.enclose(layout, archive);
                node.push("\n");
            }
            _ => {
                let value = self.value(layers - 1);
                node.push("  content: \"");
                // A line break in double quotes, as folded by PyYAML.
                let layout = self.base64(76, "\\n\\\n    ".to_owned());
                node.enclose(layout, value);
                node.push("\"\n");
            }
        }
    }

    /// Draws the inside of a JSON string.
    fn json_string(&mut self, layers: usize, node: &mut Node) {
        if layers == 0 {
            node.push("nothing");
            return;
        }
        let text = self.text(layers - 1);
        let form = Form::Json {
            ascii: !self.source.one_in(4),
            slash: self.source.one_in(16),
            odd: self.source.one_in(16),
        };
        node.enclose(form, text);
    }

    fn json(&mut self, layers: usize) -> Node {
        let (line, space) = self.source.pick(&[("\n ", " "), ("", "")]);
        let mut node = Node::of("{");
        for key in 0..self.source.between(1, 3) {
            let comma = if key > 0 { "," } else { "" };
            node.push(format!("{comma}{line}\"key{key}\":{space}\""));
            match self.source.below(if layers > 0 { 3 } else { 1 }) {
                0 => self.json_string(layers, &mut node),
                1 => {
                    let value = self.value(layers - 1);
                    node.push("ci-b64:");
                    let layout = self.base64(0, String::new());
                    node.enclose(layout, value);
                }
                // JSON in JSON.
                _ => {
                    let document = self.json(layers - 1);
                    let form = Form::Json {
                        ascii: true,
                        slash: false,
                        odd: false,
                    };
                    node.enclose(form, document);
                }
            }
            node.push("\"");
        }
        node.push(format!("{}}}", line.trim_end_matches(' ')));
        node
    }

    /// Draws a MIME message with some parts.
    fn message(&mut self, layers: usize) -> Node {
        let eol = self.source.pick(&["\n", "\r\n"]);
        let number = self.source.bulk().u64(..);
        self.multipart(layers, eol, &format!("==============={number:019}=="), true)
    }

    fn multipart(&mut self, layers: usize, eol: &str, boundary: &str, is_outer: bool) -> Node {
        let mut node = Node::of(format!(
            "Content-Type: multipart/mixed; boundary=\"{boundary}\"{eol}MIME-Version: 1.0{eol}{eol}"
        ));
        for part in 0..self.source.between(1, 3) {
            node.push(format!("--{boundary}{eol}"));
            if is_outer && self.source.one_in(6) {
                let inner = format!("{boundary}-{part}");
                node.append(self.multipart(layers, eol, &inner, false));
                node.push(eol);
                continue;
            }
            node.push(format!(
                "Content-Type: text/cloud-config; charset=\"utf-8\"{eol}"
            ));
            let encoding = |name: &str| format!("Content-Transfer-Encoding: {name}{eol}{eol}");
            match self.source.below(if layers > 0 { 3 } else { 1 }) {
                0 => {
                    node.push(encoding("8bit"));
                    let text = self.text(layers);
                    node.append(text);
                }
                1 => {
                    node.push(encoding("base64"));
                    let value = self.value(layers - 1);
                    let layout = Form::Base64(Base64 {
                        url: false,
                        width: 76,
                        between: eol.to_owned(),
                        padded: true,
                    });
                    node.enclose(layout, value);
                }
                _ => {
                    node.push(encoding("quoted-printable"));
                    let part = self.quoted(layers);
                    node.append(part);
                }
            }
            node.push(eol);
        }
        node.push(format!("--{boundary}--{eol}"));
        node
    }

    /// Draws a dictionary of `pickle`, in protocol 2 or 4.
    fn pickle(&mut self, layers: usize) -> Node {
        let protocol = self.source.pick(&[4, 2]);
        let mut node = Node::of([0x80, protocol, b'}', b'(']);
        for key in 0..self.source.between(1, 3) {
            let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("small").to_le_bytes();
            let name = format!("userdata{key}");
            node.push("X");
            node.push(length(name.as_bytes()));
            node.push(&name);
            let value = self.value(layers);
            let opcode = match (protocol, value.bytes.len()) {
                _ if std::str::from_utf8(&value.bytes).is_ok() => "X",
                (4, _) => "B",
                // BINSTRING, from Python 2.
                _ => "T",
            };
            node.push(opcode);
            node.push(length(&value.bytes));
            node.append(value);
        }
        node.push("u.");
        node
    }
}

/// Returns the depth of nested layers in a document.
pub(crate) fn layers_of(node: &Node) -> usize {
    let below =
        |part: &crate::node::Part| layers_of(&part.inner) + usize::from(part.form.is_layer());
    node.parts.iter().map(below).max().unwrap_or(0)
}
