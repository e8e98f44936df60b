//! Records that are older than the files of their experiments.

use super::document::Block;
use super::experiment::Account;
use super::overall::Column;

/// The parts of an experiment, `judge` or `encrypt`, in which a variant's record has other settings than the experiment's file.
pub fn parts(columns: &[Column], account: &Account, variant: &str) -> Vec<String> {
    let is_its = |column: &&Column| {
        let its = column.account(std::slice::from_ref(account));
        its.is_some()
    };
    let changed = columns.iter().find(is_its);
    let changed = changed.map_or_else(Vec::new, |column| column.changed(account));
    let of_variant = changed.iter().filter_map(|setting| match owner(setting) {
        (Some(other), _) if other != variant => None,
        (_, part) => Some(part.to_string()),
    });
    let mut parts: Vec<String> = of_variant.collect();
    parts.sort();
    parts.dedup();
    parts
}

/// Which records were made with other settings than the files have now, variant by variant: in `detail` the settings' names,
/// else the parts that they belong to. Nothing if none was.
pub fn block(columns: &[Column], accounts: &[Account], detail: bool) -> Option<Block> {
    let mut names = Vec::new();
    for column in columns {
        let Some(account) = column.account(accounts) else {
            continue;
        };
        let mut of: Vec<(Option<String>, Vec<String>)> = Vec::new();
        for setting in column.changed(account) {
            let (variant, part) = owner(&setting);
            let variant = variant.map(String::from);
            let shown = if detail { &setting } else { part }.to_string();
            match of.iter_mut().find(|(there, _)| *there == variant) {
                Some((_, settings)) if settings.contains(&shown) => {}
                Some((_, settings)) => settings.push(shown),
                None => of.push((variant, vec![shown])),
            }
        }
        names.extend(of.into_iter().map(|(variant, settings)| {
            let variant = variant.map_or_else(String::new, |variant| format!(": {variant}"));
            format!("{}{variant} ({})", column.title(), settings.join(", "))
        }));
    }
    (!names.is_empty()).then(|| {
        Block::Text(format!(
            "Recorded with other settings than the experiment's file has now, or before it had all of them, and comparable with \
             other rows only in what does not depend on these: {}.",
            names.join("; ")
        ))
    })
}

/// The variant, if it is of one, and the part that a setting belongs to: `modern` and `encrypt` of
/// `variants.modern.encrypt.epochs`.
fn owner(setting: &str) -> (Option<&str>, &str) {
    let mut names = setting.split('.');
    match (names.next(), names.next(), names.next()) {
        (Some("variants"), Some(variant), part) => (Some(variant), part.unwrap_or("everything")),
        (Some(first), ..) => (None, first),
        _ => (None, setting),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::overall::tests::column;
    use super::*;

    #[test]
    fn what_changed_is_said_of_the_variant_that_it_belongs_to() {
        let settings = |epochs: usize, iterations: usize| {
            json!({"judge": {"width": 1}, "variants": {
                "a": {"encrypt": {"epochs": epochs, "batch": epochs}, "attack": {"iterations": 1}, "synth": {"count": epochs}},
                "b": {"encrypt": {"epochs": 5}, "attack": {"iterations": iterations}},
            }})
        };
        let columns = [
            column("other", settings(5, 5)),
            column("mine", settings(5, 5)),
        ];
        let account = |settings| Account {
            stem: "mine.cpu".into(),
            evidence: json!({"runs": [{"settings": settings}]}),
        };
        let said = |account: &Account, detail: bool| match block(
            &columns,
            std::slice::from_ref(account),
            detail,
        ) {
            Some(Block::Text(text)) => text,
            other => panic!("a text, got {other:?}"),
        };
        let old = account(settings(4, 4));
        let text = said(&old, false);
        assert!(
            text.ends_with(": mine, cpu: a (encrypt, synth); mine, cpu: b (attack)."),
            "{text}"
        );
        let text = said(&old, true);
        assert!(
            text.contains("(variants.a.encrypt.epochs, variants.a.encrypt.batch, "),
            "{text}"
        );
        assert_eq!(parts(&columns, &old, "a"), ["encrypt", "synth"]);
        assert_eq!(parts(&columns, &old, "b"), ["attack"]);

        let mut judged = settings(5, 5);
        judged["judge"]["width"] = json!(2);
        let judged = account(judged);
        assert!(said(&judged, false).ends_with(": mine, cpu (judge)."));
        assert_eq!(parts(&columns, &judged, "b"), ["judge"]);

        assert_eq!(block(&columns, &[account(settings(5, 5))], true), None);
        assert_eq!(block(&columns, &[], true), None);
        assert!(parts(&[], &old, "a").is_empty());
    }
}
