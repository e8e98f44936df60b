//! Bad input gives a clear error that names what is at fault, and no file that could be taken for a result.

mod common;

use std::fs;
use std::path::Path;

use common::{failure, files, program, run_well, stage, tiny};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn an_unknown_key_is_named_with_its_siblings() {
    let out = folder();
    let said = failure(
        &["train", "smoke", "--set", "variants.modern.encrypt.epoch=3"],
        out.path(),
    );
    assert!(
        said.contains("`epoch`") && said.contains("epochs") && said.contains("timesteps"),
        "{said}"
    );
    let said = failure(&["train", "smoke", "--set", "nothing=3"], out.path());
    assert!(
        said.contains("`nothing`") && said.contains("variants"),
        "{said}"
    );
    assert!(files(out.path()).is_empty());
}

#[test]
fn numbers_outside_their_range_are_named_with_it() {
    let out = folder();
    for (assignment, key) in [
        ("encrypt.timesteps=-4", "encrypt.timesteps = -4"),
        ("encrypt.timesteps=0", "encrypt.timesteps = 0"),
        (
            "evaluate.encrypted_timesteps=0",
            "evaluate.encrypted_timesteps = 0",
        ),
        ("evaluate.timesteps=0", "evaluate.timesteps = 0"),
        ("synth.count=0", "synth.count = 0"),
        ("attack.images_per_class=0", "attack.images_per_class = 0"),
        ("encrypt.learning_rate=nan", "encrypt.learning_rate = nan"),
    ] {
        let said = failure(&["train", "smoke", "--set", assignment], out.path());
        assert!(
            said.contains(key) && said.contains("must be"),
            "{assignment}: {said}"
        );
    }
    for (assignment, word) in [
        ("data.glyphs.test=0", "data.glyphs"),
        ("data.glyphs.train=-1", "train"),
        ("judge.training.epochs=many", "judge.training.epochs"),
        ("evaluate.windows=[4,2]", "windows"),
        ("headline=nobody", "nobody"),
        (
            "judge.network={depth=\"vgg5\",width=0.1,hidden=0,batch_norm=true}",
            "judge.network",
        ),
        ("convert.initial_membrane=1.5", "initial_membrane"),
        (
            "convert.readout_delay=4",
            "variants.modern.convert.readout_delay = 4: must be less than",
        ),
        ("attack.real_images=19", "at least 20, two of each"),
        ("name=glyphs", "name: is that of the file"),
        (
            "ann.training.augment.crop_padding=1000",
            "variants.modern.ann.training.augment.crop_padding = 1000: must be at most the 32 pixels",
        ),
        (
            "ann.training.batch=1",
            "variants.modern.ann.training.batch = 1",
        ),
        (
            "judge.training.activity_penalty=0.1",
            "set judge.network.levels",
        ),
        (
            "ann.network.batch_norm=false",
            "variants.modern.convert.thresholds: takes the statistics",
        ),
        (
            "attack.back_conversion.ascent.total_variation=1e300",
            "total_variation",
        ),
        ("data.glyphs.train=5", "has no training image left"),
    ] {
        let said = failure(&["train", "smoke", "--set", assignment], out.path());
        assert!(said.contains(word), "{assignment}: {said}");
    }
    assert!(files(out.path()).is_empty());
}

#[test]
fn an_experiment_file_with_an_unknown_key_is_refused_with_its_path() {
    let out = folder();
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/experiments/smoke.toml");
    let text = fs::read_to_string(home).expect("the smoke experiment");
    for (change, word) in [
        (
            text.replace("epochs = 2\nbatch = 10", "epochs = 2\nbatches = 10"),
            "batches",
        ),
        (
            text.replace("[variants.modern.synth]", "[variants.modern.synthesis]"),
            "synthesis",
        ),
        (
            text.replace("timesteps = 4\nepochs", "timesteps = -4\nepochs"),
            "encrypt.timesteps = -4",
        ),
        (
            text.replace("dataset = \"glyphs\"", "dataset = \"glyph\""),
            "glyph",
        ),
        (format!("{text}\nnot toml"), "toml"),
    ] {
        assert_ne!(change, text, "the change did not apply");
        let path = out.path().join("smoke.toml");
        fs::write(&path, change).expect("written");
        let said = failure(
            &["train", path.to_str().expect("UTF-8")],
            &out.path().join("out"),
        );
        assert!(said.contains("smoke.toml") && said.contains(word), "{said}");
    }
}

#[test]
fn unknown_experiments_and_profiles_are_named_with_those_there_are() {
    let out = folder();
    let said = failure(&["train", "nothing"], out.path());
    assert!(
        said.contains("`nothing`") && said.contains("glyphs") && said.contains("smoke"),
        "{said}"
    );
    let said = failure(&["train", "smoke", "--profile", "gpu"], out.path());
    assert!(said.contains("gpu") && said.contains("cpu"), "{said}");
    if !cfg!(feature = "cuda") {
        let said = failure(&["train", "smoke", "--device", "cuda"], out.path());
        assert!(
            said.contains("--device cuda") && said.contains("without CUDA"),
            "{said}"
        );
    }
    let said = failure(&["train", "smoke", "--threads", "0"], out.path());
    assert!(said.contains("--threads"), "{said}");
}

