//! Who joins the mesh and who goes, as the log of a node says it.

use std::collections::BTreeSet;

use macula_workload::NodeId;
use macula_workload::membership::{Event, Membership};
use tokio::sync::broadcast::error::RecvError;

/// Those of whom was said that they are in the mesh.
#[derive(Default)]
struct Told(BTreeSet<NodeId>);

impl Told {
    /// Whether there is something to say of an event.
    fn hears(&mut self, event: &Event) -> bool {
        match event {
            Event::Joined { node, .. } | Event::Returned { node, .. } => self.0.insert(*node),
            Event::Gone { node, .. } => self.0.remove(node),
            _ => false,
        }
    }

    /// Who has joined, and who has gone, of whom no event was heard.
    fn catches_up(&mut self, members: BTreeSet<NodeId>) -> (Vec<NodeId>, Vec<NodeId>) {
        let joined = members.difference(&self.0).copied().collect();
        let gone = self.0.difference(&members).copied().collect();
        self.0 = members;
        (joined, gone)
    }
}

/// Logs who joins and who goes, for as long as the node runs. Who has joined before it was called is told too.
pub(super) async fn tell(membership: Membership) {
    let mut told = Told::default();
    // Listened to before one looks, so that nobody comes in between.
    let mut events = membership.events();
    catch_up(&mut told, &membership);
    loop {
        match events.recv().await {
            Ok(event) if told.hears(&event) => say(&event),
            Ok(_) => {}
            Err(RecvError::Lagged(lost)) => {
                tracing::info!(lost, "more has happened than was told");
                catch_up(&mut told, &membership);
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn catch_up(told: &mut Told, membership: &Membership) {
    let members = membership.members().into_iter().map(|member| member.contact.node);
    let (joined, gone) = told.catches_up(members.collect());
    joined.iter().for_each(|node| tracing::info!("joined node={node}"));
    gone.iter().for_each(|node| tracing::info!("gone node={node}"));
}

fn say(event: &Event) {
    match event {
        Event::Joined { node, .. } => tracing::info!("joined node={node}"),
        Event::Returned { node, .. } => tracing::info!("returned node={node}"),
        Event::Gone { node, how, .. } => tracing::info!("gone node={node} how={how:?}"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use macula_core::identity::Keypair;
    use macula_workload::membership::Parting;

    use super::*;

    #[test]
    fn who_was_there_before_is_told_once() {
        let node = |number| Keypair::from_seed([number; 32]).node_id();
        let joined = |number| Event::Joined { node: node(number), life: 1 };
        let mut told = Told::default();
        assert!(told.hears(&joined(1)));
        assert_eq!(told.catches_up([node(1), node(2)].into()), (vec![node(2)], vec![]));
        // What was heard of meanwhile is said already.
        assert!(!told.hears(&joined(2)));
        assert!(told.hears(&joined(3)));
        let (joined_since, gone) = told.catches_up([node(3)].into());
        let both = BTreeSet::from([node(1), node(2)]);
        assert_eq!((joined_since, gone), (vec![], both.into_iter().collect()));
        assert!(!told.hears(&Event::Gone { node: node(1), life: 1, how: Parting::Left }));
        assert!(told.hears(&Event::Returned { node: node(1), life: 2 }));
        assert!(!told.hears(&Event::Updated { node: node(1), life: 2 }));
    }
}
