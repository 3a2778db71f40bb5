//! What `dunlin config print` and `dunlin config check` show.

use super::layers::Loaded;
use super::sections::{Config, SECTIONS, fields};

const LINE_LEN_MAX: usize = 100;

/// A file with every key at its default, each with what it means and the variable that sets it.
#[must_use]
pub fn print_defaults() -> String {
    let config = Config::default();
    let mut text =
        String::from("# Every key with its default. Flags win over variables, variables over this file.\n");
    for section in SECTIONS {
        text.push('\n');
        push_comment(&mut text, &section.doc.concat());
        text.push_str(&format!("[{}]\n", section.name));
        for field in section.fields {
            text.push('\n');
            push_comment(&mut text, &field.doc.concat());
            push_comment(&mut text, &format!(" {}: {}", field.variable(), field.wants));
            text.push_str(&format!("{} = {}\n", field.name(), (field.show)(&config)));
        }
    }
    text
}

/// Every key with its value and where that came from, one a line.
#[must_use]
pub fn print_sources(loaded: &Loaded) -> String {
    let lines: Vec<(String, String)> = fields()
        .map(|field| {
            let value = format!("{} = {}", field.key, (field.show)(&loaded.config));
            (value, loaded.place(field.key).to_string())
        })
        .collect();
    let width = lines.iter().map(|(value, _)| value.chars().count()).max().unwrap_or(0);
    lines.iter().map(|(value, place)| format!("{value:width$}  {place}\n")).collect()
}

/// Words behind `#`, broken at spaces. A documentation line brings its own leading space.
fn push_comment(text: &mut String, words: &str) {
    let mut len = 0;
    for word in words.split_whitespace() {
        if len == 0 || len + 1 + word.chars().count() > LINE_LEN_MAX {
            if len > 0 {
                text.push('\n');
            }
            text.push('#');
            len = 1;
        }
        text.push(' ');
        text.push_str(word);
        len += 1 + word.chars().count();
    }
    text.push('\n');
}
