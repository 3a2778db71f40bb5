//! What is printed: a row for each bug, a line for each check, and whether all of it is as it must be.

use crate::checks;
use crate::proof::Proof;

/// The code as it is, without a bug: it must pass, or the table means nothing.
pub(crate) fn print_control(control: &Proof) {
    println!("without a bug: {} of {} seeds break ({:.0?})", control.found.len(), control.ran, control.took);
    for words in &control.words {
        println!("  {}", cut(words));
    }
    println!("\n{:28} {:>6} {:>12}  found by", "bug", "seeds", "found in");
}

/// A bug's row, and under it what it is.
pub(crate) fn print_row(proof: &Proof) {
    let Some(mutant) = proof.mutant else { return };
    let until = proof.until_first.map_or("-".to_owned(), |seeds| seeds.to_string());
    let share = format!("{} of {}", proof.found.len(), proof.ran);
    let checks: Vec<String> =
        proof.checks().iter().map(|(check, count)| format!("{check} ({count})")).collect();
    let found_by = if checks.is_empty() { "NOT FOUND".to_owned() } else { checks.join(", ") };
    println!("{:28} {until:>6} {share:>12}  {found_by}", mutant.name());
    println!("    {}", mutant.sentence());
    if let Some(words) = proof.words.first() {
        println!("    {}", cut(words));
    }
}

/// Which check found which bug, and what is missing. Whether nothing is.
pub(crate) fn print_summary(control: &Proof, proofs: &[Proof], is_complete: bool) -> bool {
    let survivors: Vec<&str> =
        proofs.iter().filter(|p| p.found.is_empty()).filter_map(|p| Some(p.mutant?.name())).collect();
    println!("\n{:28} found", "check");
    let mut idle = Vec::new();
    for (check, what) in checks::all() {
        let found: Vec<&str> = proofs
            .iter()
            .filter(|proof| proof.found.values().any(|by| *by == check))
            .filter_map(|proof| Some(proof.mutant?.name()))
            .collect();
        println!("{check:28} {}", if found.is_empty() { "nothing".to_owned() } else { found.join(", ") });
        println!("    {what}");
        if found.is_empty() {
            idle.push(check);
        }
    }
    println!("\n{} bugs, {} survived: {}", proofs.len(), survivors.len(), survivors.join(", "));
    if is_complete {
        println!("checks that found nothing: {}", idle.join(", "));
    }
    control.found.is_empty() && survivors.is_empty() && (idle.is_empty() || !is_complete)
}

fn cut(words: &str) -> String {
    words.chars().take(150).collect()
}
