//! How well the population is estimated, and what is advised.

use macula_core::entropy::Entropy;

use super::super::density::{Density, Estimator, advise, estimate, fraction};
use super::super::peer::Peer;
use super::peers;
use crate::dht::key::Key;
use crate::dht::simulated::Oracle;

const K: usize = 20;

fn key(entropy: &mut Entropy) -> Key {
    let mut bytes = [0; 32];
    bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&entropy.next_u64().to_be_bytes()));
    Key::from_bytes(bytes)
}

#[test]
fn a_distance_is_a_fraction_of_the_space() {
    let zero = Key::from_bytes([0; 32]);
    assert!((fraction(&zero, &zero.with_flipped(0)) - 0.5).abs() < 1e-12);
    assert!((fraction(&zero, &zero.with_flipped(200)) / 0.5_f64.powi(201) - 1.0).abs() < 1e-12);
    assert!(fraction(&zero, &zero) == 0.0);
}

#[test]
fn the_population_is_estimated_from_lookups() {
    let (oracle, mut entropy) = (Oracle::new(peers(2_000)), Entropy::from_seed(1));
    let mut estimator = Estimator::default();
    assert_eq!(estimator.population(), None);
    for _ in 0..16 {
        let key = key(&mut entropy);
        estimator.add(&key, &oracle.closest(key, K), K);
    }
    let population = estimator.population().unwrap();
    assert!((1_500.0..2_600.0).contains(&population), "{population}");
    // A third of the lookups in the hands of liars does not change much.
    for _ in 0..5 {
        let key = key(&mut entropy);
        estimator.add(&key, &oracle.closest(key, 400).split_off(380), K);
    }
    let poisoned = estimator.population().unwrap();
    assert!((1_200.0..2_800.0).contains(&poisoned), "{poisoned}");
}

#[test]
fn a_small_mesh_is_counted() {
    let (few, key) = (peers(7), key(&mut Entropy::from_seed(2)));
    assert_eq!(estimate(&key, &few, K), Some(7.0));
    assert_eq!(estimate(&key, &[], K), Some(0.0));
    assert_eq!(advise(&key, &few, K, Some(7.0)).nodes, K);
}

#[test]
fn crowded_and_empty_regions_are_told_from_likely_ones() {
    let (oracle, mut entropy) = (Oracle::new(peers(2_000)), Entropy::from_seed(3));
    let mut likely = 0;
    for _ in 0..100 {
        let key = key(&mut entropy);
        let closest = oracle.closest(key, 200);
        let population = Some(2_000.0);
        let advice = advise(&key, &closest[..K], K, population);
        likely += usize::from(advice.density == Density::Likely && advice.nodes == K);
        // Three of four are hidden.
        let sparse: Vec<Peer> = closest.iter().step_by(5).take(K).cloned().collect();
        let advice = advise(&key, &sparse, K, population);
        assert_eq!(advice.density, Density::Sparse);
        assert!((2 * K..=4 * K).contains(&advice.nodes), "{advice:?}");
        // The k closest are all much closer than they should be.
        let advice = advise(&key, &closest[..K], K, Some(300.0));
        assert_eq!(advice.density, Density::Dense);
        assert!((3 * K..=4 * K).contains(&advice.nodes), "{advice:?}");
    }
    assert!(likely >= 97, "{likely} of 100 are likely");
}
