//! Redis Clusters for tests.

use redis::Value;

use super::server::{Server, free_port};
use crate::backend::redis::config::slot::SLOTS;
use crate::backend::redis::protocol::values::text;
use crate::backend::redis::tests::eventually;

/// Primaries with as many slots each, and perhaps replicas.
pub struct ClusterServers {
    pub nodes: Vec<Server>,
    primaries: usize,
}

impl ClusterServers {
    /// Three primaries; each has this number of replicas. A node is known to be down after half a second.
    pub fn start(replicas: usize) -> Self {
        let primaries = 3;
        let nodes: Vec<_> = (0..primaries * (1 + replicas)).map(|_| start_node()).collect();
        let cluster = Self { nodes, primaries };
        for (at, node) in cluster.nodes.iter().enumerate() {
            node.run::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
            if at < primaries {
                let slots = at * usize::from(SLOTS) / primaries..(at + 1) * usize::from(SLOTS) / primaries;
                let mut cmd = vec!["CLUSTER".to_owned(), "ADDSLOTS".to_owned()];
                cmd.extend(slots.map(|slot| slot.to_string()));
                node.run::<()>(&cmd.iter().map(String::as_str).collect::<Vec<_>>());
            }
            let first = &cluster.nodes[0];
            first.run::<()>(&["CLUSTER", "MEET", "127.0.0.1", &node.port.to_string(), &bus(node)]);
        }
        eventually("all nodes know each other", || {
            cluster.nodes.iter().all(|node| node.cluster_info("cluster_known_nodes") == cluster.nodes.len())
        });
        for (at, node) in cluster.nodes.iter().enumerate().skip(primaries) {
            node.run::<()>(&["CLUSTER", "REPLICATE", &cluster.id(at % primaries)]);
        }
        cluster.await_ok();
        if replicas > 0 {
            eventually("all nodes know the replicas", || {
                cluster.nodes.iter().all(|node| {
                    let ranges: Vec<Vec<Value>> = node.run(&["CLUSTER", "SLOTS"]);
                    ranges.iter().all(|range| range.len() == 3 + replicas)
                })
            });
            eventually("the replicas are in sync", || {
                let online = |node: &Server| node.info("replication").matches("state=online").count();
                cluster.nodes[..primaries].iter().all(|node| online(node) == replicas)
            });
        }
        cluster
    }

    /// Waits until all nodes serve.
    pub fn await_ok(&self) {
        eventually("the cluster is ready", || {
            self.nodes.iter().all(|node| {
                let info: String = node.run(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_size:3")
            })
        });
    }

    /// The URLs of all nodes.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Server::url).collect()
    }

    pub fn id(&self, at: usize) -> String {
        self.nodes[at].run(&["CLUSTER", "MYID"])
    }

    /// Which of the first three nodes has this slot at the start.
    pub fn owner(&self, slot: u16) -> usize {
        let primaries = self.primaries;
        let slots = usize::from(SLOTS);
        (0..primaries).find(|at| usize::from(slot) < (at + 1) * slots / primaries).expect("it is a slot")
    }

    /// Begins to move a slot from one node to another.
    pub fn begin_move(&self, slot: u16, from: usize, to: usize) {
        let (slot, source, target) = (slot.to_string(), self.id(from), self.id(to));
        self.nodes[to].run::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]);
        self.nodes[from].run::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]);
    }

    /// Moves the keys of a slot that has begun to move.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize) {
        let keys: Vec<String> =
            self.nodes[from].run(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "1000"]);
        for key in keys {
            self.move_key(&key, from, to);
        }
    }

    pub fn move_key(&self, key: &str, from: usize, to: usize) {
        let port = self.nodes[to].port.to_string();
        self.nodes[from].run::<String>(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
    }

    /// Ends the move of a slot.
    pub fn end_move(&self, slot: u16, from: usize, to: usize) {
        let target = self.id(to);
        for at in [to, from] {
            self.nodes[at].run::<()>(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &target]);
        }
    }

    /// Moves a slot with its keys.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize) {
        self.begin_move(slot, from, to);
        self.move_keys(slot, from, to);
        self.end_move(slot, from, to);
    }

    /// Waits until all nodes have heard of all moves. A slot that moves back before that may be claimed by
    /// the node that it leaves once more, with a newer epoch.
    pub fn await_agreement(&self) {
        eventually("all nodes agree", || {
            let views = self.nodes.iter().map(|node| {
                let lines: String = node.run(&["CLUSTER", "NODES"]);
                let mut view: Vec<String> = lines.lines().map(claim).collect();
                view.sort_unstable();
                view
            });
            let mut views = views.collect::<Vec<_>>();
            views.dedup();
            views.len() == 1
        });
    }

    /// The value of a key, wherever it is.
    pub fn get(&self, key: &str) -> Option<String> {
        self.nodes[..self.primaries].iter().find_map(|node| {
            let mut client = node.client();
            redis::cmd("GET").arg(key).query::<Value>(&mut client).ok().and_then(text)
        })
    }
}

impl Server {
    /// A number of its CLUSTER INFO.
    pub fn cluster_info(&self, name: &str) -> usize {
        let info: String = self.run(&["CLUSTER", "INFO"]);
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    }
}

/// A node's id, epoch and slots, from its line of CLUSTER NODES.
fn claim(line: &str) -> String {
    let words: Vec<_> = line.split(' ').collect();
    let slots = words[8..].iter().filter(|slots| !slots.starts_with('['));
    [words[0], words[6]].into_iter().chain(slots.copied()).collect::<Vec<_>>().join(" ")
}

fn bus(node: &Server) -> String {
    let line: Vec<String> = node.run(&["CONFIG", "GET", "cluster-port"]);
    line[1].clone()
}

fn start_node() -> Server {
    let bus = free_port().to_string();
    #[rustfmt::skip]
    let server = Server::start(&[
        "--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "500",
        "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0",
    ]);
    server
}
