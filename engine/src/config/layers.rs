//! From the three places to one configuration, remembering where each value came from.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place};
use super::sections::{Config, Field, SECTIONS, fields};

/// What begins so is ours.
const PREFIX: &str = "DUNLIN_";
/// Names the file; read by the command line.
const FILE_VARIABLE: &str = "DUNLIN_CONFIG";
/// What a lock tells the command that runs under it, `dunlin` perhaps: the key,
pub const LOCK_KEY: &str = "DUNLIN_LOCK_KEY";
/// the group that the key is a name of,
pub const LOCK_GROUP: &str = "DUNLIN_LOCK_GROUP";
/// Set for a command that runs under a lock whose key is bytes: the two above are in hexadecimal digits.
pub const LOCK_HEX: &str = "DUNLIN_LOCK_HEX";
/// and the fencing token.
pub const FENCING_TOKEN: &str = "DUNLIN_FENCING_TOKEN";
/// Ours, and no settings.
const RESERVED: [&str; 5] = [FILE_VARIABLE, LOCK_KEY, LOCK_GROUP, LOCK_HEX, FENCING_TOKEN];
/// What begins so belongs to tests.
const TEST_PREFIX: &str = "DUNLIN_TEST_";

/// A value that was given on the command line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Flag<'a> {
    /// The flag as it was typed, for messages: `--listen`.
    pub name: &'a str,
    /// The key that it sets: `node.listen`.
    pub key: &'a str,
    /// The value as it was typed.
    pub value: String,
}

/// A configuration and where each of its values came from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    places: BTreeMap<&'static str, Place>,
}

impl Loaded {
    /// Where a key's value came from; what nobody set came from the defaults.
    #[must_use]
    pub fn place(&self, key: &str) -> &Place {
        self.places.get(key).unwrap_or(&Place::Default)
    }
}

pub(super) fn load(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
    flags: &[Flag<'_>],
) -> Result<Loaded, ConfigError> {
    let mut loaded = Loaded { config: Config::default(), places: BTreeMap::new() };
    if let Some(path) = file {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|why| ConfigError::Unreadable { path: path.to_owned(), why })?;
        TomlFile { path, text: &text }.read_into(&mut loaded)?;
    }
    for (name, value) in variables {
        if name.starts_with(PREFIX) && !RESERVED.contains(&&name[..]) && !name.starts_with(TEST_PREFIX) {
            set_variable(&mut loaded, name, &value)?;
        }
    }
    for flag in flags {
        let place = Place::Flag(flag.name.to_owned());
        let field = known(flag.key).ok_or_else(|| unknown(place.clone(), flag.key))?;
        set_text(&mut loaded, field, place, &flag.value)?;
    }
    let checked = loaded.config.check();
    checked.map_err(|error| ConfigError::OutOfRange { place: loaded.place(error.key).clone(), error })?;
    Ok(loaded)
}

fn set_variable(loaded: &mut Loaded, name: String, value: &str) -> Result<(), ConfigError> {
    match fields().find(|field| field.variable() == name) {
        Some(field) => set_text(loaded, field, Place::Variable(name), value),
        None => {
            let nearest = nearest(&name, |field| field.variable());
            Err(ConfigError::UnknownVariable { name, nearest })
        }
    }
}

fn set_text(loaded: &mut Loaded, field: &'static Field, place: Place, text: &str) -> Result<(), ConfigError> {
    if !(field.set_text)(&mut loaded.config, text) {
        let value = super::setting::quoted(text);
        return Err(ConfigError::BadValue { place, key: field.key, value, wants: field.wants });
    }
    loaded.places.insert(field.key, place);
    Ok(())
}

fn known(key: &str) -> Option<&'static Field> {
    fields().find(|field| field.key == key)
}

fn unknown(place: Place, key: &str) -> ConfigError {
    ConfigError::UnknownKey {
        place,
        key: key.to_owned(),
        nearest: nearest(key, |field| field.key.to_owned()),
    }
}

/// The file while it is read.
struct TomlFile<'a> {
    path: &'a Path,
    text: &'a str,
}

impl TomlFile<'_> {
    fn read_into(&self, loaded: &mut Loaded) -> Result<(), ConfigError> {
        let root = DeTable::parse(self.text).map_err(|error| {
            let place = self.place(&error.span().unwrap_or_default());
            // The parser's own text may have several lines; its first one says it.
            let why = error.message().lines().next().unwrap_or_default().to_owned();
            ConfigError::Syntax { place, why }
        })?;
        for (section, content) in root.get_ref() {
            let keys = content.get_ref().as_table();
            let keys = keys.ok_or_else(|| unknown(self.place(&section.span()), section.get_ref()))?;
            if keys.is_empty() && !SECTIONS.iter().any(|known| known.name == section.get_ref()) {
                return Err(unknown(self.place(&section.span()), section.get_ref()));
            }
            for (key, value) in keys {
                let full = format!("{}.{}", section.get_ref(), key.get_ref());
                let field = known(&full).ok_or_else(|| unknown(self.place(&key.span()), &full))?;
                self.set(loaded, field, value)?;
            }
        }
        Ok(())
    }

    fn set(
        &self,
        loaded: &mut Loaded,
        field: &'static Field,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        let place = self.place(&value.span());
        if !(field.set_toml)(&mut loaded.config, value.get_ref()) {
            let as_written = self.text.get(value.span()).unwrap_or_default();
            let value = as_written.lines().next().unwrap_or_default().to_owned();
            return Err(ConfigError::BadValue { place, key: field.key, value, wants: field.wants });
        }
        loaded.places.insert(field.key, place);
        Ok(())
    }

    /// Line and column, from 1, of a span's start.
    fn place(&self, span: &Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Place::File(self.path.to_owned(), line, column)
    }
}

/// The most similar name; one that only stands in the wrong section comes before all others.
fn nearest(wrong: &str, name_of: impl Fn(&Field) -> String) -> String {
    let bare = wrong.rsplit('.').next().unwrap_or(wrong);
    let elsewhere = fields().find(|field| field.name() == bare);
    let by_distance = || fields().min_by_key(|field| distance(wrong, &name_of(field)));
    elsewhere.or_else(by_distance).map(name_of).expect("there are keys")
}

/// How many letters have to be put in, taken out or exchanged.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (at, candidate) in other.iter().enumerate() {
            let exchanged = diagonal + usize::from(letter != *candidate);
            diagonal = row[at + 1];
            row[at + 1] = exchanged.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_letters() {
        assert_eq!(distance("backend", "backend"), 0);
        assert_eq!(distance("backnd", "backend"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
