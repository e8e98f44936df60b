//! Accuracy against energy over the runs of a sweep.

use super::picture::Picture;
use super::record::Record;
use super::table::{FIGURES, Figure, Row, SOURCE, reached};
use crate::report::{Chart, Line, Scale};

/// From which ratio of the highest gain by rate to the lowest there is something to choose.
const TELLING: f64 = 1.5;

/// The chart of a sweep whose runs differ in what the last network that it reaches takes: the accuracy of that network
/// against its energy gain by each convention, and the source network's accuracy as a level. Means over the seeds.
pub fn frontier(record: &Record, rows: &[Row]) -> Option<Picture> {
    let sweep = &record.header.sweep;
    let of = |key: &str| sweep[key].as_str().unwrap_or_default();
    let mean = |row: &Row, figure: &Figure| row.spread(figure).map(|(mean, _)| mean);
    let accuracy = reached(rows)?;
    let gains = FIGURES
        .iter()
        .filter(|figure| figure.name.starts_with("energy"));
    let lines: Vec<Line> = gains
        .map(|gain| {
            let points = rows
                .iter()
                .filter_map(|row| Some((mean(row, gain)?, mean(row, accuracy)?)));
            let mut points: Vec<(f64, f64)> = points.collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Line {
                name: format!("{}, {}", accuracy.name, gain.name),
                points,
                level: false,
            }
        })
        .filter(|line| !line.points.is_empty())
        .collect();
    let spans = |line: &Line| match line.points.as_slice() {
        [(low, _), .., (high, _)] => high / low >= TELLING,
        _ => false,
    };
    if !lines.first().is_some_and(spans) {
        return None;
    }
    let ends = |pick: fn(f64, f64) -> f64| {
        let all = lines.iter().flat_map(|line| &line.points).map(|&(x, _)| x);
        all.reduce(pick)
    };
    let figure = FIGURES.iter().find(|figure| figure.name == SOURCE)?;
    let source = rows.iter().find_map(|row| mean(row, figure));
    let level = source.and_then(|source| {
        Some(Line {
            name: "source network".into(),
            points: vec![(ends(f64::min)?, source), (ends(f64::max)?, source)],
            level: true,
        })
    });
    let title = format!("{}: accuracy against the energy gain", of("title"));
    let chart = Chart {
        description: &title,
        x: "energy gain (logarithmic); below 1 more than the source network takes",
        y: "accuracy",
        scale: Scale::Logarithmic,
        percent: true,
    };
    let lines: Vec<Line> = lines.into_iter().chain(level).collect();
    Some(Picture {
        file: format!("sweep-{}-energy.svg", of("name")),
        svg: chart.lines(&lines),
        title,
    })
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::super::table::rows;
    use super::*;
    use crate::stages::EnergyGain;

    /// Three runs of these gains by rate, a hundredth of them by events.
    fn with(by_rate: [f64; 3]) -> Record {
        let mut record = record(3, &[0, 1, 2]);
        for (entry, rate) in record.runs.iter_mut().zip(by_rate) {
            let encrypted = &mut entry.figures.as_mut().unwrap().encrypted;
            encrypted.as_mut().unwrap().energy = Some(EnergyGain {
                rate: Some(rate),
                events: Some(rate / 100.0),
                memory: None,
            });
        }
        record
    }

    #[test]
    fn gains_that_differ_are_drawn_from_the_least_on_beside_the_source() {
        let record = with([90.0, 30.0, 60.0]);
        let picture = frontier(&record, &rows(&record)).unwrap();
        assert_eq!(picture.svg.matches("<polyline").count(), 3);
        assert_eq!(picture.svg.matches("stroke-dasharray").count(), 2);
        let position = |x: &str| picture.svg.find(&format!("takes {x}: ")).unwrap();
        assert!(position("30") < position("60") && position("60") < position("90"));
        assert!(picture.title.ends_with("accuracy against the energy gain"));
    }

    #[test]
    fn gains_that_hardly_differ_or_are_not_known_are_not_drawn() {
        for record in [
            with([30.0, 31.0, 33.0]),
            record(3, &[0, 1, 2]),
            record(3, &[]),
        ] {
            assert!(frontier(&record, &rows(&record)).is_none());
        }
    }
}
