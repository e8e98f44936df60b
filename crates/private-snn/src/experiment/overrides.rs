//! Changing an experiment file: profiles and `--set`.

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

/// Settings that may be left out, so that they need not be in the tree to be set.
const OPTIONAL: [&str; 9] = [
    "activity_penalty",
    "detach_reset",
    "encrypted_timesteps",
    "generator",
    "gradient_clip",
    "micro_batch",
    "surrogate",
    "through",
    "unit_gradient",
];

/// Lays `over` onto `base`: tables are merged key by key, everything else is replaced. A table whose `kind` (or `rule`)
/// differs is replaced whole, because its other keys belong to the old kind.
pub fn merge(base: &mut Table, over: &Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(old)), Value::Table(new)) if same_kind(old, new) => merge(old, new),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

fn same_kind(old: &Table, new: &Table) -> bool {
    ["kind", "rule"]
        .into_iter()
        .all(|tag| new.get(tag).is_none_or(|kind| old.get(tag) == Some(kind)))
}

/// Whether a dotted setting is `outer` or one of those under it.
pub fn within(outer: &str, setting: &str) -> bool {
    let rest = setting.strip_prefix(outer);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Applies `KEY=VALUE` to a tree that holds every key there is.
///
/// A key is dotted. One that starts at no key of the top level but at one of every variant, such as `encrypt.epochs`,
/// is applied to all variants. A value is read as TOML, or as a string where the tree holds one; a word as one where it holds
/// nothing yet.
///
/// # Errors
/// No `=`; an unknown key, with its siblings; a value of another type.
pub fn set(tree: &mut Table, assignment: &str) -> Result<()> {
    let (key, text) = assignment.split_once('=').with_context(|| {
        format!("--set {assignment}: needs KEY=VALUE, for example encrypt.epochs=3")
    })?;
    let path: Vec<&str> = key.trim().split('.').collect();
    let first = path[0];
    if !tree.contains_key(first) {
        let variants: Vec<String> = match tree.get("variants") {
            Some(Value::Table(variants)) => variants
                .iter()
                .filter(|(_, variant)| {
                    variant
                        .as_table()
                        .is_some_and(|variant| variant.contains_key(first))
                })
                .map(|(name, _)| name.clone())
                .collect(),
            _ => Vec::new(),
        };
        if !variants.is_empty() {
            for variant in variants {
                let path: Vec<&str> = ["variants", &variant]
                    .into_iter()
                    .chain(path.iter().copied())
                    .collect();
                replace(tree, &path, text)?;
            }
            return Ok(());
        }
        bail!(
            "--set {key}: unknown key `{first}`; there are: {}; and in every variant: {}",
            names(tree),
            variant_keys(tree)
        );
    }
    replace(tree, &path, text)
}

/// Keys of the first variant, which every variant has.
fn variant_keys(tree: &Table) -> String {
    let variants = tree.get("variants").and_then(Value::as_table);
    variants
        .and_then(|variants| variants.values().next()?.as_table().map(names))
        .unwrap_or_default()
}

fn replace(tree: &mut Table, path: &[&str], text: &str) -> Result<()> {
    let key = path.join(".");
    let (&last, parents) = path.split_last().context("--set: the key is empty")?;
    let mut table = tree;
    for (depth, &part) in parents.iter().enumerate() {
        let siblings = names(table);
        table = match table.get_mut(part) {
            Some(Value::Table(inner)) => inner,
            Some(_) => bail!(
                "--set {key}: `{}` is a value, not a table",
                parents[..=depth].join(".")
            ),
            None => bail!("--set {key}: unknown key `{part}`; there are: {siblings}"),
        };
    }
    let siblings = names(table);
    let old = match table.get_mut(last) {
        Some(old) => old,
        None if OPTIONAL.contains(&last) => {
            let value = parse(text)
                .or_else(|| word(text))
                .with_context(|| format!("--set {key}: `{text}` is not a TOML value"))?;
            table.insert(last.to_string(), value);
            return Ok(());
        }
        None => bail!("--set {key}: unknown key `{last}`; there are: {siblings}"),
    };
    *old = typed(old, text.trim()).with_context(|| format!("--set {key}"))?;
    Ok(())
}

fn names(table: &Table) -> String {
    table
        .keys()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

fn parse(text: &str) -> Option<Value> {
    format!("value = {}", text.trim())
        .parse::<Table>()
        .ok()?
        .remove("value")
}

/// A name without quotes.
fn word(text: &str) -> Option<Value> {
    let text = text.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (!text.is_empty() && text.chars().all(plain)).then(|| Value::String(text.into()))
}

fn typed(old: &Value, text: &str) -> Result<Value> {
    let value = match (old, parse(text)) {
        (Value::String(_), Some(Value::String(new))) => Value::String(new),
        (Value::String(_), _) => Value::String(text.to_string()),
        (Value::Float(_), Some(Value::Integer(new))) => Value::Float(new as f64),
        (old, Some(new)) if old.same_type(&new) => new,
        (old, _) => bail!("needs {} such as {old}, got `{text}`", old.type_str()),
    };
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Table {
        "name = 'x'
         [data]
         test_limit = 5
         [variants.a.encrypt]
         epochs = 2
         learning_rate = 1e-3
         schedule = { kind = 'constant' }
         [variants.b.encrypt]
         epochs = 2
         learning_rate = 1e-3
         schedule = { kind = 'step', factor = 0.1 }"
            .parse()
            .unwrap()
    }

    #[test]
    fn a_key_of_every_variant_is_set_in_every_variant() {
        let mut tree = tree();
        set(&mut tree, "encrypt.epochs=7").unwrap();
        set(&mut tree, "variants.b.encrypt.learning_rate=1").unwrap();
        set(&mut tree, "name=other name").unwrap();
        assert_eq!(
            tree["variants"]["a"]["encrypt"]["epochs"].as_integer(),
            Some(7)
        );
        assert_eq!(
            tree["variants"]["b"]["encrypt"]["epochs"].as_integer(),
            Some(7)
        );
        assert_eq!(
            tree["variants"]["a"]["encrypt"]["learning_rate"].as_float(),
            Some(1e-3)
        );
        assert_eq!(
            tree["variants"]["b"]["encrypt"]["learning_rate"].as_float(),
            Some(1.0)
        );
        assert_eq!(tree["name"].as_str(), Some("other name"));
    }

    #[test]
    fn what_may_be_left_out_takes_a_table_or_a_word() {
        let mut tree = tree();
        set(&mut tree, "encrypt.surrogate={ kind = 'atan' }").unwrap();
        set(&mut tree, "variants.a.encrypt.through= rates").unwrap();
        let of = |variant: &str| tree["variants"][variant]["encrypt"].clone();
        assert_eq!(of("a")["surrogate"], of("b")["surrogate"]);
        assert_eq!(of("a")["surrogate"]["kind"].as_str(), Some("atan"));
        assert_eq!(of("a")["through"].as_str(), Some("rates"));
        assert!(of("b").get("through").is_none());
    }

    #[test]
    fn mistakes_are_named_with_what_there_is() {
        let message = |assignment: &str| format!("{:#}", set(&mut tree(), assignment).unwrap_err());
        assert!(
            message("encrypt.epoch=7")
                .contains("unknown key `epoch`; there are: epochs, learning_rate")
        );
        assert!(message("encrypting.epochs=7").contains("unknown key `encrypting`; there are:"));
        assert!(message("data.test_limit=many").contains("needs integer"));
        assert!(message("data.test_limit.x=1").contains("`data.test_limit` is a value"));
        assert!(message("data.test_limit").contains("KEY=VALUE"));
        assert!(message("encrypt.surrogate={ kind = 'atan'").contains("not a TOML value"));
    }

    #[test]
    fn a_table_of_another_kind_is_replaced_whole() {
        let mut base = tree();
        let over: Table = "[variants.b.encrypt]\nschedule = { kind = 'cosine' }\nepochs = 9"
            .parse()
            .unwrap();
        merge(&mut base, &over);
        let encrypt = &base["variants"]["b"]["encrypt"];
        assert_eq!(encrypt["schedule"].as_table().unwrap().len(), 1);
        assert_eq!(encrypt["epochs"].as_integer(), Some(9));
        assert_eq!(encrypt["learning_rate"].as_float(), Some(1e-3));
    }
}
