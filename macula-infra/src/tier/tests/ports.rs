//! The platform tier asks other nodes by its ports.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::{Keypair, NodeId};
use macula_core::port::{Answer, Call, CallError, Serve};

use super::discovery::WITHIN;
use super::names::{stop, three};
use super::{Node, authority, credentials, node_of};
use crate::access::{Action, Effect, Rule, Rules};
use crate::names::LocateError;
use crate::remote::ServeError;
use crate::tier::Config;

/// Answers with who asks and what, or says no, or panics, or never answers.
#[derive(Debug)]
struct Echo;

impl Serve for Echo {
    fn serve(&self, from: NodeId, question: Bytes) -> Answer<'static, Result<Bytes, String>> {
        Box::pin(async move {
            match question.as_ref() {
                b"no" => Err("not that".to_owned()),
                b"panic" => panic!("as it was told to"),
                b"never" => std::future::pending().await,
                _ => Ok(Bytes::from([from.as_bytes(), question.as_ref()].concat())),
            }
        })
    }
}

async fn ask(node: &Node, of: NodeId, question: impl Into<Bytes>) -> Result<Bytes, CallError> {
    node.infra.mesh.asking("macula/echo").call(of, question.into(), WITHIN).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_asked_in_bytes_and_says_how_it_went() {
    let [one, two, three] = three().await;
    let (own, of) = (one.infra.mesh.node(), two.infra.mesh.node());
    let nobody = ask(&one, of, "early").await;
    assert!(matches!(nobody, Err(CallError::NotServed(_))), "{nobody:?}");
    two.infra.mesh.answering("macula/echo", Arc::new(Echo)).unwrap().keep();
    let again = two.infra.mesh.answering("macula/echo", Arc::new(Echo)).map(drop);
    assert!(matches!(again, Err(ServeError::Taken(_))), "{again:?}");
    let nameless = two.infra.mesh.answering("", Arc::new(Echo)).map(drop);
    assert!(matches!(nameless, Err(ServeError::InvalidName { .. })), "{nameless:?}");
    for len in [0, 1, 100_000, 4 << 20] {
        let question = vec![7; len];
        let expected = [own.as_bytes().as_slice(), &question].concat();
        assert_eq!(ask(&one, of, question).await, Ok(Bytes::from(expected)));
    }
    let own_answer = ask(&two, of, "own").await.unwrap();
    assert!(own_answer.starts_with(of.as_bytes()), "a node asks itself");
    assert_eq!(ask(&one, of, "no").await, Err(CallError::Refused("not that".to_owned())));
    let panicked = ask(&one, of, "panic").await;
    assert!(matches!(panicked, Err(CallError::NoAnswer(_))), "{panicked:?}");
    let soon = Duration::from_millis(50);
    let never = one.infra.mesh.asking("macula/echo").call(of, "never".into(), soon).await;
    assert!(matches!(never, Err(CallError::NoAnswer(_))), "{never:?}");
    let stranger = ask(&one, Keypair::from_seed([77; 32]).node_id(), "anyone").await;
    assert!(matches!(stranger, Err(CallError::Unreachable(_))), "{stranger:?}");
    // It is no actor's name, and the directory does not have it.
    for name in ["macula/echo", "~macula/echo"] {
        let located = three.infra.mesh.locate(name).await.map(drop);
        assert!(matches!(located, Err(LocateError::Nobody(_))), "{located:?}");
    }
    stop([one, two, three]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_access_are_for_ports_too() {
    let rules = Rules {
        rules: vec![Rule {
            effect: Effect::Deny,
            actions: vec![Action::Call],
            names: vec!["macula.echo".parse().unwrap()],
            ..Rule::default()
        }],
        ..Rules::default()
    };
    let strict = node_of(Config { access: rules, ..Config::new(credentials(&authority(), 1), 1) });
    let (strict, other) =
        (strict.await, node_of(Config::new(credentials(&authority(), 2), 1)).await);
    let (mesh, to) = (&other.infra.mesh, strict.infra.mesh.node());
    mesh.introduce(to, strict.infra.mesh.listening());
    strict.infra.mesh.answering("macula/echo", Arc::new(Echo)).unwrap().keep();
    let answer = ask(&other, to, "hello").await;
    assert!(
        matches!(&answer, Err(CallError::Forbidden(why)) if why.contains("rule 1")),
        "{answer:?}"
    );
    stop([strict, other]).await;
}
