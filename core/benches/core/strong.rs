//! Strong locks through a manager, over sockets.

use std::sync::Arc;
use std::time::Duration;

use fencelock_core::backend::Backend;
use fencelock_core::backend::redis::{Config, Location, Options, RedisBackend};
use fencelock_core::lease::{Holder, Strategy};
use fencelock_core::manager::Manager;
use fencelock_core::runtime::clock::Clock;

use crate::Alive;
use crate::managed::{one_by_one, side_by_side};
use crate::server::Server;

pub fn one(operations: u32) -> Duration {
    let server = Server::start();
    one_by_one(&manager(&server), Strategy::Strong, operations)
}

pub fn together(operations: u32) -> Duration {
    let server = Server::start();
    side_by_side(&manager(&server), Strategy::Strong, operations)
}

fn manager(server: &Server) -> Arc<Manager> {
    let options = Options {
        connect_timeout_ms: 60_000,
        command_timeout_ms: 60_000,
        ..Options::new(Location::Url(server.url()))
    };
    let backend = RedisBackend::new(Config::new(options).expect("a URL"), Clock::System);
    let backends = [(Strategy::Strong, Backend::Redis(backend))];
    Manager::new(backends, Holder::named("bench"), Clock::System, Box::new(|_, _| ()), Arc::new(Alive))
}
