//! What the attacks rebuilt, what the weights still say, and what the attacker is assumed to have.

use std::fmt::Write;

use attack_eval::metrics::likeness::{NEIGHBOURS, UNSEEN_BELOW};
use serde_json::Value;

use super::{layer_name, list, section, text, variants};
use crate::report::html::{Cell, escape, table};
use crate::report::rows::{Unit, percent, show, target_name, unguided};

/// Attacks and weights.
pub fn leakage(html: &mut String, report: &Value) {
    let judge = &report["judge"];
    let mut body = format!(
        "<p>Every picture is judged by an independent network ({}) that was trained on the real images; its own test \
         accuracy is {}. The Fréchet distance uses the judge's penultimate features; its floor is real against real \
         images, its ceiling noise against real images. Compare networks at equal accuracy: a difference in \
         accuracy alone can change what is recognised, in either direction.</p>",
        escape(&text(&judge["architecture"])),
        show(judge["test_accuracy"].as_f64(), Unit::Percent)
    );
    let share = |entry: &Value, key: &str| Cell::Figure(show(entry[key].as_f64(), Unit::Percent));
    for (name, variant) in variants(report) {
        let lines: Vec<(String, Vec<Cell>)> = list(variant, "attacks")
            .iter()
            .map(|entry| {
                let [attack, target] = ["attack", "target"].map(|key| text(&entry[key]));
                let key = format!("attacks.{attack}.{target}.judge_top1");
                let unguided = unguided(report, name, &key);
                let top1 = show(entry["judge_top1"].as_f64(), Unit::Percent);
                let figure = |key: &str, unit| {
                    let known = entry[key].as_f64().filter(|_| !unguided.are_all());
                    Cell::Figure(show(known, unit))
                };
                let cells = vec![
                    Cell::Text(target_name(&target).to_string()),
                    Cell::Figure(text(&entry["samples"])),
                    Cell::Figure(unguided.shown(top1)),
                    figure("judge_top5", Unit::Percent),
                    figure("fid", Unit::Number),
                    figure("fid_floor", Unit::Number),
                    figure("fid_ceiling", Unit::Number),
                    figure("nearest_distance", Unit::Number),
                    figure("nearest_distance_real", Unit::Number),
                ];
                (attack_name(&entry["attack"]), cells)
            })
            .collect();
        let head = [
            "Attack",
            "Target",
            "Images",
            "Judge top 1",
            "Judge top 5",
            "FID",
            "FID floor",
            "FID ceiling",
            "Nearest distance",
            "Nearest distance, real",
        ]
        .map(String::from);
        let _ = write!(
            body,
            "<h3>{}</h3>{}",
            escape(name),
            table("attacks", &rebuilt(report, name), &head, &lines)
        );
        let spiking = list(variant, "leakage");
        let layers: Vec<String> = spiking
            .first()
            .map(|entry| {
                list(entry, "weight_change_by_layer")
                    .iter()
                    .map(layer_name)
                    .collect()
            })
            .unwrap_or_default();
        let lines: Vec<(String, Vec<Cell>)> = spiking
            .iter()
            .map(|entry| {
                let mut cells = vec![
                    share(entry, "relu_reading_accuracy"),
                    share(entry, "rate_reading_accuracy"),
                ];
                cells.extend(
                    list(entry, "weight_change_by_layer")
                        .iter()
                        .map(|layer| share(layer, "relative")),
                );
                (text(&entry["target"]), cells)
            })
            .collect();
        let head: Vec<String> = [
            "Network".to_string(),
            "ReLU reading, test accuracy".to_string(),
            "Rate reading, test accuracy".to_string(),
        ]
        .into_iter()
        .chain(layers)
        .collect();
        body.push_str(&table(
            "leakage",
            "The released weights read as a plain ReLU network and as a network of rates, which are clipped at the \
             thresholds, and how far each layer moved from the source. While a reading stays accurate, nothing has been \
             hidden.",
            &head,
            &lines,
        ));
        body.push_str(&likeness(&variant["synthetic"]["likeness"]));
    }
    section(html, "What leaks", &body);
}

