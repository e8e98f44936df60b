//! The runs of a sweep side by side.

use super::record::{Entry, Record};
use crate::report::{Unguided, Unit, align_left, show_spread, spread};
use crate::stages::{Measures, Rebuilt};

/// A figure of a run.
pub struct Figure {
    /// Name.
    pub name: &'static str,
    /// How it is written.
    pub unit: Unit,
    /// Where it is; none if the sweep did not go so far.
    pub of: fn(&Measures) -> Option<f64>,
    /// The steps of the window it was measured at, of a spiking network.
    timesteps: fn(&Measures) -> Option<usize>,
    /// The pictures that it was measured on, of an attack.
    pictures: fn(&Measures) -> Option<&Rebuilt>,
}

/// The conversion that is compared with, which is nobody's result.
pub(super) const CONTROL: &str = "with real data at T";
/// The source network's accuracy.
pub(super) const SOURCE: &str = "source";

/// The energy gains of the last spiking network that a sweep reaches.
pub(super) const ENERGIES: [&str; 3] = ["energy by rate", "energy by events", "energy with memory"];

/// The figures of the table, in order.
pub const FIGURES: [Figure; 16] = [
    Figure {
        name: SOURCE,
        unit: Unit::Percent,
        of: |measures| Some(measures.source.accuracy),
        timesteps: |_| None,
        pictures: |_| None,
    },
    Figure {
        name: "converted, shorter window",
        unit: Unit::Percent,
        of: |measures| Some(measures.converted.previous_window()?.accuracy),
        timesteps: |measures| Some(measures.converted.previous_window()?.timesteps),
        pictures: |_| None,
    },
    Figure {
        name: "converted at T",
        unit: Unit::Percent,
        of: |measures| Some(measures.converted.quoted()?.accuracy),
        timesteps: |measures| Some(measures.converted.quoted()?.timesteps),
        pictures: |_| None,
    },
    Figure {
        name: CONTROL,
        unit: Unit::Percent,
        of: |measures| Some(measures.converted_with_real_data.quoted()?.accuracy),
        timesteps: |measures| Some(measures.converted_with_real_data.quoted()?.timesteps),
        pictures: |_| None,
    },
    Figure {
        name: "encrypted, shorter window",
        unit: Unit::Percent,
        of: |measures| Some(measures.encrypted.as_ref()?.previous_window()?.accuracy),
        timesteps: |measures| Some(measures.encrypted.as_ref()?.previous_window()?.timesteps),
        pictures: |_| None,
    },
    Figure {
        name: "encrypted at T",
        unit: Unit::Percent,
        of: |measures| Some(measures.encrypted.as_ref()?.quoted()?.accuracy),
        timesteps: |measures| Some(measures.encrypted.as_ref()?.quoted()?.timesteps),
        pictures: |_| None,
    },
    Figure {
        name: ENERGIES[0],
        unit: Unit::Times,
        of: |measures| measures.last().energy.as_ref()?.rate,
        timesteps: |measures| Some(measures.last().quoted()?.timesteps),
        pictures: |_| None,
    },
    Figure {
        name: ENERGIES[1],
        unit: Unit::Times,
        of: |measures| measures.last().energy.as_ref()?.events,
        timesteps: |measures| Some(measures.last().quoted()?.timesteps),
        pictures: |_| None,
    },
    Figure {
        name: ENERGIES[2],
        unit: Unit::Times,
        of: |measures| measures.last().energy.as_ref()?.memory,
        timesteps: |measures| Some(measures.last().quoted()?.timesteps),
        pictures: |_| None,
    },
    Figure {
        name: "ReLU reading",
        unit: Unit::Percent,
        of: |measures| Some(measures.reading.as_ref()?.accuracy),
        timesteps: |_| None,
        pictures: |_| None,
    },
    Figure {
        name: "rate reading",
        unit: Unit::Percent,
        of: |measures| measures.reading.as_ref()?.rate_accuracy,
        timesteps: |_| None,
        pictures: |_| None,
    },
    Figure {
        name: "weight change",
        unit: Unit::Percent,
        of: |measures| Some(measures.reading.as_ref()?.largest_weight_change),
        timesteps: |_| None,
        pictures: |_| None,
    },
    Figure {
        name: "A1 recognised",
        unit: Unit::Percent,
        of: |measures| Some(measures.back_conversion.as_ref()?.judge_top1),
        timesteps: |_| None,
        pictures: |measures| measures.back_conversion.as_ref(),
    },
    Figure {
        name: "A1 distance",
        unit: Unit::Number,
        of: |measures| Some(measures.back_conversion.as_ref()?.fid),
        timesteps: |_| None,
        pictures: |measures| measures.back_conversion.as_ref(),
    },
    Figure {
        name: "A2 recognised",
        unit: Unit::Percent,
        of: |measures| Some(measures.spike_gradient.as_ref()?.judge_top1),
        timesteps: |_| None,
        pictures: |measures| measures.spike_gradient.as_ref(),
    },
    Figure {
        name: "A2 distance",
        unit: Unit::Number,
        of: |measures| Some(measures.spike_gradient.as_ref()?.fid),
        timesteps: |_| None,
        pictures: |measures| measures.spike_gradient.as_ref(),
    },
];

