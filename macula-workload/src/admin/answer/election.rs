//! The elections of the realm, for a client of the socket.

use std::time::Duration;

use macula_platform::election::observation::{Leader, Observation, Observed};
use macula_platform::election::{Candidacy, Elections, Error, Event, Options, Token};
use serde_json::{Value, json};

use super::super::Declined;

impl From<Error> for Declined {
    fn from(error: Error) -> Self {
        match error {
            Error::Kv(error) => error.into(),
            Error::TooMany(_) => Self::failed(error),
            // What it says of the election can never be.
            _ => Self::wrong(error),
        }
    }
}

fn leading(leader: &Leader) -> Value {
    let Leader { node, token, is_asked_to_resign } = leader;
    json!({ "node": node.to_string(), "token": token, "asked_to_resign": is_asked_to_resign })
}

/// The elections in which somebody leads, after a name: as many as go into a page.
pub(super) async fn list(elections: &Elections, after: Option<&str>) -> Result<Value, Declined> {
    let page = elections.list(after).await?;
    let rows = page.elections.iter().map(|(name, leader)| {
        let mut row = leading(leader);
        if let Some(fields) = row.as_object_mut() {
            fields.insert("election".to_owned(), name.as_str().into());
        }
        row
    });
    Ok(json!({ "elections": rows.collect::<Vec<_>>(), "has_more": page.has_more }))
}

/// Asks whoever leads to resign, and waits until it has, if that is wanted.
pub(super) async fn resign(
    elections: &Elections,
    name: &str,
    within: Option<Duration>,
) -> Result<Value, Declined> {
    let Some(token) = elections.resign(name).await? else {
        return Ok(json!({ "token": null, "resigned": false }));
    };
    let has_resigned = match within {
        Some(within) => tokio::time::timeout(within, gone(elections, name, token)).await,
        None => Ok(Ok(false)),
    };
    Ok(json!({ "token": token, "resigned": has_resigned.unwrap_or(Ok(false))? }))
}

/// Waits until nobody leads under a token.
async fn gone(elections: &Elections, name: &str, token: Token) -> Result<bool, Declined> {
    let mut observation = elections.observe(name)?;
    loop {
        let leader = observed(&mut observation).await?.leader;
        if leader.is_none_or(|leader| leader.token != token) {
            return Ok(true);
        }
    }
}

/// Observes who leads, and says of which election.
pub(in super::super) fn observe(
    elections: &Elections,
    name: &str,
) -> Result<(Value, Observation), Declined> {
    Ok((json!({ "election": name }), elections.observe(name)?))
}

/// How it stands next, as a client is told of it.
///
/// # Errors
///
/// If it can never be known.
pub(in super::super) async fn next(observation: &mut Observation) -> Result<Value, Declined> {
    let Observed { revision, leader, has_gap } = observed(observation).await?;
    let leader = leader.as_ref().map(leading);
    Ok(json!({ "revision": revision, "leader": leader, "gap": has_gap }))
}

/// How it stands next. While no voter answers it goes on asking.
async fn observed(observation: &mut Observation) -> Result<Observed, Declined> {
    loop {
        match observation.next().await {
            Ok(observed) => return Ok(observed),
            Err(Error::Kv(error)) if !is_final(&error) => {
                tracing::warn!(%error, "an observation waits for a voter");
            }
            Err(error) => return Err(error.into()),
        }
    }
}

const fn is_final(error: &macula_platform::kv::Error) -> bool {
    matches!(error, macula_platform::kv::Error::Refused(_))
}

/// Takes part in an election, and says in which.
pub(in super::super) fn campaign(
    elections: &Elections,
    name: &str,
    ttl_ms: u64,
) -> Result<(Value, Candidacy), Declined> {
    let candidacy = elections.campaign(name, Options { ttl_ms })?;
    Ok((json!({ "election": name }), candidacy))
}

/// What has happened to a candidacy, as a client is told of it.
pub(in super::super) fn told(event: &Event) -> Value {
    match event {
        Event::Elected(leadership) => json!({ "event": "elected", "token": leadership.token() }),
        Event::Deposed { token, why } => json!({ "event": "deposed", "token": token, "why": why }),
    }
}
