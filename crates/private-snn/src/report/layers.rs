//! Energy of each weighted layer of a network.

use serde_json::Value;

use super::svg::{Chart, Scale};

/// Heads of the columns with the keys of their figures.
const COLUMNS: [(&str, &str); 5] = [
    ("source (µJ)", "ann_picojoule"),
    ("by events (µJ)", "snn_picojoule_events"),
    ("by rate (µJ)", "snn_picojoule_rate"),
    ("source, with memory (µJ)", "ann_picojoule_memory"),
    ("with memory (µJ)", "snn_picojoule_memory"),
];

/// Head and lines of the table of a network's energy per image and layer, and of all layers together: means over
/// `energies`, what several runs have of it. No line if there is none.
pub fn energy_by_layer(energies: &[&Value]) -> (Vec<String>, Vec<(String, Vec<String>)>) {
    let head = ["layer", "accumulates"].into_iter();
    let head = head.chain(COLUMNS.map(|(head, _)| head));
    let first = energies
        .first()
        .and_then(|energy| energy["layers"].as_array());
    let layers = first.into_iter().flatten().enumerate();
    let mut lines: Vec<(String, Vec<String>)> = layers
        .map(|(i, layer)| {
            let entries: Vec<&Value> = energies.iter().map(|energy| &energy["layers"][i]).collect();
            let accumulates = mean(&entries, |entry| entry["accumulates"].as_f64());
            (layer_name(layer), cells(accumulates, &entries))
        })
        .collect();
    if !lines.is_empty() {
        let all = |energy: &Value| {
            let layers = energy["layers"].as_array()?;
            layers
                .iter()
                .map(|layer| layer["accumulates"].as_f64())
                .sum()
        };
        lines.push(("all".into(), cells(mean(energies, all), energies)));
    }
    (head.map(String::from).collect(), lines)
}

/// Names of the layers, and of each way of counting the layers' energies in µJ: means over `energies`.
fn energy_series(energies: &[&Value]) -> (Vec<String>, Vec<(String, Vec<f64>)>) {
    let first = energies
        .first()
        .and_then(|energy| energy["layers"].as_array());
    let layers = first.map_or(&[][..], Vec::as_slice);
    let series = COLUMNS.map(|(head, key)| {
        let of_layer = |i: usize| {
            let entries: Vec<&Value> = energies.iter().map(|energy| &energy["layers"][i]).collect();
            mean(&entries, |entry| entry[key].as_f64())
        };
        let values = (0..layers.len()).map(|i| of_layer(i).map_or(f64::NAN, |pj| pj * 1e-6));
        (head.to_string(), values.collect())
    });
    (layers.iter().map(layer_name).collect(), series.into())
}

/// The chart of these; none if there is none.
pub fn energy_chart(energies: &[&Value], description: &str) -> Option<String> {
    let (names, series) = energy_series(energies);
    if names.is_empty() {
        return None;
    }
    let chart = Chart {
        description,
        x: "layer",
        y: "µJ (logarithmic)",
        scale: Scale::Linear,
        percent: false,
    };
    Some(chart.dots_by_decades(&names, &series))
}

fn cells(accumulates: Option<f64>, entries: &[&Value]) -> Vec<String> {
    let shown = |figure: Option<f64>, digits: usize| {
        figure.map_or("–".to_string(), |figure| format!("{figure:.digits$}"))
    };
    let energies = COLUMNS.map(|(_, key)| {
        let picojoule = mean(entries, |entry| entry[key].as_f64());
        shown(picojoule.map(|energy| energy * 1e-6), 2)
    });
    std::iter::once(shown(accumulates, 0))
        .chain(energies)
        .collect()
}

/// The mean of a figure that all have.
fn mean(entries: &[&Value], figure: impl Fn(&Value) -> Option<f64>) -> Option<f64> {
    let figures: Option<Vec<f64>> = entries.iter().map(|entry| figure(entry)).collect();
    Some(super::spread(&figures?)?.0)
}

/// The layer's name in its network, or its number.
pub fn layer_name(layer: &Value) -> String {
    match layer["name"].as_str() {
        Some(name) => name.to_string(),
        None => match layer["layer"].as_u64() {
            Some(number) => format!("layer {number}"),
            None => "layer –".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn layers_are_means_over_runs_and_end_with_all() {
        let run = |events: f64, accumulates: f64| {
            let energy = json!({"ann_picojoule": 4e6, "snn_picojoule_events": events, "snn_picojoule_rate": 1e4,
                "ann_picojoule_memory": 8e6, "snn_picojoule_memory": 9e6});
            let layer = |name: Value, accumulates: f64| {
                let mut layer = energy.clone();
                layer["accumulates"] = accumulates.into();
                layer["name"] = name;
                layer["layer"] = 3.into();
                layer
            };
            let mut all = energy.clone();
            all["layers"] = json!([layer("conv1".into(), accumulates), layer(Value::Null, 1.0)]);
            all
        };
        let (one, other) = (run(1e6, 10.0), run(3e6, 30.0));
        let (head, lines) = energy_by_layer(&[&one, &other]);
        assert_eq!(head[..3], ["layer", "accumulates", "source (µJ)"]);
        let names: Vec<&str> = lines.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["conv1", "layer 3", "all"]);
        assert_eq!(lines[0].1, ["20", "4.00", "2.00", "0.01", "8.00", "9.00"]);
        assert_eq!(lines[2].1[..3], ["21", "4.00", "2.00"]);
        assert!(energy_by_layer(&[&Value::Null]).1.is_empty());
        let broken = json!({"layers": [{"name": "a"}]});
        assert_eq!(energy_by_layer(&[&one, &broken]).1[0].1[1], "–");
    }
}