/// Whether the synthetic images repeat training images.
fn likeness(of: &Value) -> String {
    let lines: Vec<(String, Vec<Cell>)> = [
        ("features", "judge's features"),
        ("pixels", "coarse pixels"),
    ]
    .into_iter()
    .filter(|(space, _)| of[*space].is_object())
    .map(|(space, name)| {
        let of = &of[space];
        let figure = |key: &str, unit| Cell::Figure(show(of[key].as_f64(), unit));
        let cells = vec![
            Cell::Figure(text(&of["samples"])),
            Cell::Figure(text(&of["unseen_samples"])),
            Cell::Figure(text(&of["training_samples"])),
            figure("median", Unit::Number),
            figure("median_unseen", Unit::Number),
            figure("largest", Unit::Number),
            figure("limit", Unit::Number),
            figure("beyond", Unit::Percent),
            figure("copies_beyond", Unit::Percent),
            figure("noisy_copies_beyond", Unit::Percent),
        ];
        (name.to_string(), cells)
    })
    .collect();
    if lines.is_empty() {
        return String::new();
    }
    let head = [
        "Compared on",
        "Synthetic images",
        "Unseen images",
        "Training images",
        "Median likeness",
        "Median, unseen",
        "Largest",
        "Most unseen below",
        "Synthetic beyond",
        "Moved copies beyond",
        "Noisy copies beyond",
    ]
    .map(String::from);
    table(
        "likeness",
        &format!(
            "Whether the synthetic images repeat training images. Likeness: how much nearer, by correlation, one training \
             image is than the next {NEIGHBOURS}, 1 for a copy, on the judge's features of the image or its mirror image, or on \
             means of squares of pixels, mirrored and shifted by up to an eighth of the image; unseen images are real test images, most of \
             them {}. If the synthetic images are as like the training images as unseen images are, about {} of them lie \
             beyond that. How much this sees is shown by copies: training images mirrored and shifted at random, and training \
             images that are half noise.",
            percent(UNSEEN_BELOW),
            percent(1.0 - UNSEEN_BELOW)
        ),
        &head,
        &lines,
    )
}

/// Caption of the attacks on a variant: their settings, and what the distances are measured on.
fn rebuilt(report: &Value, name: &str) -> String {
    let attacks = list(&report["variants"][name], "attacks");
    let settings = &report["settings"]["variants"][name]["attack"];
    let mut caption = "What the attacks rebuilt. ".to_string();
    if settings.is_object() {
        let _ = write!(
            caption,
            "A1: {}. A2: T = {}, {}, {}. ",
            ascent(&settings["back_conversion"]["ascent"]),
            text(&settings["spike_gradient"]["timesteps"]),
            through(&settings["spike_gradient"]),
            ascent(&settings["spike_gradient"]["ascent"])
        );
    }
    let across = |key: &str| {
        let values = attacks.iter().filter_map(|entry| entry[key].as_u64());
        match (values.clone().min(), values.max()) {
            (Some(low), Some(high)) if low != high => format!("{low} to {high}"),
            (Some(low), _) => low.to_string(),
            _ => "an unknown number of".into(),
        }
    };
    let _ = write!(
        caption,
        "There is no A2 on the source network, which has no spikes: A1 is the attack on it. FID: Fréchet distance of {} \
         rebuilt pictures from {} training images (the reference) on {} features of the judge; floor: {} other training \
         images, ceiling: as much noise as pictures, from the same reference. Few samples bias it upwards, far where \
         there are fewer samples than features: compare at equal numbers, and with floor and ceiling. Nearest distance: \
         mean feature distance from a rebuilt picture to the nearest of all these training images of its class. Nearest \
         distance, real: the same from the floor's images to those of the reference, so among slightly fewer; a picture \
         that copies no training image but is as good as a new real one would score about this, as far as the judge, which was \
         trained on these images, sees new ones alike.",
        across("fid_samples"),
        across("fid_reference_samples"),
        across("feature_dimension"),
        across("fid_floor_samples"),
    );
    caption
}

/// What the gradient of A2 goes back through.
fn through(of: &Value) -> &'static str {
    match (of["through"].as_str(), of["detach_reset"].as_bool()) {
        (Some("rates"), _) => "through the firing rates",
        (_, Some(false)) => "through each spike by a surrogate and through the resets",
        _ => "through each spike by a surrogate",
    }
}

