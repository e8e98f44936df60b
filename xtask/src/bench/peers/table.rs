//! The comparison for the terminal.

use crate::bench::peers::cases::OURS;
use crate::bench::peers::record::{Case, Measured, Point};

/// A line per case and peer, with the ratio of the medians.
pub fn table(cases: &[Case]) -> String {
    let head = [
        "work", "side", "median", "min", "max", "memory", "ratio", "",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for case in cases {
        for (i, name) in case.sides.keys().enumerate() {
            let Some(side) = case.side(name) else {
                continue;
            };
            let id = if i == 0 { case.id.as_str() } else { "" };
            rows.push(row(case, id, name, &side));
        }
    }
    let columns = head.len();
    let widths: Vec<usize> = (0..columns)
        .map(|c| {
            rows.iter()
                .map(|row| row[c].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(c, (cell, &width))| {
                // words to the left, numbers to the right
                if c < 2 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// A line per point of a curve.
pub fn curve(case: &Case) -> String {
    let line = |point: &Point| {
        format!(
            "  {:<18} {:>10}  fires at {:>5.2} %  {:>6.2} G synaptic operations  {:>6.1} G/s\n",
            point.name,
            time(point.seconds),
            point.firing_rate * 100.0,
            point.synaptic_operations as f64 / 1e9,
            point.operations_per_second / 1e9,
        )
    };
    case.curve.iter().map(line).collect()
}

fn row(case: &Case, id: &str, name: &str, side: &Measured) -> Vec<String> {
    let seconds = side.seconds;
    let ratio = case.ratios.get(name);
    let differs = name == OURS && !case.agrees;
    vec![
        id.to_owned(),
        name.to_owned(),
        time(seconds.median),
        time(seconds.min),
        time(seconds.max),
        side.extra_mib
            .map_or(String::new(), |mib| format!("+{mib:.0} MiB")),
        ratio.map_or(String::new(), |ratio| format!("{ratio:.2}x")),
        if differs { "OUTPUTS DIFFER" } else { "" }.to_owned(),
    ]
}

fn time(seconds: f64) -> String {
    if seconds < 10.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.1} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ratios_stand_beside_the_peers() {
        let side = |median: f64| {
            json!({"seconds": {"median": median, "min": 0.1, "max": 12.0}, "before_mib": 1.0,
                "peak_mib": 3.0, "extra_mib": 2.0, "figures": {}})
        };
        let case: Case = serde_json::from_value(json!({
            "id": "a/b", "repetitions": 5, "sides": {"ours": side(0.2), "torch": side(0.5)},
            "ratios": {"torch": 2.5}, "differences": {}, "agrees": false,
        }))
        .unwrap();
        let text = table(&[case]);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[1].join(" "),
            "a/b ours 200.0 ms 100.0 ms 12.0 s +2 MiB OUTPUTS DIFFER"
        );
        assert_eq!(
            lines[2].join(" "),
            "torch 500.0 ms 100.0 ms 12.0 s +2 MiB 2.50x"
        );
    }
}
