//! The sections of the page.

use std::fmt::Write;

use serde_json::Value;

use super::curves::curves;
use super::html::{Cell, escape, figure, table};
use super::paper::Paper;
use super::pictures::Pictures;
use super::png::data_uri;
use super::rows::{Unit, figure as number, rows_of, show, target_name};
use super::svg::{Chart, Line, Scale};
use super::verdict;

pub(super) fn variants(report: &Value) -> impl Iterator<Item = (&String, &Value)> {
    report["variants"].as_object().into_iter().flatten()
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "–".into(),
        Value::Number(number) if !number.is_i64() && !number.is_u64() => number
            .as_f64()
            .map_or("–".into(), |number| format!("{number:.3}")),
        other => other.to_string(),
    }
}

pub(super) fn section(html: &mut String, title: &str, body: &str) {
    let _ = writeln!(html, "<section><h2>{}</h2>{body}</section>", escape(title));
}

/// The table of results, beside the paper's claims.
pub fn headline(html: &mut String, report: &Value, paper: Option<&Paper>) {
    let mut body = format!(
        "<p>Experiment <b>{}</b>, profile <b>{}</b>, seed {}, on {}. Data set {}.</p>",
        escape(&text(&report["experiment"])),
        escape(&text(&report["profile"])),
        escape(&text(&report["seed"])),
        escape(&text(&report["device"])),
        escape(&text(&report["dataset"])),
    );
    body.push_str("<ul>");
    for (name, variant) in variants(report) {
        let _ = write!(
            body,
            "<li><b>{}</b>: {}</li>",
            escape(name),
            escape(&text(&variant["title"]))
        );
    }
    body.push_str("</ul>");
    let mut head = vec!["Measured".to_string()];
    head.extend(variants(report).map(|(name, _)| name.clone()));
    head.extend(paper.map(|_| "The paper's claim".to_string()));
    let lines: Vec<(String, Vec<Cell>)> = rows_of(report)
        .into_iter()
        .map(|row| {
            let mut cells: Vec<Cell> = variants(report)
                .map(|(name, _)| Cell::Figure(show(number(report, name, &row.key), row.unit)))
                .collect();
            if let Some(paper) = paper {
                cells.push(Cell::Text(match paper.beside(&row.key) {
                    Some(claim) => format!("{} ({})", claim.claim, claim.place),
                    None => "–".into(),
                }));
            }
            (row.label, cells)
        })
        .collect();
    let caption = match paper {
        Some(paper) => format!(
            "Claims: {}. A dash: the paper's figure is not at hand.",
            paper.source
        ),
        None => "No claim of the paper is on file for this data set.".to_string(),
    };
    body.push_str(&table("results", &caption, &head, &lines));
    for (name, _) in variants(report) {
        if let Some(verdict) = verdict::of_report(report, name) {
            let _ = write!(body, "<p><b>{}</b>: {}</p>", escape(name), escape(&verdict));
        }
    }
    section(html, "Results", &body);
}

/// Accuracy against T.
pub fn accuracy(html: &mut String, report: &Value) {
    let mut body = String::new();
    for (name, variant) in variants(report) {
        let description = format!("{name}: test accuracy against the number of time steps T");
        let curves = curves(&[variant], &description);
        let caption = format!(
            "Accuracy against T: {}. The source network's level is that on the images of the quoted accuracies.",
            curves.images
        );
        let _ = write!(
            body,
            "<h3>{}</h3>{}",
            escape(name),
            figure(&curves.svg, &caption)
        );
    }
    section(html, "Accuracy against the number of time steps", &body);
}

fn points(entries: &[Value], x: &str, y: &str) -> Vec<(f64, f64)> {
    entries
        .iter()
        .filter_map(|entry| Some((entry[x].as_f64()?, entry[y].as_f64()?)))
        .collect()
}

