//! The rules, against what they are to say.

use macula_core::identity::{Keypair, NodeId};
use proptest::prelude::*;

use super::rules::Why;
use super::{Action, Effect, Name, Rule, Rules, Subject};

fn node(number: u8) -> NodeId {
    Keypair::from_seed([number; 32]).node_id()
}

fn rule(effect: Effect, actions: &[Action], names: &[&str]) -> Rule {
    let names = names.iter().map(|name| name.parse().unwrap()).collect();
    Rule { effect, actions: actions.to_vec(), names, ..Rule::default() }
}

fn decide(rules: &Rules, who: (u8, &[&str]), action: Action, name: Name<'_>) -> Result<(), Why> {
    let roles: Vec<String> = who.1.iter().map(|role| (*role).to_owned()).collect();
    let subject = Subject { node: node(who.0), roles: &roles, realm: [0; 32] };
    rules.decide(subject, action, || name.segments())
}

#[test]
fn without_rules_the_default_holds() {
    let name = Name::Dotted("game.room");
    assert_eq!(decide(&Rules::default(), (1, &[]), Action::Call, name), Ok(()));
    let closed = Rules { default: Effect::Deny, ..Rules::default() };
    assert_eq!(decide(&closed, (1, &[]), Action::Call, name), Err(Why::Default));
    assert!(Rules::default().allows_all() && !closed.allows_all());
}

#[test]
fn the_first_rule_that_fits_decides() {
    let rules = Rules {
        default: Effect::Deny,
        rules: vec![
            rule(Effect::Deny, &[Action::Publish], &["game.*.admin"]),
            Rule { roles: vec!["player".to_owned()], ..rule(Effect::Allow, &[], &["game.**"]) },
            Rule { nodes: vec![node(7)], ..rule(Effect::Allow, &[Action::Call], &[]) },
        ],
    };
    let player: (u8, &[&str]) = (1, &["judge", "player"]);
    let told = [
        (player, Action::Publish, Name::Dotted("game.one.chat"), Ok(())),
        (player, Action::Publish, Name::Dotted("game.one.admin"), Err(Why::Rule(1))),
        (player, Action::Call, Name::Dotted("game.one.admin"), Ok(())),
        (player, Action::Call, Name::Path("game/one"), Ok(())),
        (player, Action::Call, Name::Dotted("shop.buy"), Err(Why::Default)),
        ((7, &[]), Action::Call, Name::Path("shop/buy"), Ok(())),
        ((7, &[]), Action::Advertise, Name::Path("shop/buy"), Err(Why::Default)),
        ((8, &["players"]), Action::Call, Name::Dotted("game.one"), Err(Why::Default)),
    ];
    for (who, action, name, expected) in told {
        assert_eq!(decide(&rules, who, action, name), expected, "{who:?} {action} {name:?}");
    }
}

#[test]
fn what_is_forbidden_is_not_got_by_a_wider_pattern() {
    let rules = Rules {
        default: Effect::Allow,
        rules: vec![rule(Effect::Deny, &[Action::Subscribe], &["game.secret.**"])],
    };
    let subscribe = |pattern| decide(&rules, (1, &[]), Action::Subscribe, Name::Dotted(pattern));
    for pattern in ["game.**", "**", "*.secret.plan", "game.*.plan", "game.secret.plan"] {
        assert_eq!(subscribe(pattern), Err(Why::Rule(1)), "{pattern}");
    }
    for pattern in ["game.room.**", "game", "*", "shop.**"] {
        assert_eq!(subscribe(pattern), Ok(()), "{pattern}");
    }
    // Nor is more got than is allowed.
    let rules = Rules {
        default: Effect::Deny,
        rules: vec![rule(Effect::Allow, &[Action::Subscribe], &["game.*.chat"])],
    };
    let subscribe = |pattern| decide(&rules, (1, &[]), Action::Subscribe, Name::Dotted(pattern));
    assert_eq!(subscribe("game.*.chat"), Ok(()));
    assert_eq!(subscribe("game.one.chat"), Ok(()));
    for pattern in ["game.**", "game.*.*", "*.one.chat", "game.one.chat.**"] {
        assert_eq!(subscribe(pattern), Err(Why::Default), "{pattern}");
    }
}

proptest! {
    /// Whoever may subscribe to a pattern may subscribe to each topic of it.
    #[test]
    fn a_pattern_is_allowed_only_if_all_of_it_is(
        effects in prop::collection::vec((any::<bool>(), "(a|b|\\*)(\\.(a|b|\\*)){0,2}(\\.\\*\\*)?"), 0..5),
        is_open in any::<bool>(),
        pattern in "(a|b|\\*)(\\.(a|b|\\*)){0,2}",
        letters in prop::collection::vec("a|b|c", 3),
    ) {
        let effect = |allows| if allows { Effect::Allow } else { Effect::Deny };
        let rules = effects.iter().map(|(allows, name)| rule(effect(*allows), &[], &[name]));
        let rules = Rules { default: effect(is_open), rules: rules.collect() };
        let subscribe = |name: &str| decide(&rules, (1, &[]), Action::Subscribe, Name::Dotted(name));
        if subscribe(&pattern).is_ok() {
            let parts = pattern.split('.').zip(&letters);
            let topic: Vec<&str> =
                parts.map(|(part, letter)| if part == "*" { letter } else { part }).collect();
            let topic = topic.join(".");
            prop_assert!(subscribe(&topic).is_ok(), "{} of {}", topic, pattern);
        }
    }
}
