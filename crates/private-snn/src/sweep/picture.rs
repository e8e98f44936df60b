//! The accuracies of a sweep, and what the attacks rebuild in it, as a chart.

use std::collections::BTreeSet;

use super::leakage::leakage;
use super::points::{Point, of_key};
use super::record::Record;
use super::table::{CONTROL, FIGURES, Figure, Row, SOURCE, rows};
use super::tradeoff::tradeoff;
use crate::report::{COLOURS, Chart, Line, Scale, Stroke, show};

/// What is drawn where the sweep ends with the conversion.
const OF_CONVERSION: [&str; 4] = [
    SOURCE,
    "converted, shorter window",
    "converted at T",
    CONTROL,
];
/// What is drawn where it goes on.
const DRAWN: [&str; 8] = [
    SOURCE,
    "converted at T",
    CONTROL,
    "encrypted at T",
    "ReLU reading",
    "rate reading",
    "A1 recognised",
    "A2 recognised",
];
// a line whose colour another has tells nothing
const _: () = assert!(DRAWN.len() <= COLOURS.len() && OF_CONVERSION.len() <= COLOURS.len());
/// Ratio of the largest to the smallest value from which an axis is logarithmic.
const WIDE: f64 = 20.0;

/// A chart of a sweep.
pub struct Picture {
    /// Name of its file.
    pub file: String,
    /// What it shows.
    pub title: String,
    /// What is to be said below it.
    pub caption: String,
    /// The `<svg>` element.
    pub svg: String,
}

/// The charts of a sweep: one of all runs and, where they differ in it, one of their energy and one of what leaks; or one of each key where keys
/// are changed one at a time, with the run that changes none.
pub fn pictures(record: &Record) -> Vec<Picture> {
    let sweep = &record.header.sweep;
    let of = |key: &str| sweep[key].as_str().unwrap_or_default();
    let (name, title) = (of("name"), of("title"));
    let rows = rows(record);
    if sweep["search"]["kind"] != "each" {
        let points: Vec<Point> = rows.iter().map(Point::new).collect();
        let all = Picture {
            file: format!("sweep-{name}.svg"),
            title: title.into(),
            caption: format!("{title}.{}", not_drawn(&points)),
            svg: chart(title, &all_keys(&rows), &points),
        };
        return std::iter::once(all)
            .chain(tradeoff(record, &rows))
            .chain(leakage(record, &rows))
            .collect();
    }
    let keys: BTreeSet<&String> = rows
        .iter()
        .flat_map(|row| row.first().assignments.keys())
        .collect();
    keys.into_iter()
        .map(|key| {
            let (points, present) = of_key(record, key, &rows);
            let title = format!("{title}: {key}");
            let present = present.map_or_else(String::new, |value| {
                format!("; {value} where another key is changed")
            });
            Picture {
                file: format!("sweep-{name}-{}.svg", key.replace('.', "-")),
                caption: format!("{title}{present}.{}", not_drawn(&points)),
                svg: chart(&title, key, &points),
                title,
            }
        })
        .collect()
}

/// The keys of runs that all have the same.
fn all_keys(rows: &[Row]) -> String {
    rows.first().map_or_else(String::new, |row| {
        let keys: Vec<&str> = row.first().assignments.keys().map(String::as_str).collect();
        keys.join(" / ")
    })
}

