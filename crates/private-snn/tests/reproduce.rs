//! The whole of an experiment: reports, skipping, interruptions, bytes.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use common::{
    TINY, artefacts, figures, files, json, program, report, run, run_well, stage, tiny, wait_for,
};

/// An uninterrupted run that several tests compare with.
fn whole() -> &'static Path {
    static RUN: OnceLock<tempfile::TempDir> = OnceLock::new();
    RUN.get_or_init(|| {
        let out = tempfile::tempdir().expect("a folder");
        run_well(&tiny(&["reproduce", "smoke"]), out.path());
        out
    })
    .path()
}

/// Every stage of the built-in experiment at full network size, apart from its results.
#[test]
fn a_rehearsal_runs_through_and_is_kept_apart() {
    let out = tempfile::tempdir().expect("a folder");
    run_well(&["reproduce", "glyphs", "--rehearse"], out.path());
    let report = json(
        &out.path()
            .join("runs/glyphs/cpu-rehearsal/seed-1/report.json"),
    );
    assert_eq!(report["ann"]["architecture"], "vgg5 16-32-32-10");
    let command = report["provenance"]["command"].as_str().expect("a command");
    assert!(command.ends_with("--seed 1 --rehearse"), "{command}");
    assert!(!out.path().join("runs/glyphs/cpu").exists());
    assert!(!out.path().join("results").exists());
}

#[test]
fn a_second_call_computes_nothing() {
    let out = whole();
    let before: Vec<_> = artefacts(out);
    let output = run_well(&tiny(&["reproduce", "smoke"]), out);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains(": starts"), "{said}");
    assert_eq!(
        said.matches("done before, kept").count(),
        before.len(),
        "{said}"
    );
    run_well(&tiny(&["report", "smoke"]), out);
    assert_eq!(artefacts(out), before);
    let said = String::from_utf8_lossy(&run_well(&["list"], out).stdout).into_owned();
    assert!(
        said.contains("smoke") && said.contains("report of seed 1"),
        "{said}"
    );
}

