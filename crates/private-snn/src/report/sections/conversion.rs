//! The conversion layer by layer.

use std::fmt::Write;

use serde_json::Value;

use super::{layer_name, list, section, text, variants};
use crate::report::html::{Cell, escape, table};
use crate::report::rows::{Unit, show};

/// The conversion's report per layer.
pub fn conversion(html: &mut String, report: &Value) {
    let mut body = String::new();
    for (name, variant) in variants(report) {
        for key in ["converted", "converted_with_real_data"] {
            let layers = list(&variant[key], "layers");
            let columns: Vec<&String> = layers
                .first()
                .and_then(Value::as_object)
                .into_iter()
                .flat_map(|entry| entry.keys())
                .filter(|key| *key != "name" && *key != "layer")
                .collect();
            let head: Vec<String> = std::iter::once("Layer".to_string())
                .chain(columns.iter().map(|column| column.replace('_', " ")))
                .collect();
            let lines: Vec<(String, Vec<Cell>)> = layers
                .iter()
                .map(|entry| {
                    let cells = columns
                        .iter()
                        .map(|column| Cell::Figure(text(&entry[column.as_str()])))
                        .collect();
                    (layer_name(entry), cells)
                })
                .collect();
            let caption = format!(
                "{}. Thresholds: {}. {}",
                key.replace('_', " "),
                text(&variant[key]["thresholds"]),
                measured(&variant[key]["measured"])
            );
            let _ = write!(
                body,
                "<h3>{}</h3>{}",
                escape(name),
                table("layers", &caption, &head, &lines)
            );
        }
    }
    section(html, "Conversion, layer by layer", &body);
}

/// What the figures of a conversion's layers were measured on.
fn measured(of: &Value) -> String {
    let images = text(&of["images"]);
    if images == "0" {
        return "Activity was not measured.".into();
    }
    format!(
        "Clipped shares, correlations, first steps and rates are measured on {images} {} over T = {}; on {} of them \
         source and spiking network choose the same class. Figures on synthetic images do not compare with figures on \
         real ones.",
        text(&of["source"]),
        text(&of["timesteps"]),
        show(of["agreement"].as_f64(), Unit::Percent)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_images_of_a_conversion_are_named() {
        let of =
            json!({"source": "synthetic images", "images": 64, "timesteps": 16, "agreement": 0.5});
        let said = measured(&of);
        assert!(
            said.contains("64 synthetic images over T = 16; on 50.0 %"),
            "{said}"
        );
        assert!(measured(&json!({"images": 0})).contains("not measured"));
    }
}
