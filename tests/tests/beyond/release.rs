//! Nothing is kept of what has ended.

use std::sync::{Arc, Weak};

use macula_core::supervision::{Root, Start, Supervisor, SupervisorHandle, Worker};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::support::{calm, start, top};

/// Alive for as long as something that belongs to an actor is.
type Token = Arc<()>;

/// Every life of a keeper puts a token into its state, its actor and its messages.
struct Keeper(#[expect(dead_code, reason = "kept")] Token);

impl Actor for Keeper {
    type Msg = Option<Token>;
    type State = Token;
    type Arguments = Token;

    async fn pre_start(
        &self,
        myself: ActorRef<Option<Token>>,
        token: Token,
    ) -> Result<Token, ActorProcessingErr> {
        // Waits in ractor's own mailbox, which lives as long as the actor's cell.
        myself.send_after(std::time::Duration::ZERO, || None);
        Ok(token)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Option<Token>>,
        message: Option<Token>,
        _state: &mut Token,
    ) -> Result<(), ActorProcessingErr> {
        // A message without a token is the one that is sent at the start.
        drop(message);
        Ok(())
    }
}

type Tokens = Arc<Mutex<Vec<Weak<()>>>>;

fn keeper(tokens: &Tokens) -> Worker<Keeper> {
    let tokens = Arc::clone(tokens);
    let made = Worker::with("keeper", move |_| {
        let token = Token::default();
        tokens.lock().push(Arc::downgrade(&token));
        Ok(Start::Run(Keeper(Arc::clone(&token)), token))
    });
    made.unwrap()
}

fn alive(tokens: &Tokens) -> usize {
    tokens.lock().iter().filter(|token| token.upgrade().is_some()).count()
}

/// An actor's cell cannot be watched itself, so a message is left in its mailbox: it is dropped with
/// the mailbox, and the mailbox with the last reference to the cell's ports.
#[tokio::test(start_paused = true)]
async fn a_life_that_has_ended_is_released() {
    let tokens = Tokens::default();
    let (spec, handle) = keeper(&tokens).split();
    let root = start(top().child(spec)).await;
    for life in 1..=5 {
        let actor = handle.actor_ref().unwrap();
        let token = Token::default();
        tokens.lock().push(Arc::downgrade(&token));
        actor.cast(Some(token)).unwrap();
        if life % 2 == 0 {
            actor.kill();
        } else {
            actor.stop(None);
        }
        drop(actor);
        handle.next_life(life).await.unwrap();
        calm().await;
        assert_eq!(alive(&tokens), 1, "life {life}");
    }
    root.stop().await;
    calm().await;
    assert_eq!(alive(&tokens), 0);
    drop(handle);
}

/// A handle that is kept keeps neither the tree nor its options.
#[tokio::test(start_paused = true)]
async fn a_tree_that_has_ended_is_released() {
    let token = Token::default();
    let kept = Arc::clone(&token);
    let (worker, handle) = keeper(&Tokens::default()).split();
    let (inner, supervisor) = Supervisor::new("inner")
        .unwrap()
        .child(worker)
        .init(move |_| {
            let _kept = &kept;
            Ok(macula_core::supervision::Init::Run)
        })
        .split();
    let root = start(top().child(inner)).await;
    let events = root.events();
    root.stop().await;
    drop(root);
    calm().await;
    assert!(events.is_closed(), "something holds the tree");
    drop((handle, supervisor, events));
    assert_eq!(Arc::strong_count(&token), 1, "something holds the supervisor's spec");
}

fn running() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

async fn busy_tree() -> (Root, SupervisorHandle) {
    let tokens = Tokens::default();
    let (pool, supervisor) = Supervisor::dynamic("pool", 100).unwrap().split();
    let root =
        start(top().child(keeper(&tokens).liveness(std::time::Duration::from_secs(1))).child(pool))
            .await;
    for _ in 0..50 {
        supervisor
            .start_child(Worker::unnamed(|| (Keeper(Token::default()), Token::default())))
            .await
            .unwrap();
    }
    (root, supervisor)
}

#[tokio::test(start_paused = true)]
async fn no_task_is_left_after_a_stop() {
    let before = running();
    let (root, _supervisor) = busy_tree().await;
    assert!(running() > before + 50);
    root.stop().await;
    calm().await;
    assert_eq!(running(), before);
}

#[tokio::test(start_paused = true)]
async fn no_task_is_left_after_a_kill() {
    let before = running();
    let (root, _supervisor) = busy_tree().await;
    root.kill();
    root.wait().await;
    calm().await;
    assert_eq!(running(), before);
}

#[tokio::test(start_paused = true)]
async fn no_task_is_left_of_a_tree_that_nobody_waits_for() {
    let before = running();
    let (root, _supervisor) = busy_tree().await;
    root.handle().stop();
    drop(root);
    calm().await;
    assert_eq!(running(), before);
}

/// The answer to a question that a supervisor cannot give any more is that it is not there.
#[tokio::test(start_paused = true)]
async fn no_question_is_left_open() {
    let (root, supervisor) = busy_tree().await;
    let asked: Vec<_> = (0..50)
        .map(|_| {
            let supervisor = supervisor.clone();
            tokio::spawn(async move {
                while supervisor.which_children().await.is_ok() {
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    root.kill();
    for question in asked {
        tokio::time::timeout(std::time::Duration::from_secs(1), question).await.unwrap().unwrap();
    }
}
