//! A sweep: whole, in shards, gone on with, and refused.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::{TINY, artefacts, failure, files, json, program, run_well, stage, tiny};
use serde_json::{Value, json};

/// A sweep over the smoke experiment with the settings of [`TINY`], in three runs.
fn sweep_file(folder: &Path) -> String {
    let set: Vec<String> = TINY
        .iter()
        .filter(|word| **word != "--set")
        .chain(&["evidence=true"])
        .map(|assignment| format!("{assignment:?}"))
        .collect();
    let text = format!(
        "name = \"tiny\"\ntitle = \"Tiny\"\nexperiment = \"smoke\"\nprofile = \"cpu\"\nvariant = \"modern\"\n\
         goal = \"attack\"\nseeds = [1]\nset = [{}]\n[search]\nkind = \"grid\"\n[keys]\n\
         \"encrypt.learning_rate\" = [1e-4, 1e-3, 1e-2]\n",
        set.join(", ")
    );
    write(folder, &text)
}

fn write(folder: &Path, text: &str) -> String {
    fs::create_dir_all(folder).expect("a folder");
    let path = folder.join("tiny.toml");
    fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_string()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The whole sweep, that several tests compare with.
fn whole() -> &'static Path {
    static RUN: OnceLock<tempfile::TempDir> = OnceLock::new();
    RUN.get_or_init(|| {
        let out = folder();
        run_well(&["sweep", &sweep_file(out.path())], out.path());
        out
    })
    .path()
}

fn record(out: &Path) -> PathBuf {
    out.join("runs/sweeps/tiny/sweep.json")
}

fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).expect("a record")
}

#[test]
fn a_whole_sweep_shares_stages_and_says_which_run_is_best() {
    let out = whole();
    let record = json(&record(out));
    assert_eq!(record["header"]["total"], 3);
    assert_eq!(record["header"]["device"], "cpu");
    assert_eq!(record["header"]["sweep"]["goal"], "attack");
    assert_eq!(
        record["header"]["settings"]["variants"]["modern"]["synth"]["count"],
        30
    );
    let runs = record["runs"].as_array().expect("runs");
    let rates: Vec<&Value> = runs
        .iter()
        .map(|run| &run["assignments"]["encrypt.learning_rate"])
        .collect();
    assert_eq!(rates, [&json!(1e-4), &json!(1e-3), &json!(1e-2)]);
    let mut changes = Vec::new();
    for run in runs {
        let figures = &run["figures"];
        // shares of 20 validation images, not of 40 test images
        for accuracy in [
            &figures["source"]["accuracy"],
            &figures["reading"]["accuracy"],
            &figures["encrypted"]["accuracy_by_t"][2]["accuracy"],
        ] {
            let right = accuracy.as_f64().expect("a share") * 20.0;
            assert!((right - right.round()).abs() < 1e-9, "{figures}");
        }
        for network in ["converted", "converted_with_real_data", "encrypted"] {
            let windows = figures[network]["accuracy_by_t"].as_array();
            let steps = windows.into_iter().flatten().map(|w| &w["timesteps"]);
            assert!(steps.eq([&json!(1), &json!(2), &json!(4)]), "{figures}");
            // a rate counts no step, so by rates less is spent than by events
            let gain = |convention: &str| figures[network]["energy"][convention].as_f64();
            assert!(
                gain("rate") > gain("events") && gain("events") > Some(0.0),
                "{figures}"
            );
        }
        assert!(figures["back_conversion"]["judge_top1"].is_number());
        assert!(figures["back_conversion"]["fid"].is_number());
        assert_eq!(figures["converted"], runs[0]["figures"]["converted"]);
        let change = &figures["reading"]["largest_weight_change"];
        changes.push(change.as_f64().expect("a number"));
    }
    assert!(
        changes[0] < changes[1] && changes[1] < changes[2],
        "{changes:?}"
    );
    let stages: Vec<String> = artefacts(out).into_iter().map(|(name, _)| name).collect();
    let count = |stage: &str| {
        let name = format!("/{stage}-");
        stages.iter().filter(|path| path.contains(&name)).count()
    };
    for shared in ["judge", "train", "synth", "convert", "convert-real"] {
        assert!(count(shared) >= 1, "{shared}: {stages:?}");
    }
    assert_eq!((count("judge"), count("train"), count("synth")), (1, 1, 1));
    assert_eq!(count("validate-converted-real"), 1);
    assert_eq!((count("encrypt"), count("validate-encrypted")), (3, 3));
    for absent in ["evaluate", "leakage", "attack-spike_gradient"] {
        assert_eq!(count(absent), 0, "{absent}: {stages:?}");
    }
    let output = run_well(&["sweep", &sweep_file(out)], out);
    let said = String::from_utf8_lossy(&output.stdout);
    for part in [
        "encrypt.learning_rate=0.0001",
        "energy by events",
        "ReLU reading",
        "A1 recognised",
        "best: encrypt.learning_rate=",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("0 of them to be measured") && !said.contains("starts"),
        "{said}"
    );
    assert_eq!(
        bytes(&out.join("results/sweeps/tiny.json")),
        bytes(&self::record(out))
    );
    let drawing = fs::read_to_string(out.join("figures/sweep-tiny.svg")).expect("a picture");
    assert!(drawing.contains("encrypt.learning_rate (logarithmic)"));
}

