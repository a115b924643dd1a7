//! Keeps the password out of what a server says: a server, or a proxy in front of it, may repeat what it was
//! sent, escaped, cut, or in the reply to a later command.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::backend::redis::config::Settings;
use crate::backend::redis::config::credentials::{Credentials, Secret};

const REDACTED: &[u8] = b"***";
/// In place of what followed the word AUTH.
const LEFT_OUT: &str = " … (the rest is left out: it may repeat a password)";
/// A part of the password is dropped if it is at least this long.
const MIN_PART: usize = 6;
/// Likewise, if it has only small letters, which may be a word.
const MIN_WORD: usize = 10;

/// Redacts what a server says, of whatever passwords it may have been sent by then.
#[derive(Debug)]
pub(crate) struct Redactor {
    settings: Arc<Settings>,
    /// The version of the newest password, and the redaction of all.
    redaction: Option<(u64, Redaction)>,
}

impl Redactor {
    pub const fn new(settings: Arc<Settings>) -> Self {
        Self { settings, redaction: None }
    }

    /// See [`Redaction::error_line`].
    pub fn error_line(&mut self, line: &[u8]) -> Vec<u8> {
        let Some(newest) = self.settings.credentials.current() else { return line.into() };
        let known = self.redaction.take().filter(|(version, _)| *version == newest.version);
        let (_, redaction) = self.redaction.insert(
            known.unwrap_or_else(|| (newest.version, Redaction::of(&self.settings.credentials.sent()))),
        );
        redaction.error_line(line)
    }
}

/// Knows the forms of passwords.
#[derive(Debug)]
struct Redaction {
    forms: Vec<Secret>,
}

impl Redaction {
    fn of(credentials: &[Arc<Credentials>]) -> Self {
        Self::new(credentials.iter().map(|credentials| credentials.password.reveal()))
    }

    fn new<'a>(passwords: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms = Vec::new();
        for password in passwords {
            let escapes = [str::to_owned, json, repr, percent::<true>, percent::<false>, escaped_unicode];
            for escape in escapes {
                let form = escape(password);
                if !forms.contains(&form) {
                    forms.push(form);
                }
            }
        }
        // The whole of a longer form is dropped before a part of it that is a shorter form.
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        Self { forms: forms.into_iter().filter(|form| !form.is_empty()).map(Secret::new).collect() }
    }

    /// An error line without the password, and without what follows the word AUTH. Its code stays if it can
    /// be one, because it decides what the error means.
    fn error_line(&self, line: &[u8]) -> Vec<u8> {
        let code = line.iter().position(|&byte| byte == b' ').unwrap_or(line.len());
        let is_code = KNOWN_CODES.iter().any(|known| known.as_bytes() == &line[..code]);
        let (code, text) = line.split_at(if is_code { code } else { 0 });
        let (text, dropped) = match end_of_auth(text) {
            Some(end) => (&text[..end], LEFT_OUT.as_bytes()),
            None => (text, &[][..]),
        };
        [code, &self.text(text), dropped].concat()
    }

    fn text(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some((first, others)) = rest.split_first() {
            let part = self.forms.iter().map(|form| longest_part(rest, form.reveal().as_bytes())).max();
            match part.unwrap_or(0) {
                0 => {
                    out.push(*first);
                    rest = others;
                }
                length => {
                    if !out.ends_with(REDACTED) {
                        out.extend(REDACTED);
                    }
                    rest = &rest[length..];
                }
            }
        }
        out
    }
}

/// Codes of errors that decide what happens next, or what the message says.
pub(super) const KNOWN_CODES: [&str; 22] = [
    "ASK",
    "BUSY",
    "CLUSTERDOWN",
    "CROSSSLOT",
    "DENIED",
    "ERR",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOAUTH",
    "NOPERM",
    "NOREPLICAS",
    "NOSCRIPT",
    "NOTTL",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "UNBLOCKED",
    "WRONGPASS",
    "WRONGTYPE",
    "@user_script:",
];

/// How many bytes at the start of `text` are a part of `form` that is long enough, or all of it.
fn longest_part(text: &[u8], form: &[u8]) -> usize {
    let common = |from: usize| text.iter().zip(&form[from..]).take_while(|(a, b)| a == b).count();
    let longest = (0..form.len()).map(common).max().unwrap_or(0);
    let is_word = text[..longest].iter().all(u8::is_ascii_lowercase);
    let least = form.len().min(if is_word { MIN_WORD } else { MIN_PART });
    if longest >= least { longest } else { 0 }
}

