//! The groups of a realm: there should be one.
//!
//! A node without seeds founds a group, and so do two that do not know each other. When they meet, each
//! group goes on by itself: no member hears one of the other group, and no client that has used one turns
//! to the other. But it has to be known, because what is written to one is not seen in the other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use macula_core::port::{Directory, Provider};

use super::service::Service;
use super::state::State;
use super::ways::{NAME, VOTERS_MAX};
use super::wire::{self, Stranger};
use crate::raft::Member;
use crate::raft::types::MemberId;

/// How often it is looked whether there is another group.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// A group as voters announce it.
pub(super) fn written(group: Option<MemberId>) -> Bytes {
    group.and_then(|group| wire::write(&group).ok()).unwrap_or_default()
}

/// The group in which a voter says that it votes; none if it says nothing that can be read.
pub(super) fn of(voter: &Provider) -> Option<MemberId> {
    wire::read(&voter.metadata).ok()
}

/// Those of one group, and which that is: the one that was used before, or the only one that there is.
/// Voters that do not say are taken for its own.
///
/// # Errors
///
/// In words, if it cannot be told which group is meant, or all are of another one.
pub(super) fn of_one(
    voters: Vec<Provider>,
    before: Option<MemberId>,
) -> Result<(Vec<Provider>, Option<MemberId>), String> {
    let groups: BTreeSet<MemberId> = voters.iter().filter_map(of).collect();
    let group = match before {
        Some(before) => Some(before),
        None if groups.len() > 1 => {
            let all: Vec<String> = groups.iter().map(ToString::to_string).collect();
            return Err(format!(
                "there are {} groups in this realm, founded by {}: only one may stay",
                groups.len(),
                all.join(" and by ")
            ));
        }
        None => groups.first().copied(),
    };
    let are_any = !voters.is_empty();
    let own: Vec<Provider> = voters
        .into_iter()
        .filter(|voter| group.is_none() || of(voter).is_none_or(|of| Some(of) == group))
        .collect();
    match group {
        Some(group) if are_any && own.is_empty() => {
            Err(format!("all voters that are found are of another group than that of {group}"))
        }
        _ => Ok((own, group)),
    }
}

/// Looks for voters of another group, as long as the member is there.
pub(super) async fn look(
    service: Service,
    member: Arc<Member<State>>,
    directory: Arc<dyn Directory>,
) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(own) = member.group() else { continue };
        // What cannot be looked up now is looked up later.
        let Ok(voters) = directory.find(NAME, VOTERS_MAX).await else { continue };
        let is_stranger = |voter: &Provider| {
            let group = of(voter).filter(|group| *group != own)?;
            (voter.node != service.0.node).then(|| Stranger::new(voter.node, group))
        };
        let strangers: Vec<Stranger> = voters.iter().filter_map(is_stranger).collect();
        let before = std::mem::replace(&mut *service.0.strangers.lock(), strangers.clone());
        if !strangers.is_empty() && strangers != before {
            tracing::error!(
                group = %own, ?strangers,
                "there is another group in this realm, and what is written to one is not seen in the \
                 other: have its nodes join this one, or keep them apart"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{of_one, written};
    use crate::raft::tests::harness::node;
    use crate::raft::types::MemberId;
    use macula_core::port::Provider;

    fn voter(number: u8, group: Option<u64>) -> Provider {
        let metadata = written(group.map(|life| MemberId::new(node(number), life)));
        Provider { node: node(1), metadata }
    }

    #[test]
    fn nobody_is_taken_for_another_group_and_which_is_meant_is_not_guessed() {
        let of = |life| Some(MemberId::new(node(1), life));
        let [own, other, silent] = [voter(1, Some(1)), voter(1, Some(2)), voter(1, None)];
        assert_eq!(of_one(Vec::new(), None), Ok((Vec::new(), None)));
        assert_eq!(of_one(vec![silent.clone()], None), Ok((vec![silent.clone()], None)));
        let both = vec![own.clone(), silent.clone()];
        assert_eq!(of_one(both.clone(), None), Ok((both, of(1))));
        let all = vec![own.clone(), other.clone(), silent.clone()];
        assert!(of_one(all.clone(), None).unwrap_err().contains("2 groups"));
        assert_eq!(of_one(all, of(2)), Ok((vec![other.clone(), silent], of(2))));
        assert!(of_one(vec![other], of(1)).unwrap_err().contains("another group"));
        assert_eq!(of_one(Vec::new(), of(1)), Ok((Vec::new(), of(1))));
    }
}
