//! Downloads one file over HTTP and goes on where a broken download stopped.
//!
//! The bytes collect in `<name>.part`. Beside it, `<name>.part.json` remembers the address, the size and the server's
//! validator, so that a later run appends only to the beginning of the same file.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use serde::{Deserialize, Serialize};
use ureq::Agent;
use ureq::http::{HeaderMap, Response, StatusCode, header};

use crate::data::progress::Progress;

/// When to give up.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Tries in a row that bring nothing new.
    pub tries: u32,
    /// Pause after the first such try; doubled after each further one.
    pub pause: Duration,
    /// How long a connection may be silent.
    pub silence: Duration,
    /// Whether the proxy named by the environment is used.
    pub proxy: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            tries: 5,
            pause: Duration::from_secs(1),
            silence: Duration::from_secs(60),
            proxy: true,
        }
    }
}

/// What is known of the file whose beginning is in the part file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    url: String,
    total: Option<u64>,
    validator: Option<String>,
}

/// Why one try ended.
enum Stop {
    /// Another try may help.
    Broken(Error),
    /// It will not.
    Fatal(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Fatal(error)
    }
}

/// Downloads `url` into the file `part`, which is whole when this returns.
pub fn download(url: &str, part: &Path, policy: &Policy) -> Result<()> {
    let agent = agent(policy);
    let mut failures = 0;
    let mut furthest = length(part)?;
    loop {
        let error = match attempt(&agent, url, part) {
            Ok(()) => return Ok(()),
            Err(Stop::Fatal(error)) => return Err(error),
            Err(Stop::Broken(error)) => error,
        };
        let have = length(part)?;
        failures = if have > furthest { 1 } else { failures + 1 };
        furthest = furthest.max(have);
        if failures >= policy.tries {
            let kept = if have > 0 {
                format!(
                    "; {have} bytes are kept in {}, and running again goes on from there",
                    part.display()
                )
            } else {
                "; run again later, or name a mirror with `cargo xtask fetch --url`".to_owned()
            };
            return Err(error.context(format!(
                "cannot download {url} ({failures} tries brought nothing new){kept}"
            )));
        }
        let pause = policy.pause * 2u32.pow((failures - 1).min(5));
        eprintln!(
            "{url}: {error:#}; trying again in {:.1} s",
            pause.as_secs_f64()
        );
        std::thread::sleep(pause);
    }
}

/// Removes a part file and what is remembered of it.
pub fn discard(part: &Path) -> Result<()> {
    for path in [part.to_path_buf(), memory(part)] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| path.display().to_string());
            }
            _ => {}
        }
    }
    Ok(())
}

fn agent(policy: &Policy) -> Agent {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .accept_encoding("identity")
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_recv_response(Some(policy.silence))
        .timeout_per_read(Some(policy.silence));
    if !policy.proxy {
        config = config.proxy(None);
    }
    config.build().into()
}

fn attempt(agent: &Agent, url: &str, part: &Path) -> Result<(), Stop> {
    let known = recall(part).filter(|known| known.url == url);
    let have = if known.is_some() { length(part)? } else { 0 };
    if let Some(total) = known.as_ref().and_then(|known| known.total) {
        if have == total && total > 0 {
            return Ok(());
        }
        if have > total {
            discard(part)?;
            return Err(Stop::Broken(anyhow!(
                "{} was longer than the file",
                part.display()
            )));
        }
    }
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header(header::RANGE, format!("bytes={have}-"));
        if let Some(validator) = known.as_ref().and_then(|known| known.validator.as_deref()) {
            request = request.header(header::IF_RANGE, validator);
        }
    }
    let response = request.call().map_err(|error| failed(url, error))?;
    let headers = response.headers();
    match response.status() {
        StatusCode::OK => {
            // the whole file, asked for or not: a server may ignore the range, or the file has changed
            let known = Remembered {
                url: url.to_owned(),
                total: number(headers),
                validator: validator(headers),
            };
            // the old bytes go before the new memory comes: a stop in between must not join two files
            create(part)?;
            remember(part, &known)?;
            receive(response, part, 0, known.total)
        }
        StatusCode::PARTIAL_CONTENT => {
            let (start, total) = content_range(headers).unwrap_or((u64::MAX, None));
            let expected = known.and_then(|known| known.total);
            if have == 0 || start != have || (expected.is_some() && total != expected) {
                discard(part)?;
                return Err(Stop::Broken(anyhow!(
                    "the file at the server has changed; starting over"
                )));
            }
            receive(response, part, have, total)
        }
        StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
            if content_range(headers).and_then(|(_, total)| total) == Some(have) {
                return Ok(());
            }
            discard(part)?;
            Err(Stop::Broken(anyhow!(
                "the server has no bytes after the first {have}; starting over"
            )))
        }
        status
            if status.is_server_error()
                || matches!(
                    status,
                    StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
                ) =>
        {
            Err(Stop::Broken(anyhow!("the server answered {status}")))
        }
        status => Err(Stop::Fatal(anyhow!(
            "{url}: the server answered {status}; name a mirror with `cargo xtask fetch --url`"
        ))),
    }
}

