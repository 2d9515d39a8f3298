//! Who may not is told so, and it is put down: by rules, and from another realm.

mod topics;

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use macula_core::identity::{Authority, Keypair, Validity};
use macula_core::topic::Pattern;

use super::discovery::{WITHIN, finds, has_members, joining};
use super::names::stop;
use super::rpc::{announced, topic};
use super::{Ask, NOW, Node, authority, believing, credentials, credentials_with, node_of};
use crate::access::{Action, Effect, Rule, Rules};
use crate::dht::key::{Key, RealmId};
use crate::dht::proto::node::{Answer, Command, Quorum};
use crate::dht::proto::records::Condition;
use crate::dht::rules::space;
use crate::pubsub::proto::Input;
use crate::pubsub::{Event, PublishOptions, Published, SubscribeOptions};
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
async fn whom_one_provider_refuses_another_answers() {
    let closed = Rules {
        default: Effect::Allow,
        rules: vec![rule(Effect::Deny, Action::Call, &[], "game.**")],
    };
    let one = ruled(1, &[], None, closed).await;
    let two = ruled(2, &[], Some(&one), Rules::default()).await;
    let caller = ruled(3, &[], Some(&one), Rules::default()).await;
    for node in [&one, &two] {
        let rpc = node.infra.mesh.rpc();
        rpc.advertise(&topic("game.double"), &Options::default(), double).unwrap().keep();
    }
    for node in [&two, &caller] {
        has_members(node, 2).await;
        finds(node, 2).await;
    }
    for node in [&one, &two] {
        announced(node).await;
    }
    let providers = caller.infra.mesh.rpc().providers(&topic("game.double")).await.unwrap();
    assert_eq!(providers.len(), 2);
    for _ in 0..20 {
        assert_eq!(doubled(&caller, "game.double").await, Ok(8));
    }
    assert!(!refused(&one, Some(&caller), "call").is_empty(), "it was asked too");
    stop([one, two, caller]).await;
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

/// Two nodes of a realm, one that uses its names without being of it, and one that is certified
/// elsewhere.
struct Realms {
    one: Node,
    two: Node,
    intruder: Node,
    stranger: Node,
}

/// Where there is a record in the realm, and what it says.
const THERE: (&str, &[u8]) = (space::ANY, b"secret");
const SAID: &[u8] = b"of the realm";

const FOREVER: Duration = Duration::from_secs(600);

impl Realms {
    async fn start() -> Self {
        let one = of_realm(1, None, None).await;
        let two = of_realm(2, Some(&one), None).await;
        let intruder = of_realm(3, Some(&one), Some("shops")).await;
        for (node, others) in [(&one, 1), (&two, 1), (&intruder, 2)] {
            has_members(node, 2).await;
            // It finds them, and they do not put anything there.
            finds(node, others).await;
        }
        let valid = Validity::from_now(NOW, Duration::from_secs(86_400));
        let other = Authority::with_key("elsewhere", Keypair::from_seed([98; 32]), valid).unwrap();
        // It would believe the realm's nodes.
        let stranger = believing(&[&authority(), &other], &other, 4);
        let stranger = node_of(Config::new(stranger, 1)).await;
        let (mesh, options) = (&one.infra.mesh, Options::default());
        mesh.rpc().advertise(&topic("game.double"), &options, double).unwrap().keep();
        mesh.rpc().advertise_stream(&topic("game.echo"), &options, echo).unwrap().keep();
        mesh.serve("vault", &one.counter, Ask::Add).unwrap().keep();
        announced(&one).await;
        tokio::time::timeout(WITHIN, mesh.announced()).await.unwrap();
        let (dht, value) = (two.infra.mesh.dht(), Bytes::from_static(SAID));
        let put = dht.put(THERE, value, FOREVER, Condition::Any, Quorum::One).await;
        assert!(put.unwrap().1.is_reached());
        Self { one, two, intruder, stranger }
    }

    /// Whoever is certified elsewhere is not let in, nor dialled.
    async fn keep_strangers_out(&self) {
        let (stranger, one) = (&self.stranger.infra.mesh, &self.one.infra.mesh);
        stranger.introduce(one.node(), one.listening());
        assert!(stranger.connect(one.node()).await.is_err());
        let two = &self.two.infra.mesh;
        two.introduce(stranger.node(), stranger.listening());
        assert!(two.connect(stranger.node()).await.is_err());
        assert!(!refused(&self.two, None, "connect").is_empty());
        let seen = async {
            while refused(&self.one, None, "connect").is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WITHIN, seen).await.expect("whoever is dialled puts it down, too");
    }

    /// Names, procedures and streams are not found.
    async fn hide_names(&self) {
        let nobody = self.intruder.infra.mesh.locate("vault").await;
        assert!(nobody.is_err(), "{nobody:?}");
        let no_provider =
            |name: &str| Err(CallError::Unavailable(Unavailability::NoProvider(name.to_owned())));
        assert_eq!(doubled(&self.intruder, "game.double").await, no_provider("game.double"));
        let opened = opened(&self.intruder).await.map(drop);
        assert_eq!(opened, no_provider("game.echo").map(drop));
    }

    /// Whoever knows where they are is refused.
    async fn refuse_calls(&self) {
        let (mesh, id) = (&self.intruder.infra.mesh, self.one.infra.mesh.node());
        let knowing = async {
            while !is_forbidden(&doubled(&self.intruder, "game.double").await) {
                mesh.names.believe("!game.double", id).await;
            }
            while !is_forbidden(&opened(&self.intruder).await.map(drop)) {
                mesh.names.believe("!game.echo", id).await;
            }
        };
        tokio::time::timeout(WITHIN, knowing).await.expect("they are refused");
        let counter = mesh.remote(id).handle::<u64, u64>("counter");
        assert!(is_forbidden(&counter.call(&1).await));
        assert!(is_forbidden(&counter.monitor().await.map(drop)));
        let by_name = mesh.remote(id).handle::<u64, u64>("!game.double");
        assert!(is_forbidden(&by_name.call(&1).await));
        assert_eq!(refused(&self.one, Some(&self.intruder), "call").len(), 5);
    }

    /// The table shows neither records nor providers, and takes none.
    async fn close_the_table(&self) {
        let (one, two) = (self.one.infra.mesh.node(), self.two.infra.mesh.dht());
        let dht = self.intruder.infra.mesh.dht();
        let key = |space, name: &[u8]| Key::of_name(RealmId::named("games"), space, name);
        let fresh = Command::Get { key: key(THERE.0, THERE.1), fresh: true };
        let got = dht.ask(WITHIN, fresh).await;
        assert!(matches!(&got, Ok(Answer::Value(got)) if got.record.is_none()), "{got:?}");
        let find = || Command::Find { key: key(space::NAME, b"rpc/game.double"), max: 20 };
        let shown = |found: &Result<Answer, crate::dht::Error>| match found {
            Ok(Answer::Providers(found)) => {
                found.providers.iter().any(|found| found.provider().node() == one)
            }
            other => panic!("{other:?}"),
        };
        assert!(shown(&two.ask(WITHIN, find()).await), "those of the realm find it");
        assert!(!shown(&dht.ask(WITHIN, find()).await));
        let lies = Bytes::from("lies");
        let put = dht.put(THERE, lies.clone(), FOREVER, Condition::Any, Quorum::All).await;
        assert!(!put.unwrap().1.is_reached());
        let provided = dht.provide(THERE, lies, FOREVER, Quorum::All).await;
        assert!(!provided.unwrap().is_reached());
        assert!(refused(&self.one, Some(&self.intruder), "store").len() >= 2);
        let asked = refused(&self.one, Some(&self.intruder), "find");
        assert!(asked.len() >= 2, "it asked for a record and for providers: {asked:?}");
        let got = two.get(THERE.0, THERE.1, true).await.unwrap();
        let value = got.record.map(|record| record.record().value.clone());
        assert_eq!(value, Some(Bytes::from_static(SAID)));
    }

    /// What is published from elsewhere reaches nobody, and nobody there hears anything.
    async fn keep_topics_apart(&self) {
        let (room, all) = (topic("game.one.chat"), "game.**".parse::<Pattern>().unwrap());
        let of = |node: &Node| node.infra.mesh.pubsub().clone();
        let options = SubscribeOptions::default();
        let mut chat = of(&self.one).subscribe(&all, &options).unwrap();
        let intruder = of(&self.intruder);
        let lies = intruder.publish(&room, Bytes::from("lies"), PublishOptions::default()).await;
        assert!(matches!(lies, Ok(Published::NoSubscribers)), "{lies:?}");
        let mut spy = intruder.subscribe(&all, &options).unwrap();
        let two = of(&self.two);
        let heard = async {
            loop {
                let truth = Bytes::from("truth");
                let _told = two.publish(&room, truth, PublishOptions::default()).await.unwrap();
                if let Some(event) = chat.next().now_or_never() {
                    break event;
                }
            }
        };
        let heard = tokio::time::timeout(WITHIN, heard).await.expect("the realm goes on");
        assert!(matches!(heard, Some(Event::Message(message)) if message.payload == "truth"));
        assert!(spy.next().now_or_never().is_none());
        self.audit_topics().await;
        assert!(spy.next().now_or_never().is_none());
    }

    /// Whoever knows who subscribes and who publishes is not answered, and it is put down.
    async fn audit_topics(&self) {
        let (door, vault) = (topic("vault.door"), "vault.**".parse::<Pattern>().unwrap());
        let options = SubscribeOptions::default();
        let mut heard = self.one.infra.mesh.pubsub().subscribe(&vault, &options).unwrap();
        let one = self.one.infra.mesh.node();
        let put_down = |action: &'static str, name: &'static str| async move {
            let is_there = || {
                let entries = self.one.infra.mesh.access().audit().recent();
                let intruder = Some(self.intruder.infra.mesh.node());
                entries.iter().any(|entry| {
                    (entry.node, entry.action, entry.name.as_str()) == (intruder, action, name)
                })
            };
            let waiting = async {
                while !is_there() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(WITHIN, waiting).await.expect("it is put down");
        };
        // To publish: it believes that there is a subscriber, and greets it.
        let intruder = self.intruder.infra.mesh.pubsub();
        let publishing = async {
            loop {
                let found = Input::Found { prefix: "vault".into(), nodes: Some(vec![one]) };
                intruder.tell(found);
                let lies = Bytes::from("lies");
                let told = intruder.publish(&door, lies, PublishOptions::default()).await;
                assert!(matches!(told, Ok(Published::NoSubscribers)), "{told:?}");
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = put_down("publish", "") => {}
            () = publishing => {}
        }
        // To subscribe: it announces what it wants to whoever it has met.
        intruder.tell(Input::Met { node: one });
        put_down("subscribe", "game").await;
        assert!(heard.next().now_or_never().is_none());
        let report = intruder.delivery_report(&door);
        assert_eq!(report.delivered, 0, "{report:?}");
    }
}

/// What was tried, as the audits of the realm have it: what, and of it how often at least.
const TRIED: [(&str, usize); 6] =
    [("connect", 2), ("call", 5), ("store", 2), ("find", 2), ("publish", 1), ("subscribe", 1)];

/// How many attempts there were in all, at least: what is put or sought is refused by both nodes.
const ATTEMPTS: usize = 16;

impl Realms {
    /// Each attempt was put down where it was refused.
    fn sum(&self) {
        let mut sum = 0;
        for (action, times) in TRIED {
            let by = |node| match action {
                "connect" => refused(node, None, action),
                _ => refused(node, Some(&self.intruder), action),
            };
            let put_down = [&self.one, &self.two].into_iter().flat_map(by).count();
            assert!(put_down >= times, "{put_down} of {times} attempts to {action}");
            sum += put_down;
        }
        assert!(sum >= ATTEMPTS, "{sum} attempts were put down");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_crosses_from_another_realm() {
    let realms = Realms::start().await;
    realms.keep_strangers_out().await;
    realms.hide_names().await;
    realms.refuse_calls().await;
    realms.close_the_table().await;
    realms.keep_topics_apart().await;
    realms.sum();
    let Realms { one, two, intruder, stranger } = realms;
    stop([one, two, intruder, stranger]).await;
}
