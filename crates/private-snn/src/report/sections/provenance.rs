//! Where the result comes from, and what is smaller than in the paper.

use std::fmt::Write;

use serde_json::Value;

use super::{list, section, text, variants};
use crate::report::html::{Cell, escape, table};

/// What is smaller than in the paper.
pub fn scaled_down(html: &mut String, report: &Value) {
    let items: String = list(report, "scaled_down")
        .iter()
        .map(|item| format!("<li>{}</li>", escape(&text(item))))
        .collect();
    let body = if items.is_empty() {
        "<p>Nothing.</p>".to_string()
    } else {
        format!("<ul>{items}</ul>")
    };
    section(
        html,
        "What was scaled down or changed against the paper",
        &body,
    );
}

/// Where the result comes from.
pub fn provenance(html: &mut String, report: &Value) {
    let provenance = &report["provenance"];
    let dirty = match provenance["dirty"].as_bool() {
        Some(true) => ", with changes",
        _ => "",
    };
    let versions: Vec<String> = provenance["versions"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, version)| format!("{name} {}", text(version)))
        .collect();
    let lines = [
        ("Command", text(&provenance["command"])),
        (
            "Revision",
            format!("{}{dirty}", text(&provenance["revision"])),
        ),
        ("Versions", versions.join(", ")),
        ("Data, sha256", text(&provenance["data_sha256"])),
        ("Machine", text(&provenance["machine"])),
        ("Threads", text(&provenance["threads"])),
        ("Seconds of computation", text(&provenance["wall_seconds"])),
    ]
    .map(|(name, value)| (name.to_string(), vec![Cell::Text(value)]));
    let mut body = table(
        "provenance",
        "What is needed to make this result again",
        &["".into(), "".into()],
        &lines,
    );
    for (name, variant) in variants(report) {
        let lines: Vec<(String, Vec<Cell>)> = variant["stage_seconds"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(stage, seconds)| {
                (
                    stage.clone(),
                    vec![Cell::Figure(
                        seconds.as_f64().map_or("–".into(), |s| format!("{s:.1}")),
                    )],
                )
            })
            .collect();
        let head = ["Stage".to_string(), "Seconds".to_string()];
        let _ = write!(
            body,
            "<h3>{}</h3>{}",
            escape(name),
            table("stages", "Duration of each stage", &head, &lines)
        );
    }
    let settings = serde_json::to_string_pretty(&report["settings"]).unwrap_or_default();
    let _ = write!(
        body,
        "<details><summary>All settings</summary><pre>{}</pre></details>",
        escape(&settings)
    );
    section(html, "Provenance", &body);
}
