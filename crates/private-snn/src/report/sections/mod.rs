//! The sections of the page, a file for each.

mod accuracy;
mod conversion;
mod energy;
mod grids;
mod headline;
mod leakage;
mod provenance;
mod training;

use std::fmt::Write;

use serde_json::Value;

pub use self::accuracy::accuracy;
pub use self::conversion::conversion;
pub use self::energy::energy;
pub use self::grids::pictures;
pub use self::headline::headline;
pub use self::leakage::{leakage, threat_model};
pub use self::provenance::{provenance, scaled_down};
pub use self::training::training;
use super::html::escape;
use super::layers::layer_name;

fn variants(report: &Value) -> impl Iterator<Item = (&String, &Value)> {
    report["variants"].as_object().into_iter().flatten()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "–".into(),
        Value::Number(number) if !number.is_i64() && !number.is_u64() => number
            .as_f64()
            .map_or("–".into(), |number| format!("{number:.3}")),
        other => other.to_string(),
    }
}

fn section(html: &mut String, title: &str, body: &str) {
    let _ = writeln!(html, "<section><h2>{}</h2>{body}</section>", escape(title));
}
