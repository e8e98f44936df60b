//! Reads Rust source as far as the rules of the tree need it: code without comments, strings and tests.

/// The text with comments and the contents of literals replaced by spaces; line breaks stay where they are.
pub fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if !word_before(bytes, at) => raw_string_end(bytes, at),
            b'\'' => char_end(bytes, at),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Code (from [`code`]) with each item under `#[cfg(test)]` replaced by spaces.
pub fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(start) = code[from..].find(MARK).map(|at| at + from) {
        let end = item_end(code.as_bytes(), start + MARK.len());
        for byte in &mut out[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        from = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether `name` stands in the code as a path of its own, for example `std::env` in `std::env::var`, or as one of
/// the names in braces of `use std::{env, fs}`.
pub fn uses(code: &str, name: &str) -> bool {
    let packed: String = code
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace(" ::", "::")
        .replace(":: ", "::");
    if find_word(&packed, name) {
        return true;
    }
    let Some((parent, child)) = name.rsplit_once("::") else {
        return false;
    };
    let open = format!("{parent}::{{");
    packed.match_indices(&open).any(|(at, _)| {
        let inner = &packed[at + open.len()..];
        let list = &inner[..inner.find(';').unwrap_or(inner.len())];
        list.split([',', '{', '}'])
            .any(|item| item.trim() == child || item.trim().starts_with(&format!("{child}::")))
    })
}

/// Whether `word` occurs with no letter, digit or underscore on either side.
pub fn find_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(part)
            && !text[at + word.len()..].chars().next().is_some_and(part)
    })
}

fn word_before(bytes: &[u8], at: usize) -> bool {
    // the b of a raw byte string is no word
    let before = if at > 0 && bytes[at - 1] == b'b' {
        at - 1
    } else {
        at
    };
    before > 0 && (bytes[before - 1].is_ascii_alphanumeric() || bytes[before - 1] == b'_')
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..]
        .iter()
        .position(|&byte| byte == b'\n')
        .map_or(bytes.len(), |length| at + length)
}

fn comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0usize);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// End of `r"…"` or `r#"…"#`; `start` itself if there is none, as in `r#match`.
fn raw_string_end(bytes: &[u8], start: usize) -> usize {
    let hashes = bytes[start + 1..]
        .iter()
        .take_while(|&&byte| byte == b'#')
        .count();
    let open = start + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return start;
    }
    let close: Vec<u8> = std::iter::once(b'"')
        .chain(std::iter::repeat_n(b'#', hashes))
        .collect();
    let length = bytes[open + 1..]
        .windows(close.len())
        .position(|window| window == close);
    length.map_or(bytes.len(), |length| open + 1 + length + close.len())
}

/// End of a character literal; `start` itself for a lifetime.
fn char_end(bytes: &[u8], start: usize) -> usize {
    match bytes.get(start + 1) {
        Some(b'\\') => {
            let close = bytes[(start + 3).min(bytes.len())..]
                .iter()
                .position(|&byte| byte == b'\'');
            close.map_or(bytes.len(), |length| start + 4 + length)
        }
        Some(_) => {
            // one character, of up to four bytes
            let close = (start + 2..(start + 6).min(bytes.len())).find(|&at| bytes[at] == b'\'');
            match close {
                Some(close) if close == start + 2 || !bytes[start + 1].is_ascii() => close + 1,
                _ => start,
            }
        }
        None => start,
    }
}

/// End of the item that follows: its closing brace, or a semicolon before any brace.
fn item_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in bytes.iter().enumerate().skip(start) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth <= 1 => return at + 1,
            b'}' => depth -= 1,
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blank() {
        let text = "a(\"x // y\"); // std::env\n/* std /* in */ ::time */ b(r#\"q\"r\"#, '\"', b'\\'', '\\u{e9}', 'é'); c";
        let code = code(text);
        assert_eq!(code.lines().count(), 2);
        assert_eq!(
            code.split_whitespace().collect::<Vec<_>>().join(" "),
            "a( ); b( , , b , , ); c"
        );
    }

    #[test]
    fn lifetimes_and_raw_identifiers_stay() {
        assert_eq!(
            code("fn f<'a>(x: &'a str, r#type: u8) {}"),
            "fn f<'a>(x: &'a str, r#type: u8) {}"
        );
    }

    #[test]
    fn code_after_a_string_is_seen() {
        assert!(uses(
            &code("let x = \"\\\"\"; std::env::var(\"A\")"),
            "std::env"
        ));
    }

    #[test]
    fn tests_are_blank() {
        let text = "use a;\n#[cfg(test)]\nmod tests { fn f() { std::env::args(); } }\nfn g() {}\n#[cfg(test)]\nmod t;\nb();";
        let left = without_tests(text);
        assert!(!left.contains("std::env") && !left.contains("mod t;"));
        assert!(left.contains("fn g() {}") && left.contains("b();"));
    }

    #[test]
    fn paths_are_found_in_every_spelling() {
        for text in [
            "use std::env;",
            "std::env::var(x)",
            "use std::{fs, env};",
            "use std::{\n    env::var,\n};",
            "std :: env",
        ] {
            assert!(uses(text, "std::env"), "{text}");
        }
        for text in [
            "use std::environment;",
            "my_std::env()",
            "use std::{fs, io}; let env = 1;",
        ] {
            assert!(!uses(text, "std::env"), "{text}");
        }
    }
}
