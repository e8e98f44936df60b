//! One experiment file and its profiles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::checked::{Experiment, safe_name};
use super::config::ExperimentConfig;
use super::{overrides, ranges};
use crate::folder::with_extension;

/// A file of `data/experiments`: a base and its profiles.
#[derive(Debug, Clone)]
pub struct ExperimentFile {
    path: PathBuf,
    base: Table,
    profiles: BTreeMap<String, (Profile, Table)>,
}

/// What a profile says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// One line.
    pub description: String,
    /// Measured duration of one seed on the hardware of the description, in minutes; 0 if it was not measured.
    pub expected_minutes: f64,
    /// What is smaller than in the paper, one item each.
    #[serde(default)]
    pub scaled_down: Vec<String>,
}

/// The table of a file, laid over that of the file which it extends, which may extend another in turn; `above` are the
/// files that led to this one.
fn whole(path: &Path, above: &[PathBuf]) -> Result<Table> {
    let what = || path.display().to_string();
    let mut own = table(path)?;
    let without = own.remove("without");
    let Some(extended) = own.remove("extends") else {
        if without.is_some() {
            bail!(
                "{}: without: leaves out variants of the experiment that it extends, but extends none",
                what()
            );
        }
        return Ok(own);
    };
    let Value::String(name) = extended else {
        bail!(
            "{}: extends = {extended}: needs the name of an experiment",
            what()
        );
    };
    let below = path.with_file_name(format!("{name}.toml"));
    let led: Vec<PathBuf> = above.iter().cloned().chain([path.to_path_buf()]).collect();
    if led.contains(&below) {
        bail!(
            "{}: extends = {name:?}, which extends this one in turn",
            what()
        );
    }
    let mut base =
        whole(&below, &led).with_context(|| format!("{}: extends = {name:?}", what()))?;
    if let Some(without) = without {
        leave_out(&mut base, without).with_context(|| format!("{}: without", what()))?;
    }
    overrides::merge(&mut base, &own);
    Ok(base)
}

fn table(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.parse().with_context(|| path.display().to_string())
}

/// Removes the variants with these names, from the profiles too.
fn leave_out(base: &mut Table, names: Value) -> Result<()> {
    let names: Vec<String> = names.try_into().context("needs names of variants")?;
    for name in names {
        if variants(base).and_then(|v| v.remove(&name)).is_none() {
            bail!("no variant {name:?} in the experiment that it extends");
        }
        let profiles = base.get_mut("profiles").and_then(Value::as_table_mut);
        for profile in profiles.into_iter().flat_map(|all| all.iter_mut()) {
            let profile = profile.1.as_table_mut();
            profile.and_then(variants).and_then(|v| v.remove(&name));
        }
    }
    Ok(())
}

fn variants(table: &mut Table) -> Option<&mut Table> {
    table.get_mut("variants").and_then(Value::as_table_mut)
}

