//! The whole of an experiment: reports, skipping, interruptions, bytes.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use common::{artefacts, figures, files, program, run, run_well, tiny, wait_for};
use serde_json::Value;

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

/// Kills the program as soon as `moment` accepts a file, runs it again, and compares with the run that was never
/// stopped.
fn killed_at(moment: impl Fn(&Path) -> bool) {
    let out = tempfile::tempdir().expect("a folder");
    let mut child = program(&tiny(&["reproduce", "smoke"]), out.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let seen = wait_for(&mut child, out.path(), moment);
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(seen, "it ended before it could be killed");
    assert!(
        !files(out.path())
            .iter()
            .any(|path| path.ends_with("report.json")),
        "it had ended already"
    );
    run_well(&tiny(&["reproduce", "smoke"]), out.path());
    assert_eq!(figures(out.path()), figures(whole()));
    assert_eq!(artefacts(out.path()), artefacts(whole()));
}

fn in_stage(path: &Path, stage: &str, file: &str) -> bool {
    let folder = path
        .parent()
        .and_then(Path::file_name)
        .map(|name| name.to_string_lossy().into_owned());
    folder.is_some_and(|folder| folder.starts_with(stage))
        && path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(file))
}

#[test]
fn killed_in_training() {
    killed_at(|path| in_stage(path, "train-", "state.safetensors"));
}

#[test]
fn killed_in_synthesis() {
    killed_at(|path| in_stage(path, "synth-", "shard-00000"));
}

#[test]
fn killed_in_encryption() {
    killed_at(|path| in_stage(path, "encrypt-", "state.safetensors"));
}

#[test]
fn killed_in_an_attack() {
    killed_at(|path| in_stage(path, "attack-", "lock"));
}

#[test]
fn ctrl_c_ends_with_130_and_the_same_command_goes_on() {
    let out = tempfile::tempdir().expect("a folder");
    let mut child = program(&tiny(&["reproduce", "smoke"]), out.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    assert!(wait_for(&mut child, out.path(), |path| in_stage(
        path, "train-", "lock"
    )));
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .expect("kill");
    assert!(sent.success());
    let output = child.wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("the same command goes on"), "{said}");
    run_well(&tiny(&["reproduce", "smoke"]), out.path());
    assert_eq!(figures(out.path()), figures(whole()));
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
        "train-",
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
    let report: Value = figures(whole());
    for pointer in [
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
        "/judge/architecture",
        "/judge/test_accuracy",
        "/leakage/0/target",
        "/leakage/0/relu_reading_accuracy",
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
}
