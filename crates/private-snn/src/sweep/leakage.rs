//! What is kept against what leaks over the runs of a sweep.

use super::picture::Picture;
use super::record::Record;
use super::table::{Row, figure};
use crate::report::{Chart, Line, Scale, Stroke};

/// End of the file names of these charts.
pub const LEAKAGE: &str = "-leakage.svg";

/// From which ratio of the largest weight change to the smallest there is something to choose.
const TELLING: f64 = 1.5;

/// What leaks.
const LEAKS: [&str; 4] = [
    "ReLU reading",
    "rate reading",
    "A1 recognised",
    "A2 recognised",
];

/// The chart of a sweep whose runs move the weights more or less far and are attacked: each leak against the accuracy of the
/// encrypted network, a mark for each choice of settings. Means over the seeds; what diverged with one of them is left out.
pub fn leakage(record: &Record, rows: &[Row]) -> Option<Picture> {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.is_whole()).collect();
    let (accuracy, attack) = (figure("encrypted at T")?, figure("A1 recognised")?);
    let moved = figure("weight change")?;
    let changes = rows.iter().filter_map(|row| row.mean(moved));
    let (low, high) = changes.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), change| {
        (low.min(change), high.max(change))
    });
    let is_attacked = rows.iter().any(|row| row.mean(attack).is_some());
    if !is_attacked || low <= 0.0 || high / low < TELLING {
        return None;
    }
    let lines: Vec<Line> = LEAKS
        .iter()
        .filter_map(|name| figure(name))
        .map(|leak| {
            let points = rows
                .iter()
                .filter_map(|row| Some((row.mean(accuracy)? * 100.0, row.mean(leak)?)));
            let mut points: Vec<(f64, f64)> = points.collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Line {
                name: leak.name.into(),
                points,
                apart: Vec::new(),
                stroke: Stroke::Marks,
            }
        })
        .collect();
    let sweep = &record.header.sweep;
    let of = |key: &str| sweep[key].as_str().unwrap_or_default();
    let title = format!("{}: what is kept and what leaks", of("title"));
    let chart = Chart {
        description: &title,
        x: "accuracy of the encrypted network in percent",
        y: "what leaks",
        scale: Scale::Round,
        percent: true,
    };
    let images = rows.iter().find_map(|row| row.images());
    let images = images.map_or_else(String::new, |images| {
        format!(" on {images} validation images")
    });
    Some(Picture {
        file: format!("sweep-{}{LEAKAGE}", of("name")),
        svg: chart.lines(&lines),
        caption: format!(
            "{title}. A mark for each choice of settings: the accuracy{images} that the encrypted network keeps, and against it \
             what its weights, read as an ANN, still classify rightly, and the share of an attack's pictures in which the \
             judge sees their class. A protection that works is to the right and below; the weights moved by {:.1} to {:.1} %.",
            low * 100.0,
            high * 100.0
        ),
        title,
    })
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::super::table::rows;
    use super::*;
    use crate::stages::Rebuilt;

    /// Three runs that move the weights so far, attacked by A1.
    fn with(changes: [f64; 3]) -> Record {
        let mut record = record(3, &[0, 1, 2]);
        for (entry, change) in record.runs.iter_mut().zip(changes) {
            let figures = entry.figures.as_mut().unwrap();
            figures.reading.as_mut().unwrap().largest_weight_change = change;
            figures.back_conversion = Some(Rebuilt {
                judge_top1: 0.9 - change,
                fid: 1.0,
                unguided: None,
            });
        }
        record
    }

    fn drawn(record: &Record) -> Option<Picture> {
        leakage(record, &rows(record))
    }

    #[test]
    fn leaks_are_drawn_against_the_accuracy() {
        let picture = drawn(&with([0.1, 0.2, 0.4])).unwrap();
        assert_eq!(picture.file, "sweep-mine-leakage.svg");
        assert!(picture.caption.ends_with("moved by 10.0 to 40.0 %."));
        // the reading and A1 of three runs; the rate reading and A2 were not measured
        assert_eq!(picture.svg.matches("<circle").count(), 6);
        assert!(
            picture.svg.contains("in percent 73.333: 50 %"),
            "{}",
            picture.svg
        );
    }

    #[test]
    fn weights_that_move_alike_or_are_not_attacked_are_not_drawn() {
        assert!(drawn(&with([0.10, 0.11, 0.12])).is_none());
        assert!(drawn(&with([0.0, 0.0, 0.0])).is_none());
        assert!(drawn(&record(3, &[0, 1, 2])).is_none());
        assert!(drawn(&record(3, &[])).is_none());
    }
}