/// Attacks and weights.
pub fn leakage(html: &mut String, report: &Value) {
    let judge = &report["judge"];
    let mut body = format!(
        "<p>Every picture is judged by an independent network ({}) that was trained on the real images; its own test \
         accuracy is {}. The Fréchet distance uses the judge's penultimate features; its floor is real against real \
         images, its ceiling noise against real images. A worse network always inverts worse: compare at equal \
         accuracy only.</p>",
        escape(&text(&judge["architecture"])),
        show(judge["test_accuracy"].as_f64(), Unit::Percent)
    );
    for (name, variant) in variants(report) {
        let share =
            |entry: &Value, key: &str| Cell::Figure(show(entry[key].as_f64(), Unit::Percent));
        let plain =
            |entry: &Value, key: &str| Cell::Figure(show(entry[key].as_f64(), Unit::Number));
        let lines: Vec<(String, Vec<Cell>)> = list(variant, "attacks")
            .iter()
            .map(|entry| {
                let cells = vec![
                    Cell::Text(target_name(&text(&entry["target"])).to_string()),
                    Cell::Figure(text(&entry["samples"])),
                    share(entry, "judge_top1"),
                    share(entry, "judge_top5"),
                    plain(entry, "fid"),
                    plain(entry, "fid_floor"),
                    plain(entry, "fid_ceiling"),
                    plain(entry, "nearest_distance"),
                    plain(entry, "nearest_distance_real"),
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
    }
    section(html, "What leaks", &body);
}

/// Caption of the attacks on a variant: their settings, and what the distances are measured on.
fn rebuilt(report: &Value, name: &str) -> String {
    let attacks = list(&report["variants"][name], "attacks");
    let settings = &report["settings"]["variants"][name]["attack"];
    let mut caption = "What the attacks rebuilt. ".to_string();
    if settings.is_object() {
        let _ = write!(
            caption,
            "A1: {}. A2: T = {}, {}. ",
            ascent(&settings["back_conversion"]["ascent"]),
            text(&settings["spike_gradient"]["timesteps"]),
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
         that copies no training image but is as good as a new real one would score about this.",
        across("fid_samples"),
        across("fid_reference_samples"),
        across("feature_dimension"),
        across("fid_floor_samples"),
    );
    caption
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
    let extra = [
        ("weight_decay", "weight decay"),
        ("blur_every", "blur at every iteration divisible by"),
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
        Some("spike_gradient") => "A2 through the spikes".into(),
        _ => text(attack),
    }
}

pub(super) fn layer_name(layer: &Value) -> String {
    match layer["name"].as_str() {
        Some(name) => name.to_string(),
        None => format!("layer {}", text(&layer["layer"])),
    }
}

/// Grids of images.
pub fn pictures(html: &mut String, pictures: &[(String, Pictures)]) {
    const SCALE: usize = 2;
    let mut body = String::new();
    for (name, pictures) in pictures {
        let head: Vec<String> = std::iter::once("Class".to_string())
            .chain(pictures.columns.iter().cloned())
            .collect();
        let lines: Vec<(String, Vec<Cell>)> = pictures
            .classes
            .iter()
            .zip(&pictures.strips)
            .map(|(class, strips)| {
                let cells =
                    pictures
                        .columns
                        .iter()
                        .zip(strips)
                        .map(|(column, strip)| match strip {
                            Some(picture) => Cell::Markup(format!(
                                "<img src=\"{}\" width=\"{}\" height=\"{}\" alt=\"{}\">",
                                data_uri(&picture.png),
                                picture.width * SCALE,
                                picture.height * SCALE,
                                escape(&format!("{column}: images of class {class}"))
                            )),
                            None => Cell::Text("–".into()),
                        });
                (class.clone(), cells.collect())
            })
            .collect();
        let caption = "Up to four images per class. Synthetic images were asked for the class of their row; their soft \
                       target may favour another.";
        let _ = write!(
            body,
            "<h3>{}</h3>{}",
            escape(name),
            table("grids", caption, &head, &lines)
        );
    }
    section(html, "Images: real, synthetic, rebuilt", &body);
}

/// Training curves.
pub fn training(html: &mut String, report: &Value) {
    let mut body = String::new();
    for (name, variant) in variants(report) {
        let history = list(&variant["ann"], "history");
        let line = |label: &str, entries: &[Value], key: &str| Line {
            name: label.into(),
            points: points(entries, "epoch", key),
            level: false,
        };
        let accuracy = Chart {
            description: &format!("{name}: accuracy of the source network over its training"),
            x: "epoch",
            y: "accuracy",
            scale: Scale::Linear,
            percent: true,
        };
        let lines = [
            line("training images, as seen", history, "train_accuracy"),
            line("validation images", history, "validation_accuracy"),
        ];
        let loss = Chart {
            description: &format!("{name}: loss of the encryption over its epochs"),
            x: "epoch",
            y: "loss",
            scale: Scale::Linear,
            percent: false,
        };
        let encryption = [line(
            "encryption",
            list(&variant["encrypted"], "history"),
            "loss",
        )];
        let _ = write!(
            body,
            "<h3>{}</h3>{}{}",
            escape(name),
            figure(&accuracy.lines(&lines), "Training of the source network."),
            figure(
                &loss.lines(&encryption),
                "Encryption: mean loss per epoch on the synthetic images."
            )
        );
    }
    section(html, "Training", &body);
}

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

/// What the attacker is assumed to have.
pub fn threat_model(html: &mut String) {
    let classes = "The attacker has the released spiking network in full: topology, weights, thresholds and neuron \
                   settings, and as much computing power as the attacks below take. The attacker does not have the \
                   source network, the training images or the synthetic images, and wants pictures of the classes.";
    let judged = "The judge, the test accuracies, the distances to real images, the control conversion and its training \
                  on real images use these: they measure, they are not part of what is released. Synthesis, conversion and encryption \
                  see the source network and the synthetic images alone.";
    let limits = "The attacks are the paper's two: A1 reads the weights as a network without time, of ReLUs as in the paper or, if \
                  its settings say so, of rates, and raises a class \
                  score by gradient ascent on the input; A2 does so through the spikes with a surrogate gradient. A \
                  figure here measures these attacks at these settings; it bounds nothing stronger, and no adaptive attack.";
    let body: String = [classes, judged, limits]
        .iter()
        .map(|text| format!("<p>{}</p>", escape(text)))
        .collect();
    section(html, "Threat model", &body);
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
            "A1: 200 iterations, steps of adam at rate 0.05 on the log softmax, jitter in pixels 2. A2: T = 8, 200",
            "50 to 100 rebuilt",
            "1900 training images",
            "4096 features",
        ] {
            assert!(caption.contains(part), "{part}: {caption}");
        }
        assert!(!caption.contains("blur"), "{caption}");
        assert!(rebuilt(&json!({}), "a").contains("unknown number"));
    }

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

    #[test]
    fn a_failed_protection_is_said_in_the_results() {
        let report = json!({"variants": {"a": {
            "encrypted": {"test_accuracy": 0.98},
            "leakage": [{"target": "encrypted", "relu_reading_accuracy": 0.97}]}}});
        let mut html = String::new();
        headline(&mut html, &report, None);
        assert!(
            html.contains("On this run the encryption hides nothing"),
            "{html}"
        );
        assert!(html.contains("No claim of the paper is on file"), "{html}");
    }
}
