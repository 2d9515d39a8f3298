//! The addresses that seeds have.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{Resolver, TokioResolver};
use macula_core::identity::NodeId;

use super::Seed;

/// How many addresses of one seed are dialled.
const ADDRESSES_MAX: usize = 16;

/// How many hosts of one service are asked for their addresses.
const HOSTS_MAX: usize = 16;

/// How long one seed may take to be resolved.
const WITHIN: Duration = Duration::from_secs(5);

/// Why a seed has no address.
#[derive(Debug, thiserror::Error)]
enum Unresolved {
    #[error(transparent)]
    System(#[from] std::io::Error),
    #[error(transparent)]
    Dns(#[from] NetError),
    #[error("no answer within {}", humantime::format_duration(WITHIN))]
    TimedOut,
}

/// An address to dial, and who is to be there if that is known.
pub(super) type Target = (SocketAddr, Option<NodeId>);

/// The addresses of all seeds, each once. Names are asked of `nameserver`, or else of the system.
pub(super) async fn resolved(seeds: &[Seed], nameserver: Option<SocketAddr>) -> Vec<Target> {
    // Whoever answers for one name crowds out no other.
    let found = join_all(seeds.iter().map(|seed| of_seed(seed, nameserver))).await;
    found.into_iter().flatten().collect::<BTreeSet<_>>().into_iter().collect()
}

async fn of_seed(seed: &Seed, nameserver: Option<SocketAddr>) -> Vec<Target> {
    let (place, node) = match seed {
        Seed::Node { node, place } => (&**place, Some(*node)),
        place => (place, None),
    };
    let found = tokio::time::timeout(WITHIN, addresses(place, nameserver)).await;
    match found.unwrap_or(Err(Unresolved::TimedOut)) {
        Ok(found) => found.into_iter().take(ADDRESSES_MAX).map(|address| (address, node)).collect(),
        Err(error) => {
            tracing::info!(%seed, %error, "a seed has no address");
            Vec::new()
        }
    }
}

async fn addresses(
    place: &Seed,
    nameserver: Option<SocketAddr>,
) -> Result<Vec<SocketAddr>, Unresolved> {
    match (place, nameserver) {
        (Seed::Address(address), _) => Ok(vec![*address]),
        (Seed::Host { name, port }, None) => {
            Ok(tokio::net::lookup_host((name.as_str(), *port)).await?.collect())
        }
        (Seed::Host { name, port }, Some(_)) => of_host(&resolver(nameserver)?, name, *port).await,
        (Seed::Service { name }, _) => {
            let resolver = resolver(nameserver)?;
            let mut found = Vec::new();
            // They are all dialled at once, so neither priorities nor weights matter.
            let hosts = resolver.srv_lookup(format!("{name}.")).await?;
            for record in hosts.answers().iter().take(HOSTS_MAX) {
                let RData::SRV(host) = &record.data else { continue };
                match of_host(&resolver, &host.target.to_ascii(), host.port).await {
                    Ok(addresses) => found.extend(addresses),
                    Err(error) => tracing::info!(%place, host = %host.target, %error, "no address"),
                }
            }
            Ok(found)
        }
        (Seed::Node { place, .. }, _) => Box::pin(addresses(place, nameserver)).await,
    }
}

async fn of_host(
    resolver: &TokioResolver,
    name: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, Unresolved> {
    let found = resolver.lookup_ip(name).await?;
    Ok(found.iter().map(|ip| SocketAddr::new(ip, port)).collect())
}

fn resolver(nameserver: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let Some(nameserver) = nameserver else { return TokioResolver::builder_tokio()?.build() };
    let mut server = NameServerConfig::udp_and_tcp(nameserver.ip());
    for connection in &mut server.connections {
        connection.port = nameserver.port();
    }
    let config = ResolverConfig::from_name_servers(vec![server]);
    Resolver::builder_with_config(config, TokioRuntimeProvider::default()).build()
}

#[cfg(test)]
mod tests;
