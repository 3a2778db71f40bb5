//! A report's ways out: text or JSON, HdrHistogram's two formats, one page with charts.
//!
//! In:    a report; where it goes.
//! Out:   files; the standard output.
//! Holds: a file that cannot be written spoils none of the others, and what was found is always printed.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write, stdout};
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

use crate::Fault;
use crate::interrupt;
use crate::options::NearOptions;
use crate::report::{Report, Spectrum, State};

/// The page around a report.
const PAGE: &str = include_str!("page.html");
/// Stands for the report in the page.
const PLACE: &str = "__REPORT__";
/// Points of a percentile table for each halving of the distance to 100 %.
const TICKS_PER_HALVING: u32 = 5;
/// Histograms hold nanoseconds, their files microseconds.
const NANOS_PER_MICRO: f64 = 1_000.0;

/// Where JSON goes when no file is named.
pub(crate) const OUTPUT: &str = "-";

/// Writes everything that was asked for.
pub(crate) fn write_all(report: &Report, options: &NearOptions) -> Result<(), Fault> {
    let mut faults = Vec::new();
    let mut keep = |result: Result<(), Fault>| faults.extend(result.err().map(|fault| fault.to_string()));
    keep(print(report, options.json.as_deref()));
    if let Some(path) = &options.hlog {
        keep(write_file(path, |file| write_log(report, file)));
    }
    if let Some(path) = &options.hgrm {
        keep(write_file(path, |file| write_percentiles(report, file)));
    }
    if let Some(path) = &options.html {
        keep(write_file(path, |file| Ok(file.write_all(page(report).as_bytes())?)));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ").into()) }
}

/// What a mode without a target of its own ends with: the report, and the fault if it is not whole.
pub(crate) fn conclude(mut report: Report, json: Option<&Path>) -> Result<(), Fault> {
    if interrupt::is_asked() {
        report.mark_partial("interrupted".to_owned());
    }
    print(&report, json)?;
    match report.state() {
        State::Complete => Ok(()),
        state => Err(format!("{}: {}", state.name(), report.notes().join("; ")).into()),
    }
}

/// Text, or JSON where it was asked for; text as well when the JSON goes to a file.
pub(crate) fn print(report: &Report, json: Option<&Path>) -> Result<(), Fault> {
    let Some(path) = json else { return say(&report.to_text()) };
    let text = format!("{:#}\n", report.to_json());
    if path == Path::new(OUTPUT) {
        return say(&text);
    }
    say(&report.to_text())?;
    write_file(path, |file| Ok(file.write_all(text.as_bytes())?))
}

/// To the standard output, which may be full or gone.
pub(crate) fn say(text: &str) -> Result<(), Fault> {
    let mut output = stdout().lock();
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    Ok(written.map_err(|error| format!("cannot write to the standard output: {error}"))?)
}

fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let written = File::create(path).map_err(Fault::from).and_then(|file| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.flush()?;
        // A disk may be full only when the bytes get there.
        match file.get_ref().sync_all() {
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(error.into()),
            _ => Ok(()),
        }
    });
    written.map_err(|fault| {
        // Half a report would be taken for a whole one; what is no plain file is not ours to remove.
        if fs::symlink_metadata(path).is_ok_and(|file| file.is_file()) {
            let _ = fs::remove_file(path);
        }
        format!("cannot write {}: {fault}", path.display()).into()
    })
}

/// An HdrHistogram log: an interval a line, tagged with its section.
fn write_log(report: &Report, file: &mut impl Write) -> Result<(), Fault> {
    let span: f64 = report.timeline.iter().map(|sample| sample.span_s).sum();
    let began = SystemTime::now() - Duration::from_secs_f64(span);
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("dunlin-loadgen: round trips from the intended time, in nanoseconds; the maximum column in milliseconds");
    builder.with_base_time(began).with_start_time(began).with_max_value_divisor(1e6);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = builder.begin_log_with(file, &mut serializer)?;
    if report.state() != State::Complete {
        log.write_comment(&format!("this run is {}: {}", report.state().name(), report.notes().join("; ")))?;
    }
    let mut deserializer = Deserializer::new();
    let mut start = Duration::ZERO;
    for sample in &report.timeline {
        let length = Duration::from_secs_f64(sample.span_s);
        if !sample.encoded.is_empty() {
            let times: Histogram<u64> = deserializer
                .deserialize(&mut sample.encoded.as_slice())
                .map_err(|error| format!("an interval is broken: {error}"))?;
            // A tag ends at a comma.
            let tag = sample.section.replace([',', ' '], "_");
            log.write_histogram(&times, start, length, Tag::new(&tag))
                .map_err(|error| format!("an interval cannot be written: {error}"))?;
        }
        start += length;
    }
    Ok(())
}

/// Percentile tables as HdrHistogram's own tools print them: one for each kind of latency, in microseconds.
fn write_percentiles(report: &Report, file: &mut impl Write) -> Result<(), Fault> {
    if report.state() != State::Complete {
        writeln!(file, "#[this run is {}: {}]", report.state().name(), report.notes().join("; "))?;
    }
    for spectrum in &report.spectra {
        write_table(spectrum, file)?;
    }
    Ok(())
}

