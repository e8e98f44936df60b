//! Charts as inline SVG, and lines over a linear or logarithmic axis. They use the page's font and colours that differ in
//! lightness too, and every line carries its name.

use std::fmt::Write;

use super::html::escape;

/// Horizontal axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Equal distances for equal differences. Marked at the values themselves.
    Linear,
    /// The same, marked at round numbers.
    Round,
    /// Equal distances for equal ratios; values must be positive. Marked at the values themselves.
    Logarithmic,
    /// The same, marked at powers of ten, and at 2 and 5 times them where there is room.
    Decades,
}

/// One line of a chart.
#[derive(Debug, Clone)]
pub struct Line {
    /// Name in the legend.
    pub name: String,
    /// Points (x, y), in the order of x.
    pub points: Vec<(f64, f64)>,
    /// Points that were measured otherwise than the others: hollow marks, joined to nothing.
    pub apart: Vec<(f64, f64)>,
    /// How it is drawn.
    pub stroke: Stroke,
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    /// A line through marks.
    Solid,
    /// Dashed, without marks: a level to compare with.
    Level,
    /// Marks alone, of points between which there is nothing.
    Marks,
}

/// A chart of lines or of bars.
#[derive(Debug, Clone)]
pub struct Chart<'a> {
    /// What the chart shows, for those who cannot see it.
    pub description: &'a str,
    /// Label of the horizontal axis.
    pub x: &'a str,
    /// Label of the vertical axis.
    pub y: &'a str,
    /// Horizontal axis.
    pub scale: Scale,
    /// Values are shares in 0..1, shown as percent.
    pub percent: bool,
}

pub(super) const WIDTH: f64 = 640.0;
pub(super) const HEIGHT: f64 = 300.0;
pub(super) const LEFT: f64 = 56.0;
pub(super) const RIGHT: f64 = 24.0;
pub(super) const TOP: f64 = 12.0;
pub(super) const BOTTOM: f64 = 44.0;
pub(super) const ROW: f64 = 18.0;
pub(crate) const COLOURS: [&str; 8] = [
    "#0b3c8c", "#c2410c", "#047857", "#7e22ce", "#ca8a04", "#475569", "#0891b2", "#be185d",
];