/// Where the word AUTH ends, in whatever quotes and case. NOAUTH is another word.
fn end_of_auth(text: &[u8]) -> Option<usize> {
    let is_letter = |at: Option<&u8>| at.is_some_and(u8::is_ascii_alphanumeric);
    text.windows(4).enumerate().find_map(|(at, word)| {
        let whole = !is_letter(at.checked_sub(1).map(|before| &text[before])) && !is_letter(text.get(at + 4));
        (whole && word.eq_ignore_ascii_case(b"auth")).then_some(at + 4)
    })
}

fn json(password: &str) -> String {
    escape(password, |out, char| match char {
        '"' | '\\' => write!(out, "\\{char}"),
        char if char.is_control() => write!(out, "\\u{:04x}", u32::from(char)),
        char => out.write_char(char),
    })
}

/// As Redis quotes arguments.
fn repr(password: &str) -> String {
    escape(password, |out, char| match char {
        '"' | '\'' | '\\' => write!(out, "\\{char}"),
        ' '..='~' => out.write_char(char),
        char => char.encode_utf8(&mut [0; 4]).bytes().try_for_each(|byte| write!(out, "\\x{byte:02x}")),
    })
}

fn percent<const UPPER: bool>(password: &str) -> String {
    escape(password, |out, char| match char {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' | '~' => out.write_char(char),
        char => char
            .encode_utf8(&mut [0; 4])
            .bytes()
            .try_for_each(|byte| if UPPER { write!(out, "%{byte:02X}") } else { write!(out, "%{byte:02x}") }),
    })
}

fn escaped_unicode(password: &str) -> String {
    escape(password, |out, char| match char {
        '"' | '\\' => write!(out, "\\{char}"),
        ' '..='~' => out.write_char(char),
        char => char.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}")),
    })
}

fn escape(password: &str, add: impl Fn(&mut String, char) -> std::fmt::Result) -> String {
    let mut out = String::new();
    for char in password.chars() {
        add(&mut out, char).expect("a String takes everything");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::redis::config::{AskedCredentials, Config, Location, Options};

    fn redacted(password: &str, line: &str) -> String {
        String::from_utf8(Redaction::new([password]).error_line(line.as_bytes())).unwrap()
    }

    #[test]
    fn the_password_is_dropped_in_every_form() {
        let password = "hunt\"er2-S3C'RÉT é\u{1}";
        for form in [
            password.to_owned(),
            json(password),
            repr(password),
            percent::<true>(password),
            percent::<false>(password),
            escaped_unicode(password),
        ] {
            assert_eq!(redacted(password, &format!("ERR no {form}, ok")), "ERR no ***, ok");
        }
        for part in [&password[..12], &password[3..]] {
            assert_eq!(redacted(password, &format!("ERR no {part}")), "ERR no ***");
        }
        assert_eq!(redacted("pw", "ERR pw 'pw'"), "ERR *** '***'");
        assert_eq!(redacted("S3CRET", "S3CRET"), "***");
    }

    #[test]
    fn what_follows_auth_is_dropped() {
        assert_eq!(
            redacted("x1", "ERR unknown command 'auth' 'whatever'"),
            format!("ERR unknown command 'auth{LEFT_OUT}")
        );
        assert_eq!(redacted("x1", "ERR AUTH"), format!("ERR AUTH{LEFT_OUT}"));
        let other = "NOAUTH Authentication required, NOAUTH, authority";
        assert_eq!(redacted("x1", other), other);
    }

    #[test]
    fn words_of_the_server_stay() {
        for (password, line) in [
            ("READONLY", "READONLY You can't write against a read only replica."),
            ("mypassword", "ERR invalid password"),
            ("correct-command-7", "ERR unknown command"),
        ] {
            assert_eq!(redacted(password, line), line);
        }
    }

    #[tokio::test]
    async fn what_the_application_returned_before_is_dropped_as_well() {
        let asked = AskedCredentials::new(|_| {});
        let options = Options::new(Location::Url("redis://x".into()));
        let config = Config::new(Options { credentials: Some(Arc::clone(&asked)), ..options }).unwrap();
        let mut redactor = Redactor::new(config.settings);
        let mut said = |line: &str| String::from_utf8(redactor.error_line(line.as_bytes())).unwrap();
        assert_eq!(said("ERR token-1 token-2"), "ERR token-1 token-2");
        asked.supply(1, None, "token-1".into(), None);
        assert_eq!(said("ERR token-1"), "ERR ***");
        asked.supply(2, None, "secret-2".into(), None);
        assert_eq!(said("ERR token-1, secret-2"), "ERR ***, ***");
    }
}
