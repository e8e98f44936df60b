//! Groups of bars.

use std::fmt::Write;

use super::html::escape;
use super::svg::{
    BOTTOM, COLOURS, Chart, HEIGHT, LEFT, RIGHT, ROW, TOP, WIDTH, legend, nice, wrap,
};

/// Width of a letter of the charts' font, on average.
const LETTER: f64 = 6.3;

impl Chart<'_> {
    /// Groups of bars: `names` along the axis, one bar per series in each group. Names that do not fit side by side are
    /// numbered, and written out below.
    pub fn bars(&self, names: &[String], series: &[(String, Vec<f64>)]) -> String {
        let values = series
            .iter()
            .flat_map(|(_, values)| values.iter().copied())
            .filter(|value| value.is_finite());
        let top = nice(values.fold(0.0, f64::max));
        let to_y = |y: f64| TOP + (1.0 - y / top) * (HEIGHT - TOP - BOTTOM);
        let group = (WIDTH - LEFT - RIGHT) / names.len().max(1) as f64;
        let crowded = names.iter().any(|name| width(name) > group);
        let (labels, list) = if crowded {
            (
                (1..=names.len()).map(|n| n.to_string()).collect(),
                self.list(names),
            )
        } else {
            (names.to_vec(), Vec::new())
        };
        let chart = Chart {
            x: if crowded { "numbered as below" } else { self.x },
            ..*self
        };
        let mut svg = chart.frame(series.len() + list.len(), (0.0, top), &to_y);
        let width = group * 0.8 / series.len().max(1) as f64;
        for (g, (name, label)) in names.iter().zip(&labels).enumerate() {
            let left = LEFT + group * (g as f64 + 0.1);
            let _ = write!(
                svg,
                r##"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"##,
                left + group * 0.4,
                HEIGHT - BOTTOM + 16.0,
                escape(label)
            );
            for (s, (series_name, values)) in series.iter().enumerate() {
                let Some(value) = values.get(g).copied().filter(|value| value.is_finite()) else {
                    continue;
                };
                let _ = write!(
                    svg,
                    r##"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}" fill="{}"><title>{}, {}: {}</title></rect>"##,
                    left + width * s as f64,
                    to_y(value),
                    width,
                    (HEIGHT - BOTTOM - to_y(value)).max(0.0),
                    COLOURS[s % COLOURS.len()],
                    escape(series_name),
                    escape(name),
                    self.value(value)
                );
            }
        }
        for (s, (name, _)) in series.iter().enumerate() {
            legend(&mut svg, s, COLOURS[s % COLOURS.len()], "", name);
        }
        for (row, line) in list.iter().enumerate() {
            let _ = write!(
                svg,
                r##"<text x="{LEFT}" y="{}">{}</text>"##,
                HEIGHT + ROW * (series.len() + row) as f64 + 8.0,
                escape(line)
            );
        }
        svg.push_str("</svg>");
        svg
    }

    /// What is written below the chart: the axis' label, and the names with their numbers.
    fn list(&self, names: &[String]) -> Vec<String> {
        let letters = ((WIDTH - LEFT - RIGHT) / LETTER) as usize;
        let numbered = names
            .iter()
            .zip(1..)
            .map(|(name, n)| format!("{n}: {name}"));
        std::iter::once(format!("{}:", self.x))
            .chain(numbered)
            .flat_map(|line| wrap(&line, letters))
            .collect()
    }
}

fn width(text: &str) -> f64 {
    text.chars().count() as f64 * LETTER
}

#[cfg(test)]
mod tests {
    use super::super::svg::Scale;
    use super::*;

    const CHART: Chart = Chart {
        description: "what",
        x: "key",
        y: "accuracy",
        scale: Scale::Linear,
        percent: true,
    };

    fn bars(names: &[&str]) -> String {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let values = vec![0.5; names.len()];
        CHART.bars(&names, &[("s".into(), values)])
    }

    #[test]
    fn names_stand_below_their_groups_or_numbered_in_a_list() {
        let height = |svg: &str| -> f64 {
            let (_, rest) = svg.split_once(r#"viewBox="0 0 640 "#).unwrap();
            rest.split('"').next().unwrap().parse().unwrap()
        };
        let few = bars(&["layer one", "layer two"]);
        assert!(few.contains(">layer one</text>") && few.contains(">key</text>"));
        let many = bars(&["a name of thirty-odd characters"; 6]);
        assert_eq!(many.matches("<rect x=").count(), 6);
        assert!(
            many.contains(">1</text>") && many.contains(">6</text>"),
            "{many}"
        );
        assert!(many.contains(">6: a name of thirty-odd characters</text>"));
        assert!(many.contains(">key:</text>") && !many.contains(">key</text>"));
        assert_eq!(height(&many) - height(&few), 7.0 * ROW);
        let long = bars(&[&["word"; 60].join(" ")]);
        assert_eq!(height(&long) - height(&few), 5.0 * ROW);
    }
}
