//! Who uses whom. The privacy claim is a missing arrow: no stage can reach a data set. So the whole set of arrows is
//! compared, by equality, with the table below; an arrow that is new or gone is an error either way.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

/// The arrows between members of the workspace, from ARCHITECTURE.md.
const ARROWS: &[(&str, &[&str])] = &[
    ("ann", &["snn-core"]),
    ("attack-eval", &["ann", "snn-core"]),
    ("convert", &["ann", "snn-core"]),
    ("datasets", &[]),
    ("encrypt", &["ann", "snn-core"]),
    (
        "private-snn",
        &[
            "ann",
            "attack-eval",
            "convert",
            "datasets",
            "encrypt",
            "snn-core",
            "synth",
        ],
    ),
    ("private-snn-benches", &["ann", "datasets", "snn-core"]),
    ("snn-core", &[]),
    ("synth", &["ann", "snn-core"]),
    ("testkit", &[]),
    ("xtask", &[]),
];

/// What tests and examples may use besides.
const FOR_TESTS: [&str; 2] = ["datasets", "testkit"];

/// Arrows of examples alone: that of encryption starts where the stages before it end.
const FOR_EXAMPLES: [(&str, &str); 2] = [("encrypt", "convert"), ("encrypt", "synth")];

/// What a library may not use: these belong to programs.
const FOR_PROGRAMS: [&str; 3] = ["anyhow", "clap", "tracing-subscriber"];

/// The programs; every other member is a library.
pub const PROGRAMS: [&str; 3] = ["private-snn", "private-snn-benches", "xtask"];

/// One member as `cargo metadata` describes it.
#[derive(Debug, Default)]
struct Member {
    /// Normal and build dependencies.
    uses: BTreeSet<String>,
    /// Dependencies of tests, examples and benches.
    tests_use: BTreeSet<String>,
    features: BTreeMap<String, Vec<String>>,
}

/// What is wrong with the dependencies, one line each.
pub fn problems(metadata: &Value) -> Result<Vec<String>> {
    let members = members(metadata)?;
    let mut problems = against_table(&members, ARROWS);
    problems.extend(roles(&members));
    problems.extend(cuda_forwarded(&members));
    Ok(problems)
}

fn members(metadata: &Value) -> Result<BTreeMap<String, Member>> {
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata: no packages")?;
    let mut members = BTreeMap::new();
    for package in packages {
        let name = package["name"]
            .as_str()
            .context("cargo metadata: a package without a name")?;
        let mut member = Member {
            features: serde_json::from_value(package["features"].clone())
                .context("cargo metadata: features")?,
            ..Member::default()
        };
        for dependency in package["dependencies"]
            .as_array()
            .context("cargo metadata: no dependencies")?
        {
            let used = dependency["name"]
                .as_str()
                .context("cargo metadata: a dependency without a name")?;
            let set = if dependency["kind"] == "dev" {
                &mut member.tests_use
            } else {
                &mut member.uses
            };
            set.insert(used.to_owned());
        }
        members.insert(name.to_owned(), member);
    }
    Ok(members)
}

fn against_table(members: &BTreeMap<String, Member>, table: &[(&str, &[&str])]) -> Vec<String> {
    let arrow = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let expected: BTreeSet<_> = table
        .iter()
        .flat_map(|(from, to)| to.iter().map(move |to| arrow(from, to)))
        .collect();
    let found: BTreeSet<_> = members
        .iter()
        .flat_map(|(from, member)| member.uses.iter().map(move |to| arrow(from, to)))
        .filter(|(_, to)| members.contains_key(to))
        .collect();
    let mut problems = Vec::new();
    for (from, to) in found.difference(&expected) {
        problems.push(format!(
            "{from} -> {to}: this dependency is not in the table of xtask/src/check/edges.rs"
        ));
    }
    for (from, to) in expected.difference(&found) {
        problems.push(format!(
            "{from} -> {to}: in the table of xtask/src/check/edges.rs, but no such dependency"
        ));
    }
    let listed: BTreeSet<_> = table.iter().map(|(name, _)| (*name).to_owned()).collect();
    let present: BTreeSet<_> = members.keys().cloned().collect();
    for name in listed.symmetric_difference(&present) {
        problems.push(format!(
            "{name}: the table of xtask/src/check/edges.rs and the workspace disagree on it"
        ));
    }
    problems
}

