//! What one evidence file says: its table, its verdicts, its figures.

use std::path::Path;

use datasets::Kind;
use serde_json::Value;

use super::document::Block;
use crate::report::{
    Curves, Row, Unguided, Verdict, curves, drawing_name, energy_by_layer, energy_chart,
    row_figure, rows, show_spread, spread, target_name, unguided, verdict,
};

/// An evidence file.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name without extension.
    pub stem: String,
    /// What it holds.
    pub evidence: Value,
}

impl Account {
    /// Experiment and profile.
    pub fn title(&self) -> String {
        let of = |key: &str| self.evidence[key].as_str().unwrap_or("?");
        format!("{}, {}", of("experiment"), of("profile"))
    }

    /// Experiment, profile and variant.
    pub fn name(&self, variant: &str) -> String {
        format!("{}: {variant}", self.title())
    }

    /// The heading of its part of the account.
    pub fn heading(&self) -> String {
        let of = |key: &str| self.evidence[key].as_str().unwrap_or("?");
        format!("{}, profile {}", of("experiment"), of("profile"))
    }

    /// The command that makes it.
    pub fn command(&self) -> String {
        let of = |key: &str| self.evidence[key].as_str().unwrap_or("?");
        let seeds = self.evidence["seeds"].as_array();
        let seeds: Vec<String> = seeds.into_iter().flatten().map(Value::to_string).collect();
        let seeds = match seeds.join(",") {
            one if one == "1" => String::new(),
            several => format!(" --seed {several}"),
        };
        format!(
            "cargo xtask reproduce {} --profile {}{seeds}",
            of("experiment"),
            of("profile")
        )
    }

