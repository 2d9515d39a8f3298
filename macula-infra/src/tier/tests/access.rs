//! Who may not is told so, and it is put down: by rules, and from another realm.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::{Authority, Keypair, Validity};
use macula_core::topic::{Pattern, Topic};

use super::discovery::{WITHIN, finds, has_members, joining};
use super::names::stop;
use super::rpc::{announced, topic};
use super::{Ask, NOW, Node, authority, credentials, credentials_with, node_of};
use crate::access::{Action, Effect, Rule, Rules};
use crate::dht::key::{Key, RealmId};
use crate::dht::proto::node::{Answer, Command, Quorum};
use crate::dht::proto::records::Condition;
use crate::dht::rules::space;
use crate::pubsub::{PublishError, PublishOptions, Published, SubscribeError, SubscribeOptions};
use crate::remote::{CallError, Context, Refusal, ServeError, Unavailability};
use crate::rpc::{CallOptions, Options, StreamReceiver, StreamSender};
use crate::tier::{Config, Discovery};

async fn doubled(node: &Node, name: &str) -> Result<u64, CallError> {
    node.infra.mesh.rpc().call(&topic(name), &4).await
}

async fn opened(node: &Node) -> Result<(StreamSender<u64>, StreamReceiver<u64>), CallError> {
    node.infra.mesh.rpc().open(&topic("game.echo"), &CallOptions::default()).await
}

/// A node with these roles that goes by these rules.
async fn ruled(seed: u8, roles: &[&str], through: Option<&Node>, access: Rules) -> Node {
    let credentials = credentials_with(&authority(), seed, roles);
    let discovery = joining(through);
    node_of(Config { discovery, access, ..Config::new(credentials, 1) }).await
}

/// A node of realm `games`, as all believe, or one that says that it is of another.
async fn of_realm(seed: u8, through: Option<&Node>, claims: Option<&str>) -> Node {
    let discovery = Discovery { realm: "games".to_owned(), ..joining(through) };
    let claims = claims.map(str::to_owned);
    node_of(Config { discovery, claims, ..Config::new(credentials(&authority(), seed), 1) }).await
}

/// How often a node has refused an action to another, and why each time.
fn refused(node: &Node, to: Option<&Node>, action: &str) -> Vec<String> {
    let to = to.map(|node| node.infra.mesh.node());
    let entries = node.infra.mesh.access().audit().recent();
    let of = entries.into_iter().filter(|entry| entry.action == action && entry.node == to);
    of.map(|entry| entry.why).collect()
}

fn is_forbidden<T: std::fmt::Debug>(answer: &Result<T, CallError>) -> bool {
    matches!(answer, Err(CallError::Refused(Refusal::Forbidden(_))))
}

fn rule(effect: Effect, action: Action, roles: &[&str], name: &str) -> Rule {
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    let names = vec![name.parse().unwrap()];
    Rule { effect, actions: vec![action], roles, names, ..Rule::default() }
}

async fn double(number: u64, _: Context) -> Result<u64, Infallible> {
    Ok(number * 2)
}