impl Chart<'_> {
    /// The chart as an `<svg>` element; values that are not finite are left out.
    pub fn lines(&self, lines: &[Line]) -> String {
        let on_axis = |x: f64| {
            x.is_finite() && (matches!(self.scale, Scale::Linear | Scale::Round) || x > 0.0)
        };
        let lines: Vec<Line> = lines
            .iter()
            .map(|line| {
                let mut line = line.clone();
                let can_be_drawn = |&(x, y): &(f64, f64)| on_axis(x) && y.is_finite();
                line.points.retain(can_be_drawn);
                line.apart.retain(can_be_drawn);
                line
            })
            .filter(|line| !line.points.is_empty() || !line.apart.is_empty())
            .collect();
        let points = || {
            lines
                .iter()
                .flat_map(|line| line.points.iter().chain(&line.apart))
        };
        let place = |x: f64| match self.scale {
            Scale::Linear | Scale::Round => x,
            Scale::Logarithmic | Scale::Decades => x.log2(),
        };
        let (x0, x1) = extent(points().map(|&(x, _)| place(x)));
        let (bottom, top) = if self.percent {
            window(points().map(|&(_, y)| y))
        } else {
            (0.0, nice(points().map(|&(_, y)| y).fold(0.0, f64::max)))
        };
        let to_x = |x: f64| LEFT + (place(x) - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
        let to_y = |y: f64| TOP + (1.0 - (y - bottom) / (top - bottom)) * (HEIGHT - TOP - BOTTOM);
        let mut svg = self.frame(lines.len(), &quarters(bottom, top), &to_y);
        for x in self.ticks(points().map(|&(x, _)| x).collect()) {
            let _ = write!(
                svg,
                r##"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"##,
                to_x(x),
                HEIGHT - BOTTOM + 16.0,
                number(x)
            );
        }
        for (i, line) in lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let dash = match line.stroke {
                Stroke::Level => r##" stroke-dasharray="6 4""##,
                Stroke::Solid | Stroke::Marks => "",
            };
            let path: Vec<String> = line
                .points
                .iter()
                .map(|&(x, y)| format!("{:.1},{:.1}", to_x(x), to_y(y)))
                .collect();
            if line.stroke != Stroke::Marks && !path.is_empty() {
                let _ = write!(
                    svg,
                    r##"<polyline fill="none" stroke="{colour}" stroke-width="2"{dash} points="{}"/>"##,
                    path.join(" ")
                );
            }
            let joined = line.points.iter().filter(|_| match line.stroke {
                Stroke::Level => false,
                Stroke::Solid => line.points.len() <= 40,
                Stroke::Marks => true,
            });
            let full = format!(r##"fill="{colour}""##);
            let hollow = format!(r##"fill="#fff" stroke="{colour}" stroke-width="1.5""##);
            let marks = joined.map(|point| (point, &full));
            for (&(x, y), fill) in marks.chain(line.apart.iter().map(|point| (point, &hollow))) {
                let _ = write!(
                    svg,
                    r##"<circle cx="{:.1}" cy="{:.1}" r="3" {fill}><title>{} {}: {}</title></circle>"##,
                    to_x(x),
                    to_y(y),
                    escape(self.x),
                    number(x),
                    self.value(y)
                );
            }
            legend(&mut svg, i, colour, dash, &line.name);
        }
        svg.push_str("</svg>");
        svg
    }

    /// Title, vertical axis marked at `ticks`, and labels, with room for so many `rows` below.
    pub(super) fn frame(&self, rows: usize, ticks: &[f64], to_y: &dyn Fn(f64) -> f64) -> String {
        let height = HEIGHT + ROW * rows as f64;
        let mut svg = format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" fill="#111827"><title>{}</title><rect width="{WIDTH}" height="{height}" fill="#fff"/>"##,
            escape(self.description)
        );
        for &value in ticks {
            let y = to_y(value);
            let _ = write!(
                svg,
                r##"<line x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}" stroke="#d1d5db"/><text x="{}" y="{:.1}" text-anchor="end">{}</text>"##,
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                self.value(value)
            );
        }
        let _ = write!(
            svg,
            r##"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text><text transform="translate(13 {:.1}) rotate(-90)" text-anchor="middle">{}</text>"##,
            LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
            HEIGHT - 8.0,
            escape(self.x),
            TOP + (HEIGHT - TOP - BOTTOM) / 2.0,
            escape(self.y)
        );
        svg
    }

    fn ticks(&self, mut values: Vec<f64>) -> Vec<f64> {
        values.sort_by(f64::total_cmp);
        values.dedup();
        if let (Scale::Decades, [low, .., high]) = (self.scale, values.as_slice()) {
            let marks = |of: &[f64]| -> Vec<f64> {
                let exponents = low.log10().floor() as i32..=high.log10().ceil() as i32;
                let marks =
                    exponents.flat_map(|exponent| of.iter().map(move |m| m * 10f64.powi(exponent)));
                marks.filter(|mark| low <= mark && mark <= high).collect()
            };
            let all = marks(&[1.0, 2.0, 5.0]);
            return if all.len() <= 10 { all } else { marks(&[1.0]) };
        }
        if let (Scale::Round, [low, .., high]) = (self.scale, values.as_slice()) {
            let step = round_step((high - low) / 4.0);
            let places = (low / step).ceil() as i64..=(high / step).floor() as i64;
            return places.map(|place| place as f64 * step).collect();
        }
        let stride = values.len().div_ceil(10).max(1);
        values.into_iter().step_by(stride).collect()
    }

    pub(super) fn value(&self, value: f64) -> String {
        if self.percent {
            format!("{:.0} %", value * 100.0)
        } else {
            number(value)
        }
    }
}

