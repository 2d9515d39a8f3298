//! The trie against patterns that are asked one by one.

use std::collections::BTreeSet;
use std::time::Duration;

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::topic::{Pattern, Topic};
use proptest::collection::vec;
use proptest::prelude::*;

use super::Trie;

fn found(trie: &Trie<usize>, topic: &Topic) -> Vec<usize> {
    let mut found = Vec::new();
    trie.matches(topic, |value| found.push(*value));
    found.sort_unstable();
    found
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let text = "(a|b|c|\\*)(\\.(a|b|c|\\*)){0,3}(\\.\\*\\*)?|\\*\\*";
    text.prop_map(|text: String| text.parse().unwrap())
}

proptest! {
    #[test]
    fn it_finds_whatever_matches_and_nothing_else(
        steps in vec((any::<bool>(), pattern(), 0_usize..4), 0..40),
        topics in vec("(a|b|c)(\\.(a|b|c)){0,4}", 1..10),
    ) {
        let (mut trie, mut model) = (Trie::default(), BTreeSet::new());
        for (insert, pattern, value) in steps {
            if insert {
                let is_new = trie.insert(&pattern, value);
                prop_assert_eq!(is_new, model.insert((pattern, value)));
            } else {
                let was_there = trie.remove(&pattern, &value);
                prop_assert_eq!(was_there, model.remove(&(pattern, value)));
            }
            prop_assert_eq!(trie.len(), model.len());
        }
        for topic in topics {
            let topic: Topic = topic.parse().unwrap();
            let matching = model.iter().filter(|(pattern, _)| pattern.matches(&topic));
            let mut expected: Vec<usize> = matching.map(|(_, value)| *value).collect();
            expected.sort_unstable();
            prop_assert_eq!(found(&trie, &topic), expected);
        }
        for (pattern, value) in &model {
            prop_assert!(trie.remove(pattern, value));
        }
        prop_assert_eq!(trie.free.len() + 1, trie.places.len(), "places are left over");
    }
}

/// How long a topic takes with so many patterns that do not match it.
fn time_with(others: usize) -> Duration {
    let mut trie = Trie::default();
    trie.insert(&"game.*.chat".parse().unwrap(), usize::MAX);
    for other in 0..others {
        let text = match other % 3 {
            0 => format!("game.room{other}.score"),
            1 => format!("sensor{other}.*.temp"),
            _ => format!("game.other{other}.**"),
        };
        trie.insert(&text.parse().unwrap(), other);
    }
    let topic: Topic = "game.room7.chat".parse().unwrap();
    let once = || {
        let began = TokioClock.now();
        for _ in 0..1_000 {
            assert_eq!(found(&trie, &topic), [usize::MAX]);
        }
        TokioClock.now() - began
    };
    (0..5).map(|_| once()).min().unwrap()
}

#[test]
fn patterns_that_do_not_match_cost_nothing() {
    let (few, many) = (time_with(1), time_with(100_000));
    println!("1,000 topics: {few:?} with 1 other pattern, {many:?} with 100,000");
    assert!(many < few * 5, "{few:?} with one, {many:?} with 100,000");
}
