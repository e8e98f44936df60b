//! The page's section on energy and firing rates.

use std::fmt::Write;

use serde_json::Value;
use snn_core::energy::{AC_PICOJOULE, MAC_PICOJOULE, WORD_PICOJOULE};

use super::{layer_name, list, section, text, variants};
use crate::report::html::{Cell, escape, figure, table};
use crate::report::layers::energy_by_layer;
use crate::report::rows::{Unit, show};
use crate::report::svg::{Chart, Scale};

const NETWORKS: [(&str, &str); 4] = [
    ("converted", "converted without data"),
    ("converted_with_real_data", "converted with real data"),
    ("encrypted", "encrypted"),
    ("fine_tuned", "trained on with real data"),
];

fn conventions() -> String {
    format!(
        "<p>Estimates at 45 nm: {MAC_PICOJOULE} pJ per multiply-accumulate, {AC_PICOJOULE} pJ per accumulate. By events: every \
         spike times its fan-out, over all T steps. By rate: multiply-accumulates times the mean firing rate per step, without a \
         factor T. With memory: by events, and {WORD_PICOJOULE} pJ for every 32-bit word that either network moves: a weight and \
         an activation per multiply-accumulate and a result per output in the source network; a weight and a membrane, read and \
         written, per accumulate, a membrane, read and written, per neuron and step, and an address, written and read, per spike \
         in the spiking one. A shortcut costs an addition per number, or an accumulate per spike. With direct coding the first \
         layer's multiply-accumulates are counted once per image, and its currents read at every step. Biases and the arithmetic \
         of the membranes are not counted.</p>"
    )
}

/// Energy and firing rates.
pub fn energy(html: &mut String, report: &Value) {
    let mut body = conventions();
    for (name, variant) in variants(report) {
        let _ = write!(body, "<h3>{}</h3>", escape(name));
        body.push_str(&networks(variant));
        body.push_str(&layers(&variant["encrypted"]["energy"]));
        body.push_str(&rates(name, variant));
    }
    section(html, "Energy and firing rates", &body);
}

fn micro(energy: &Value, key: &str) -> Cell {
    let picojoule = energy[key].as_f64();
    Cell::Figure(picojoule.map_or("–".into(), |pj| format!("{:.2}", pj * 1e-6)))
}

/// Each network's energy and gain, counted in each way.
fn networks(variant: &Value) -> String {
    let gain = |energy: &Value, key: &str| Cell::Figure(show(energy[key].as_f64(), Unit::Times));
    let head = [
        "Network",
        "T",
        "Source (µJ)",
        "By events (µJ)",
        "Gain",
        "By rate (µJ)",
        "Gain",
        "Source, with memory (µJ)",
        "With memory (µJ)",
        "Gain",
    ]
    .map(String::from);
    let lines: Vec<(String, Vec<Cell>)> = NETWORKS
        .into_iter()
        .map(|(key, label)| {
            let energy = &variant[key]["energy"];
            let cells = vec![
                Cell::Figure(text(&variant[key]["timesteps"])),
                micro(energy, "ann_picojoule"),
                micro(energy, "snn_picojoule_events"),
                gain(energy, "ratio_events"),
                micro(energy, "snn_picojoule_rate"),
                gain(energy, "ratio_rate"),
                micro(energy, "ann_picojoule_memory"),
                micro(energy, "snn_picojoule_memory"),
                gain(energy, "ratio_memory"),
            ];
            (label.to_string(), cells)
        })
        .collect();
    table("energy", "Energy per image", &head, &lines)
}

/// The encrypted network's energy by layer.
fn layers(energy: &Value) -> String {
    let (head, lines) = energy_by_layer(&[energy]);
    let lines: Vec<(String, Vec<Cell>)> = lines
        .into_iter()
        .map(|(name, cells)| (name, cells.into_iter().map(Cell::Figure).collect()))
        .collect();
    table(
        "energy",
        "Energy per image and weighted layer, encrypted network",
        &head,
        &lines,
    )
}

fn rates(name: &str, variant: &Value) -> String {
    let rates = |key: &str| list(&variant[key]["energy"], "mean_rate_by_layer");
    let names: Vec<String> = rates("encrypted").iter().map(layer_name).collect();
    let series: Vec<(String, Vec<f64>)> = [NETWORKS[0], NETWORKS[2]]
        .into_iter()
        .map(|(key, label)| {
            let values = rates(key)
                .iter()
                .map(|entry| entry["rate"].as_f64().unwrap_or(f64::NAN))
                .collect();
            (label.to_string(), values)
        })
        .collect();
    let chart = Chart {
        description: &format!("{name}: mean firing rate of each layer's neurons"),
        x: "layer",
        y: "spikes per neuron and step",
        scale: Scale::Linear,
        percent: false,
    };
    figure(
        &chart.bars(&names, &series),
        "Mean firing rates on the test images.",
    )
}