#[test]
fn missing_data_is_named_with_the_folder() {
    let out = folder();
    let data = out.path().join("nowhere");
    let said = failure(
        &[
            "train",
            "cifar10",
            "--profile",
            "cpu",
            "--data-dir",
            data.to_str().expect("UTF-8"),
        ],
        out.path(),
    );
    assert!(
        said.contains("nowhere") && said.contains("fetch cifar10"),
        "{said}"
    );
}

#[test]
fn a_damaged_data_file_is_named() {
    let out = folder();
    let data = out.path().join("cifar-10-batches-bin");
    fs::create_dir(&data).expect("a folder");
    for name in (1..=5)
        .map(|i| format!("data_batch_{i}.bin"))
        .chain(["test_batch.bin".into()])
    {
        fs::write(data.join(name), [0u8; 100]).expect("written");
    }
    let said = failure(
        &[
            "train",
            "cifar10",
            "--profile",
            "cpu",
            "--data-dir",
            out.path().to_str().expect("UTF-8"),
        ],
        out.path(),
    );
    assert!(said.contains("_batch") && said.contains(".bin"), "{said}");
}

#[test]
fn a_corrupted_or_swapped_artefact_names_file_and_folder() {
    let out = folder();
    run_well(&tiny(&["synth", "smoke"]), out.path());
    let network = stage(out.path(), "train").join("ann.safetensors");
    let good = fs::read(&network).expect("the network");
    let mut bad = good.clone();
    *bad.last_mut().expect("bytes") ^= 1;
    for damage in [
        bad,
        good[..good.len() / 2].to_vec(),
        Vec::new(),
        fs::read(stage(out.path(), "synth").join("synthetic.safetensors")).expect("the set"),
    ] {
        fs::write(&network, damage).expect("written");
        let said = failure(&tiny(&["synth", "smoke"]), out.path());
        assert!(
            said.contains("ann.safetensors") && said.contains("delete the folder"),
            "{said}"
        );
    }
    fs::remove_file(&network).expect("removed");
    let said = failure(&tiny(&["synth", "smoke"]), out.path());
    assert!(
        said.contains("ann.safetensors") && said.contains("missing"),
        "{said}"
    );
    // doing what the message says mends it
    fs::remove_dir_all(network.parent().expect("a folder")).expect("removed");
    run_well(&tiny(&["synth", "smoke"]), out.path());
    assert_eq!(fs::read(&network).expect("made again"), good);
}

#[test]
fn a_checkpoint_of_another_topology_or_with_damage_is_refused() {
    let out = folder();
    let (mine, other) = (out.path().join("mine"), out.path().join("other"));
    let longer = [
        tiny(&["train", "smoke"]),
        vec!["--set", "ann.training.epochs=400"],
    ]
    .concat();
    let wider = [longer.clone(), vec!["--set", "ann.network.width=0.2"]].concat();
    let checkpoint = interrupted_checkpoint(&wider, &other);
    let place = interrupted_checkpoint(&longer, &mine);
    fs::copy(checkpoint, &place).expect("copied");
    let said = failure(&longer, &mine);
    assert!(
        said.contains("state.safetensors") && said.contains("topology"),
        "{said}"
    );
    for damage in [
        b"not safetensors at all".to_vec(),
        fs::read(&place).expect("read")[..200].to_vec(),
    ] {
        fs::write(&place, damage).expect("written");
        let said = failure(&longer, &mine);
        assert!(said.contains("state.safetensors"), "{said}");
    }
}

/// The checkpoint that a killed training leaves.
fn interrupted_checkpoint(words: &[&str], out: &Path) -> std::path::PathBuf {
    let mut child = program(words, out)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("started");
    let seen = common::wait_for(&mut child, out, |path| path.ends_with("state.safetensors"));
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(seen, "it ended too early");
    files(out)
        .into_iter()
        .find(|path| path.ends_with("state.safetensors"))
        .expect("a checkpoint")
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let out = folder();
    let file = out.path().join("file");
    fs::write(&file, "in the way").expect("written");
    let said = failure(&tiny(&["train", "smoke"]), &file);
    assert!(said.contains("file"), "{said}");
    assert_eq!(
        fs::read_to_string(&file).expect("still there"),
        "in the way"
    );
}

#[test]
fn a_report_of_nothing_says_what_to_run() {
    let out = folder();
    let said = failure(&["report", "smoke"], out.path());
    assert!(
        said.contains("not finished") && said.contains("reproduce smoke"),
        "{said}"
    );
    let said = failure(&["report"], out.path());
    assert!(
        said.contains("results") && said.contains("run `reproduce` first"),
        "{said}"
    );
    let said = failure(&["report", "--set", "encrypt.epochs=2"], out.path());
    assert!(said.contains("--set"), "{said}");
    assert!(files(out.path()).is_empty());
}

/// A limit on the size of files stands in for a full disk: writing fails in the middle of a file.
#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let out = folder();
    let words = tiny(&["train", "smoke"]);
    let mut limited = std::process::Command::new("sh");
    limited
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 40; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_private-snn"),
        ])
        .args(&words)
        .arg("--out")
        .arg(out.path());
    let output = limited.output().expect("sh");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("state.safetensors"), "{said}");
    let left = files(out.path());
    assert!(left.iter().all(|path| path.ends_with("lock")), "{left:?}");
    run_well(&words, out.path());
}
