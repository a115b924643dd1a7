//! Where do contenders for a resource meet? At its home node: the one that is granted it there tries again if
//! the vote is split, and the others give way and wait there. Clients that disagree about the home are
//! slower, and nothing else.

use sha1_smol::Sha1;

/// The nodes in the order in which they are home to a resource: by rendezvous hashing, so that each client
/// that has the same nodes finds the same order, and a node that is away moves only its own resources.
pub(crate) fn order<'a>(resource: &str, addresses: impl IntoIterator<Item = &'a str>) -> Vec<usize> {
    let mut scored: Vec<_> =
        addresses.into_iter().enumerate().map(|(node, address)| (score(resource, address), node)).collect();
    scored.sort_unstable();
    scored.into_iter().map(|(_, node)| node).collect()
}

fn score(resource: &str, address: &str) -> [u8; 20] {
    let mut hash = Sha1::new();
    hash.update(address.as_bytes());
    // No address contains it.
    hash.update(b"\0");
    hash.update(resource.as_bytes());
    hash.digest().bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [&str; 3] = ["a:6379", "b:6379", "c:6379"];

    #[test]
    fn homes_are_spread_and_do_not_depend_on_the_order_of_the_nodes() {
        let mut homes = [0; 3];
        for number in 0..3_000 {
            let resource = format!("r{number}");
            let home = order(&resource, NODES)[0];
            homes[home] += 1;
            let reversed = order(&resource, NODES.iter().rev().copied());
            assert_eq!(2 - reversed[0], home);
        }
        assert!(homes.iter().all(|&count| (900..1_100).contains(&count)), "{homes:?}");
    }

    #[test]
    fn without_a_node_only_its_own_resources_move() {
        for number in 0..100 {
            let resource = format!("r{number}");
            let all = order(&resource, NODES);
            let rest: Vec<_> = all.iter().copied().filter(|&node| node < 2).collect();
            assert_eq!(order(&resource, NODES[..2].iter().copied()), rest);
        }
    }
}