/// Where a vertical axis without other marks has them.
pub(super) fn quarters(bottom: f64, top: f64) -> Vec<f64> {
    let marks = (0..=4).map(|tick| bottom + (top - bottom) * f64::from(tick) / 4.0);
    marks.collect()
}

pub(super) fn legend(svg: &mut String, row: usize, colour: &str, dash: &str, name: &str) {
    let y = HEIGHT + ROW * row as f64 + 4.0;
    let _ = write!(
        svg,
        r##"<line x1="{LEFT}" x2="{}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3"{dash}/><text x="{}" y="{}">{}</text>"##,
        LEFT + 28.0,
        LEFT + 36.0,
        y + 4.0,
        escape(name)
    );
}

/// Words in lines of at most `letters`; a longer word has a line of its own.
pub(super) fn wrap(text: &str, letters: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= letters => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
        (low.min(v), high.max(v))
    });
    if low < high {
        (low, high)
    } else if low.is_finite() {
        (low - 0.5, low + 0.5)
    } else {
        (0.0, 1.0)
    }
}

/// The largest number of 1, 2 and 5 times the powers of ten that is at most `span`.
fn round_step(span: f64) -> f64 {
    let power = 10f64.powf(span.log10().floor());
    let steps = [5.0, 2.0, 1.0].into_iter().map(|step| step * power);
    let mut fitting = steps.filter(|step| *step <= span * (1.0 + 1e-9));
    fitting.next().unwrap_or(power)
}

/// The narrowest part of 0 to 1 that is four whole percents, or as many times 2, 5, 10 or 25, and holds all values: lines, unlike
/// bars, need no zero, and small differences are to be seen.
pub(super) fn window(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((1.0, 0.0), |(low, high): (f64, f64), v| {
        (low.min(v), high.max(v))
    });
    let percents = [1.0, 2.0, 5.0, 10.0].into_iter().map(|step: f64| {
        let bottom = ((low * 100.0 + 1e-9) / step).floor() * step;
        let bottom = bottom.min(100.0 - 4.0 * step);
        (bottom / 100.0, (bottom + 4.0 * step) / 100.0)
    });
    let mut holds = percents.filter(|(bottom, top)| *bottom >= 0.0 && high <= top + 1e-9);
    holds.next().filter(|_| low <= high).unwrap_or((0.0, 1.0))
}

/// The next of 1, 2, 2.5, 5 times a power of ten.
pub(super) fn nice(largest: f64) -> f64 {
    if !(largest.is_finite() && largest > 0.0) {
        return 1.0;
    }
    let unit = 10f64.powf(largest.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|step| step * unit)
        .find(|&top| top >= largest * 0.999)
        .unwrap_or(largest)
}

