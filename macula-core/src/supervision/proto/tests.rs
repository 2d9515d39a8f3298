//! The plan in a small fake world that does its worst, and the table of a child's states.

mod table;
mod world;

use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};

use crate::supervision::policy::Strategy;

use world::{Make, Op, World};

fn strategies() -> impl proptest::strategy::Strategy<Value = Strategy> {
    prop::sample::select(vec![Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// Whatever happens, each step keeps the invariants that [`World`] checks, and after a stop the
    /// supervisor ends, even with children that outlive every kill.
    #[test]
    fn a_plan_keeps_its_promises_and_ends(
        make: Make,
        ops in prop::collection::vec(any::<Op>(), 0..120),
        intensity in prop::sample::select(vec![0, 1, 3, 1000]),
        stubborn: u8,
    ) {
        let mut world = World::new(&make, intensity);
        for op in ops {
            world.step(op);
        }
        world.stop(stubborn);
    }

    /// Once nothing fails any more, every permanent child runs that nobody wanted down.
    #[test]
    fn a_plan_heals(make: Make, ops in prop::collection::vec(any::<Op>(), 0..120)) {
        let mut world = World::new(&make, 1_000_000);
        for op in ops.into_iter().filter(|op| !op.is_stop()) {
            world.step(op);
        }
        world.heal();
        world.stop(0);
    }

    /// Without a failure the list comes up in order and goes down in reverse, one at a time.
    #[test]
    fn a_list_has_an_order(children in 0_u8..12, strategy in strategies()) {
        let mut world = World::new(&Make::plain(children, strategy), 1);
        world.settle();
        prop_assert!(world.starts().is_sorted());
        prop_assert_eq!(world.starts().len(), usize::from(children));
        world.stop(0);
        let stops = world.stops();
        prop_assert_eq!(stops.len(), usize::from(children));
        prop_assert!(stops.is_sorted_by(|a, b| a > b), "{:?}", stops);
    }
}
