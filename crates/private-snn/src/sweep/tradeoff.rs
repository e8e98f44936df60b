//! Accuracy against energy over the runs of a sweep.

use super::picture::Picture;
use super::record::Record;
use super::table::{ENERGIES, Figure, Row, SOURCE, figure, reached};
use crate::report::{Chart, Line, Scale, Stroke};

/// From which ratio of the highest gain to the lowest, by any convention, there is something to choose.
const TELLING: f64 = 1.5;

/// The chart of a sweep whose runs differ in what the last network that it reaches takes: the accuracy of that network
/// against its energy gain by each convention, and the source network's accuracy as a level, or where the runs have
/// different ones, that of each at its network's gains. Means over the seeds; what diverged with one of them is left out.
pub fn tradeoff(record: &Record, rows: &[Row]) -> Option<Picture> {
    let accuracy = reached(rows)?;
    let rows: Vec<&Row> = rows.iter().filter(|row| row.is_whole()).collect();
    let source = figure(SOURCE)?;
    let gains: Vec<&Figure> = ENERGIES.iter().filter_map(|name| figure(name)).collect();
    let against = |of: &Figure, gain: &Figure| {
        let points = rows
            .iter()
            .filter_map(|row| Some((row.mean(gain)?, row.mean(of)?)));
        let mut points: Vec<(f64, f64)> = points.collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let stroke = match rows.iter().all(|row| row.first().assignments.len() == 1) {
        true => Stroke::Solid,
        false => Stroke::Marks,
    };
    let mut lines: Vec<Line> = Vec::new();
    for gain in &gains {
        lines.push(Line {
            name: format!("{}, {}", accuracy.name, gain.name),
            points: against(accuracy, gain),
            apart: Vec::new(),
            stroke,
        });
    }
    let spans = |line: &Line| match line.points.as_slice() {
        [(low, _), .., (high, _)] => high / low >= TELLING,
        _ => false,
    };
    if !lines.iter().any(spans) {
        return None;
    }
    let mut sources: Vec<(f64, f64)> = gains
        .iter()
        .flat_map(|gain| against(source, gain))
        .collect();
    sources.sort_by(|a, b| a.0.total_cmp(&b.0));
    let is_one = sources
        .iter()
        .all(|(_, accuracy)| *accuracy == sources[0].1);
    lines.push(Line {
        name: "source network".into(),
        points: sources,
        apart: Vec::new(),
        stroke: if is_one { Stroke::Level } else { Stroke::Marks },
    });
    let sweep = &record.header.sweep;
    let of = |key: &str| sweep[key].as_str().unwrap_or_default();
    let title = format!("{}: energy", of("title"));
    let chart = Chart {
        description: &title,
        x: "energy gain (logarithmic)",
        y: "accuracy",
        scale: Scale::Decades,
        percent: true,
    };
    let images = rows.iter().find_map(|row| row.images());
    let images = images.map_or_else(String::new, |images| {
        format!(" on {images} validation images")
    });
    Some(Picture {
        file: format!("sweep-{}-energy.svg", of("name")),
        svg: chart.lines(&lines),
        caption: format!(
            "{title}. A mark for each choice of settings: accuracy{images} against the energy gain by each convention; below 1 \
             the network takes more energy than its source network."
        ),
        title,
    })
}

#[cfg(test)]
mod tests {
    use super::super::picture::pictures;
    use super::super::record::tests::record;
    use super::super::table::rows;
    use super::*;
    use crate::stages::EnergyGain;
    use serde_json::json;

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

    fn drawn(record: &Record) -> Option<String> {
        tradeoff(record, &rows(record)).map(|picture| picture.svg)
    }

    #[test]
    fn gains_that_differ_are_drawn_from_the_least_on_below_the_source() {
        let record = with([90.0, 30.0, 60.0]);
        let svg = drawn(&record).unwrap();
        // two conventions and the level, which has a line in the legend, too
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert_eq!(svg.matches("stroke-dasharray").count(), 2);
        let place = |gain: &str| svg.find(&format!("gain (logarithmic) {gain}: ")).unwrap();
        assert!(place("30") < place("60") && place("60") < place("90"));
        let files: Vec<String> = pictures(&record)
            .into_iter()
            .map(|picture| picture.file)
            .collect();
        assert_eq!(files, ["sweep-mine.svg", "sweep-mine-energy.svg"]);
    }

    #[test]
    fn different_sources_are_no_level() {
        let mut record = with([90.0, 30.0, 60.0]);
        record.runs[1].figures.as_mut().unwrap().source.accuracy = 0.5;
        let svg = drawn(&record).unwrap();
        assert_eq!(svg.matches("stroke-dasharray").count(), 0);
        assert_eq!(svg.matches("<circle").count(), 12);
        assert!(svg.contains("gain (logarithmic) 30: 50 %"));
    }

    #[test]
    fn runs_that_differ_in_several_settings_are_not_joined() {
        let mut record = with([90.0, 30.0, 60.0]);
        for entry in &mut record.runs {
            entry.assignments.insert("rate".into(), json!(0.1));
        }
        // the level alone
        assert_eq!(drawn(&record).unwrap().matches("<polyline").count(), 1);
    }

    #[test]
    fn what_is_missing_leaves_the_rest_and_seeds_are_averaged() {
        let mut record = with([90.0, 30.0, 60.0]);
        record.runs[2].diverged = Some("the loss is NaN".into());
        record.runs[2].figures = None;
        let svg = drawn(&record).unwrap();
        assert_eq!(svg.matches("<circle").count(), 4);

        let mut seeds = with([90.0, 30.0, 60.0]);
        seeds.runs[1].assignments = seeds.runs[0].assignments.clone();
        seeds.runs[1].seed = 2;
        // 60 on average, as the third
        assert!(drawn(&seeds).is_none());
    }

    #[test]
    fn gains_that_hardly_differ_or_are_not_known_are_not_drawn() {
        for record in [
            with([30.0, 31.0, 33.0]),
            record(3, &[0, 1, 2]),
            record(3, &[]),
        ] {
            assert_eq!(drawn(&record), None);
        }
    }
}
