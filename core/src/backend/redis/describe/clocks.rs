//! The clocks of a deployment. The primary ends leases and makes tokens by its own clock, so another primary
//! does so by another one.

use std::time::Duration;

use crate::backend::guarantees::Skew;

/// A larger difference between the primary and this host is reported.
const MAX_SKEW_MICROS: u64 = 1_000_000;

/// How the clocks of a primary, of the one before it, and of its replicas compare.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    /// The primary's with this host's.
    pub primary: Option<Skew>,
    /// The primary's with that of the primary before it.
    pub change: Option<Skew>,
    pub replicas: Vec<ReplicaClock>,
}

/// The clock of one replica.
#[derive(Debug)]
pub(crate) struct ReplicaClock {
    pub address: String,
    /// Compared with this host's, or why that is not known.
    pub skew: Result<Skew, String>,
}

impl Clocks {
    /// What to look at. `tolerance`: the difference that leases allow for.
    pub fn warnings(&self, tolerance: Duration) -> Vec<String> {
        let changed = self.change.filter(|&change| exceeds(change, tolerance)).map(|change| {
            format!(
                "the clock of this primary is {} that of the primary before it: when it took over, leases \
                 ended that much {}; synchronize the servers' clocks",
                compared(change),
                consequence(change)
            )
        });
        let replicas = self.compared().filter_map(|(address, skew)| {
            let skew = skew.filter(|&skew| exceeds(skew, tolerance))?;
            Some(format!(
                "the clock of the replica at {address} is {} the primary's, and leases of the default TTL allow \
                 for {} ms: if it becomes the primary, leases end that much {}; synchronize the servers' clocks",
                compared(skew),
                tolerance.as_millis(),
                consequence(skew)
            ))
        });
        primary_warning(self.primary).into_iter().chain(changed).chain(replicas).collect()
    }

    /// How far the clocks of the replicas are known, as the end of a sentence; empty without replicas.
    pub fn of_replicas(&self) -> String {
        let (mut known, mut furthest, mut unknown) = (0, 0, Vec::new());
        for ((address, skew), replica) in self.compared().zip(&self.replicas) {
            match (skew, &replica.skew) {
                (Some(skew), _) => (known, furthest) = (known + 1, skew.at_most().max(furthest)),
                (None, Ok(_)) => unknown.push(format!("{address}: the primary's is not known")),
                (None, Err(why)) => unknown.push(format!("{address}: {why}")),
            }
        }
        let known = match known {
            0 => String::new(),
            1 => format!("; now the replica and the primary differ by {} at most", span(furthest)),
            _ => format!("; now {known} replicas and the primary differ by {} at most", span(furthest)),
        };
        let unknown = match &unknown[..] {
            [] => String::new(),
            some => format!("; unknown is the clock of {}", some.join(", of ")),
        };
        known + &unknown
    }

    /// Each replica's address, and its clock compared with the primary's, if both are known.
    fn compared(&self) -> impl Iterator<Item = (&str, Option<Skew>)> {
        self.replicas.iter().map(|replica| {
            let skew = replica.skew.as_ref().ok().zip(self.primary);
            (replica.address.as_str(), skew.map(|(replica, primary)| replica.relative_to(primary)))
        })
    }
}

fn exceeds(skew: Skew, tolerance: Duration) -> bool {
    u128::from(skew.at_least()) > tolerance.as_micros()
}

fn consequence(skew: Skew) -> &'static str {
    if skew.ahead_micros > 0 {
        "early, while their holders still work"
    } else {
        "late, and a name whose last token was lost gets lower ones until the clock has caught up"
    }
}

fn compared(skew: Skew) -> String {
    let side = if skew.ahead_micros > 0 { "ahead of" } else { "behind" };
    format!("{} {side}", span(skew.ahead_micros.unsigned_abs()))
}

fn span(micros: u64) -> String {
    if micros < 1_000_000 {
        format!("{} ms", micros.div_ceil(1_000))
    } else {
        format!("{:.1} s", micros as f64 / 1e6)
    }
}