fn number(value: f64) -> String {
    if value == value.round() && value.abs() < 1e7 {
        format!("{value:.0}")
    } else if value.abs() < 0.001 {
        // three digits after the point would leave nothing of it
        let text = format!("{value:.2e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        format!("{digits}e{exponent}")
    } else {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHART: Chart = Chart {
        description: "a < b",
        x: "T",
        y: "accuracy",
        scale: Scale::Logarithmic,
        percent: true,
    };

    fn line(points: &[(f64, f64)]) -> Line {
        Line {
            name: "x & y".into(),
            points: points.to_vec(),
            apart: Vec::new(),
            stroke: Stroke::Solid,
        }
    }

    #[test]
    fn powers_of_two_are_equally_far_apart() {
        let svg = CHART.lines(&[line(&[(1.0, 0.0), (2.0, 0.5), (4.0, 1.0)])]);
        let places: Vec<f64> = svg
            .split("cx=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(places.len(), 3);
        assert!(
            (places[1] - places[0] - (places[2] - places[1])).abs() < 0.2,
            "{places:?}"
        );
    }

    #[test]
    fn decades_are_marked_and_parts_of_them_where_there_is_room() {
        let chart = Chart {
            scale: Scale::Decades,
            ..CHART
        };
        let has = |high: f64, mark: &str| {
            let svg = chart.lines(&[line(&[(0.3, 0.1), (high, 0.2)])]);
            svg.contains(&format!(">{mark}</text>"))
        };
        assert!(
            ["0.5", "1", "2", "5", "10"]
                .iter()
                .all(|mark| has(12.0, mark))
        );
        assert!(!has(12.0, "0.2") && !has(12.0, "20") && !has(12.0, "0.3"));
        assert!(
            ["1", "10", "100", "1000"]
                .iter()
                .all(|mark| has(1200.0, mark))
        );
        assert!(!has(1200.0, "2") && !has(1200.0, "0.1"));
    }

    #[test]
    fn round_marks_lie_between_the_values() {
        let chart = Chart {
            scale: Scale::Round,
            ..CHART
        };
        let svg = chart.lines(&[line(&[(66.7, 0.1), (73.3, 0.2)])]);
        let has = |mark: &str| svg.contains(&format!(">{mark}</text>"));
        assert!(["67", "70", "73"].iter().all(|mark| has(mark)));
        assert!(!has("66.7") && !has("66") && !has("74"));
        let svg = chart.lines(&[line(&[(0.5, 0.1), (0.5, 0.2)])]);
        assert!(svg.contains(">0.5</text>"));
    }

    #[test]
    fn marks_stand_alone_and_levels_have_none() {
        let drawn = |stroke: Stroke| {
            let line = Line {
                stroke,
                ..line(&[(1.0, 0.1), (2.0, 0.2)])
            };
            let svg = CHART.lines(&[line]);
            (
                svg.matches("<polyline").count(),
                svg.matches("<circle").count(),
            )
        };
        assert_eq!(drawn(Stroke::Solid), (1, 2));
        assert_eq!(drawn(Stroke::Level), (1, 0));
        assert_eq!(drawn(Stroke::Marks), (0, 2));
    }

    #[test]
    fn text_is_escaped_and_bad_values_are_left_out() {
        let svg = CHART.lines(&[line(&[(0.0, 0.1), (1.0, f64::NAN), (2.0, 0.5)]), line(&[])]);
        assert!(svg.contains("x &amp; y") && svg.contains("a &lt; b"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(svg.matches("<polyline").count(), 1);
        assert!(CHART.lines(&[]).ends_with("</svg>"));
        assert!(
            !CHART
                .bars(&["a".into()], &[("s".into(), vec![f64::NAN])])
                .contains("<rect x=")
        );
    }

    #[test]
    fn the_window_holds_all_values_at_round_numbers() {
        for (values, expected) in [
            (vec![0.0, 1.0], (0.0, 1.0)),
            (vec![0.83, 0.743], (0.7, 0.9)),
            (vec![0.991, 0.989], (0.96, 1.0)),
            (vec![0.912, 0.9], (0.9, 0.94)),
            (vec![0.55, 0.62, 0.9], (0.5, 0.9)),
            (vec![0.02, 0.05], (0.02, 0.06)),
            (vec![0.0, 1.2], (0.0, 1.0)),
            (vec![], (0.0, 1.0)),
        ] {
            let (bottom, top) = window(values.iter().copied());
            assert!(
                (bottom - expected.0).abs() < 1e-9 && (top - expected.1).abs() < 1e-9,
                "{values:?}: {bottom} to {top}"
            );
        }
    }

    #[test]
    fn the_axis_ends_at_a_round_number() {
        assert_eq!(
            [0.0, 0.03, 0.8, 1.0, 2.1, 73.0].map(nice).map(number),
            ["1", "0.05", "1", "1", "2.5", "100"]
        );
    }

    #[test]
    fn small_numbers_are_not_written_as_zero() {
        assert_eq!(
            [0.0, 1e-4, 3.162e-4, 0.001, 0.25].map(number),
            ["0", "1e-4", "3.16e-4", "0.001", "0.25"]
        );
    }

    #[test]
    fn words_are_kept_whole() {
        assert_eq!(
            wrap("A1 on source network", 12),
            ["A1 on source", "network"]
        );
        assert_eq!(
            wrap("A1 on source network", 3),
            ["A1", "on", "source", "network"]
        );
    }
}
