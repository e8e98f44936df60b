//! A part of a sweep.

use std::str::FromStr;

use anyhow::{Error, Result, bail};

/// Every n-th run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    number: usize,
    of: usize,
}

impl Shard {
    /// Whether a run belongs to it.
    pub fn has(&self, index: usize) -> bool {
        index % self.of == self.number - 1
    }

    /// Name of its record.
    pub fn file_name(&self) -> String {
        format!("shard-{}-of-{}.json", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/');
        let parts = parts.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((number, of)) if 1 <= number && number <= of => Ok(Self { number, of }),
            _ => bail!("--shard {text}: needs i/n with i from 1 to n, for example 1/4"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_is_in_one_shard() {
        let shards: Vec<Shard> = ["1/3", "2/3", "3/3"].map(|s| s.parse().unwrap()).into();
        for index in 0..10 {
            assert_eq!(shards.iter().filter(|shard| shard.has(index)).count(), 1);
        }
        assert!(shards[1].has(4) && !shards[0].has(4));
        assert_eq!(shards[1].file_name(), "shard-2-of-3.json");
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for text in ["3/2", "0/2", "0/0", "1", "1/", "/2", "a/b", "-1/2", "1/2/3"] {
            let message = text.parse::<Shard>().unwrap_err().to_string();
            assert!(
                message.contains(&format!("--shard {text}")) && message.contains("1/4"),
                "{message}"
            );
        }
    }
}