fn roles(members: &BTreeMap<String, Member>) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, member) in members {
        for used in member
            .tests_use
            .iter()
            .filter(|used| members.contains_key(*used))
        {
            let of_example = FOR_EXAMPLES.contains(&(name.as_str(), used.as_str()));
            if !FOR_TESTS.contains(&used.as_str()) && !of_example {
                problems.push(format!(
                    "{name}: its tests use {used}; only {} are for tests",
                    FOR_TESTS.join(", ")
                ));
            }
        }
        for used in FOR_PROGRAMS {
            if !PROGRAMS.contains(&name.as_str()) && member.uses.contains(used) {
                problems.push(format!("{name} -> {used}: a library may not use it"));
            }
        }
    }
    problems
}

/// Every member that has the feature `cuda` hands it on to the members it uses; none has it by default.
fn cuda_forwarded(members: &BTreeMap<String, Member>) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, member) in members {
        if member
            .features
            .get("default")
            .is_some_and(|list| list.iter().any(|feature| feature.contains("cud")))
        {
            problems.push(format!("{name}: cuda must be off by default"));
        }
        for used in member
            .uses
            .iter()
            .filter(|used| members.contains_key(*used))
        {
            for feature in ["cuda", "cudnn"] {
                let forwarded = format!("{used}/{feature}");
                if !member
                    .features
                    .get(feature)
                    .is_some_and(|list| list.contains(&forwarded))
                {
                    problems.push(format!(
                        "{name}: its feature {feature} does not forward {forwarded}"
                    ));
                }
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TABLE: &[(&str, &[&str])] = &[("datasets", &[]), ("synth", &["ann"]), ("ann", &[])];

    fn package(name: &str, uses: &[(&str, Option<&str>)], features: Value) -> Value {
        let dependencies: Vec<_> = uses
            .iter()
            .map(|(name, kind)| json!({"name": name, "kind": kind}))
            .collect();
        json!({"name": name, "dependencies": dependencies, "features": features})
    }

    fn workspace(synth_uses: &[(&str, Option<&str>)]) -> BTreeMap<String, Member> {
        let forward = json!({"cuda": ["ann/cuda"], "cudnn": ["ann/cudnn"]});
        let packages = [
            package("ann", &[("rayon", None)], json!({})),
            package("datasets", &[], json!({})),
            package("synth", synth_uses, forward),
        ];
        members(&json!({ "packages": packages })).unwrap()
    }

    #[test]
    fn equal_sets_pass() {
        let members = workspace(&[("ann", None), ("rayon", None), ("datasets", Some("dev"))]);
        assert!(against_table(&members, TABLE).is_empty());
        assert!(roles(&members).is_empty());
        assert!(cuda_forwarded(&members).is_empty());
    }

    #[test]
    fn a_new_arrow_fails() {
        let members = workspace(&[("ann", None), ("datasets", None)]);
        let problems = against_table(&members, TABLE);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("synth -> datasets"), "{problems:?}");
        // as a build dependency too
        let members = workspace(&[("ann", None), ("datasets", Some("build"))]);
        assert!(against_table(&members, TABLE)[0].starts_with("synth -> datasets"));
    }

    #[test]
    fn an_arrow_that_is_gone_fails() {
        let problems = against_table(&workspace(&[]), TABLE);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("synth -> ann"), "{problems:?}");
    }

    #[test]
    fn a_new_member_fails() {
        let problems = against_table(&workspace(&[("ann", None)]), &TABLE[..2]);
        assert!(
            problems.iter().any(|problem| problem.starts_with("ann: ")),
            "{problems:?}"
        );
    }

    #[test]
    fn libraries_do_not_use_what_programs_use() {
        let problems = roles(&workspace(&[("anyhow", None), ("ann", Some("dev"))]));
        assert_eq!(problems.len(), 2);
        assert!(
            problems[0].contains("its tests use ann") && problems[1].starts_with("synth -> anyhow")
        );
    }

    #[test]
    fn a_feature_that_is_not_forwarded_fails() {
        let packages = [
            package("ann", &[], json!({"default": ["cuda"], "cuda": []})),
            package("synth", &[("ann", None)], json!({"cuda": ["ann/cuda"]})),
        ];
        let problems = cuda_forwarded(&members(&json!({ "packages": packages })).unwrap());
        assert_eq!(problems.len(), 2);
        assert!(
            problems[0].contains("off by default") && problems[1].contains("ann/cudnn"),
            "{problems:?}"
        );
    }

    #[test]
    fn metadata_of_another_shape_is_an_error() {
        assert!(members(&json!({})).is_err());
        assert!(members(&json!({"packages": [{"name": "a", "features": {}}]})).is_err());
    }
}