/// Settings of an ascent, in words.
fn ascent(of: &Value) -> String {
    let rule = match of["update"].as_str() {
        Some("gradient") => "plain gradient steps".to_string(),
        Some(rule) => format!("steps of {rule}"),
        None => "steps".into(),
    };
    let mut words = format!(
        "{} iterations, {rule} at rate {} on the {}",
        of["iterations"],
        of["learning_rate"],
        text(&of["objective"]).replace('_', " ")
    );
    if of["unit_gradient"].as_bool() == Some(true) {
        words.push_str(", its gradient brought to unit size in each image");
    }
    let extra = [
        ("weight_decay", "weight decay"),
        ("blur_every", "blur every so many iterations"),
        ("jitter", "jitter in pixels"),
        ("total_variation", "total variation"),
    ];
    for (key, name) in extra {
        if of[key].as_f64().is_some_and(|value| value > 0.0) {
            let _ = write!(words, ", {name} {}", of[key]);
        }
    }
    words
}

fn attack_name(attack: &Value) -> String {
    match attack.as_str() {
        Some("back_conversion") => "A1 back-conversion".into(),
        Some("spike_gradient") => "A2 on the running network".into(),
        _ => text(attack),
    }
}

/// What the attacker is assumed to have.
pub fn threat_model(html: &mut String) {
    let classes = "The attacker has the released spiking network in full: topology, weights, thresholds and neuron \
                   settings, and as much computing power as the attacks below take. The attacker does not have the \
                   source network, the training images or the synthetic images, and wants pictures of the classes.";
    let judged = "The judge, the test accuracies, the distances to real images, the control conversion and its training \
                  on real images use these: they measure, they are not part of what is released. Synthesis, conversion and encryption \
                  see the source network and the synthetic images alone.";
    let limits = "The attacks are the paper's two: A1 reads the weights as a network without time, of ReLUs as in the paper or, if \
                  its settings say so, of rates, and raises a class score by gradient ascent on the input; A2 does so on \
                  the running network, by a gradient through its spikes or, if its settings say so, through their rates. \
                  A figure here measures these attacks at these settings; it bounds nothing stronger, and no adaptive attack.";
    let body: String = [classes, judged, limits]
        .iter()
        .map(|text| format!("<p>{}</p>", escape(text)))
        .collect();
    section(html, "Threat model", &body);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn likeness_is_shown_where_it_was_measured() {
        let of = json!({"features": {"samples": 500, "median": 0.75, "beyond": 0.125}});
        let shown = likeness(&of);
        for part in ["judge&#39;s features", "500", "0.75", "12.5 %"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains("coarse pixels") && likeness(&Value::Null).is_empty());
    }

    #[test]
    fn attacks_are_shown_with_their_settings_and_samples() {
        let ascent = json!({"iterations": 200, "update": "adam", "learning_rate": 0.05, "objective": "log_softmax",
            "jitter": 2, "blur_every": 0});
        let entry = |samples: usize| {
            json!({"fid_samples": samples, "fid_reference_samples": 1900,
            "feature_dimension": 4096, "fid_floor_samples": samples})
        };
        let report = json!({
            "variants": {"a": {"attacks": [entry(100), entry(50)]}},
            "settings": {"variants": {"a": {"attack": {
                "back_conversion": {"ascent": ascent},
                "spike_gradient": {"timesteps": 8, "ascent": ascent}}}}},
        });
        let caption = rebuilt(&report, "a");
        for part in [
            "A1: 200 iterations, steps of adam at rate 0.05 on the log softmax, jitter in pixels 2. A2: T = 8, through",
            "each spike by a surrogate, 200",
            "50 to 100 rebuilt",
            "1900 training images",
            "4096 features",
        ] {
            assert!(caption.contains(part), "{part}: {caption}");
        }
        assert!(!caption.contains("blur"), "{caption}");
        assert_eq!(
            through(&json!({"through": "rates"})),
            "through the firing rates"
        );
        assert!(rebuilt(&json!({}), "a").contains("unknown number"));
    }
}