fn primary_warning(skew: Option<Skew>) -> Option<String> {
    let skew = skew.filter(|skew| skew.at_least() > MAX_SKEW_MICROS)?;
    Some(format!(
        "the clock of the server is {} this host's: one of them is wrong. Leases are not affected, but tokens \
         come from it: after a failover to a server whose clock is behind, or after a move between SQLite and \
         Redis, new tokens can be lower than old ones; synchronize all hosts with the same time servers",
        compared(skew)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Duration = Duration::from_millis(102);

    fn skew(ahead_ms: i64) -> Skew {
        Skew { ahead_micros: ahead_ms * 1_000, error_micros: 1_000 }
    }

    fn replica(address: &str, skew: Result<Skew, &str>) -> ReplicaClock {
        ReplicaClock { address: address.to_owned(), skew: skew.map_err(str::to_owned) }
    }

    #[test]
    fn a_replica_is_compared_with_the_primary_and_not_with_this_host() {
        let clocks = |primary, ahead| Clocks {
            primary: Some(skew(primary)),
            replicas: vec![replica("a:1", Ok(skew(ahead)))],
            ..Clocks::default()
        };
        assert_eq!(clocks(900, 950).warnings(TOLERANCE), Vec::<String>::new());
        assert!(
            clocks(900, 950).of_replicas().ends_with("the replica and the primary differ by 52 ms at most")
        );
        assert_eq!(clocks(0, 103).warnings(TOLERANCE), Vec::<String>::new(), "within the error");
        let [ahead] = &clocks(-200, 0).warnings(TOLERANCE)[..] else { panic!("one is reported") };
        assert!(ahead.contains("replica at a:1 is 200 ms ahead of the primary's"), "{ahead}");
        assert!(ahead.contains("allow for 102 ms") && ahead.contains("early"), "{ahead}");
        let behind = clocks(500, -2_700).warnings(TOLERANCE).join("");
        assert!(behind.contains("is 3.2 s behind the primary's") && behind.contains("late"), "{behind}");
    }

    #[test]
    fn clocks_that_are_not_known_are_named() {
        let replicas = || {
            vec![
                replica("a:1", Err("connection refused")),
                replica("b:2", Ok(skew(2))),
                replica("c:3", Ok(skew(1))),
            ]
        };
        let clocks = Clocks { primary: Some(skew(0)), replicas: replicas(), ..Clocks::default() };
        assert_eq!(
            clocks.of_replicas(),
            "; now 2 replicas and the primary differ by 4 ms at most; unknown is the clock of a:1: connection \
             refused"
        );
        let silent = Clocks { replicas: replicas(), ..Clocks::default() };
        assert!(silent.of_replicas().contains("b:2: the primary's is not known"), "{}", silent.of_replicas());
        assert_eq!(silent.warnings(TOLERANCE), Vec::<String>::new());
        assert_eq!(Clocks::default().of_replicas(), "");
    }

    #[test]
    fn a_change_of_the_clock_in_a_failover_is_reported() {
        let of =
            |ahead| Clocks { change: Some(skew(ahead)), ..Clocks::default() }.warnings(TOLERANCE).join("");
        assert_eq!(of(100), "");
        assert!(of(-1_500).contains("is 1.5 s behind that of the primary before it"));
        assert!(of(300).contains("is 300 ms ahead of that"), "{}", of(300));
    }

    #[test]
    fn a_clock_that_differs_from_this_hosts_by_more_than_a_second_is_reported() {
        let of = |ahead_micros, error_micros| {
            let primary = Some(Skew { ahead_micros, error_micros });
            Clocks { primary, ..Clocks::default() }.warnings(TOLERANCE).join("")
        };
        assert!(of(3_200_000, 1000).contains("3.2 s ahead of this host"));
        assert!(of(-1_500_000, 1000).contains("1.5 s behind this host"));
        assert_eq!(of(900_000, 1000), "");
        assert_eq!(of(2_000_000, 1_500_000), "", "the round trip was too long to tell");
    }
}
