//! Accuracy against T, of one run or as the mean of several, and on how many images.

use serde_json::Value;

use super::svg::{Chart, Line, Scale, Stroke};

const NETWORKS: [(&str, &str); 4] = [
    ("converted", "converted without data"),
    ("converted_with_real_data", "converted with real data"),
    ("encrypted", "encrypted"),
    ("fine_tuned", "trained on with real data"),
];

/// A chart and what its caption has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Curves {
    /// The chart as an `<svg>` element.
    pub svg: String,
    /// Images behind each part of the curves, as a sentence without its full stop.
    pub images: String,
}

/// Curves of one variant over `runs` (its figures in each run): at every T that all runs have, their mean. The level is
/// the source network's accuracy on the images that the spiking networks are evaluated on.
pub fn curves(runs: &[&Value], description: &str) -> Curves {
    let mut lines: Vec<Line> = NETWORKS
        .iter()
        .map(|(key, label)| {
            let (points, apart) = mean_by_t(runs, key);
            Line {
                name: (*label).into(),
                points,
                apart,
                stroke: Stroke::Solid,
            }
        })
        .collect();
    let ends = lines
        .iter()
        .flat_map(|line| line.points.iter().chain(&line.apart))
        .map(|point| point.0)
        .fold(None, |ends: Option<(f64, f64)>, t| {
            Some(ends.map_or((t, t), |(low, high)| (low.min(t), high.max(t))))
        });
    if let (Some(level), Some((low, high))) = (mean(runs.iter().map(|run| level(run))), ends) {
        lines.push(Line {
            name: "source network".into(),
            points: vec![(low, level), (high, level)],
            apart: Vec::new(),
            stroke: Stroke::Level,
        });
    }
    let chart = Chart {
        description,
        x: "time steps T (logarithmic)",
        y: "test accuracy",
        scale: Scale::Logarithmic,
        percent: true,
    };
    Curves {
        svg: chart.lines(&lines),
        images: runs.first().map_or_else(String::new, |run| images(run)),
    }
}

fn level(run: &Value) -> Option<f64> {
    run["ann_accuracy_on_evaluated_images"]
        .as_f64()
        .or_else(|| run["ann"]["test_accuracy"].as_f64())
}

/// The mean if there is any value and none is missing.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Vec<f64> = values.collect::<Option<_>>()?;
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn windows<'a>(run: &'a Value, network: &str) -> &'a [Value] {
    run[network]["accuracy_by_t"]
        .as_array()
        .map_or(&[], Vec::as_slice)
}

/// Points (T, accuracy).
type Points = Vec<(f64, f64)>;

/// Those on the images of the first window, which are the most, and those on fewer.
fn mean_by_t(runs: &[&Value], network: &str) -> (Points, Points) {
    let Some(first) = runs.first() else {
        return Default::default();
    };
    let windows_of_first = windows(first, network);
    let images = windows_of_first.first().map(|window| &window["images"]);
    let mean_at = |window: &Value| {
        let t = &window["timesteps"];
        let at_t = |run: &&Value| {
            windows(run, network)
                .iter()
                .find(|window| window["timesteps"] == *t)?["accuracy"]
                .as_f64()
        };
        Some((t.as_f64()?, mean(runs.iter().map(at_t))?))
    };
    let (most, fewer): (Vec<&Value>, Vec<&Value>) = windows_of_first
        .iter()
        .partition(|window| Some(&window["images"]) == images);
    let means = |windows: Vec<&Value>| windows.into_iter().filter_map(mean_at).collect();
    (means(most), means(fewer))
}

/// The images behind each network's windows, said once where they are the same for all.
fn images(run: &Value) -> String {
    let spoken: Vec<(&str, String)> = NETWORKS
        .iter()
        .map(|(key, label)| (*label, parts(windows(run, key))))
        .filter(|(_, parts)| !parts.is_empty())
        .collect();
    match spoken.split_first() {
        None => "no test images".into(),
        Some(((_, first), rest)) if rest.iter().all(|(_, parts)| parts == first) => first.clone(),
        _ => spoken
            .iter()
            .map(|(label, parts)| format!("{label}: {parts}"))
            .collect::<Vec<_>>()
            .join("; "),
    }
}

/// Windows on equally many images together, the most images first.
fn parts(windows: &[Value]) -> String {
    let mut groups: Vec<(u64, u64, u64)> = Vec::new();
    for window in windows {
        let (Some(t), Some(images)) = (window["timesteps"].as_u64(), window["images"].as_u64())
        else {
            continue;
        };
        match groups.iter_mut().find(|group| group.0 == images) {
            Some(group) => (group.1, group.2) = (group.1.min(t), group.2.max(t)),
            None => groups.push((images, t, t)),
        }
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.0));
    let spoken: Vec<String> = groups
        .iter()
        .enumerate()
        .map(|(i, &(images, low, high))| {
            let t = if low == high {
                format!("T = {low}")
            } else {
                format!("T = {low} to {high}")
            };
            if i == 0 {
                format!("{t} on {images} test images")
            } else {
                format!("{t} on {images} of them (hollow marks)")
            }
        })
        .collect();
    spoken.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(accuracies: [f64; 3]) -> Value {
        let windows: Vec<Value> = [1, 16, 64]
            .iter()
            .zip(accuracies)
            .map(|(t, accuracy)| {
                let images = if *t > 16 { 200 } else { 2000 };
                json!({"timesteps": t, "accuracy": accuracy, "images": images})
            })
            .collect();
        json!({"ann": {"test_accuracy": 0.1}, "ann_accuracy_on_evaluated_images": 0.75,
               "encrypted": {"accuracy_by_t": windows}})
    }

    #[test]
    fn several_runs_are_drawn_as_their_mean() {
        let (one, mut two) = (run([0.25, 0.5, 0.5]), run([0.75, 1.0, 0.5]));
        assert_eq!(
            mean_by_t(&[&one, &two], "encrypted"),
            (vec![(1.0, 0.5), (16.0, 0.75)], vec![(64.0, 0.5)])
        );
        let Some(windows) = two["encrypted"]["accuracy_by_t"].as_array_mut() else {
            panic!("an array")
        };
        windows.pop();
        assert!(mean_by_t(&[&one, &two], "encrypted").1.is_empty());
    }

    #[test]
    fn the_level_is_that_of_the_same_images() {
        let one = run([0.25, 0.5, 0.5]);
        assert_eq!(level(&one), Some(0.75));
        let curves = curves(&[&one], "d");
        assert_eq!(curves.svg.matches("stroke-dasharray").count(), 2);
        // that on fewer images
        assert_eq!(curves.svg.matches("<circle").count(), 3);
        assert_eq!(curves.svg.matches("fill=\"#fff\" stroke=").count(), 1);
        assert_eq!(
            curves.images,
            "T = 1 to 16 on 2000 test images, T = 64 on 200 of them (hollow marks)"
        );
    }

    #[test]
    fn networks_on_other_images_are_told_apart() {
        let mut one = run([0.25, 0.5, 0.5]);
        one["converted"] =
            json!({"accuracy_by_t": [{"timesteps": 4, "accuracy": 0.5, "images": 7}]});
        assert_eq!(
            images(&one),
            "converted without data: T = 4 on 7 test images; encrypted: T = 1 to 16 on 2000 test images, T = 64 on 200 of them (hollow marks)"
        );
        assert_eq!(images(&json!({})), "no test images");
    }
}