#[test]
fn shards_merge_to_the_bytes_of_the_whole() {
    let (one, two) = (folder(), folder());
    let file = sweep_file(one.path());
    run_well(&["sweep", &file, "--shard", "1/2"], one.path());
    run_well(&["sweep", &file, "--shard", "2/2"], two.path());
    for part in [one.path(), two.path()] {
        assert!(!part.join("results").exists());
    }
    let first = one.path().join("runs/sweeps/tiny/shard-1-of-2.json");
    let second = two.path().join("runs/sweeps/tiny/shard-2-of-2.json");
    let indices = |path: &Path| -> Vec<Value> {
        let record = json(path);
        let runs = record["runs"].as_array().expect("runs").iter();
        runs.map(|run| run["index"].clone()).collect()
    };
    assert_eq!(indices(&first), [0, 2]);
    assert_eq!(indices(&second), [1]);
    let paths = [&first, &second].map(|path| path.to_str().expect("UTF-8"));
    let merged = folder();
    run_well(
        &["sweep", &file, "--merge", paths[0], paths[1]],
        merged.path(),
    );
    assert_eq!(bytes(&record(merged.path())), bytes(&record(whole())));
    assert_eq!(
        bytes(&merged.path().join("results/sweeps/tiny.json")),
        bytes(&record(whole()))
    );
    let bad = folder();
    let said = failure(&["sweep", &file, "--merge", paths[0]], bad.path());
    assert!(said.contains("numbers 2"), "{said}");
    let said = failure(&["sweep", &file, "--merge", paths[0], &file], bad.path());
    assert!(
        said.contains("tiny.toml") && said.contains("not the record of a sweep"),
        "{said}"
    );
    assert!(files(bad.path()).is_empty());
}

