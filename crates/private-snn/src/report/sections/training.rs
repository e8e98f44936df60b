//! Training curves.

use std::fmt::Write;

use serde_json::Value;

use super::{list, section, variants};
use crate::report::html::{escape, figure};
use crate::report::svg::{Chart, Line, Scale, Stroke};

/// Training curves.
pub fn training(html: &mut String, report: &Value) {
    let mut body = String::new();
    for (name, variant) in variants(report) {
        let history = list(&variant["ann"], "history");
        let line = |label: &str, entries: &[Value], key: &str| Line {
            name: label.into(),
            points: points(entries, "epoch", key),
            apart: Vec::new(),
            stroke: Stroke::Solid,
        };
        let accuracy = Chart {
            description: &format!("{name}: accuracy of the source network over its training"),
            x: "epoch",
            y: "accuracy",
            scale: Scale::Linear,
            percent: true,
        };
        let lines = [
            line("training images, as seen", history, "train_accuracy"),
            line("validation images", history, "validation_accuracy"),
        ];
        let loss = Chart {
            description: &format!("{name}: loss of the encryption over its epochs"),
            x: "epoch",
            y: "loss",
            scale: Scale::Linear,
            percent: false,
        };
        let encryption = [line(
            "encryption",
            list(&variant["encrypted"], "history"),
            "loss",
        )];
        let _ = write!(
            body,
            "<h3>{}</h3>{}{}",
            escape(name),
            figure(&accuracy.lines(&lines), "Training of the source network."),
            figure(
                &loss.lines(&encryption),
                "Encryption: mean loss per epoch on the synthetic images."
            )
        );
    }
    section(html, "Training", &body);
}

fn points(entries: &[Value], x: &str, y: &str) -> Vec<(f64, f64)> {
    entries
        .iter()
        .filter_map(|entry| Some((entry[x].as_f64()?, entry[y].as_f64()?)))
        .collect()
}
