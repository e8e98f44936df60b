//! Groups of bars, or of dots.

use std::fmt::Write;

use super::html::escape;
use super::svg::{
    BOTTOM, COLOURS, Chart, HEIGHT, LEFT, RIGHT, ROW, TOP, WIDTH, legend, nice, quarters, window,
    wrap,
};

/// Width of a letter of the charts' font, on average.
const LETTER: f64 = 6.3;

impl Chart<'_> {
    /// Groups of bars: `names` along the axis, one bar per series in each group. Shares that are all far from 0, where bars would hide
    /// their differences, are dots, which need no zero. Names that do not fit side by side are numbered, and written out below.
    pub fn bars(&self, names: &[String], series: &[(String, Vec<f64>)]) -> String {
        let values = series
            .iter()
            .flat_map(|(_, values)| values.iter().copied())
            .filter(|value| value.is_finite());
        let axis = match window(values.clone()) {
            (bottom, top) if self.percent && bottom >= top / 2.0 => Axis::linear(bottom, top),
            _ => Axis::linear(0.0, nice(values.fold(0.0, f64::max))),
        };
        self.groups(names, series, &axis)
    }

    /// The same with dots over a logarithmic axis, for figures of different sizes; those that are not positive are left out.
    pub fn dots_by_decades(&self, names: &[String], series: &[(String, Vec<f64>)]) -> String {
        let values = series.iter().flat_map(|(_, values)| values);
        let values = values.filter(|value| value.is_finite() && **value > 0.0);
        let (low, high) = values.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), &value| {
            (low.min(value), high.max(value))
        });
        let (from, to) = match low <= high {
            true => (low.log10().floor(), high.log10().ceil()),
            false => (0.0, 1.0),
        };
        let axis = Axis {
            from: 10f64.powf(from),
            to: 10f64.powf(to.max(from + 1.0)),
            is_logarithmic: true,
        };
        self.groups(names, series, &axis)
    }

    fn groups(&self, names: &[String], series: &[(String, Vec<f64>)], axis: &Axis) -> String {
        let to_y = |y: f64| TOP + (1.0 - axis.share(y)) * (HEIGHT - TOP - BOTTOM);
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
        let mut svg = chart.frame(series.len() + list.len(), &axis.ticks(), &to_y);
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
                let value = values.get(g).copied();
                let Some(value) = value.filter(|&value| axis.share(value).is_finite()) else {
                    continue;
                };
                let (x, y) = (left + width * s as f64, to_y(value));
                let mark = if axis.has_dots() {
                    format!(r##"circle cx="{:.1}" cy="{y:.1}" r="4""##, x + width / 2.0)
                } else {
                    let height = (HEIGHT - BOTTOM - y).max(0.0);
                    format!(
                        r##"rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}""##
                    )
                };
                let _ = write!(
                    svg,
                    r##"<{mark} fill="{}"><title>{}, {}: {}</title></{}>"##,
                    COLOURS[s % COLOURS.len()],
                    escape(series_name),
                    escape(name),
                    self.value(value),
                    if axis.has_dots() { "circle" } else { "rect" }
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

/// The vertical axis.
struct Axis {
    from: f64,
    to: f64,
    is_logarithmic: bool,
}

impl Axis {
    fn linear(from: f64, to: f64) -> Self {
        Self {
            from,
            to,
            is_logarithmic: false,
        }
    }

    /// How far up a value is, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let of = |value: f64| match self.is_logarithmic {
            true => value.log10(),
            false => value,
        };
        (of(value) - of(self.from)) / (of(self.to) - of(self.from))
    }

    /// Bars stand on zero.
    fn has_dots(&self) -> bool {
        self.from > 0.0
    }

    fn ticks(&self) -> Vec<f64> {
        if !self.is_logarithmic {
            return quarters(self.from, self.to);
        }
        let decades = self.from.log10().round() as i32..=self.to.log10().round() as i32;
        decades.map(|decade| 10f64.powi(decade)).collect()
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

    fn of(names: &[&str], value: f64) -> String {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        CHART.bars(&names, &[("s".into(), vec![value; names.len()])])
    }

    fn bars(names: &[&str]) -> String {
        of(names, 0.01)
    }

    #[test]
    fn high_shares_are_dots_above_another_floor() {
        let high = of(&["a", "b"], 0.915);
        assert_eq!(high.matches("<circle ").count(), 2);
        assert!(high.contains(">91 %</text>") && !high.contains(">0 %</text>"));
        assert!(!high.contains("<rect x=") && high.contains("s, b: 92 %</title></circle>"));
        let low = bars(&["a"]);
        assert!(low.contains(">0 %</text>") && !low.contains("<circle"));
    }

    #[test]
    fn figures_of_different_sizes_are_dots_over_decades() {
        let chart = Chart {
            percent: false,
            ..CHART
        };
        let names = ["a", "b", "c"].map(String::from);
        let svg = chart.dots_by_decades(&names, &[("s".into(), vec![0.2, 30.0, 0.0])]);
        assert_eq!(svg.matches("<circle ").count(), 2);
        assert!(
            ["0.1", "1", "10", "100"]
                .iter()
                .all(|mark| svg.contains(&format!(">{mark}</text>")))
        );
        let none = chart.dots_by_decades(&names, &[("s".into(), vec![0.0; 3])]);
        assert!(!none.contains("<circle") && !none.contains("NaN"), "{none}");
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