#[test]
fn the_page_is_whole_and_needs_nothing_from_elsewhere() {
    let page = files(whole())
        .into_iter()
        .find(|path| path.ends_with("report.html"))
        .expect("a page");
    let html = fs::read_to_string(page).expect("read");
    assert!(html.starts_with("<!DOCTYPE html>") && html.ends_with("</html>\n"));
    for part in [
        "<svg",
        "data:image/png;base64,",
        "Threat model",
        "scaled down",
        "Provenance",
    ] {
        assert!(html.contains(part), "{part}");
    }
    // without the bytes of pictures, in which any letters may follow one another
    let rest: String = html
        .split("data:image/png;base64,")
        .enumerate()
        .map(|(i, part)| {
            if i == 0 {
                part
            } else {
                part.split_once('"').expect("the end of the picture").1
            }
        })
        .collect::<String>()
        .replace("http://www.w3.org/2000/svg", "");
    for outside in [
        "http:", "https:", "src=\"/", "href=", "<script", "<link", "NaN",
    ] {
        assert!(!rest.contains(outside), "{outside}");
    }
    for tag in [
        "table", "tr", "td", "th", "div", "section", "figure", "svg", "text", "main", "p", "ul",
        "li", "h2", "h3",
    ] {
        let open =
            html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(open, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    assert_eq!(
        html.matches("<img ").count(),
        html.matches(" alt=\"").count()
    );
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let one = tempfile::tempdir().expect("a folder");
    let status = program(&tiny(&["reproduce", "smoke"]), one.path())
        .env("RAYON_NUM_THREADS", "1")
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .expect("started");
    assert!(status.success());
    let two = tempfile::tempdir().expect("a folder");
    let status = program(&tiny(&["reproduce", "smoke"]), two.path())
        .env("RAYON_NUM_THREADS", "2")
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .expect("started");
    assert!(status.success());
    assert_eq!(artefacts(one.path()), artefacts(two.path()));
    assert_eq!(figures(one.path()), figures(two.path()));
    assert_eq!(figures(one.path()), figures(whole()));
}

#[test]
fn another_seed_gives_other_artefacts_beside_the_first() {
    let out = tempfile::tempdir().expect("a folder");
    run_well(&tiny(&["train", "smoke", "--seed", "1,2"]), out.path());
    let found = artefacts(out.path());
    assert_eq!(found.len(), 2);
    assert!(
        found[0].0.contains("seed-1") && found[1].0.contains("seed-2"),
        "{found:?}"
    );
    assert_ne!(found[0].1["ann.safetensors"], found[1].1["ann.safetensors"]);
}

/// The stages that last long enough to be stopped in the middle, in their order, and a file that shows that one is at
/// work: its checkpoint, where it has any.
const STAGES: [(&str, &str); 8] = [
    ("judge", "state.safetensors"),
    ("train", "state.safetensors"),
    ("synth", "shard-00000.safetensors"),
    ("convert", "lock"),
    ("encrypt", "state.safetensors"),
    ("attack-back_conversion-ann", "lock"),
    ("attack-spike_gradient-encrypted", "lock"),
    ("evaluate", "lock"),
];

fn in_stage(path: &Path, stage: &str, file: &str) -> bool {
    let folder = path
        .parent()
        .and_then(Path::file_name)
        .map(|name| name.to_string_lossy().into_owned());
    folder
        .as_deref()
        .and_then(|folder| folder.rsplit_once('-'))
        .is_some_and(|(name, _)| name == stage)
        && path.file_name().is_some_and(|name| name == file)
}

/// Stops the program in every stage in turn and starts it again each time; then compares with the run that was never
/// stopped. `stop` ends the child.
fn stopped_in_every_stage(stop: impl Fn(Child)) {
    let out = tempfile::tempdir().expect("a folder");
    for (stage, file) in STAGES {
        // the end of a stage may come before the signal: then the stage is made anew
        let in_time = (0..5).any(|_| {
            let mut child = program(&tiny(&["reproduce", "smoke"]), out.path())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("started");
            let seen = wait_for(&mut child, out.path(), |path| in_stage(path, stage, file));
            stop(child);
            assert!(seen, "it ended without {file} of {stage}");
            let found = files(out.path());
            let record = found
                .iter()
                .find(|path| in_stage(path, stage, "record.json"));
            if let Some(record) = record {
                fs::remove_dir_all(record.parent().expect("a folder")).expect("removed");
            }
            record.is_none()
        });
        assert!(in_time, "{stage} was never stopped in time");
    }
    run_well(&tiny(&["reproduce", "smoke"]), out.path());
    assert_eq!(figures(out.path()), figures(whole()));
    assert_eq!(artefacts(out.path()), artefacts(whole()));
}

#[test]
fn killed_in_every_stage_it_goes_on_to_the_same_bytes() {
    stopped_in_every_stage(|mut child| {
        child.kill().expect("killed");
        child.wait().expect("ended");
    });
}

#[test]
fn ctrl_c_in_every_stage_ends_with_130_and_the_same_command_goes_on() {
    stopped_in_every_stage(|child| {
        let sent = Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .expect("kill");
        assert!(sent.success());
        let output = child.wait_with_output().expect("ended");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{said}");
        assert!(said.contains("the same command goes on"), "{said}");
    });
}

#[test]
fn two_processes_do_not_share_a_stage() {
    let out = tempfile::tempdir().expect("a folder");
    let words = ["train", "smoke", "--set", "ann.training.epochs=400"];
    let mut child = program(&words, out.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    assert!(wait_for(&mut child, out.path(), |path| in_stage(
        path,
        "train",
        "state.safetensors"
    )));
    let second = run(&words, out.path());
    child.kill().expect("killed");
    child.wait().expect("ended");
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(
        said.contains("another process") && said.contains(&child.id().to_string()),
        "{said}"
    );
}

#[test]
fn the_report_has_what_its_readers_are_promised() {
    let report = report(whole());
    for pointer in [
        "/settings/name",
        "/provenance/revision",
        "/provenance/versions/private-snn",
        "/provenance/versions/candle",
        "/provenance/versions/rustc",
        "/provenance/threads",
        "/provenance/machine",
        "/experiment",
        "/profile",
        "/seed",
        "/device",
        "/ann/test_accuracy",
        "/ann/parameters",
        "/ann/macs",
        "/synthetic/count",
        "/synthetic/judge_agreement",
        "/converted/timesteps",
        "/converted/test_accuracy",
        "/converted/accuracy_by_t/0/accuracy",
        "/converted_with_real_data/test_accuracy",
        "/encrypted/timesteps",
        "/encrypted/test_accuracy",
        "/encrypted/accuracy_by_t/0/timesteps",
        "/encrypted/drop_vs_ann",
        "/fine_tuned/test_accuracy",
        "/judge/architecture",
        "/judge/test_accuracy",
        "/leakage/0/target",
        "/leakage/0/relu_reading_accuracy",
        "/leakage/0/rate_reading_accuracy",
        "/leakage/0/weight_change_by_layer/0",
        "/attacks/0/attack",
        "/attacks/0/target",
        "/attacks/0/judge_top1",
        "/attacks/0/judge_top5",
        "/attacks/0/fid",
        "/attacks/0/fid_floor",
        "/attacks/0/fid_ceiling",
        "/attacks/0/nearest_distance",
        "/energy/ann_picojoule",
        "/energy/snn_picojoule_events",
        "/energy/snn_picojoule_rate",
        "/energy/ratio_events",
        "/energy/ratio_rate",
        "/energy/ratio_memory",
        "/energy/layers/0/snn_picojoule_memory",
        "/energy/mean_rate_by_layer/0",
        "/variants/modern/ann/test_accuracy",
    ] {
        assert!(
            report
                .pointer(pointer)
                .is_some_and(|value| !value.is_null()),
            "{pointer}"
        );
    }
    assert_eq!(report["attacks"].as_array().map(Vec::len), Some(5));
    let provenance = &report["provenance"];
    assert!(provenance.get("dirty").is_some());
    assert_eq!(provenance["data_sha256"].as_str().map(str::len), Some(64));
    let command = format!(
        "cargo xtask reproduce smoke --profile cpu --seed 1 {}",
        TINY.join(" ")
    );
    assert_eq!(provenance["command"], command);
    let records = files(whole());
    let seconds: f64 = records
        .iter()
        .filter(|path| path.ends_with("record.json"))
        .map(|path| json(path)["wall_seconds"].as_f64().expect("seconds"))
        .sum();
    let said = provenance["wall_seconds"].as_f64().expect("seconds");
    assert!((said - seconds).abs() < 1e-2, "{said} and {seconds}");
}

/// The smoke experiment as evidence, with the settings of [`TINY`] written into its file.
fn evidence_file(folder: &Path) {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/experiments/smoke.toml");
    let text = fs::read_to_string(home).expect("the smoke experiment");
    let mut text = text.replace("evidence = false", "evidence = true");
    for (from, to) in [
        ("train = 400", "train = 120"),
        ("test = 100", "test = 40"),
        ("validation = 100", "validation = 20"),
    ] {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    fs::create_dir_all(folder).expect("a folder");
    fs::write(folder.join("smoke.toml"), text).expect("written");
}

#[test]
fn evidence_is_not_replaced_by_fewer_seeds() {
    let out = tempfile::tempdir().expect("a folder");
    let experiments = out.path().join("experiments");
    evidence_file(&experiments);
    let call = |verb: &str, seeds: &str| {
        let folder = experiments.to_str().expect("UTF-8");
        let words = [verb, "smoke", "--seed", seeds, "--experiments", folder];
        String::from_utf8_lossy(&run_well(&words, out.path()).stderr).into_owned()
    };
    let path = out.path().join("results/smoke.json");
    let picture = out.path().join("figures/smoke-images.svg");
    let seeds = || json(&path)["seeds"].clone();
    call("reproduce", "2");
    assert_eq!(seeds(), serde_json::json!([2]));
    // the other seed is gathered
    call("reproduce", "1");
    assert_eq!(seeds(), serde_json::json!([1, 2]));
    assert!(picture.is_file());
    let kept = fs::read(&path).expect("evidence");
    call("report", "1");
    assert_eq!(fs::read(&path).expect("evidence"), kept);
    // a missing seed keeps the file
    fs::rename(
        out.path().join("runs/smoke/cpu/seed-2"),
        out.path().join("elsewhere"),
    )
    .expect("moved");
    let said = call("reproduce", "1");
    assert_eq!(fs::read(&path).expect("evidence"), kept);
    assert!(
        said.contains("seed 2,") && said.contains("reproduce smoke --profile cpu --seed 1,2`"),
        "{said}"
    );
    // a report computes nothing and is no evidence
    fs::remove_file(&path).expect("removed");
    fs::remove_file(&picture).expect("removed");
    call("report", "1");
    assert!(!path.exists() && !picture.exists());
    call("reproduce", "1");
    assert_eq!(seeds(), serde_json::json!([1]));
}

#[test]
fn validate_measures_the_networks_without_judge_attack_or_test_images() {
    let out = tempfile::tempdir().expect("a folder");
    let say = || {
        let output = run_well(&tiny(&["validate", "smoke", "--quiet"]), out.path());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = say();
    assert!(
        said.contains("on 20 validation images: source"),
        "20 images: {said}"
    );
    for network in [
        "converted (T = 4)",
        "converted with real data (T = 4)",
        "encrypted (T = ",
    ] {
        assert!(said.contains(network), "{network}: {said}");
    }
    assert!(
        said.contains("its weights read as a ReLU network"),
        "{said}"
    );
    let figures =
        |name: &str| json(&stage(out.path(), name).join("record.json"))["figures"].clone();
    let source = figures("validate-source");
    let reading = figures("validate-reading");
    let mut accuracies = vec![source["accuracy"].clone(), reading["accuracy"].clone()];
    for network in ["converted", "converted-real", "encrypted"] {
        let windows = figures(&format!("validate-{network}"))["accuracy_by_t"].clone();
        let windows = windows.as_array().expect("windows");
        assert_eq!(windows.len(), 3, "{windows:?}");
        accuracies.extend(windows.iter().map(|window| window["accuracy"].clone()));
    }
    // accuracies of 20 images are whole twentieths
    for accuracy in &accuracies {
        let right = accuracy.as_f64().expect("a share") * 20.0;
        assert!((right - right.round()).abs() < 1e-9, "{accuracies:?}");
    }
    let change = reading["largest_weight_change"].as_f64();
    assert!(change.is_some_and(|change| change > 0.0), "{reading}");
    let validation = json(&stage(out.path(), "train").join("record.json"))["figures"]["history"]
        .as_array()
        .and_then(|epochs| epochs.last().cloned())
        .expect("epochs")["validation_accuracy"]
        .clone();
    assert_eq!(source["accuracy"], validation);
    let stages: Vec<_> = files(out.path()).into_iter().collect();
    for absent in ["/judge-", "/attack-", "/evaluate-", "/leakage-"] {
        assert!(
            stages
                .iter()
                .all(|path| !path.display().to_string().contains(absent)),
            "{absent}"
        );
    }
    assert_eq!(say(), said);
    let longer = [
        "validate",
        "smoke",
        "--set",
        "evaluate.encrypted_timesteps=6",
    ];
    let output = run_well(&tiny(&longer), out.path());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("converted (T = 4)") && said.contains("encrypted (T = 6)"),
        "{said}"
    );
    let computed = String::from_utf8_lossy(&output.stderr);
    let computed: Vec<&str> = computed
        .lines()
        .filter(|line| line.ends_with(": starts"))
        .collect();
    assert!(
        matches!(computed[..], [only] if only.contains("/validate-encrypted")),
        "{computed:?}"
    );
}
