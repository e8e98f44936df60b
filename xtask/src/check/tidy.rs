//! The tree's own rules, which no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::check::{edges, source};
use crate::workspace::Workspace;

/// What library code may not name: everything a library does follows from its arguments.
const NOT_IN_LIBRARIES: [&str; 4] = ["std::env", "std::time", "Instant::now", "SystemTime"];

/// Marks of unfinished work; put together here so that this file passes its own rule.
const UNFINISHED: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

/// Members that need no example: the program has its verbs, the test helpers their users.
const WITHOUT_EXAMPLE: [&str; 2] = ["private-snn", "testkit"];

/// All rules; an error lists every breach.
pub fn check(workspace: &Workspace) -> Result<()> {
    let mut problems = edges::problems(&workspace.metadata()?)?;
    let crates = folders(&workspace.path("crates"))?;
    for folder in &crates {
        problems.extend(front_page(folder)?);
    }
    for top in [
        "crates",
        "xtask",
        "benches",
        "data/experiments",
        "data/paper",
        "data/published",
        "data/sweeps",
    ] {
        for path in files(&workspace.path(top))? {
            problems.extend(text_rules(&path)?);
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    bail!(
        "{} breaches of the tree's rules, listed above",
        problems.len()
    )
}

/// Each crate has a README that is its documentation, and one example.
fn front_page(folder: &Path) -> Result<Vec<String>> {
    let shown = folder.display();
    let mut problems = Vec::new();
    if !folder.join("README.md").is_file() {
        problems.push(format!("{shown}: no README.md"));
    }
    let library = folder.join("src/lib.rs");
    let text = fs::read_to_string(&library).with_context(|| library.display().to_string())?;
    if !text.contains("include_str!(\"../README.md\")") {
        problems.push(format!(
            "{}: does not include ../README.md as its documentation",
            library.display()
        ));
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    if !WITHOUT_EXAMPLE.contains(&&*name) {
        let examples = files(&folder.join("examples"))?;
        let count = examples
            .iter()
            .filter(|path| path.extension().is_some_and(|e| e == "rs"))
            .count();
        if count != 1 {
            problems.push(format!(
                "{shown}/examples: {count} examples, expected exactly one"
            ));
        }
    }
    Ok(problems)
}

/// Rules on the text of one file.
fn text_rules(path: &Path) -> Result<Vec<String>> {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    if !matches!(extension, "rs" | "toml" | "md" | "py" | "cu") {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut problems = Vec::new();
    for word in UNFINISHED {
        if source::find_word(&text, word) {
            problems.push(format!(
                "{}: {word} (file an issue instead)",
                path.display()
            ));
        }
    }
    if extension == "rs" {
        let code = source::code(&text);
        if code.contains("#[ignore") {
            problems.push(format!(
                "{}: an ignored test (make it fast or remove it)",
                path.display()
            ));
        }
        if is_library_code(path) {
            let code = source::without_tests(&code);
            for name in NOT_IN_LIBRARIES
                .iter()
                .filter(|name| source::uses(&code, name))
            {
                problems.push(format!(
                    "{}: {name} in a library; pass the value in",
                    path.display()
                ));
            }
        }
    }
    Ok(problems)
}

/// Below `src` of a library crate, and not a file of tests.
fn is_library_code(path: &Path) -> bool {
    let parts: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
    let Some(crates) = parts.iter().rposition(|part| *part == "crates") else {
        return false;
    };
    match &parts[crates + 1..] {
        [name, "src", rest @ ..] => {
            !edges::PROGRAMS.contains(name)
                && !rest
                    .iter()
                    .any(|part| matches!(*part, "tests" | "tests.rs"))
        }
        _ => false,
    }
}

fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
        let path = entry?.path();
        if path.join("Cargo.toml").is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// All files below a folder, sorted; none if there is no such folder. Build outputs are passed over.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !path.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if entry.file_name() != "target" {
                found.extend(files(&path)?);
            }
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(relative: &str, text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        text_rules(&path).unwrap()
    }

    #[test]
    fn library_code_names_neither_environment_nor_clock() {
        let text = "fn f() { std::env::var(\"A\"); std::time::Instant::now(); }";
        assert_eq!(breaches("crates/ann/src/a.rs", text).len(), 3);
        assert!(breaches("crates/private-snn/src/a.rs", text).is_empty());
        assert!(breaches("crates/ann/tests/a.rs", text).is_empty());
        assert!(breaches("crates/ann/examples/a.rs", text).is_empty());
        assert!(breaches("crates/ann/src/net/tests.rs", text).is_empty());
        assert!(breaches("crates/ann/src/a.rs", "/// not `std::env`\nfn f() {}").is_empty());
    }

    #[test]
    fn unfinished_work_and_ignored_tests_are_found() {
        assert_eq!(
            breaches(
                "crates/ann/src/a.rs",
                &format!("// {}: more", UNFINISHED[0])
            )
            .len(),
            1
        );
        assert_eq!(
            breaches("crates/ann/README.md", &format!("{} this", UNFINISHED[1])).len(),
            1
        );
        assert_eq!(
            breaches(
                "crates/ann/src/a.rs",
                "#[test]\n#[ignore = \"slow\"]\nfn f() {}"
            )
            .len(),
            1
        );
        assert!(breaches("crates/ann/src/a.rs", "// METHODOLOGY").is_empty());
    }

    #[test]
    fn a_crate_has_a_front_page_and_one_example() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("ann");
        fs::create_dir_all(root.join("src")).unwrap();
        fs::write(root.join("src/lib.rs"), "").unwrap();
        assert_eq!(front_page(&root).unwrap().len(), 3);
        fs::write(
            root.join("src/lib.rs"),
            "#![doc = include_str!(\"../README.md\")]",
        )
        .unwrap();
        fs::write(root.join("README.md"), "# ann").unwrap();
        fs::create_dir(root.join("examples")).unwrap();
        fs::write(root.join("examples/a.rs"), "").unwrap();
        assert!(front_page(&root).unwrap().is_empty());
        fs::write(root.join("examples/b.rs"), "").unwrap();
        assert_eq!(front_page(&root).unwrap().len(), 1);
    }
}
