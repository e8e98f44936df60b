//! The results in a table, beside the paper's claims.

use std::fmt::Write;

use serde_json::Value;

use super::{section, text, variants};
use crate::report::html::{Cell, escape, table};
use crate::report::paper::Paper;
use crate::report::rows::{cell, rows_of};
use crate::report::verdict;

/// The table of results, beside the paper's claims.
pub fn headline(html: &mut String, report: &Value, paper: Option<&Paper>) {
    let mut body = format!(
        "<p>Experiment <b>{}</b>, profile <b>{}</b>, seed {}, on {}. Data set {}.</p>",
        escape(&text(&report["experiment"])),
        escape(&text(&report["profile"])),
        escape(&text(&report["seed"])),
        escape(&text(&report["device"])),
        escape(&text(&report["dataset"])),
    );
    body.push_str("<ul>");
    for (name, variant) in variants(report) {
        let _ = write!(
            body,
            "<li><b>{}</b>: {}</li>",
            escape(name),
            escape(&text(&variant["title"]))
        );
    }
    body.push_str("</ul>");
    let mut head = vec!["Measured".to_string()];
    head.extend(variants(report).map(|(name, _)| name.clone()));
    head.extend(paper.map(|_| "The paper's claim".to_string()));
    let lines: Vec<(String, Vec<Cell>)> = rows_of(report)
        .into_iter()
        .map(|row| {
            let mut cells: Vec<Cell> = variants(report)
                .map(|(name, _)| Cell::Figure(cell(report, name, &row)))
                .collect();
            if let Some(paper) = paper {
                cells.push(Cell::Text(match paper.beside(&row.key) {
                    Some(claim) => format!("{} ({})", claim.claim, claim.place),
                    None => "–".into(),
                }));
            }
            (row.label, cells)
        })
        .collect();
    let caption = match paper {
        Some(paper) => format!(
            "Claims: {}. A dash: the paper's figure is not at hand.",
            paper.source
        ),
        None => "No claim of the paper is on file for this data set.".to_string(),
    };
    body.push_str(&table("results", &caption, &head, &lines));
    for (name, _) in variants(report) {
        if let Some(verdict) = verdict::of_report(report, name) {
            let words = escape(&verdict.to_string());
            let _ = write!(body, "<p><b>{}</b>: {words}</p>", escape(name));
        }
    }
    section(html, "Results", &body);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failed_protection_is_said_in_the_results() {
        let report = json!({"variants": {"a": {
            "encrypted": {"test_accuracy": 0.98},
            "leakage": [{"target": "encrypted", "relu_reading_accuracy": 0.97}]}}});
        let mut html = String::new();
        headline(&mut html, &report, None);
        assert!(
            html.contains("On this run the encrypted weights still classify"),
            "{html}"
        );
        assert!(html.contains("No claim of the paper is on file"), "{html}");
    }
}
