//! Diffs against the simple way of doing the same, and the largest ones.

use proptest::prelude::*;

use super::*;

/// The simple way: a tree of owned values.
#[derive(Clone, Debug, PartialEq)]
enum Model {
    Number(u64),
    Str(String),
    Bin(Vec<u8>),
    List(Vec<u64>),
    Map(BTreeMap<String, Model>),
}

/// What an operation says, owned.
#[derive(Clone, Debug)]
enum Step {
    Set(Vec<String>, Model),
    Remove(Vec<String>),
    Splice(Vec<String>, u64, u64, Vec<u8>),
}

fn bytes_of(write: impl FnOnce(&mut Writer<'_>) -> Result<(), NoRoom>) -> Vec<u8> {
    let mut room = vec![0; 1 << 20];
    let mut out = Writer::new(&mut room);
    write(&mut out).unwrap();
    out.written().to_vec()
}

impl Model {
    fn write(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        match self {
            Self::Number(value) => write::unsigned(out, *value),
            Self::Str(text) => write::str(out, text),
            Self::Bin(bytes) => write::bin(out, bytes),
            Self::List(items) => {
                write::array(out, items.len() as u32)?;
                items.iter().try_for_each(|item| write::unsigned(out, *item))
            }
            Self::Map(entries) => {
                write::map(out, entries.len() as u32)?;
                // Against the order that a diff makes, so that a test sees it.
                entries.iter().rev().try_for_each(|(key, value)| {
                    write::str(out, key)?;
                    value.write(out)
                })
            }
        }
    }

    fn read(value: Encoded<'_>) -> Self {
        match value.value() {
            Value::Unsigned(value) => Self::Number(value),
            Value::Str(text) => Self::Str(text.into()),
            Value::Bin(bytes) => Self::Bin(bytes.into()),
            Value::Array(items) => Self::List(items.iter().filter_map(|item| item.as_unsigned()).collect()),
            Value::Map(entries) => {
                Self::Map(entries.iter().map(|(key, value)| (key.into(), Self::read(value))).collect())
            }
            other => panic!("no model writes {other:?}"),
        }
    }

    fn at(&mut self, path: &[String]) -> Option<&mut Self> {
        path.iter().try_fold(self, |model, key| match model {
            Self::Map(entries) => entries.get_mut(key),
            _ => None,
        })
    }

    fn apply(&mut self, step: &Step) -> Option<()> {
        match step {
            Step::Set(path, value) => match path.split_last() {
                None => *self = value.clone(),
                Some((last, path)) => {
                    let Self::Map(entries) = self.at(path)? else { return None };
                    entries.insert(last.clone(), value.clone());
                }
            },
            Step::Remove(path) => {
                let (last, path) = path.split_last()?;
                let Self::Map(entries) = self.at(path)? else { return None };
                entries.remove(last)?;
            }
            Step::Splice(path, offset, removed, inserted) => {
                let (offset, removed) = (usize::try_from(*offset).ok()?, usize::try_from(*removed).ok()?);
                let text = self.at(path)?;
                let mut bytes = match text {
                    Self::Str(text) => text.as_bytes().to_vec(),
                    Self::Bin(bytes) => bytes.clone(),
                    _ => return None,
                };
                if offset.checked_add(removed)? > bytes.len() {
                    return None;
                }
                bytes.splice(offset..offset + removed, inserted.iter().copied());
                // Only ASCII here: a str stays one after every step.
                *text = match text {
                    Self::Str(_) => Self::Str(String::from_utf8(bytes).unwrap()),
                    _ => Self::Bin(bytes),
                };
            }
        }
        Some(())
    }
}

impl Step {
    fn path_bytes(path: &[String]) -> Vec<u8> {
        bytes_of(|out| {
            write::array(out, path.len() as u32)?;
            path.iter().try_for_each(|key| write::str(out, key))
        })
    }

    /// Writes it as the wire has it.
    fn write(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        let mut head = |count, kind, path: &[String]| {
            write::array(out, count)?;
            write::unsigned(out, kind)?;
            out.put(&Self::path_bytes(path))
        };
        match self {
            Self::Set(path, value) => head(3, 0, path).and_then(|()| value.write(out)),
            Self::Remove(path) => head(2, 1, path),
            Self::Splice(path, offset, removed, inserted) => {
                head(5, 2, path)?;
                write::unsigned(out, *offset)?;
                write::unsigned(out, *removed)?;
                write::bin(out, inserted)
            }
        }
    }
}

fn diff_bytes(result_len: usize, steps: &[Step]) -> Vec<u8> {
    bytes_of(|out| {
        write::array(out, 3)?;
        write::bin(out, &[0; 32])?;
        write::unsigned(out, result_len as u64)?;
        write::array(out, steps.len() as u32)?;
        steps.iter().try_for_each(|step| step.write(out))
    })
}

fn applied(base: &Model, result_len: usize, steps: &[Step], len_max: usize) -> Result<Vec<u8>, BadApply> {
    let base = bytes_of(|out| base.write(out));
    let diff = diff_bytes(result_len, steps);
    let diff = Diff::parse(Encoded::parse(&diff).unwrap()).unwrap();
    apply(Encoded::parse(&base).unwrap(), &diff, len_max)
}

/// What its maker makes of it, who does not know the length.
fn proposed(base: &Model, steps: &[Step], len_max: usize) -> Result<Vec<u8>, BadApply> {
    let base = bytes_of(|out| base.write(out));
    let diff = diff_bytes(0, steps);
    let diff = Diff::parse(Encoded::parse(&diff).unwrap()).unwrap();
    propose(Encoded::parse(&base).unwrap(), &diff, len_max)
}

/// The length that comes out: the one with which it works.
fn result_len(base: &Model, steps: &[Step]) -> Option<usize> {
    let mut model = base.clone();
    steps.iter().try_for_each(|step| model.apply(step))?;
    Some(bytes_of(|out| model.write(out)).len())
}

fn models() -> impl Strategy<Value = Model> {
    let leaf = prop_oneof![
        any::<u64>().prop_map(Model::Number),
        "[a-z]{0,40}".prop_map(Model::Str),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Model::Bin),
        prop::collection::vec(any::<u64>(), 0..20).prop_map(Model::List),
    ];
    leaf.prop_recursive(3, 40, 20, |inner| {
        prop::collection::btree_map("[a-e]{1,2}", inner, 0..20).prop_map(Model::Map)
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let path = || prop::collection::vec("[a-e]{1,2}", 0..4);
    let some_path = prop::collection::vec("[a-e]{1,2}", 1..4);
    let step = prop_oneof![
        3 => (path(), models()).prop_map(|(path, value)| Step::Set(path, value)),
        1 => some_path.prop_map(Step::Remove),
        3 => (path(), 0_u64..50, 0_u64..50, "[A-Z]{0,300}").prop_map(
            |(path, offset, removed, text)| Step::Splice(path, offset, removed, text.into_bytes())),
    ];
    prop::collection::vec(step, 0..12)
}

/// Every path into a model, so that steps often meet something.
fn paths(model: &Model, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    found.push(path.clone());
    if let Model::Map(entries) = model {
        for (key, value) in entries {
            path.push(key.clone());
            paths(value, path, found);
            path.pop();
        }
    }
}

/// Leads a step to a path that is there, or as far as one.
fn aim(step: &mut Step, model: &Model, place: prop::sample::Index) {
    let mut found = Vec::new();
    paths(model, &mut Vec::new(), &mut found);
    let aimed = found.swap_remove(place.index(found.len()));
    match step {
        Step::Splice(path, ..) => *path = aimed,
        Step::Remove(path) if !aimed.is_empty() => *path = aimed,
        Step::Set(path, _) if path.len() == 1 => *path = [&aimed[..], &path[..]].concat(),
        _ => {}
    }
}

proptest! {
    /// Every step at a path that leads somewhere half of the time.
    /// spec: p2p/diff
    #[test]
    fn it_does_what_the_simple_way_does(
        base in models(), steps in steps(), places in prop::collection::vec(any::<prop::sample::Index>(), 12), aimed: u16,
    ) {
        let mut steps = steps;
        let mut model = base.clone();
        for (at, step) in steps.iter_mut().enumerate() {
            if aimed >> at & 1 == 1 {
                aim(step, &model, places[at]);
            }
            let _ = model.clone().apply(step).map(|()| model.apply(step));
        }
        match result_len(&base, &steps) {
            Some(len) => {
                let result = applied(&base, len, &steps, 1 << 20);
                let result = result.unwrap();
                prop_assert_eq!(Model::read(Encoded::parse(&result).unwrap()), model);
                prop_assert_eq!(proposed(&base, &steps, len), Ok(result));
                prop_assert_eq!(proposed(&base, &steps, len - 1), Err(BadApply::TooLong));
                prop_assert_eq!(applied(&base, len + 1, &steps, 1 << 20), Err(BadApply::OtherLength));
                prop_assert_eq!(applied(&base, len, &steps, len - 1), Err(BadApply::TooLong));
            }
            None => {
                let refused = applied(&base, 9, &steps, 1 << 20);
                prop_assert!(
                    matches!(refused, Err(BadApply::NoSuchPath | BadApply::NotText | BadApply::OutOfRange)),
                    "{refused:?}"
                );
            }
        }
    }

    /// Steps that all hold, so that long chains of splices meet one text.
    /// spec: p2p/diff
    #[test]
    fn splices_add_up(
        text in "[a-z]{0,400}", is_str: bool,
        splices in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[A-Z]{0,60}"), 0..60),
    ) {
        let base = if is_str { Model::Str(text.clone()) } else { Model::Bin(text.clone().into_bytes()) };
        let (mut steps, mut len) = (Vec::new(), text.len());
        for (offset, removed, inserted) in splices {
            let offset = offset.index(len + 1);
            let removed = removed.index(len - offset + 1);
            len = len - removed + inserted.len();
            steps.push(Step::Splice(Vec::new(), offset as u64, removed as u64, inserted.into_bytes()));
        }
        let mut model = base.clone();
        steps.iter().try_for_each(|step| model.apply(step)).unwrap();
        let expected = bytes_of(|out| model.write(out));
        prop_assert_eq!(applied(&base, expected.len(), &steps, 1 << 20), Ok(expected));
    }
}

/// Heads grow and shrink with what they are for.
#[test]
fn heads_of_every_length_come_out_right() {
    for (is_str, len) in
        [(true, 0), (true, 31), (true, 32), (true, 255), (true, 256), (true, 65_535), (true, 65_536)]
            .into_iter()
            .chain([0, 255, 256, 65_535, 65_536].map(|len| (false, len)))
    {
        let text =
            |len: usize| if is_str { Model::Str("a".repeat(len)) } else { Model::Bin(vec![b'a'; len]) };
        let step = Step::Splice(Vec::new(), 1, 0, vec![b'a'; len]);
        let expected = bytes_of(|out| text(len + 1).write(out));
        assert_eq!(applied(&text(1), expected.len(), &[step], 1 << 20), Ok(expected), "{is_str} {len}");
        let step = Step::Splice(Vec::new(), 0, 1, Vec::new());
        let expected = bytes_of(|out| text(len).write(out));
        assert_eq!(applied(&text(len + 1), expected.len(), &[step], 1 << 20), Ok(expected), "{is_str} {len}");
    }
    let map =
        |count: usize| Model::Map((0..count).map(|at| (format!("{at:05}"), Model::Number(1))).collect());
    for count in [1, 15, 16, 17] {
        let step = Step::Remove(vec!["00000".into()]);
        let len = bytes_of(|out| map(count).write(out)).len();
        let head = if count == 16 { 2 } else { 0 };
        let result = applied(&map(count), len - 7 - head, &[step], 1 << 20).unwrap();
        assert_eq!(Encoded::parse(&result).unwrap().as_map().unwrap().count(), count - 1);
    }
}

/// spec: p2p/diff
#[test]
fn a_result_that_is_no_value_is_refused() {
    let base = Model::Str("aé".into());
    let cut = Step::Splice(Vec::new(), 2, 1, Vec::new());
    assert_eq!(applied(&base, 3, std::slice::from_ref(&cut), 99), Err(BadApply::NotUtf8), "half a letter");
    let whole = Step::Splice(Vec::new(), 1, 0, "x".into());
    assert_eq!(applied(&base, 5, &[whole], 99), Ok(vec![0xa4, b'a', b'x', 0xc3, 0xa9]));
    let back = Step::Splice(Vec::new(), 2, 0, vec![0xa9]);
    assert_eq!(
        applied(&base, 4, &[cut, back], 99),
        Ok(vec![0xa3, b'a', 0xc3, 0xa9]),
        "whole again in the end"
    );

    // Sixteen levels in the diff itself would be refused there; two of nine meet here.
    let nested = |depth: usize| {
        (0..depth).fold(Model::Number(1), |model, _| Model::Map([("a".to_owned(), model)].into()))
    };
    let step = Step::Set(vec!["a".into(); 9], nested(9));
    let len = result_len(&nested(9), std::slice::from_ref(&step)).unwrap();
    let too_deep = Err(BadApply::Result(MsgpackError::TooDeep));
    assert_eq!(applied(&nested(9), len, &[step], 999), too_deep);
    let step = Step::Set(vec!["a".into(); 9], nested(7));
    let len = result_len(&nested(9), std::slice::from_ref(&step)).unwrap();
    assert!(applied(&nested(9), len, &[step], 999).is_ok());
}

/// 256 splices into a text of 64 KiB, and 256 paths through a map of thousands: a diff's work does not multiply.
#[test]
fn the_largest_diff_is_applied() {
    let text = Model::Bin(vec![7; 60_000]);
    let steps: Vec<Step> = (0..256).map(|at| Step::Splice(Vec::new(), at * 200, 1, vec![8, 9])).collect();
    let len = result_len(&text, &steps).unwrap();
    let result = applied(&text, len, &steps, 64 << 10).unwrap();
    assert_eq!(result.iter().filter(|byte| **byte == 8).count(), 256);
    let map = Model::Map((0..8_000).map(|at| (format!("{at:04}"), Model::Number(1))).collect());
    let steps: Vec<Step> = (0..256).map(|at| Step::Remove(vec![format!("{:04}", at * 31)])).collect();
    let len = result_len(&map, &steps).unwrap();
    let result = applied(&map, len, &steps, 64 << 10).unwrap();
    assert_eq!(Encoded::parse(&result).unwrap().as_map().unwrap().count(), 8_000 - 256);
}