async fn echo(
    mut asked: StreamReceiver<u64>,
    mut answers: StreamSender<u64>,
    _: Context,
) -> Result<(), CallError> {
    while let Some(number) = asked.next().await? {
        answers.send(&number).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_call_is_refused_and_put_down() {
    // Players may call what is of the game, the counter is for the keeper, and nobody else may.
    let rules = Rules {
        default: Effect::Deny,
        rules: vec![
            rule(Effect::Allow, Action::Call, &["player"], "game.**"),
            rule(Effect::Allow, Action::Call, &["keeper"], "counter"),
            rule(Effect::Allow, Action::Advertise, &[], "**"),
        ],
    };
    let one = ruled(1, &[], None, rules).await;
    let player = ruled(2, &["player"], Some(&one), Rules::default()).await;
    let keeper = ruled(3, &["keeper"], Some(&one), Rules::default()).await;
    let rpc = one.infra.mesh.rpc();
    rpc.advertise(&topic("game.double"), &Options::default(), double).unwrap().keep();
    rpc.advertise_stream(&topic("game.echo"), &Options::default(), echo).unwrap().keep();
    for node in [&player, &keeper] {
        has_members(node, 2).await;
        finds(node, 2).await;
    }
    announced(&one).await;
    assert_eq!(doubled(&player, "game.double").await, Ok(8));
    assert!(is_forbidden(&doubled(&keeper, "game.double").await));
    assert!(
        is_forbidden(&doubled(&one, "game.double").await),
        "the node goes by its own rules itself"
    );
    let counter =
        |node: &Node| node.infra.mesh.remote(one.infra.mesh.node()).handle::<u64, u64>("counter");
    assert_eq!(counter(&keeper).call(&3).await, Ok(3));
    assert!(is_forbidden(&counter(&player).call(&3).await));
    assert!(is_forbidden(&counter(&player).monitor().await.map(drop)));
    let (mut sender, mut receiver) = opened(&player).await.unwrap();
    sender.send(&5).await.unwrap();
    assert_eq!(receiver.next().await, Ok(Some(5)));
    assert!(is_forbidden(&opened(&keeper).await.map(drop)));
    assert_eq!(refused(&one, Some(&keeper), "call"), ["no rule allows it"; 2]);
    assert_eq!(refused(&one, Some(&player), "call"), ["no rule allows it"; 2]);
    assert_eq!(refused(&one, Some(&one), "call"), ["no rule allows it"]);
    // Other rules, from now on.
    one.infra.mesh.access().replace(Rules::default());
    assert_eq!(doubled(&keeper, "game.double").await, Ok(8));
    stop([one, player, keeper]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_provide_a_name_is_not_asked_for_it() {
    let rules = Rules {
        default: Effect::Allow,
        rules: vec![
            rule(Effect::Allow, Action::Advertise, &["bank"], "bank.**"),
            rule(Effect::Deny, Action::Advertise, &[], "bank.**"),
        ],
    };
    let bank = ruled(1, &["bank"], None, rules.clone()).await;
    let thief = ruled(2, &[], Some(&bank), Rules::default()).await;
    let client = ruled(3, &[], Some(&bank), rules).await;
    for node in [&thief, &client] {
        has_members(node, 2).await;
        finds(node, 2).await;
    }
    // A node goes by its own rules. This one goes by others.
    let own = client.infra.mesh.rpc().advertise(&topic("bank.pay"), &Options::default(), double);
    assert!(matches!(own, Err(ServeError::Forbidden(_))), "{own:?}");
    let stolen = thief.infra.mesh.rpc();
    stolen.advertise(&topic("bank.pay"), &Options::default(), double).unwrap().keep();
    let serving = thief.infra.mesh.serve("bank/vault", &thief.counter, Ask::Add).unwrap();
    announced(&thief).await;
    tokio::time::timeout(WITHIN, thief.infra.mesh.announced()).await.unwrap();
    let answer = doubled(&client, "bank.pay").await;
    let no_good = |answer: &Result<u64, CallError>| {
        let unentitled = |why: &Unavailability| {
            matches!(why, Unavailability::Unentitled(_) | Unavailability::NoProvider(_))
        };
        matches!(answer, Err(CallError::Unavailable(why)) if unentitled(why))
    };
    assert!(no_good(&answer), "{answer:?}");
    let answer = client.infra.mesh.named::<u64, u64>("bank/vault").call(&3).await;
    assert!(no_good(&answer), "{answer:?}");
    assert_eq!(refused(&client, Some(&thief), "advertise").len(), 2);
    drop(serving);
    // Where there is one that may, it is asked.
    let options = Options { idempotent: true, ..Options::default() };
    bank.infra.mesh.rpc().advertise(&topic("bank.pay"), &options, double).unwrap().keep();
    announced(&bank).await;
    let waiting = async { while doubled(&client, "bank.pay").await != Ok(8) {} };
    tokio::time::timeout(WITHIN, waiting).await.expect("the bank is asked");
    stop([bank, thief, client]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_publish_or_subscribe_is_refused_and_put_down() {
    let rules = Rules {
        default: Effect::Deny,
        rules: vec![
            rule(Effect::Allow, Action::Publish, &["server"], "game.**"),
            rule(Effect::Allow, Action::Subscribe, &["player"], "game.*.chat"),
            rule(Effect::Allow, Action::Subscribe, &["server"], "**"),
            rule(Effect::Allow, Action::Advertise, &[], "**"),
        ],
    };
    let server = ruled(1, &["server"], None, rules.clone()).await;
    let outlaw = ruled(2, &[], Some(&server), Rules::default()).await;
    for node in [&server, &outlaw] {
        has_members(node, 1).await;
        finds(node, 1).await;
    }
    let pattern: Pattern = "game.**".parse().unwrap();
    let room: Topic = topic("game.one.chat");
    // At the node itself it is an error.
    let client = ruled(3, &["player"], Some(&server), rules).await;
    let pubsub = client.infra.mesh.pubsub();
    let more = pubsub.subscribe(&pattern, &SubscribeOptions::default());
    assert!(matches!(more, Err(SubscribeError::Forbidden(_))));
    let told = pubsub.publish(&room, Bytes::from("hello"), PublishOptions::default()).await;
    assert!(matches!(told, Err(PublishError::Forbidden(_))), "{told:?}");
    assert_eq!(refused(&client, Some(&client), "publish").len(), 1);
    assert_eq!(refused(&client, Some(&client), "subscribe").len(), 1);
    // Whoever goes by rules of its own is refused by the others.
    let mut heard =
        server.infra.mesh.pubsub().subscribe(&pattern, &SubscribeOptions::default()).unwrap();
    let _listens =
        outlaw.infra.mesh.pubsub().subscribe(&pattern, &SubscribeOptions::default()).unwrap();
    let pubsub = outlaw.infra.mesh.pubsub();
    let publishing = async {
        while refused(&server, Some(&outlaw), "publish").is_empty() {
            let _told = pubsub
                .publish(&room, Bytes::from("lies"), PublishOptions::default())
                .await
                .unwrap();
        }
    };
    tokio::time::timeout(WITHIN, publishing).await.expect("it is refused");
    let publishing = async {
        while refused(&server, Some(&outlaw), "subscribe").is_empty() {
            let pubsub = server.infra.mesh.pubsub();
            let _told = pubsub
                .publish(&room, Bytes::from("truth"), PublishOptions::default())
                .await
                .unwrap();
        }
    };
    tokio::time::timeout(WITHIN, publishing).await.expect("it is refused");
    while let Ok(event) = tokio::time::timeout(WITHIN, heard.next()).await {
        match event {
            Some(crate::pubsub::Event::Message(message)) => {
                assert_eq!(message.payload, Bytes::from("truth"));
                break;
            }
            Some(crate::pubsub::Event::Gap(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    stop([server, outlaw, client]).await;
}

/// A node that uses the names of a realm without being of it gets nothing there by any way.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_crosses_from_another_realm() {
    let one = of_realm(1, None, None).await;
    let two = of_realm(2, Some(&one), None).await;
    let intruder = of_realm(3, Some(&one), Some("shops")).await;
    for (node, others) in [(&one, 1), (&two, 1), (&intruder, 2)] {
        has_members(node, 2).await;
        // It finds them, and they do not put anything there.
        finds(node, others).await;
    }
    let other = Authority::with_key(
        "elsewhere",
        Keypair::from_seed([98; 32]),
        Validity::from_now(NOW, Duration::from_secs(86_400)),
    );
    let stranger = node_of(Config::new(credentials(&other.unwrap(), 4), 1)).await;
    let mesh = &intruder.infra.mesh;
    let (id, dht, forever) = (one.infra.mesh.node(), mesh.dht(), Duration::from_secs(600));

    // What there is in the realm.
    let rpc = one.infra.mesh.rpc();
    rpc.advertise(&topic("game.double"), &Options::default(), double).unwrap().keep();
    rpc.advertise_stream(&topic("game.echo"), &Options::default(), echo).unwrap().keep();
    one.infra.mesh.serve("vault", &one.counter, Ask::Add).unwrap().keep();
    announced(&one).await;
    tokio::time::timeout(WITHIN, one.infra.mesh.announced()).await.unwrap();
    let (there, value) = ((space::ANY, &b"secret"[..]), Bytes::from("of the realm"));
    let put = two.infra.mesh.dht().put(there, value.clone(), forever, Condition::Any, Quorum::One);
    assert!(put.await.unwrap().1.is_reached());
    let room = topic("game.one.chat");
    let all: Pattern = "game.**".parse().unwrap();
    let mut chat = one.infra.mesh.pubsub().subscribe(&all, &SubscribeOptions::default()).unwrap();

    // 1, 2: whoever is certified elsewhere is not let in, nor dialled.
    let at_one = one.infra.mesh.listening();
    stranger.infra.mesh.introduce(id, at_one);
    assert!(stranger.infra.mesh.connect(id).await.is_err());
    two.infra.mesh.introduce(stranger.infra.mesh.node(), stranger.infra.mesh.listening());
    assert!(two.infra.mesh.connect(stranger.infra.mesh.node()).await.is_err());
    assert!(!refused(&two, None, "connect").is_empty());

    // 3 to 5: names, procedures and streams are not found.
    let nobody = mesh.locate("vault").await;
    assert!(nobody.is_err(), "{nobody:?}");
    let no_provider =
        |name: &str| Err(CallError::Unavailable(Unavailability::NoProvider(name.to_owned())));
    assert_eq!(doubled(&intruder, "game.double").await, no_provider("game.double"));
    assert_eq!(opened(&intruder).await.map(drop), no_provider("game.echo").map(drop));

    // 6 to 10: whoever knows where they are is refused.
    let knowing = async {
        while !is_forbidden(&doubled(&intruder, "game.double").await) {
            mesh.names.believe("!game.double", id).await;
        }
        while !is_forbidden(&opened(&intruder).await.map(drop)) {
            mesh.names.believe("!game.echo", id).await;
        }
    };
    tokio::time::timeout(WITHIN, knowing).await.expect("they are refused");
    let counter = mesh.remote(id).handle::<u64, u64>("counter");
    assert!(is_forbidden(&counter.call(&1).await));
    assert!(is_forbidden(&counter.monitor().await.map(drop)));
    let by_name = mesh.remote(id).handle::<u64, u64>("!game.double");
    assert!(is_forbidden(&by_name.call(&1).await));
    assert_eq!(refused(&one, Some(&intruder), "call").len(), 5);

    // 11, 12: the table shows neither records nor providers.
    let key = Key::of_name(RealmId::named("games"), space::ANY, b"secret");
    let got = dht.ask(WITHIN, Command::Get { key, fresh: true }).await;
    assert!(matches!(&got, Ok(Answer::Value(got)) if got.record.is_none()), "{got:?}");
    let key = Key::of_name(RealmId::named("games"), space::ANY, b"rpc/game.double");
    let found = dht.ask(WITHIN, Command::Find { key, max: 20 }).await;
    assert!(!format!("{found:?}").contains(&format!("{id:?}")), "{found:?}");

    // 13, 14: nor does it take any.
    let put = dht.put(there, Bytes::from("lies"), forever, Condition::Any, Quorum::All).await;
    assert!(!put.unwrap().1.is_reached());
    let provided = dht.provide(there, Bytes::new(), forever, Quorum::All).await;
    assert!(!provided.unwrap().is_reached());
    assert!(refused(&one, Some(&intruder), "store").len() >= 2);
    let got = two.infra.mesh.dht().get(there.0, there.1, true).await.unwrap();
    assert_eq!(got.record.map(|record| record.record().value.clone()), Some(value));

    // 15, 16: what it publishes reaches nobody, and it hears nothing.
    let published = mesh.pubsub().publish(&room, Bytes::from("lies"), PublishOptions::default());
    assert!(matches!(published.await, Ok(Published::NoSubscribers)));
    let mut spy = mesh.pubsub().subscribe(&all, &SubscribeOptions::default()).unwrap();
    let two_says = two.infra.mesh.pubsub();
    let waiting = async {
        loop {
            let _told = two_says
                .publish(&room, Bytes::from("truth"), PublishOptions::default())
                .await
                .unwrap();
            if let Some(Some(crate::pubsub::Event::Message(message))) =
                futures_util::FutureExt::now_or_never(chat.next())
            {
                break assert_eq!(message.payload, Bytes::from("truth"));
            }
        }
    };
    tokio::time::timeout(WITHIN, waiting).await.expect("the realm goes on");
    assert!(futures_util::FutureExt::now_or_never(spy.next()).is_none());
    stop([one, two, intruder, stranger]).await;
}