impl ExperimentFile {
    /// Names of the experiments of a folder, sorted.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn names(folder: &Path) -> Result<Vec<String>> {
        names_in(folder).with_context(|| {
            format!(
                "{}: no folder of experiments; name one with --experiments",
                folder.display()
            )
        })
    }

    /// Reads experiment `name` of `folder`; `name` may also be the path of a .toml file. A file with the key `extends`
    /// says only what differs from the experiment of that name beside it, which may do so in turn; the key `without`
    /// names variants of that experiment which this one does not have.
    ///
    /// # Errors
    /// No such experiment (with those there are); not TOML; a name that is not the file's; a profile that is not one.
    pub fn read(folder: &Path, name: &str) -> Result<Self> {
        let path = find(folder, name, "experiment")?;
        let mut base = whole(&path, &[])?;
        if let Some(Value::String(name)) = base.get("name")
            && path.file_stem().is_none_or(|stem| *stem != **name)
        {
            bail!(
                "{}: name = {name:?}: must be that of the file, under which its results are kept; one that extends another \
                 experiment needs a name of its own",
                path.display()
            );
        }
        let profiles = match base.remove("profiles") {
            Some(Value::Table(profiles)) if !profiles.is_empty() => profiles,
            _ => bail!(
                "{}: needs at least one table [profiles.NAME]",
                path.display()
            ),
        };
        let profiles = profiles
            .into_iter()
            .map(|(name, value)| {
                safe_name("profiles", &name).with_context(|| path.display().to_string())?;
                let own = |value: Value| -> Result<(Profile, Table)> {
                    let mut table = value.try_into::<Table>()?;
                    for key in ["name", "dataset"] {
                        if table.contains_key(key) {
                            bail!("{key}: is the experiment's, the same in all its profiles");
                        }
                    }
                    let mut about = Table::new();
                    for key in ["description", "expected_minutes", "scaled_down"] {
                        about.extend(table.remove(key).map(|value| (key.to_string(), value)));
                    }
                    Ok((about.try_into()?, table))
                };
                let profile =
                    own(value).with_context(|| format!("{}: profiles.{name}", path.display()))?;
                Ok((name, profile))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            path,
            base,
            profiles,
        })
    }

    /// The profiles by name.
    pub fn profiles(&self) -> impl Iterator<Item = (&str, &Profile)> {
        self.profiles
            .iter()
            .map(|(name, (profile, _))| (name.as_str(), profile))
    }

    /// One profile.
    ///
    /// # Errors
    /// No such profile, with those there are.
    pub fn profile(&self, name: &str) -> Result<&Profile> {
        Ok(&self.entry(name)?.0)
    }

    fn entry(&self, name: &str) -> Result<&(Profile, Table)> {
        self.profiles.get(name).ok_or_else(|| {
            let there: Vec<&str> = self.profiles.keys().map(String::as_str).collect();
            anyhow!(
                "--profile {name}: {} has no such profile; there are: {}",
                self.path.display(),
                there.join(", ")
            )
        })
    }

    /// The experiment with a profile and assignments `KEY=VALUE` laid on, checked.
    ///
    /// # Errors
    /// An unknown key, a value of another type or outside its range, with the key's name.
    pub fn resolve(&self, profile: &str, assignments: &[String]) -> Result<Experiment> {
        self.assigned(self.profiled(profile)?, assignments)
    }

    /// The same with one variant only; a key of a variant is one of this variant.
    ///
    /// # Errors
    /// Those of [`ExperimentFile::resolve`], and no such variant.
    pub fn resolve_variant(
        &self,
        profile: &str,
        variant: &str,
        assignments: &[String],
    ) -> Result<Experiment> {
        self.assigned(self.profiled(profile)?.only(variant)?, assignments)
    }

    fn profiled(&self, profile: &str) -> Result<ExperimentConfig> {
        let mut table = self.base.clone();
        overrides::merge(&mut table, &self.entry(profile)?.1);
        self.typed(table)
    }

    fn assigned(&self, config: ExperimentConfig, assignments: &[String]) -> Result<Experiment> {
        if assignments.is_empty() {
            return Experiment::new(config).with_context(|| self.path.display().to_string());
        }
        // the tree of the typed experiment holds every key there is, defaults included
        let mut tree =
            Table::try_from(&config).context("an experiment cannot be written as TOML")?;
        for assignment in assignments {
            overrides::set(&mut tree, assignment)?;
        }
        let name = &config.name;
        let config = self.typed(tree).context("--set")?;
        if config.name != *name {
            bail!(
                "--set: name: is that of the file, under which results are kept; write another file to have another name"
            );
        }
        Experiment::new(config).context("--set")
    }

    fn typed(&self, table: Table) -> Result<ExperimentConfig> {
        let value = Value::Table(table);
        ranges::check(&value).with_context(|| self.path.display().to_string())?;
        // through text, because only then does an error show the line with the key
        let text =
            toml::to_string_pretty(&value).context("an experiment cannot be written as TOML")?;
        toml::from_str(&text)
            .with_context(|| format!("{} (shown with its profile laid on)", self.path.display()))
    }
}

/// The path of file `name` of `folder`; `name` may also be the path of a .toml file. `kind` is what the folder holds.
///
/// # Errors
/// No such file, with the names there are.
pub fn find(folder: &Path, name: &str, kind: &str) -> Result<PathBuf> {
    if name.ends_with(".toml") {
        return Ok(PathBuf::from(name));
    }
    let names = names_in(folder).with_context(|| {
        format!(
            "{}: no folder of {kind}s; give the path of a .toml file",
            folder.display()
        )
    })?;
    if !names.iter().any(|known| known == name) {
        bail!(
            "no {kind} `{name}` in {}; there are: {}",
            folder.display(),
            names.join(", ")
        );
    }
    Ok(folder.join(format!("{name}.toml")))
}

