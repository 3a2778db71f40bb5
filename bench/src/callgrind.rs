//! This program once more under valgrind, its instructions counted.
//!
//! In:    functions whose instructions count, arguments of the run.
//! Out:   instructions, and what the run printed.
//! Holds: nothing but what runs within those functions counts: no start-up, no reading of arguments.

use std::process::Command;

/// Whether there is a valgrind: its version.
///
/// # Errors
/// Why it cannot be started.
pub fn version() -> Result<String, String> {
    let output = Command::new("valgrind").arg("--version").output().map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What this program and valgrind print when it is run with these arguments.
///
/// # Errors
/// The same, when the run failed.
pub fn run_under(tool: &str, options: &[String], arguments: &[String]) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .arg(format!("--tool={tool}"))
        .args(options)
        .arg(program)
        .args(arguments)
        .output()
        .map_err(|error| error.to_string())?;
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
    if output.status.success() { Ok(text) } else { Err(text) }
}

/// Instructions of the functions with these names, all that they call included, and what the run printed.
///
/// # Errors
/// What callgrind said instead of a number.
pub fn count(functions: &[&str], arguments: &[String]) -> Result<(u64, String), String> {
    let mut options = vec!["--callgrind-out-file=/dev/null".to_owned(), "--collect-atstart=no".to_owned()];
    options.extend(functions.iter().map(|function| format!("--toggle-collect={function}")));
    let output = run_under("callgrind", &options, arguments)?;
    let instructions =
        number_behind(&output, "Collected :").ok_or_else(|| format!("callgrind says: {output}"))?;
    Ok((instructions, output))
}

/// The number behind a mark, to the end of its line.
#[must_use]
pub fn number_behind(output: &str, mark: &str) -> Option<u64> {
    let line = output.lines().find_map(|line| line.split_once(mark).map(|(_, rest)| rest.trim()))?;
    line.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_behind_its_mark() {
        let output = "units 7\n==1== Collected : 123\n";
        assert_eq!(number_behind(output, "Collected :"), Some(123));
        assert_eq!((number_behind(output, "units "), number_behind(output, "none")), (Some(7), None));
    }
}
