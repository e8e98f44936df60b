//! Accuracy against T.

use std::fmt::Write;

use serde_json::Value;

use super::{section, variants};
use crate::report::curves::curves;
use crate::report::html::{escape, figure};

/// Accuracy against T.
pub fn accuracy(html: &mut String, report: &Value) {
    let mut body = String::new();
    for (name, variant) in variants(report) {
        let description = format!("{name}: test accuracy against the number of time steps T");
        let curves = curves(&[variant], &description);
        let caption = format!(
            "Accuracy against T: {}. The source network's level is that on the images of the quoted accuracies.",
            curves.images
        );
        let _ = write!(
            body,
            "<h3>{}</h3>{}",
            escape(name),
            figure(&curves.svg, &caption)
        );
    }
    section(html, "Accuracy against the number of time steps", &body);
}