/// The runs of the same assignments, one per seed.
pub struct Row<'a> {
    entries: Vec<&'a Entry>,
}

impl<'a> Row<'a> {
    /// One of the runs, for its assignments.
    pub fn first(&self) -> &'a Entry {
        // a row begins with an entry
        self.entries[0]
    }

    /// Mean and sample deviation over the seeds that did not diverge.
    pub fn spread(&self, figure: &Figure) -> Option<(f64, Option<f64>)> {
        let figures = self
            .entries
            .iter()
            .filter_map(|entry| entry.figures.as_ref());
        let values = figures.map(figure.of);
        spread(&values.collect::<Option<Vec<f64>>>()?)
    }

    /// Whether all its seeds have figures: of one that diverged with a seed, the mean says too much good.
    pub fn is_whole(&self) -> bool {
        self.entries.iter().all(|entry| entry.figures.is_some())
    }

    /// Validation images that accuracies were measured on, the same ones for each seed.
    pub fn images(&self) -> Option<usize> {
        let mut figures = self.entries.iter().filter_map(|e| e.figures.as_ref());
        Some(figures.next()?.last().quoted()?.images)
    }

    /// Mean over the seeds that did not diverge.
    pub fn mean(&self, figure: &Figure) -> Option<f64> {
        self.spread(figure).map(|(mean, _)| mean)
    }

    fn cell(&self, figure: &Figure) -> Option<String> {
        let (mean, deviation) = self.spread(figure)?;
        let text = show_spread(mean, deviation, figure.unit);
        let figures = self.entries.iter().filter_map(|e| e.figures.as_ref());
        let unguided = figures.filter_map(|measures| (figure.pictures)(measures)?.unguided);
        let text = unguided.sum::<Unguided>().shown(text);
        let mut figures = self.entries.iter().filter_map(|e| e.figures.as_ref());
        Some(match figures.next().and_then(figure.timesteps) {
            Some(timesteps) => format!("{text} at {timesteps}"),
            None => text,
        })
    }
}

/// The finished runs by assignments, in the order of their numbers.
pub fn rows(record: &Record) -> Vec<Row<'_>> {
    let mut rows: Vec<Row> = Vec::new();
    for entry in &record.runs {
        let same = rows
            .iter_mut()
            .find(|row| row.first().assignments == entry.assignments);
        match same {
            // equal draws of a random search are one
            Some(row) if row.entries.iter().any(|there| there.seed == entry.seed) => {}
            Some(row) => row.entries.push(entry),
            None => rows.push(Row {
                entries: vec![entry],
            }),
        }
    }
    rows
}

/// The table for a terminal, see [`lines`].
pub fn table(record: &Record) -> String {
    align_left(&lines(record))
}

/// The head of the table, then a line for each choice of settings: mean ± deviation over the seeds.
pub fn lines(record: &Record) -> Vec<Vec<String>> {
    let rows = rows(record);
    let figures: Vec<&Figure> = FIGURES
        .iter()
        .filter(|figure| rows.iter().any(|row| row.spread(figure).is_some()))
        .collect();
    let head = ["settings", "seeds"].map(String::from);
    let names = figures.iter().map(|figure| figure.name.to_string());
    let mut lines = vec![head.into_iter().chain(names).collect::<Vec<String>>()];
    for row in &rows {
        let seeds: Vec<String> = row
            .entries
            .iter()
            .map(|entry| match entry.diverged {
                None => entry.seed.to_string(),
                Some(_) => format!("{} (diverged)", entry.seed),
            })
            .collect();
        let cells = figures
            .iter()
            .map(|figure| row.cell(figure).unwrap_or_else(|| "–".into()));
        lines.push(
            [row.first().label(), seeds.join(", ")]
                .into_iter()
                .chain(cells)
                .collect(),
        );
    }
    lines
}

/// The figure of a name.
pub(super) fn figure(name: &str) -> Option<&'static Figure> {
    FIGURES.iter().find(|figure| figure.name == name)
}

/// The accuracy of the last spiking network that a sweep reaches.
pub(super) fn reached(rows: &[Row]) -> Option<&'static Figure> {
    let mut reached = FIGURES.iter().filter(|figure| {
        let of_spikes = figure.name.ends_with(" at T") && figure.name != CONTROL;
        of_spikes && rows.iter().any(|row| row.spread(figure).is_some())
    });
    reached.next_back()
}

