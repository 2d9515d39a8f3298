//! What is published lasts, and ends.

use std::time::Duration;

use macula_core::entropy::Entropy;

use super::{Config, Full, Output, Place, Published};
use crate::dht::proto::providers::{self, ProvideOutcome, Providers, TTL};
use crate::dht::proto::time::Moment;
use crate::dht::provider::tests::provider;
use crate::dht::record::tests::{NOW, begin, keypair, record, rules};
use crate::dht::record::{Record, Verified};

const HOUR: Duration = Duration::from_secs(3600);

fn published() -> Published {
    Published::new(Config::default(), Entropy::from_seed(1))
}

fn verified(record: &Record) -> Verified {
    record.sign(&keypair(1)).unwrap().verify(NOW, None, &rules()).unwrap()
}

/// The next output, at its time.
fn next(published: &mut Published, at: &mut Moment) -> Option<Output> {
    loop {
        if let Some(output) = published.poll_output() {
            return Some(output);
        }
        let (due, _) = published.poll_timeout()?;
        at.since_epoch += due - at.now;
        at.now = due;
        published.handle_timeout(*at);
    }
}

#[test]
fn a_record_is_stored_anew_until_it_ends() {
    let (mut published, mut at) = (published(), begin());
    let record = verified(&Record { expires_at: NOW + 48 * HOUR, ..record(1, "name", 7) });
    published.record(at, &record).unwrap();
    let mut times = 0;
    while let Some(output) = next(&mut published, &mut at) {
        let expected = Output::Store { key: record.key(), record: record.signed().clone() };
        assert_eq!(output, expected);
        times += 1;
    }
    assert!((3..=4).contains(&times), "{times}");
    assert!(published.is_empty() && at.since_epoch >= NOW + 43 * HOUR);
}

#[test]
fn a_provider_is_issued_anew_before_its_time_and_withdrawn_at_last() {
    let (mut published, mut at) = (published(), begin());
    let own = crate::dht::key::Key::of_node(keypair(9).node_id());
    let mut store = Providers::new(own, providers::Config::default(), Entropy::from_seed(2));
    let provider = provider(1, "name");
    let key = provider.key();
    published.provide(at, provider, TTL).unwrap();
    for _ in 0..20 {
        let Some(Output::Issue { key, provider }) = next(&mut published, &mut at) else { panic!() };
        store.handle_timeout(at.now);
        let signed = provider.sign(&keypair(1)).unwrap();
        let verified = signed.verify(at.since_epoch, Some(key), &rules()).unwrap();
        assert_eq!(store.put(at, &verified), ProvideOutcome::Stored);
        assert_eq!((store.len(), store.count(at.now, &key)), (1, 1), "it is never away");
    }
    assert!(at.since_epoch > NOW + 8 * TTL && at.since_epoch < NOW + 12 * TTL);
    let withdrawal = published.withdraw(at, key).unwrap();
    let signed = withdrawal.sign(&keypair(1)).unwrap();
    let verified = signed.verify(at.since_epoch, Some(key), &rules()).unwrap();
    assert_eq!(store.put(at, &verified), ProvideOutcome::Withdrawn);
    assert_eq!(store.count(at.now, &key), 0);
    assert_eq!((published.poll_timeout(), published.withdraw(at, key)), (None, None));
}

#[test]
fn each_issue_is_newer_even_if_the_calendar_is_put_back() {
    let (mut published, mut at) = (published(), begin());
    published.provide(at, provider(1, "name"), TTL).unwrap();
    let Some(Output::Issue { provider: first, .. }) = published.poll_output() else { panic!() };
    at.since_epoch -= HOUR;
    published.provide(at, provider(1, "name"), TTL).unwrap();
    let Some(Output::Issue { provider: second, key }) = published.poll_output() else { panic!() };
    assert!(second.issued_at > first.issued_at);
    let withdrawal = published.withdraw(at, key).unwrap();
    assert!(withdrawal.issued_at > second.issued_at);
}

#[test]
fn what_has_failed_is_done_anew_sooner() {
    let (mut published, at) = (published(), begin());
    let record = verified(&record(1, "name", 7));
    published.record(at, &record).unwrap();
    let place = Place::Record(record.key());
    published.hurry(at.now, place, Duration::from_secs(60));
    let soon = at.now + Duration::from_secs(60);
    assert_eq!(published.poll_timeout(), Some((soon, "republish")));
    published.hurry(at.now, place, HOUR);
    assert_eq!(published.poll_timeout(), Some((soon, "republish")), "never later");
    published.forget(record.key());
    assert_eq!((published.poll_timeout(), published.len()), (None, 0));
}

#[test]
fn the_number_is_bounded() {
    let config = Config { count_max: 1, ..Config::default() };
    let (mut published, at) = (Published::new(config, Entropy::from_seed(1)), begin());
    published.record(at, &verified(&record(1, "a", 1))).unwrap();
    published.record(at, &verified(&record(1, "a", 2))).unwrap();
    assert_eq!(published.record(at, &verified(&record(1, "b", 1))), Err(Full { max: 1 }));
    let refused = published.provide(at, provider(1, "c"), TTL);
    assert_eq!((refused, published.poll_output()), (Err(Full { max: 1 }), None));
}