fn write_table(spectrum: &Spectrum, file: &mut impl Write) -> io::Result<()> {
    let times = &spectrum.times;
    writeln!(file, "#[{} {}, in microseconds]", spectrum.section, spectrum.name)?;
    writeln!(file, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut count = 0;
    for point in times.iter_quantiles(TICKS_PER_HALVING) {
        count += point.count_since_last_iteration();
        let (value, quantile) = (point.value_iterated_to() as f64, point.quantile_iterated_to());
        write!(file, "{:12.3} {quantile:2.12} {count:10}", value / NANOS_PER_MICRO)?;
        if quantile < 1.0 {
            write!(file, " {:14.2}", 1.0 / (1.0 - quantile))?;
        }
        writeln!(file)?;
    }
    let micros = |value: f64| value / NANOS_PER_MICRO;
    writeln!(
        file,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
        micros(times.mean()),
        micros(times.stdev())
    )?;
    writeln!(file, "#[Max     = {:12.3}, Total count    = {:12}]", micros(times.max() as f64), times.len())?;
    writeln!(file, "#[Buckets = {:12}, SubBuckets     = {:12}]\n", times.buckets(), times.distinct_values())
}

/// One page that needs nothing else.
fn page(report: &Report) -> String {
    // Nothing in the JSON can end the element that it stands in.
    let json = report.to_json().to_string().replace('<', "\\u003c");
    PAGE.replacen(PLACE, &json, 1)
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Serializer;
    use hdrhistogram::serialization::V2Serializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    use serde_json::{Map, Value};

    use super::*;
    use crate::live::Sample;
    use crate::recorder::histogram;

    fn report() -> Report {
        let mut report = Report::new("latency", "</script><b>".to_owned(), Map::new());
        report.section("core @ 1000");
        let mut times = histogram();
        for nanos in 1..=1_000 {
            times.record(nanos * 1_000).unwrap();
        }
        report.add_times("corrected", &times);
        let mut encoded = Vec::new();
        V2Serializer::new().serialize(&times, &mut encoded).unwrap();
        let sample = Sample { section: "core @ 1000".to_owned(), span_s: 0.5, encoded, ..Sample::default() };
        report.timeline.push(sample);
        report
    }

    /// Whoever opens the page needs no network, and what a run was called cannot break it.
    #[test]
    fn the_page_is_self_contained_and_holds_the_report() {
        let page = page(&report());
        for fetch in ["http:", "https:", "src=", "href=", "@import", "url(", "fetch(", "XMLHttp", "import("] {
            assert!(!page.contains(fetch), "the page must not contain {fetch}");
        }
        let (_, json) = page.split_once("<script type=\"application/json\" id=\"report\">").unwrap();
        let (json, _) = json.split_once("</script>").unwrap();
        let json: Value = serde_json::from_str(json).unwrap();
        assert_eq!(json["setup"], "</script><b>");
        assert_eq!(json["figures"]["core @ 1000"]["count"]["value"], 1_000.0);
    }

    #[test]
    fn hdrhistograms_own_reader_reads_the_log() {
        let mut log = Vec::new();
        write_log(&report(), &mut log).unwrap();
        let entries: Vec<LogEntry<'_>> = IntervalLogIterator::new(&log).collect::<Result<_, _>>().unwrap();
        let intervals: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry {
                LogEntry::Interval(interval) => Some(interval),
                _ => None,
            })
            .collect();
        assert_eq!(intervals.len(), 1);
        assert_eq!(intervals[0].tag().map(|tag| tag.as_str().to_owned()), Some("core_@_1000".to_owned()));
        assert_eq!(intervals[0].duration(), Duration::from_millis(500));
        assert!((0.99..1.01).contains(&intervals[0].max()), "{}", intervals[0].max());
    }

    #[test]
    fn the_percentile_table_is_the_plotters() {
        let mut table = Vec::new();
        write_percentiles(&report(), &mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        let rows: Vec<Vec<f64>> = table
            .lines()
            .filter(|line| !line.starts_with('#') && !line.contains("Value") && !line.is_empty())
            .map(|line| line.split_whitespace().map(|cell| cell.parse().unwrap()).collect())
            .collect();
        let half = rows.iter().find(|row| row[1] == 0.5).unwrap();
        assert!((499.0..502.0).contains(&half[0]) && half[2] == 500.0 && half[3] == 2.0, "{half:?}");
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2]), (1.0, 1_000.0));
        assert!(table.contains("Total count    =         1000]"), "{table}");
    }

    #[test]
    fn a_full_disk_is_said_and_nothing_half_written_stays() {
        let error =
            write_file(Path::new("/dev/full"), |file| Ok(file.write_all(&[0; 100_000])?)).unwrap_err();
        assert!(error.to_string().starts_with("cannot write /dev/full: No space left"), "{error}");
        assert!(Path::new("/dev/full").exists());
        let path = std::env::temp_dir().join(format!("loadgen-{}", std::process::id()));
        let error = write_file(&path, |file| {
            file.write_all(b"half")?;
            Err("no more".into())
        });
        assert!(error.is_err() && !path.exists());
    }
}
