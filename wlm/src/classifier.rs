//! Which queue a query belongs to: Redshift's assignment rules.
//!
//! 1. A superuser whose query group is `superuser`: the superuser queue.
//! 2. The first queue in configured order that lists a group or role of the user, or the query
//!    group. The order of the queues decides, not the kind of the match.
//! 3. The default queue.
//!
//! Names match exactly, or, where a queue's list has wildcards, in any case with `*` for any run
//! of characters and `?` for one.

use crate::config::Config;
use crate::ids::QueueId;
use crate::query::Identity;

/// The query group that leads a superuser to the superuser queue.
pub const SUPERUSER_QUERY_GROUP: &str = "superuser";

/// Where a query waits and has its slots, unless it is accelerated as a short one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Home {
    /// The superuser queue.
    Superuser,
    /// A user queue.
    Queue(QueueId),
}

/// Names in a queue's list of groups or roles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    names: Vec<String>,
    /// The names in lower case, as patterns; empty without wildcards.
    patterns: Vec<Vec<char>>,
}

impl Names {
    /// A list of names, in which `*` and `?` are wildcards if `wild_cards` is set.
    pub(crate) fn new(names: &[&str], wild_cards: bool) -> Self {
        let lower = |name: &&str| name.chars().flat_map(char::to_lowercase).collect();
        Self {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            patterns: if wild_cards { names.iter().map(lower).collect() } else { Vec::new() },
        }
    }

    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The names as they were written.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether `*` and `?` are wildcards.
    pub fn has_wild_cards(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Whether a name is listed.
    pub fn contains(&self, name: &str) -> bool {
        if self.patterns.is_empty() {
            return self.names.iter().any(|listed| listed == name);
        }
        let text: Vec<char> = name.chars().flat_map(char::to_lowercase).collect();
        self.patterns.iter().any(|pattern| matches_pattern(pattern, &text))
    }
}

/// The queue of a query.
pub fn classify(config: &Config, identity: &Identity, query_group: Option<&str>) -> Home {
    let superuser_group =
        query_group.is_some_and(|group| group.eq_ignore_ascii_case(SUPERUSER_QUERY_GROUP));
    if identity.is_superuser && superuser_group {
        return Home::Superuser;
    }
    let found = first_taker(config, identity, query_group, QueueId(0));
    Home::Queue(found.unwrap_or_else(|| config.default_queue()))
}

/// The queue that a query hops to: the next one after its own that takes it. The default queue
/// takes no hop, since nothing matches it.
pub fn next_queue(
    config: &Config,
    identity: &Identity,
    query_group: Option<&str>,
    current: QueueId,
) -> Option<QueueId> {
    first_taker(config, identity, query_group, QueueId(current.0 + 1))
}

fn first_taker(
    config: &Config,
    identity: &Identity,
    query_group: Option<&str>,
    from: QueueId,
) -> Option<QueueId> {
    let queues = config.queues().iter().enumerate().skip(from.0);
    for (index, queue) in queues {
        let listed = query_group.is_some_and(|group| queue.query_groups.contains(group))
            || identity.groups.iter().any(|group| queue.user_groups.contains(group))
            || identity.roles.iter().any(|role| queue.user_roles.contains(role));
        if listed {
            return Some(QueueId(index));
        }
    }
    None
}

/// Whether all of `text` matches `pattern`: on a mismatch the last `*` takes one more character.
fn matches_pattern(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            Some(_) | None => {
                let Some((after_star, start)) = retry else { return false };
                retry = Some((after_star, start + 1));
                p = after_star;
                t = start + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity(groups: &[&str], is_superuser: bool) -> Identity {
        Identity {
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            is_superuser,
            ..Identity::default()
        }
    }

    fn config(json: &str) -> Config {
        Config::parse(json).unwrap().config
    }

    /// The queue assignment example of the documentation (scenario 1).
    #[test]
    fn the_documented_example_of_queue_assignment() {
        let config = config(
            r#"[{"user_group":["admin"]}, {"query_group":["QG_B"]}, {"user_group":["analysts"]},
                {"query_group":["QG_C"]}, {}]"#,
        );
        let check = |groups: &[&str], superuser, query_group, expected| {
            let home = classify(&config, &identity(groups, superuser), query_group);
            assert_eq!(home, expected, "{groups:?} {query_group:?}");
        };
        let queue = |number: usize| Home::Queue(QueueId(number - 1));
        check(&[], true, Some("superuser"), Home::Superuser);
        check(&["admin"], false, None, queue(1));
        check(&[], false, Some("QG_B"), queue(2));
        check(&["analysts"], false, Some("QG_B"), queue(2));
        check(&["analysts"], false, None, queue(3));
        check(&[], false, None, queue(5));
        check(&[], false, Some("superuser"), queue(5));
        check(&["admin"], true, None, queue(1));
    }

    #[test]
    fn roles_lead_to_a_queue_as_groups_do() {
        let config = config(r#"[{"user_role":["etl*"],"user_role_wild_card":1}, {}]"#);
        let identity = Identity { roles: vec!["ETL_night".to_owned()], ..Identity::default() };
        assert_eq!(classify(&config, &identity, None), Home::Queue(QueueId(0)));
    }

    #[test]
    fn a_hop_goes_forward_and_never_to_the_default_queue() {
        let config =
            config(r#"[{"user_group":["a"]}, {"query_group":["x"]}, {"user_group":["a"]}, {}]"#);
        let both = identity(&["a"], false);
        assert_eq!(next_queue(&config, &both, Some("x"), QueueId(0)), Some(QueueId(1)));
        assert_eq!(next_queue(&config, &both, None, QueueId(0)), Some(QueueId(2)));
        assert_eq!(next_queue(&config, &both, Some("x"), QueueId(2)), None);
        assert_eq!(next_queue(&config, &both, Some("x"), QueueId(3)), None);
    }

    #[test]
    fn wildcards_only_where_the_queue_has_them() {
        let names = ["dba_*", "qa?"];
        let wild = Names::new(&names, true);
        for name in ["dba_", "dba_Night", "DBA_1", "qa1", "QAx"] {
            assert!(wild.contains(name), "{name}");
        }
        for name in ["dba", "qa", "qa12", "xdba_1"] {
            assert!(!wild.contains(name), "{name}");
        }
        let exact = Names::new(&names, false);
        assert!(exact.contains("dba_*") && !exact.contains("dba_1") && !exact.contains("DBA_*"));
    }

    /// What the two wildcards mean, straight from their definition.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some('*'), _) => {
                naive(&pattern[1..], text) || (!text.is_empty() && naive(pattern, &text[1..]))
            }
            (Some('?'), Some(_)) => naive(&pattern[1..], &text[1..]),
            (Some(p), Some(t)) => p == t && naive(&pattern[1..], &text[1..]),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn patterns_match_as_defined(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let pattern: Vec<char> = pattern.chars().collect();
            let text: Vec<char> = text.chars().collect();
            prop_assert_eq!(matches_pattern(&pattern, &text), naive(&pattern, &text));
        }
    }
}
