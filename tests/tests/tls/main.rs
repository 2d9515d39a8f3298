//! Bad certificates and wrong peers against real endpoints, in both directions.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers outside of test functions may panic and tell too: this crate holds only tests"
)]

mod admission;
mod cases;
mod distrust;
mod judgement;
mod lists;
mod matrix;
mod old;
mod pairs;
mod peer;
mod pki;
mod rotation;
mod tiers;

use macula_infra::transport::tls::Enforcement;

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_peer_is_refused_before_it_is_heard() {
    let wrong = matrix::run(&cases::all(), Enforcement::Enforce).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_peer_is_counted_where_refusals_are_only_reported() {
    let wrong = matrix::run(&cases::all(), Enforcement::Report).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