/// A figure and its mean over the seeds at each point, not a number where there is none.
type Series = (&'static Figure, Vec<f64>);

/// What is to be drawn, and what is the same at all points where something is not. The source network is drawn beside networks
/// that are not the same.
fn series(points: &[Point]) -> (Vec<Series>, Vec<Series>) {
    let is_known = |figure: &Figure| points.iter().any(|point| point.row.mean(figure).is_some());
    let encrypted = FIGURES
        .iter()
        .any(|figure| figure.name == "encrypted at T" && is_known(figure));
    let names: &[&str] = if encrypted { &DRAWN } else { &OF_CONVERSION };
    let all = FIGURES
        .iter()
        .filter(|figure| names.contains(&figure.name) && is_known(figure));
    let all = all.map(|figure| {
        let means = points.iter().map(|point| point.row.mean(figure));
        (figure, means.map(|mean| mean.unwrap_or(f64::NAN)).collect())
    });
    let varies = |(_, means): &Series| means.iter().any(|mean| *mean != means[0]);
    let (varying, same): (Vec<Series>, Vec<Series>) = all.partition(varies);
    if varying.is_empty() {
        return (same, varying);
    }
    let of_networks = |(figure, _): &Series| {
        figure.name.ends_with(" at T") || figure.name.ends_with("shorter window")
    };
    if !varying.iter().any(of_networks) {
        return (varying, same);
    }
    let (mut drawn, same): (Vec<Series>, Vec<Series>) = same
        .into_iter()
        .partition(|(figure, _)| figure.name == SOURCE);
    drawn.extend(varying);
    (drawn, same)
}

/// What the chart of `points` does not draw, as a sentence.
fn not_drawn(points: &[Point]) -> String {
    let (_, same) = series(points);
    let same: Vec<String> = same
        .iter()
        .map(|(figure, means)| format!("{} {}", figure.name, show(Some(means[0]), figure.unit)))
        .collect();
    match same.is_empty() {
        true => String::new(),
        false => format!(" The same for all: {}.", same.join(", ")),
    }
}

/// The chart of some choices of settings: against their values if these are numbers, else bars for each. Means over the
/// seeds.
fn chart(title: &str, keys: &str, points: &[Point]) -> String {
    let numbers: Option<Vec<f64>> = points.iter().map(|point| point.number).collect();
    let (drawn, _) = series(points);
    let mut chart = Chart {
        description: title,
        x: keys,
        y: "accuracy; share recognised",
        scale: Scale::Linear,
        percent: true,
    };
    let Some(numbers) = numbers else {
        let names: Vec<String> = points.iter().map(|point| point.name.clone()).collect();
        let series: Vec<(String, Vec<f64>)> = drawn
            .into_iter()
            .map(|(figure, means)| (figure.name.to_string(), means))
            .collect();
        return chart.bars(&names, &series);
    };
    let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let high = numbers.iter().copied().fold(0.0, f64::max);
    let label = format!("{} (logarithmic)", chart.x);
    if low > 0.0 && high / low > WIDE {
        (chart.scale, chart.x) = (Scale::Logarithmic, &label);
    }
    let lines: Vec<Line> = drawn
        .into_iter()
        .map(|(figure, means)| {
            let mut points: Vec<(f64, f64)> = numbers.iter().copied().zip(means).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Line {
                name: figure.name.to_string(),
                points,
                apart: Vec::new(),
                stroke: Stroke::Solid,
            }
        })
        .collect();
    chart.lines(&lines)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;
    use crate::stages::Rebuilt;
    use serde_json::{Value, json};

    /// Of the runs of the record only the encrypted network varies, beside which the source network is drawn.
    const MEASURED: usize = 2;

    fn picture(record: &Record) -> String {
        pictures(record).remove(0).svg
    }

    fn with(key: &str, values: &[Value]) -> Record {
        let mut record = record(values.len(), &(0..values.len()).collect::<Vec<_>>());
        for (entry, value) in record.runs.iter_mut().zip(values) {
            entry.assignments = [(key.to_string(), value.clone())].into();
        }
        record
    }

    #[test]
    fn numbers_of_one_key_are_an_axis_logarithmic_where_they_span_much() {
        let wide = picture(&with("rate", &[json!(1e-2), json!(1e-4)]));
        assert_eq!(wide.matches("<polyline").count(), MEASURED);
        assert!(
            wide.contains("rate (logarithmic)") && wide.contains(">1e-4<"),
            "{wide}"
        );
        let narrow = picture(&with("epochs", &[json!(2), json!(4)]));
        assert_eq!(narrow.matches("<polyline").count(), MEASURED);
        assert!(!narrow.contains("logarithmic"));
    }

    #[test]
    fn where_the_last_network_is_the_same_for_all_only_what_varies_is_drawn() {
        let mut attacked = with("attack.iterations", &[json!(2), json!(4)]);
        for (entry, judge_top1) in attacked.runs.iter_mut().zip([0.25, 0.5]) {
            let figures = entry.figures.as_mut().unwrap();
            figures.encrypted = Some(figures.converted.clone());
            figures.back_conversion = Some(Rebuilt {
                judge_top1,
                fid: 1.0,
                unguided: None,
            });
        }
        let drawn = picture(&attacked);
        assert_eq!(drawn.matches("<polyline").count(), 1);
        assert!(drawn.contains(">A1 recognised<"));
        let caption = pictures(&attacked).remove(0).caption;
        assert!(caption.contains("for all: source 96.7 %,"), "{caption}");
    }

    #[test]
    fn a_sweep_of_conversions_shows_a_shorter_window() {
        let mut converted = with("convert.delay", &[json!(2), json!(4)]);
        for (entry, accuracy) in converted.runs.iter_mut().zip([0.25, 0.5]) {
            let figures = entry.figures.as_mut().unwrap();
            (figures.encrypted, figures.reading) = (None, None);
            let windows = &mut figures.converted.accuracy_by_t;
            let mut shorter = windows[0].clone();
            (shorter.timesteps, shorter.accuracy) = (2, accuracy);
            windows.insert(0, shorter);
        }
        let drawn = picture(&converted);
        assert!(drawn.contains(">converted, shorter window<") && drawn.contains(">source<"));
        assert_eq!(drawn.matches("<polyline").count(), 2);
    }

    #[test]
    fn anything_else_is_bars_that_carry_the_values() {
        let words = picture(&with("encoder", &[json!("direct"), json!("poisson")]));
        // each bar has a title, and the chart one
        assert_eq!(words.matches("<title>").count(), 2 * MEASURED + 1);
        assert!(words.contains(">poisson<") && !words.contains("<polyline"));
        let mut two = with("epochs", &[json!(2), json!(4)]);
        for entry in &mut two.runs {
            entry.assignments.insert("rate".into(), json!(0.1));
        }
        let two = picture(&two);
        assert!(
            two.contains(">2 / 0.1<") && two.contains(">epochs / rate<"),
            "{two}"
        );
    }

    #[test]
    fn keys_changed_one_at_a_time_have_a_chart_each() {
        let mut three = with("encrypt.epochs", &[json!(2), json!(4), json!(0)]);
        three.header.sweep =
            json!({"name": "mine", "title": "Why", "variant": "v", "search": {"kind": "each"}});
        three.header.settings = json!({"variants": {"v": {"encrypt": {"epochs": 1}}}});
        three.runs[2].assignments = [("convert.encoder".to_string(), json!("poisson"))].into();
        let mut base = three.runs[0].clone();
        (base.index, base.assignments) = (3, [].into());
        three.runs.push(base);
        let pictures = pictures(&three);
        let files: Vec<&str> = pictures.iter().map(|picture| &*picture.file).collect();
        assert_eq!(
            files,
            [
                "sweep-mine-convert-encoder.svg",
                "sweep-mine-encrypt-epochs.svg"
            ]
        );
        assert_eq!(pictures[1].title, "Why: encrypt.epochs");
        let lines = &pictures[1].svg;
        assert_eq!(lines.matches("<polyline").count(), MEASURED);
        assert_eq!(lines.matches("<circle").count(), 3 * MEASURED);
        assert_eq!(
            pictures[1].caption,
            "Why: encrypt.epochs; 1 where another key is changed. The same for all: converted at T 93.3 %, with real data at T \
             93.3 %, ReLU reading 33.3 %."
        );
        let bars = &pictures[0].svg;
        assert!(
            bars.contains(">poisson<") && bars.contains(">no key changed<"),
            "{bars}"
        );
    }
}