fn names_in(folder: &Path) -> std::io::Result<Vec<String>> {
    let stem = |path: &PathBuf| Some(path.file_stem()?.to_string_lossy().into_owned());
    let paths = with_extension(folder, "toml")?;
    // by name, not by file: a name comes before the longer ones that begin with it
    let names: BTreeSet<String> = paths.iter().filter_map(stem).collect();
    Ok(names.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_says_only_what_differs() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/experiments");
        let read = |name: &str| ExperimentFile::read(&folder, name).unwrap();
        let (base, extended) = (read("cifar10"), read("cifar100"));
        let of = |file: &ExperimentFile| file.resolve("paper", &[]).unwrap();
        let (base, extended) = (of(&base), of(&extended));
        assert_eq!(extended.name, "cifar100");
        let [before, after] = [&base, &extended].map(|config| &config.variants["modern"]);
        assert_eq!(before.ann, after.ann);
        assert_ne!(before.synth.count, after.synth.count);
    }

    #[test]
    fn an_extension_can_leave_variants_out() {
        let folder = tempfile::tempdir().unwrap();
        let experiments = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/experiments");
        std::fs::copy(
            experiments.join("cifar10.toml"),
            folder.path().join("cifar10.toml"),
        )
        .unwrap();
        let read = |text: &str| {
            std::fs::write(folder.path().join("a.toml"), text).unwrap();
            ExperimentFile::read(folder.path(), "a")
        };
        let file = read("extends = 'cifar10'\nwithout = ['paper']\nname = 'a'").unwrap();
        for profile in ["cpu", "paper"] {
            let variants = file.resolve(profile, &[]).unwrap().variants.clone();
            assert_eq!(variants.into_keys().collect::<Vec<_>>(), ["modern"]);
        }
        for (text, why) in [
            ("without = ['paper']", "extends none"),
            ("extends = 'cifar10'\nwithout = ['x']", "no variant \"x\""),
            (
                "extends = 'cifar10'\nwithout = 3",
                "needs names of variants",
            ),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(
                error.contains("a.toml: without") && error.contains(why),
                "{error}"
            );
        }
    }

    #[test]
    fn a_name_is_that_of_the_file_and_profiles_become_folders() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(format!("{name}.toml")), text).unwrap();
        };
        let read = |name: &str| ExperimentFile::read(folder.path(), name);
        let refused = |name: &str| format!("{:#}", read(name).unwrap_err());
        let profile = "description = 'd'\nexpected_minutes = 0.0";
        write("a", &format!("name = 'a'\n[profiles.cpu]\n{profile}"));
        assert!(read("a").is_ok());
        write("b", "extends = 'a'");
        let error = refused("b");
        assert!(
            error.contains("b.toml: name = \"a\": must be that of the file"),
            "{error}"
        );
        let outside = folder.path().join("b.toml");
        assert_eq!(refused(outside.to_str().unwrap()), error);
        write("c", &format!("name = 'c'\n[profiles.'../x']\n{profile}"));
        let error = refused("c");
        assert!(
            error.contains("c.toml") && error.contains("profiles: `../x` must be letters"),
            "{error}"
        );
        write(
            "d",
            &format!("name = 'd'\n[profiles.cpu]\ndataset = 'mnist'\n{profile}"),
        );
        let error = refused("d");
        assert!(
            error.contains("d.toml: profiles.cpu: dataset: is the experiment's"),
            "{error}"
        );
    }

    #[test]
    fn an_extension_of_nothing_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(format!("{name}.toml")), text).unwrap();
        };
        write("a", "extends = 'b'");
        write("c", "extends = 3");
        let refused = |name: &str| {
            format!(
                "{:#}",
                ExperimentFile::read(folder.path(), name).unwrap_err()
            )
        };
        let error = refused("a");
        assert!(
            error.contains("a.toml: extends = \"b\"") && error.contains("b.toml"),
            "{error}"
        );
        write("b", "extends = 'a'");
        assert!(refused("a").contains("b.toml: extends = \"a\", which extends this one in turn"));
        assert!(refused("c").contains("needs the name of an experiment"));
    }
}