#[test]
fn a_stopped_sweep_goes_on_to_the_same_bytes() {
    let out = folder();
    let file = sweep_file(out.path());
    let mut child = program(&["sweep", &file], out.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("started");
    let seen = common::wait_for(&mut child, out.path(), |path| path.ends_with("sweep.json"));
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(seen, "it ended without a record");
    // the record of the runs before the last, whenever the signal came
    let mut half = json(&record(whole()));
    half["runs"].as_array_mut().expect("runs").truncate(1);
    fs::write(record(out.path()), half.to_string()).expect("written");
    run_well(&["sweep", &file], out.path());
    assert_eq!(bytes(&record(out.path())), bytes(&record(whole())));
    assert_eq!(artefacts(out.path()), artefacts(whole()));
}

#[test]
fn ctrl_c_ends_with_130() {
    let out = folder();
    let file = sweep_file(out.path());
    let words = ["sweep", &file, "--set", "ann.training.epochs=400"];
    let mut child = program(&words, out.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("started");
    let seen = common::wait_for(&mut child, out.path(), |path| {
        path.ends_with("state.safetensors")
    });
    assert!(seen, "it ended too early");
    let sent = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .expect("kill");
    assert!(sent.success());
    let output = child.wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("the same command goes on"), "{said}");
    assert!(!record(out.path()).exists());
}

#[test]
fn a_run_is_the_experiment_with_its_settings() {
    let out = folder();
    let text = fs::read_to_string(sweep_file(out.path())).expect("read");
    let file = write(out.path(), &text.replace("\"attack\"", "\"spike_attack\""));
    let words = ["attack", "smoke", "--set", "encrypt.learning_rate=1e-4"];
    run_well(&tiny(&words), out.path());
    let output = run_well(&["sweep", &file, "--shard", "1/3"], out.path());
    let said = String::from_utf8_lossy(&output.stderr);
    for line in said.lines().filter(|line| line.ends_with(": starts")) {
        assert!(
            line.contains("/validate-") || line.contains("/score-"),
            "{line}"
        );
    }
    for attack in ["back_conversion", "spike_gradient"] {
        let kept = format!("modern/attack-{attack}-encrypted: done before, kept");
        assert!(said.contains(&kept), "{kept}: {said}");
    }
    let leakage = &json(&stage(out.path(), "leakage").join("record.json"))["figures"];
    let found = json(&out.path().join("runs/sweeps/tiny/shard-1-of-3.json"));
    assert_eq!(found["runs"].as_array().map(Vec::len), Some(1));
    let figures = &found["runs"][0]["figures"];
    let attacks = leakage["attacks"].as_array().expect("attacks");
    let on_encrypted = |attack: &str| {
        let mut attacks = attacks.iter();
        attacks
            .find(|one| one["attack"] == attack && one["target"] == "encrypted")
            .expect("an attack on the encrypted network")
    };
    let largest = leakage["leakage"][1]["weight_change_by_layer"]
        .as_array()
        .expect("layers")
        .iter()
        .filter_map(|layer| layer["relative"].as_f64())
        .fold(0.0, f64::max);
    let mut pairs = vec![(&figures["reading"]["largest_weight_change"], Some(largest))];
    for attack in ["back_conversion", "spike_gradient"] {
        for figure in ["judge_top1", "fid"] {
            let theirs = on_encrypted(attack)[figure].as_f64();
            pairs.push((&figures[attack][figure], theirs));
        }
    }
    for (ours, theirs) in pairs {
        let (ours, theirs) = (ours.as_f64().expect("a number"), theirs.expect("a number"));
        assert!(
            (ours - theirs).abs() <= 1e-9 * theirs.abs(),
            "{ours} and {theirs}"
        );
    }
}

#[test]
fn a_run_that_diverges_does_not_stop_the_others() {
    let out = folder();
    let text = fs::read_to_string(sweep_file(out.path())).expect("read");
    // the penalty alone throws the weights beyond what a float holds
    let text = text
        .replace("encrypt.learning_rate", "encrypt.optimiser")
        .replace(
            "[1e-4, 1e-3, 1e-2]",
            "[{ kind = \"sgd\", weight_decay = 1e30 }, { kind = \"adam\" }]",
        );
    let output = run_well(&["sweep", &write(out.path(), &text)], out.path());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("diverged"), "{said}");
    let found = json(&record(out.path()));
    let [first, second] = [0, 1].map(|run| &found["runs"][run]);
    let why = first["diverged"].as_str().expect("a reason");
    assert!(why.contains("lower learning_rate"), "{why}");
    assert!(first["figures"].is_null() && second["figures"]["encrypted"].is_object());
    assert!(second.get("diverged").is_none());
}

