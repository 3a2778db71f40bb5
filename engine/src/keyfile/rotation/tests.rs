//! A key that changes on disk, stopped at every step.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::keyfile::tests::{Scratch, create};

const NOW: WallMillis = WallMillis(1_760_000_000_000);
const HOUR: u64 = 3_600_000;

fn seed(byte: u8) -> Seed {
    Zeroizing::new([byte; 32])
}

fn id(byte: u8) -> dunlin_codec::ids::NodeId {
    Identity::from_seed([byte; 32]).id()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// KEY is of seed 2, KEY.old of seed 1, KEY.next of seed 3.
fn assert_rotated(files: &KeyFiles) {
    let identity = files.open().unwrap();
    assert!(identity.id() == id(2));
    let past = files.past(&identity).unwrap();
    let (signed, until) = past.told().unwrap();
    assert_eq!((signed.change.current, signed.change.index), (id(1), 1));
    assert_eq!(until, WallMillis(NOW.0 + 24 * HOUR));
    assert!(signed.verify().is_ok());
    assert!(files.previous(&past, NOW).unwrap().unwrap().id() == id(1));
    assert!(KeyFiles::at(files.next_path()).open().unwrap().id() == id(3));
}

#[test]
fn the_next_key_becomes_the_key() {
    let scratch = Scratch::new();
    let files = scratch.files();
    create(&files);
    let signed = files.rotate(None, &seed(3), NOW).unwrap();
    assert_eq!((signed.change.new, signed.change.time_ms), (id(2), NOW.0));
    assert_rotated(&files);
    for path in [files.path(), &files.next_path(), &files.old_path(), &files.change_path()] {
        assert_eq!(mode(path), 0o600, "{}", path.display());
    }
    assert_eq!(scratch.names(), ["key", "key.change", "key.inception", "key.next", "key.old"]);
}

#[test]
fn an_hour_later_it_may_change_again() {
    let scratch = Scratch::new();
    let files = scratch.files();
    create(&files);
    files.rotate(None, &seed(3), NOW).unwrap();
    let soon = files.rotate(None, &seed(4), WallMillis(NOW.0 + HOUR - 1)).unwrap_err();
    assert!(matches!(soon, RotateError::TooSoon), "{soon}");
    assert_rotated(&files);
    let signed = files.rotate(None, &seed(4), WallMillis(NOW.0 + HOUR)).unwrap();
    assert_eq!((signed.change.current, signed.change.new, signed.change.index), (id(2), id(3), 2));
}

/// Wherever it stops, whoever opens the key next has the old one or the new one, with all that belongs to it.
/// spec: p2p/key-rotation
#[test]
fn a_rotation_that_stops_anywhere_is_done_whole_or_not_at_all() {
    for steps in 0..=STEPS {
        for is_torn in [false, true] {
            let scratch = Scratch::new();
            let files = scratch.files();
            create(&files);
            // Stopped while the first file was written: nothing happened.
            let part = scratch.0.join("key.rotation.part");
            std::fs::write(&part, b"half of it").unwrap();
            assert!(files.open().unwrap().id() == id(1));
            files.begin_rotation(None, &seed(3), NOW).unwrap();
            files.finish(&Folder::open(files.path()).unwrap(), steps).unwrap();
            if is_torn {
                // And in the middle of the next one.
                for name in ["key.old.part", "key.change.part", "key.part", "key.next.part"] {
                    std::fs::write(scratch.0.join(name), b"half of it").unwrap();
                }
            }
            assert_rotated(&files);
            let names = scratch.names();
            assert!(!names.iter().any(|name| name.contains("rotation")), "after {steps}: {names:?}");
        }
    }
}

#[test]
fn a_key_that_was_moved_away_or_exchanged_changes_nothing() {
    let scratch = Scratch::new();
    let files = scratch.files();
    create(&files);
    let elsewhere = scratch.0.join("safe");
    std::fs::rename(files.next_path(), &elsewhere).unwrap();
    let error = files.rotate(None, &seed(3), NOW).unwrap_err();
    assert!(matches!(error, RotateError::NextElsewhere(_)), "{error}");
    let other = KeyFiles::at(scratch.0.join("other"));
    other.create(seed(7), seed(8)).unwrap();
    let error = files.rotate(Some(other.path()), &seed(3), NOW).unwrap_err();
    assert!(matches!(error, RotateError::NotAnnounced(_)), "{error}");
    assert!(files.open().unwrap().id() == id(1));
    files.rotate(Some(&elsewhere), &seed(3), NOW).unwrap();
    assert_rotated(&files);
}

/// Keys from before there were announcements: they start as they are, and can be changed once they have announced a next key.
#[test]
fn an_old_key_announces_its_next_one_first() {
    let scratch = Scratch::new();
    let files = scratch.files();
    let identity = create(&files);
    for path in [files.next_path(), files.inception_path()] {
        std::fs::remove_file(path).unwrap();
    }
    assert!(matches!(files.past(&identity).unwrap(), Past::Unknown));
    let error = files.rotate(None, &seed(2), NOW).unwrap_err();
    assert!(matches!(error, RotateError::JustAnnounced(_)), "{error}");
    assert!(matches!(files.past(&identity).unwrap(), Past::First { .. }));
    files.rotate(None, &seed(3), NOW).unwrap();
    assert_rotated(&files);

    let scratch = Scratch::new();
    let files = scratch.files();
    let identity = create(&files);
    std::fs::remove_file(files.inception_path()).unwrap();
    assert!(matches!(files.past(&identity).unwrap(), Past::First { .. }), "a next key is there");
}

#[test]
fn the_old_key_goes_after_its_day() {
    let scratch = Scratch::new();
    let files = scratch.files();
    create(&files);
    files.rotate(None, &seed(3), NOW).unwrap();
    let past = files.past(&files.open().unwrap()).unwrap();
    assert!(files.previous(&past, WallMillis(NOW.0 + 24 * HOUR - 1)).unwrap().is_some());
    assert!(files.previous(&past, WallMillis(NOW.0 + 24 * HOUR)).unwrap().is_none());
    assert!(!scratch.names().contains(&"key.old".to_owned()));
}

#[test]
fn another_keys_files_are_refused() {
    let scratch = Scratch::new();
    let files = scratch.files();
    create(&files);
    let other = Identity::from_seed([9; 32]);
    assert!(files.past(&other).is_err());
    files.rotate(None, &seed(3), NOW).unwrap();
    assert!(files.past(&other).is_err());
}
