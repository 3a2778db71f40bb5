//! The house rules that clippy cannot state; `cargo tidy` runs them.
//!
//! In:    the repository's own files, Cargo.lock and `cargo metadata`.
//! Out:   every finding as `path:line: what; remedy`, or nothing.
//! Holds: each rule is a pure function over text and has a test with a bad example beside it.

#[path = "tidy/mod.rs"]
mod rules;

use rules::source::{Source, repository};
use rules::{
    Finding, bans, crates, cycles, folders, headers, manifests, names, placeholders, readme, tags, verbs,
};

fn assert_tidy(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{} finding(s):\n{}\n", lines.len(), lines.join("\n"));
}

fn each(rule: fn(&Source) -> Vec<Finding>) -> Vec<Finding> {
    Source::load_all(&repository()).iter().flat_map(rule).collect()
}

#[test]
fn no_name_is_used_where_it_is_forbidden() {
    assert_tidy(&each(bans::check));
}

#[test]
fn unsafe_code_stays_in_its_places() {
    assert_tidy(&bans::check_unsafe(&Source::load_all(&repository())));
}

#[test]
fn no_file_module_or_type_has_an_empty_name() {
    assert_tidy(&each(names::check));
}

#[test]
fn no_file_is_too_long() {
    assert_tidy(&each(folders::check_length));
}

#[test]
fn nothing_is_left_unfinished() {
    assert_tidy(&each(placeholders::check));
}

#[test]
fn nothing_is_left_lying_about() {
    assert_tidy(&placeholders::check_files(&repository()));
}

#[test]
fn every_file_says_first_what_it_is() {
    assert_tidy(&each(headers::check));
}

#[test]
fn functions_and_bounds_are_named_after_what_they_do() {
    assert_tidy(&each(verbs::check));
}

#[test]
fn the_lints_of_the_style_are_on_everywhere() {
    assert_tidy(&manifests::check_files(&repository()));
}

#[test]
fn no_cycle_joins_the_modules_of_a_crate() {
    assert_tidy(&cycles::check(&Source::load_all(&repository())));
}

#[test]
fn every_specification_tag_stands_on_code_and_on_a_test() {
    assert_tidy(&tags::check(&Source::load_all(&repository())));
}

#[test]
fn the_readme_names_only_what_exists() {
    assert_tidy(&readme::check_file(&repository()));
}

#[test]
fn the_root_folder_is_clean() {
    assert_tidy(&folders::check_root(&repository()));
}

#[test]
fn the_clippy_files_agree() {
    assert_tidy(&folders::check_clippy(&repository()));
}

#[test]
fn the_lock_file_is_sound() {
    assert_tidy(&crates::check_lock(&repository()));
}

#[test]
fn every_licence_is_on_the_list_and_the_build_stays_small() {
    assert_tidy(&crates::check_metadata(&repository()));
}