/// Appends the body to the part file, which holds the first `position` bytes.
fn receive(
    response: Response<ureq::Body>,
    part: &Path,
    mut position: u64,
    total: Option<u64>,
) -> Result<(), Stop> {
    let mut file = OpenOptions::new()
        .append(true)
        .open(part)
        .with_context(|| format!("cannot write {}", part.display()))?;
    let name = part
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut progress = Progress::new(&name, position, total);
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => {
                let error =
                    anyhow!(error).context(format!("the connection broke after {position} bytes"));
                return Err(Stop::Broken(error));
            }
        };
        file.write_all(&buffer[..count]).with_context(|| {
            format!(
                "cannot write {}; free some space there or name another folder with --data-dir",
                part.display()
            )
        })?;
        position += count as u64;
        progress.at(position, total);
    }
    match total {
        Some(total) if position < total => Err(Stop::Broken(anyhow!(
            "the connection ended after {position} of {total} bytes"
        ))),
        Some(total) if position > total => {
            discard(part)?;
            Err(Stop::Broken(anyhow!(
                "the server sent more than the {total} bytes it announced; starting over"
            )))
        }
        _ => Ok(()),
    }
}

fn failed(url: &str, error: ureq::Error) -> Stop {
    match error {
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::ConnectProxyFailed(_)
        | ureq::Error::Protocol(_) => Stop::Broken(error.into()),
        _ => Stop::Fatal(anyhow!(error).context(format!("cannot download {url}"))),
    }
}

fn create(part: &Path) -> Result<()> {
    File::create(part)
        .with_context(|| format!("cannot write {}", part.display()))
        .map(drop)
}

fn length(part: &Path) -> Result<u64> {
    match fs::metadata(part) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error).with_context(|| part.display().to_string()),
    }
}

fn memory(part: &Path) -> PathBuf {
    let mut name = part.as_os_str().to_owned();
    name.push(".json");
    name.into()
}

/// `None` also for a memory that cannot be read: the download then starts over.
fn recall(part: &Path) -> Option<Remembered> {
    serde_json::from_slice(&fs::read(memory(part)).ok()?).ok()
}

fn remember(part: &Path, known: &Remembered) -> Result<()> {
    let path = memory(part);
    fs::write(&path, serde_json::to_vec(known)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn number(headers: &HeaderMap) -> Option<u64> {
    text(headers, header::CONTENT_LENGTH)?.trim().parse().ok()
}

/// What `If-Range` may carry: a strong entity tag, else the date of the last change (RFC 9110, section 13.1.5).
fn validator(headers: &HeaderMap) -> Option<String> {
    let tag = text(headers, header::ETAG).filter(|tag| !tag.starts_with("W/"));
    tag.or_else(|| text(headers, header::LAST_MODIFIED))
        .map(str::to_owned)
}

/// First byte and total size in `Content-Range: bytes 5-9/10`; the first byte of `bytes */10` counts as 0.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, total) = text(headers, header::CONTENT_RANGE)?
        .strip_prefix("bytes ")?
        .split_once('/')?;
    let start = match range.split_once('-') {
        Some((start, _)) => start.trim().parse().ok()?,
        None => 0,
    };
    Some((start, total.trim().parse().ok()))
}

#[cfg(test)]
mod tests;