/// The settings of the highest accuracy of the last network that the sweep reaches, of those that diverged with no seed, in words;
/// the first of equals; and how many others come within one standard error of it,
///
/// ```text
/// sqrt(p (1 - p) / images)
/// ```
///
/// None where there is nothing to choose: without runs, or where all reach the same.
pub fn best(record: &Record) -> Option<String> {
    let rows = rows(record);
    let figure = reached(&rows)?;
    let means: Vec<(f64, &Row)> = rows
        .iter()
        .filter(|row| row.is_whole())
        .filter_map(|row| Some((row.spread(figure)?.0, row)))
        .collect();
    let (highest, row) = means
        .iter()
        .copied()
        .reduce(|best, next| if next.0 > best.0 { next } else { best })?;
    if means.len() > 1 && means.iter().all(|(mean, _)| *mean == highest) {
        return None;
    }
    let images = row.images()?;
    let error = (highest * (1.0 - highest) / images as f64).sqrt();
    let near = means.iter().filter(|(mean, _)| highest - mean <= error);
    Some(format!(
        "{} ({} {}; {} of the {} others within its standard error on {images} images, {:.1} points)",
        row.first().label(),
        figure.name.trim_end_matches(" at T"),
        row.cell(figure)?,
        near.count() - 1,
        means.len() - 1,
        error * 100.0
    ))
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn seeds_of_the_same_settings_share_a_line() {
        let mut both = record(4, &[0, 1, 2, 3]);
        for (number, entry) in both.runs.iter_mut().enumerate() {
            entry.seed = number as u64 % 2 + 1;
            entry.assignments = record(4, &[number / 2]).runs.remove(0).assignments;
        }
        let text = table(&both);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].contains("encrypted at T") && !lines[0].contains("A1"));
        for part in [
            "encrypt.epochs=1",
            "1, 2",
            "96.7 ± 0.0 %",
            "68.3 ± 2.4 % at 4",
        ] {
            assert!(lines[1].contains(part), "{part}: {text}");
        }
        assert_eq!(
            best(&both).unwrap(),
            "encrypt.epochs=2 (encrypted 75.0 ± 2.4 % at 4; 1 of the 1 others within its standard error on 30 images, 7.9 points)"
        );
    }

    #[test]
    fn a_run_that_diverged_says_so_and_is_not_the_best() {
        let mut two = record(2, &[0, 1]);
        two.runs[1].figures = None;
        two.runs[1].diverged = Some("the loss is NaN".into());
        let text = table(&two);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].contains("diverged"), "{text}");
        assert_eq!(
            best(&two).unwrap(),
            "encrypt.epochs=1 (encrypted 66.7 % at 4; 0 of the 0 others within its standard error on 30 images, 8.6 points)"
        );
    }

    #[test]
    fn settings_that_diverged_with_one_of_their_seeds_are_not_the_best() {
        let mut three = record(3, &[0, 1, 2]);
        three.runs[2].assignments = three.runs[1].assignments.clone();
        three.runs[2].seed = 2;
        three.runs[2].figures = None;
        three.runs[2].diverged = Some("the loss is NaN".into());
        let best = best(&three).unwrap();
        assert!(best.starts_with("encrypt.epochs=1 "), "{best}");
    }

    #[test]
    fn a_shorter_window_has_a_column_of_its_own_and_no_say() {
        let mut two = record(2, &[0, 1]);
        for (number, entry) in two.runs.iter_mut().enumerate() {
            let figures = entry.figures.as_mut().unwrap();
            figures.encrypted = None;
            let windows = &mut figures.converted.accuracy_by_t;
            let mut shorter = windows[0].clone();
            // the first is better early, the second in the end
            (shorter.timesteps, shorter.accuracy) = (2, 0.25 - 0.1 * number as f64);
            windows[0].accuracy = 0.9 + 0.05 * number as f64;
            windows.insert(0, shorter);
        }
        let text = table(&two);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].contains("converted, shorter window")
                && !lines[0].contains("encrypted, shorter window")
        );
        assert!(lines[1].contains("25.0 % at 2") && lines[2].contains("15.0 % at 2"));
        assert!(best(&two).unwrap().starts_with("encrypt.epochs=2"));
    }

    #[test]
    fn the_best_is_that_of_the_network_reached_and_the_first_of_equals() {
        let mut three = record(3, &[0, 1, 2]);
        assert_eq!(
            best(&three).unwrap(),
            "encrypt.epochs=3 (encrypted 73.3 % at 4; 2 of the 2 others within its standard error on 30 images, 8.1 points)"
        );
        for entry in &mut three.runs {
            entry.figures.as_mut().unwrap().encrypted = None;
        }
        assert_eq!(best(&three), None);
        let converted = &mut three.runs[1].figures.as_mut().unwrap().converted;
        converted.accuracy_by_t[0].accuracy = 0.95;
        assert_eq!(
            best(&three).unwrap(),
            "encrypt.epochs=2 (converted 95.0 % at 4; 2 of the 2 others within its standard error on 30 images, 4.0 points)"
        );
        assert_eq!(best(&record(3, &[])), None);
    }
}
