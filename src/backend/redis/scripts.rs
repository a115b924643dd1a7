//! The scripts, each one atomic step on the server.

use std::sync::LazyLock;

use redis::Cmd;
use sha1_smol::Sha1;

use super::keys::Prefix;
use crate::backend::Request;
use crate::lease::{Owner, Resources, Ttl};

/// A script and its digest.
pub(super) struct Script {
    pub(super) source: &'static str,
    digest: LazyLock<String>,
}

macro_rules! script {
    ($(#[$doc:meta])* $name:ident, $file:literal) => {
        $(#[$doc])*
        pub(super) static $name: Script = Script {
            source: include_str!($file),
            digest: LazyLock::new(|| Sha1::from(include_str!($file)).digest().to_string()),
        };
    };
}

script!(/** Grants a lease with its token. */ ACQUIRE, "acquire.lua");
script!(/** Extends a lease. */ EXTEND, "extend.lua");
script!(/** Deletes a lease of this owner. */ RELEASE, "release.lua");
script!(/** Reads a lease. */ INSPECT, "inspect.lua");

impl Script {
    fn call(&self, keys: usize) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(self.digest.as_str()).arg(keys);
        command
    }

    /// Makes the script known to the server.
    pub(super) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(self.source);
        command
    }
}

fn locks_and_fences(command: &mut Cmd, prefix: &Prefix, resources: &Resources) {
    for resource in resources.as_slice() {
        command.arg(prefix.lock(resource));
    }
    for resource in resources.as_slice() {
        command.arg(prefix.fence(resource));
    }
}

pub(super) fn acquire(prefix: &Prefix, request: &Request) -> Cmd {
    let mut command = ACQUIRE.call(request.resources.as_slice().len() * 2);
    locks_and_fences(&mut command, prefix, &request.resources);
    command.arg(&request.owner.to_hex()).arg(request.ttl.as_millis()).arg(request.min_token);
    command
}

pub(super) fn extend(prefix: &Prefix, resources: &Resources, owner: Owner, ttl: Ttl) -> Cmd {
    let mut command = EXTEND.call(resources.as_slice().len() * 2);
    locks_and_fences(&mut command, prefix, resources);
    command.arg(&owner.to_hex()).arg(ttl.as_millis());
    command
}

pub(super) fn release(prefix: &Prefix, resources: &Resources, owner: Owner) -> Cmd {
    let mut command = RELEASE.call(resources.as_slice().len());
    for resource in resources.as_slice() {
        command.arg(prefix.lock(resource));
    }
    command.arg(&owner.to_hex());
    command
}

pub(super) fn inspect(prefix: &Prefix, resource: &str) -> Cmd {
    let mut command = INSPECT.call(2);
    command.arg(prefix.lock(resource)).arg(prefix.fence(resource));
    command
}
