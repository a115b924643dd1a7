//! Redis URLs of one server.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::error::{Error, Result};

const SHAPES: &str = "use redis://, rediss:// (TLS), redis+unix://, redis+sentinel:// or redis+cluster://, and \
                      percent-encode special characters in the password";

/// What a URL says.
pub(crate) struct RedisUrl {
    pub place: Place,
    pub username: Option<String>,
    pub password: Option<String>,
    pub db: u32,
}

pub(crate) enum Place {
    Tcp { host: String, port: Option<u16>, encrypted: bool },
    Unix(PathBuf),
}

impl RedisUrl {
    /// No error repeats the URL, because it may contain a password.
    pub fn parse(text: &str) -> Result<Self> {
        let url = Url::parse(text).map_err(|_| unknown())?;
        let (unix, encrypted) = match url.scheme() {
            "redis" | "valkey" => (false, false),
            "rediss" | "valkeys" => (false, true),
            "unix" | "redis+unix" | "valkey+unix" => (true, false),
            _ => return Err(unknown()),
        };
        if url.fragment().is_some() {
            return Err(Error::invalid(
                "a Redis URL has no part after `#`: percent-encode a `#` in the password as %23; \
                 to accept any certificate use tls: { rejectUnauthorized: false }",
            ));
        }
        // A parameter that is silently ignored may mean another database, and so a lock that excludes no
        // other client.
        let known: &[&str] = if unix { &["db", "user", "pass"] } else { &[] };
        if url.query_pairs().any(|(name, _)| !known.contains(&name.as_ref())) {
            // The message does not name it: after an unencoded `?` in a password, it is the rest of the
            // password.
            return Err(Error::invalid(format!(
                "the Redis URL has an unknown parameter after `?`; {}pass options in the `redis` object \
                 instead, and percent-encode a `?` in the password as %3F",
                if unix { "known are db, user and pass; " } else { "" }
            )));
        }
        if unix { Self::unix(&url) } else { Self::tcp(&url, encrypted) }
    }

    fn tcp(url: &Url, encrypted: bool) -> Result<Self> {
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            // Without brackets, as the standard library parses it.
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => return Err(unreadable("it has no host")),
        };
        if matches!(host.as_str(), "0.0.0.0" | "::") {
            return Err(unreadable("0.0.0.0 and :: are not the address of a server"));
        }
        let username = match url.username() {
            "" => None,
            name => Some(decoded(name, "its username is not valid UTF-8")?),
        };
        let password = url
            .password()
            .map(|password| decoded(password, "its password is not valid UTF-8"))
            .transpose()?;
        let db = match url.path().trim_matches('/') {
            "" => 0,
            number => database(number)?,
        };
        let place = Place::Tcp { host, port: url.port(), encrypted };
        Ok(Self { place, username, password, db })
    }

    #[cfg(unix)]
    fn unix(url: &Url) -> Result<Self> {
        let path = url.to_file_path().map_err(|()| unreadable("it has no path"))?;
        let (mut username, mut password, mut db) = (None, None, 0);
        for (name, value) in url.query_pairs() {
            match &*name {
                "user" => username = Some(value.into_owned()),
                "pass" => password = Some(value.into_owned()),
                _ => db = database(&value)?,
            }
        }
        Ok(Self { place: Place::Unix(path), username, password, db })
    }

    #[cfg(not(unix))]
    fn unix(_url: &Url) -> Result<Self> {
        Err(unreadable("this system has no Unix sockets"))
    }
}

pub(super) fn database(number: &str) -> Result<u32> {
    number.parse().map_err(|_| unreadable("its database is not a number, or out of range"))
}

pub(super) fn decoded(text: &str, invalid: &str) -> Result<String> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(unreadable(invalid)),
    }
}

pub(super) fn unreadable(why: &str) -> Error {
    Error::invalid(format!("the Redis URL cannot be read: {why}; {SHAPES}"))
}

fn unknown() -> Error {
    Error::invalid(format!("the Redis URL cannot be read; {SHAPES}"))
}