    /// What the gradient of attack A2 on a variant goes back through.
    pub fn through(&self, variant: &str) -> &'static str {
        let settings = &self.evidence["runs"][0]["settings"]["variants"][variant];
        let attack = &settings["attack"]["spike_gradient"];
        match (attack["through"].as_str(), attack["detach_reset"].as_bool()) {
            (Some("rates"), _) => "rates",
            (_, Some(false)) => "spikes and resets",
            _ => "spikes",
        }
    }

    /// The mean over the seeds of a row's figure.
    pub fn mean(&self, variant: &str, key: &str) -> Option<f64> {
        self.spread(variant, key).map(|(mean, _)| mean)
    }

    /// Mean and deviation over the seeds of a row's figure: as they were recorded, or of a row that there was not yet when they
    /// were, from the runs.
    fn spread(&self, variant: &str, key: &str) -> Option<(f64, Option<f64>)> {
        let recorded = &self.evidence["variants"][variant][key];
        if let Some(mean) = recorded["mean"].as_f64() {
            return Some((mean, recorded["deviation"].as_f64()));
        }
        let runs = self.evidence["runs"].as_array()?.iter();
        let figures: Option<Vec<f64>> = runs.map(|run| row_figure(run, variant, key)).collect();
        spread(&figures?)
    }

    /// Name of the variant at the top.
    pub fn headline(&self) -> &str {
        self.evidence["headline"].as_str().unwrap_or_default()
    }

    /// Whether its pictures are of a real data set.
    pub fn is_real(&self) -> bool {
        self.evidence["runs"][0]["dataset"] != "glyphs"
    }

    /// Whether it was made with fewer test images than the data set has.
    pub fn is_partial(&self) -> bool {
        let images = self.evidence["runs"][0]["test_images"].as_u64();
        let all = self.official_test_images();
        images
            .zip(all)
            .is_some_and(|(images, all)| images < all as u64)
    }

    fn official_test_images(&self) -> Option<usize> {
        let name = self.evidence["runs"][0]["dataset"].as_str()?;
        name.parse::<Kind>().ok()?.test_images()
    }

    /// Number of runs.
    pub fn seeds(&self) -> usize {
        self.evidence["seeds"].as_array().map_or(0, Vec::len)
    }

    /// The charts of a variant, each with the name of its file.
    pub fn charts(&self, variant: &str) -> Vec<(String, String)> {
        let accuracy = self.curves(variant).svg;
        let energy = energy_chart(&self.energies(variant), "Energy per image by layer");
        let energy = energy.map(|svg| (self.drawing(variant, "energy"), svg));
        std::iter::once((self.drawing(variant, "accuracy"), accuracy))
            .chain(energy)
            .collect()
    }

    /// A variant's curves, mean over the seeds.
    fn curves(&self, variant: &str) -> Curves {
        let runs = self.evidence["runs"].as_array().into_iter().flatten();
        let runs: Vec<&Value> = runs.map(|run| &run["variants"][variant]).collect();
        curves(&runs, "Test accuracy against the number of time steps T")
    }

    /// Name of a drawing of `what`: that of the headline variant goes without the variant's name.
    fn drawing(&self, variant: &str, what: &str) -> String {
        drawing_name(&self.stem, self.beside_headline(variant), what)
    }

    /// The figure of a row, mean and deviation over the seeds where there are several; none if there is none. A Fréchet
    /// distance stands before those that real images and noise have.
    pub fn cell(&self, variant: &str, row: &Row) -> Option<String> {
        let (mean, deviation) = self.spread(variant, &row.key)?;
        let figure = show_spread(mean, deviation, row.unit);
        let figure = match self.anchors(variant, &row.key) {
            Some([floor, ceiling]) => format!("{figure} ({floor:.2} … {ceiling:.2})"),
            None => figure,
        };
        Some(self.unguided(variant, &row.key).shown(figure))
    }

    /// Pictures of an attack that had no gradient, over all runs.
    pub fn unguided(&self, variant: &str, key: &str) -> Unguided {
        let runs = self.evidence["runs"].as_array().into_iter().flatten();
        runs.map(|run| unguided(run, variant, key)).sum()
    }

    /// The Fréchet distances of real images and of noise beside which the one of a row stands, mean over the seeds.
    fn anchors(&self, variant: &str, key: &str) -> Option<[f64; 2]> {
        let attack = key.strip_suffix(".fid")?;
        let runs = self.evidence["runs"].as_array()?;
        let mean = |anchor: &str| {
            let key = format!("{attack}.{anchor}");
            let values: Option<Vec<f64>> = runs
                .iter()
                .map(|run| row_figure(run, variant, &key))
                .collect();
            Some(spread(&values?)?.0)
        };
        Some([mean("fid_floor")?, mean("fid_ceiling")?])
    }

    /// Names of the variants, that of the headline first.
    pub fn variants(&self) -> Vec<&String> {
        let headline = self.headline();
        let variants = self.evidence["variants"].as_object();
        let mut variants: Vec<&String> = variants.into_iter().flat_map(|map| map.keys()).collect();
        variants.sort_by_key(|name| *name != headline);
        variants
    }

    /// The table, a column per variant, that of the headline first.
    pub fn table(&self) -> Block {
        let variants = self.variants();
        let mut table = Vec::new();
        for row in rows() {
            let cells: Vec<Option<String>> = variants
                .iter()
                .map(|variant| self.cell(variant, &row))
                .collect();
            if cells.iter().any(Option::is_some) {
                let cells = cells.into_iter().map(|cell| cell.unwrap_or("–".into()));
                table.push((row.label, cells.collect()));
            }
        }
        let spread = match self.seeds() {
            1 => "1 seed".to_string(),
            seeds => format!("{seeds} seeds, mean ± sample standard deviation"),
        };
        Block::Table {
            head: std::iter::once(spread)
                .chain(variants.into_iter().cloned())
                .collect(),
            rows: table,
        }
    }

    /// What the record was made with: how many test images there were, and what is smaller than in the paper's profile.
    pub fn conditions(&self) -> Option<Block> {
        let run = &self.evidence["runs"][0];
        let images = run["test_images"].as_u64()?;
        let mut text = match self.official_test_images() {
            Some(all) if self.is_partial() => {
                format!("{images} of {all} test images of the data set were at hand.")
            }
            _ => format!("{images} test images were at hand."),
        };
        let items: Vec<&str> = run["scaled_down"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !items.is_empty() {
            text += &format!(" Scaled down: {}", items.join(" "));
        }
        let rates: Vec<&str> = self
            .variants()
            .into_iter()
            .map(String::as_str)
            .filter(|name| self.through(name) == "rates")
            .collect();
        if !rates.is_empty() {
            text += &format!(
                " A2 goes through the firing rates, not through each spike: {}.",
                rates.join(", ")
            );
        }
        Some(Block::Text(text))
    }

    /// Where the figures show that the encryption fails, by variant, in the order of [`Account::variants`].
    pub fn verdicts(&self) -> Vec<(&String, Verdict)> {
        let of = |name: &String, key: &str| {
            let mean = self.mean(name, key)?;
            self.unguided(name, key).has_a_say().then_some(mean)
        };
        self.variants()
            .into_iter()
            .filter_map(|name| Some((name, verdict(|key| of(name, key), self.seeds())?)))
            .collect()
    }

    /// For each variant what the layers of its encrypted network take, mean over the seeds.
    pub fn energy(&self) -> Vec<Block> {
        let of = |variant: &String| {
            let (head, rows) = energy_by_layer(&self.energies(variant));
            let words = format!(
                "Energy per image of the encrypted network's weighted layers beside the source network's, variant {variant}:"
            );
            let drawn = Block::Figure {
                file: self.drawing(variant, "energy"),
                description: format!("Energy by layer: {}, {variant}", self.stem),
                caption: "The same, drawn.".into(),
            };
            (!rows.is_empty()).then_some([Block::Text(words), Block::Table { head, rows }, drawn])
        };
        self.variants()
            .into_iter()
            .filter_map(of)
            .flatten()
            .collect()
    }

    /// The encrypted network's energy in each run.
    fn energies(&self, variant: &str) -> Vec<&Value> {
        let runs = self.evidence["runs"].as_array().into_iter().flatten();
        runs.map(|run| &run["variants"][variant]["encrypted"]["energy"])
            .collect()
    }

    fn seed_names(&self) -> Vec<String> {
        let seeds = self.evidence["seeds"].as_array();
        seeds.into_iter().flatten().map(Value::to_string).collect()
    }

    /// A variant's chart with its caption.
    pub fn accuracy(&self, variant: &str) -> Block {
        let seeds = self.seed_names();
        let of_seeds = match seeds.as_slice() {
            [] => "no seed".to_string(),
            [seed] => format!("seed {seed}"),
            seeds => format!("mean of {} runs, seeds {}", seeds.len(), seeds.join(", ")),
        };
        Block::Figure {
            file: self.drawing(variant, "accuracy"),
            description: format!("Accuracy against T: {}, {variant}", self.stem),
            caption: format!(
                "Accuracy against T, variant {variant}, {of_seeds}: {}. Horizontal line: the source network on the images of the \
                 quoted accuracies.",
                self.curves(variant).images
            ),
        }
    }

    /// The variant's name where it is not the headline's.
    fn beside_headline<'a>(&self, variant: &'a str) -> Option<&'a str> {
        (variant != self.headline()).then_some(variant)
    }

    /// The drawing of a variant's images, with its caption, if it is in `figures`.
    pub fn images(&self, variant: &str, figures: &Path) -> Option<Block> {
        let stem = &self.stem;
        let drawing = self.drawing(variant, "images");
        if !figures.join(&drawing).is_file() {
            return None;
        }
        let seeds = self.seed_names();
        let first = seeds.first().map_or("?", String::as_str);
        let run = &self.evidence["runs"][0]["variants"][variant];
        let count = run["synthetic"]["count"].as_u64();
        Some(Block::Figure {
            file: drawing,
            description: format!("Real, synthetic and rebuilt images: {stem}, {variant}"),
            caption: format!(
                "Up to two images per source and class (of the first ten at most), variant {variant}, seed {first}, the \
                 first of each: real test images; of {} synthetic ones; of those rebuilt: {}.",
                count.map_or("?".into(), |count| count.to_string()),
                rebuilt(run).join(", ")
            ),
        })
    }
}

/// How many pictures each attack on each target rebuilt of a variant, in words.
fn rebuilt(variant: &Value) -> Vec<String> {
    let attacks = variant["attacks"].as_array().into_iter().flatten();
    attacks
        .filter_map(|entry| {
            let attack = match entry["attack"].as_str()? {
                "back_conversion" => "A1",
                _ => "A2",
            };
            let target = target_name(entry["target"].as_str()?);
            Some(format!(
                "{} by {attack} on {target}",
                entry["samples"].as_u64()?
            ))
        })
        .collect()
}
