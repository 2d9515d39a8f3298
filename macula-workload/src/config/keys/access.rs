//! The keys of `[access]`, and of its rules.

use macula_core::topic::Pattern;
use macula_infra::access::{Action, Effect, RULES_MAX, Rule, Rules};

use super::super::error::Problem;
use super::super::item::node_id;
use super::{Error, Item, Key, put};

const EFFECTS: &[(&str, Effect)] = &[("allow", Effect::Allow), ("deny", Effect::Deny)];

/// The keys of `[access]`.
pub(in crate::config) static ACCESS: &[Key<Rules>] = &[
    Key { name: "default", read: |rules, item| put(&mut rules.default, item.word(EFFECTS)) },
    Key { name: "rules", read: |rules, item| put(&mut rules.rules, item.tables(RULES_MAX, RULE)) },
];

/// The keys of each of `[[access.rules]]`.
pub(in crate::config) static RULE: &[Key<Rule>] = &[
    Key { name: "effect", read: |rule, item| put(&mut rule.effect, item.word(EFFECTS)) },
    Key { name: "actions", read: |rule, item| put(&mut rule.actions, item.each(action)) },
    Key { name: "nodes", read: |rule, item| put(&mut rule.nodes, item.each(node_id)) },
    Key { name: "roles", read: |rule, item| put(&mut rule.roles, item.each(role)) },
    Key { name: "names", read: |rule, item| put(&mut rule.names, item.each(pattern)) },
];

fn action(item: &Item<'_>, text: &str) -> Result<Action, Error> {
    let words: Vec<_> = Action::ALL.iter().map(|action| (action.as_str(), *action)).collect();
    item.one_of(text, &words)
}

fn role(item: &Item<'_>, text: &str) -> Result<String, Error> {
    let checked = macula_core::identity::check_name(text);
    checked
        .map(str::to_owned)
        .map_err(|_invalid| item.fault(Problem::NotRole { found: text.to_owned() }))
}

fn pattern(item: &Item<'_>, text: &str) -> Result<Pattern, Error> {
    text.parse()
        .map_err(|source| item.fault(Problem::NotPattern { found: text.to_owned(), source }))
}