#[test]
fn attacks_through_spikes_are_compared_on_one_network() {
    let out = folder();
    let text = fs::read_to_string(sweep_file(out.path())).expect("read");
    let text = text
        .replace("\"attack\"", "\"spike_attack\"")
        .replace("encrypt.learning_rate", "attack.spike_gradient.through")
        .replace("[1e-4, 1e-3, 1e-2]", "[\"surrogate\", \"rates\"]");
    let file = write(out.path(), &text);
    // refused before anything is computed
    let surrogate = "attack.spike_gradient.surrogate={ kind = \"atan\", alpha = 2.0 }";
    let said = failure(&["sweep", &file, "--set", surrogate], out.path());
    assert!(
        said.contains("surrogate") && said.contains("rates"),
        "{said}"
    );
    assert!(!out.path().join("runs").exists());

    let output = run_well(&["sweep", &file], out.path());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("A2 recognised") && said.contains("A2 distance"),
        "{said}"
    );
    let found = json(&record(out.path()));
    let [surrogate, rates] = [0, 1].map(|run| &found["runs"][run]["figures"]);
    assert_ne!(
        surrogate["spike_gradient"]["fid"],
        rates["spike_gradient"]["fid"]
    );
    assert_eq!(surrogate["back_conversion"], rates["back_conversion"]);
    let stages: Vec<String> = artefacts(out.path())
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let count = |stage: &str| stages.iter().filter(|path| path.contains(stage)).count();
    let of_stages = [
        "/encrypt-",
        "/attack-back_conversion-",
        "/attack-spike_gradient-",
    ]
    .map(count);
    assert_eq!(of_stages, [1, 1, 2], "{stages:?}");
}

#[test]
fn a_conversion_alone_encrypts_nothing() {
    let out = folder();
    let text = fs::read_to_string(sweep_file(out.path())).expect("read");
    let text = text
        .replace("\"attack\"", "\"convert\"")
        .replace("encrypt.learning_rate", "convert.thresholds.deviations")
        .replace("[1e-4, 1e-3, 1e-2]", "[2, 3.0]");
    let file = write(out.path(), &text);
    let output = run_well(&["sweep", &file, "--set", "synth.iterations=5"], out.path());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("best: convert.thresholds.deviations=") && !said.contains("encrypted"),
        "{said}"
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("not copied") && !out.path().join("results").exists(),
        "{said}"
    );
    let stages = files(out.path());
    for absent in ["/encrypt-", "/judge-", "/validate-encrypted-"] {
        assert!(
            stages
                .iter()
                .all(|path| !path.display().to_string().contains(absent)),
            "{absent}"
        );
    }
    // another sweep of the same name does not take its place unseen
    let output = run_well(&["sweep", &file], out.path());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("sweep.json.old"), "{said}");
    let old = json(&record(out.path()).with_extension("json.old"));
    assert_eq!(old["runs"].as_array().map(Vec::len), Some(2));
}

#[test]
fn bad_input_is_named_before_anything_is_computed() {
    let out = folder();
    let good = fs::read_to_string(sweep_file(out.path())).expect("read");
    for (from, to, words) in [
        ("title", "titel", vec!["tiny.toml", "titel"]),
        (
            "encrypt.learning_rate",
            "encrypt.rate",
            vec!["tiny.toml", "`rate`", "learning_rate"],
        ),
        ("1e-2]", "-1.0]", vec!["tiny.toml", "run 3", "above 0"]),
        ("\"modern\"", "\"paper\"", vec!["tiny.toml", "modern"]),
        ("\"smoke\"", "\"smokes\"", vec!["tiny.toml", "smoke"]),
        ("\"cpu\"", "\"gpu\"", vec!["tiny.toml", "gpu", "cpu"]),
        ("\"attack\"", "\"attacks\"", vec!["tiny.toml", "goal"]),
        (
            "\"tiny\"",
            "\"other\"",
            vec!["tiny.toml", "\"other\"", "file"],
        ),
        (
            "data.glyphs.validation=20",
            "data.glyphs.validation=0",
            vec!["validation images"],
        ),
    ] {
        assert!(good.contains(from), "{from}");
        let folder = out.path().join("bad");
        let file = write(&folder, &good.replace(from, to));
        let said = failure(&["sweep", &file], &out.path().join("out"));
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
    let file = write(out.path(), &good);
    for shard in ["0/2", "3/2", "two"] {
        let said = failure(&["sweep", &file, "--shard", shard], &out.path().join("out"));
        assert!(said.contains(&format!("--shard {shard}")), "{said}");
    }
    assert!(files(&out.path().join("out")).is_empty());
}
