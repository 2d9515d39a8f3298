//! Trees with a singleton, and what its children do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use macula_core::supervision::{
    ChildSpec, Restart, Root, Strategy, Supervisor, TreeOptions, Worker,
};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use crate::election::actor::worker;
use crate::election::proto::Bug;
use crate::election::tests::pause::Gate;
use crate::election::tests::world::{NAME, Nodes, TTL, options};
use crate::election::{Elections, Leadership, Token};
use crate::raft::timer;
use crate::singleton::Singleton;

/// How a child behaves.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Habit {
    /// It does not stop when it is asked to.
    pub(super) is_stubborn: bool,
    /// It does not keep what it was told of its leadership.
    pub(super) is_careless: bool,
    /// For how long it starts.
    pub(super) starts_for: Duration,
    pub(super) restart: Restart,
}

/// A child that is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alive {
    pub(super) number: u8,
    pub(super) token: Token,
    life: u64,
    /// Its node did not run, and so it could not stop.
    is_excused: bool,
}

/// All children, in the order of true time.
#[derive(Debug, Default)]
pub(super) struct Runs {
    alive: Vec<Alive>,
    pub(super) started: u64,
    highest: Token,
    pub(super) wrong: Option<String>,
}

impl Runs {
    fn begins(&mut self, number: u8, token: Token, is_excused: bool) -> u64 {
        self.started += 1;
        let other = self.alive.iter().find(|alive| !alive.is_excused && !is_excused);
        if let Some(Alive { number: other, token: held, .. }) = other {
            let why = format!("{number} begins with {token}, and {other} runs with {held}");
            self.wrong.get_or_insert(why);
        }
        if !is_excused {
            self.highest = self.highest.max(token);
        }
        let life = self.started;
        self.alive.push(Alive { number, token, life, is_excused });
        life
    }

    fn acts(&mut self, number: u8, token: Token) {
        if token < self.highest {
            let why = format!("{number} acts under {token} after {}", self.highest);
            self.wrong.get_or_insert(why);
        }
    }

    fn excuse(&mut self, number: u8) {
        let alive = self.alive.iter_mut().filter(|alive| alive.number == number);
        alive.for_each(|alive| alive.is_excused = true);
    }
}

type Shared = Arc<Mutex<Runs>>;

/// Says when its child has gone, with all that it held.
struct Presence(Shared, u64);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.lock().alive.retain(|alive| alive.life != self.1);
    }
}

pub(super) enum Word {
    Crash,
    Finish,
}

struct Child {
    number: u8,
    token: Token,
    leadership: Option<Leadership>,
    runs: Shared,
    gate: Gate,
    habit: Habit,
}

struct Life {
    _acting: JoinSet<()>,
    _presence: Presence,
}

impl Actor for Child {
    type Msg = Word;
    type State = Life;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Word>, (): ()) -> Result<Life, ActorProcessingErr> {
        let (number, runs) = (self.number, self.runs.clone());
        // What begins on a node that does not run would not have begun yet.
        let is_excused = self.gate.is_stopped();
        let over = self.leadership.as_ref().and_then(|leadership| leadership.check().err());
        let life = {
            let mut log = runs.lock();
            if let Some(over) = over {
                log.wrong.get_or_insert_with(|| format!("{number} begins late: {over}"));
            }
            log.begins(number, self.token, is_excused)
        };
        let presence = Presence(Arc::clone(&runs), life);
        if !self.habit.starts_for.is_zero() {
            tokio::time::sleep(self.habit.starts_for).await;
        }
        let mut acting = JoinSet::new();
        if let Some(leadership) = self.leadership.clone() {
            acting.spawn(self.gate.part(async move {
                loop {
                    if let Ok(token) = leadership.check() {
                        runs.lock().acts(number, token);
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }));
        }
        Ok(Life { _acting: acting, _presence: presence })
    }

    async fn handle(
        &self,
        myself: ActorRef<Word>,
        word: Word,
        _: &mut Life,
    ) -> Result<(), ActorProcessingErr> {
        match word {
            Word::Crash => Err("it crashes".into()),
            Word::Finish => {
                myself.stop(None);
                Ok(())
            }
        }
    }

    async fn post_stop(&self, _: ActorRef<Word>, _: &mut Life) -> Result<(), ActorProcessingErr> {
        if self.habit.is_stubborn {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

/// The process of a node.
struct Process {
    root: Root,
    elections: Elections,
    /// The child that was made last.
    child: Arc<Mutex<Option<macula_core::supervision::Handle<Word>>>>,
}

pub(super) struct Stage {
    pub(super) nodes: Nodes,
    pub(super) runs: Shared,
    processes: BTreeMap<u8, Process>,
}

impl Stage {
    pub(super) async fn new(seed: u64, bug: Option<Bug>) -> Self {
        let (runs, processes) = Default::default();
        Self { nodes: Nodes::new(seed, bug).await, runs, processes }
    }

    pub(super) async fn start(&mut self, number: u8, habit: Habit) {
        let elections = self.nodes.elections(number);
        let child: Arc<Mutex<_>> = Arc::default();
        let (runs, last) = (Arc::clone(&self.runs), Arc::clone(&child));
        let gate = elections.gate().clone();
        let singleton = Singleton::new("alone", &elections, NAME, move |leadership| {
            let (runs, gate, token) = (Arc::clone(&runs), gate.clone(), leadership.token());
            let leadership = Some(leadership).filter(|_| !habit.is_careless);
            let make = move || {
                let (leadership, runs, gate) =
                    (leadership.clone(), Arc::clone(&runs), gate.clone());
                (Child { number, token, leadership, runs, gate, habit }, ())
            };
            let (spec, handle) = Worker::new("child", make)?.restart(habit.restart).split();
            *last.lock() = Some(handle);
            Ok::<ChildSpec, _>(spec)
        });
        let singleton = singleton.options(options()).shutdown(TTL / 4).spec().unwrap();
        let election = worker(elections.clone()).unwrap();
        let root = Supervisor::new("root").unwrap().strategy(Strategy::OneForOne);
        let root = root.intensity(1_000, Duration::from_secs(1)).child(election).child(singleton);
        let root = root.start(TreeOptions::default()).await.unwrap();
        self.processes.insert(number, Process { root, elections, child });
    }

    /// Nothing of the node runs for a while.
    pub(super) fn stop(&self, number: u8) {
        if let Some(process) = self.processes.get(&number) {
            process.elections.gate().stop();
            self.runs.lock().excuse(number);
        }
    }

    pub(super) fn go_on(&self, number: u8) {
        if let Some(process) = self.processes.get(&number) {
            // One that still leads is as any other again.
            let leads = process.elections.leads();
            let mut runs = self.runs.lock();
            let alive = runs.alive.iter_mut().filter(|alive| alive.number == number);
            alive.for_each(|alive| alive.is_excused &= !leads.contains(&alive.token));
            drop(runs);
            process.elections.gate().go_on();
        }
    }

    pub(super) async fn kill(&mut self, number: u8) {
        if let Some(process) = self.processes.remove(&number) {
            self.runs.lock().excuse(number);
            process.root.kill();
            process.root.wait().await;
        }
    }

    pub(super) async fn stop_in_order(&mut self, number: u8) {
        let process = self.processes.remove(&number).unwrap();
        process.root.stop().await;
    }

    pub(super) fn crash(&self, number: u8) {
        self.say(number, Word::Crash);
    }

    pub(super) fn finish(&self, number: u8) {
        self.say(number, Word::Finish);
    }

    fn say(&self, number: u8, word: Word) {
        let Some(process) = self.processes.get(&number) else { return };
        if let Some(child) = &*process.child.lock() {
            // It may have gone already.
            drop(child.cast(word));
        }
    }

    /// Kills one actor of a node's tree.
    pub(super) fn kill_actor(&self, number: u8, path: &str) {
        let Some(process) = self.processes.get(&number) else { return };
        let path = macula_core::path::Path::parse(path).unwrap();
        if let Some(supervisor) = process.root.supervisor(&path)
            && let Some(cell) = supervisor.cell()
        {
            cell.kill();
        }
    }

    /// An operator stops what looks after the child, and only that.
    pub(super) async fn end_keeper(&self, number: u8) {
        let path = macula_core::path::Path::parse("alone").unwrap();
        let alone = self.processes[&number].root.supervisor(&path).unwrap();
        alone.terminate_child(macula_core::path::ChildId::new("keeper").unwrap()).await.unwrap();
    }

    pub(super) async fn ask_to_resign(&mut self) {
        let asking = self.nodes.elections(21);
        drop(asking.resign(NAME).await);
    }

    pub(super) fn started(&self) -> u64 {
        self.runs.lock().started
    }

    /// The child that runs, on a node that runs.
    pub(super) fn seen(&self) -> Option<Alive> {
        self.runs.lock().alive.iter().find(|alive| !alive.is_excused).copied()
    }

    pub(super) async fn running(&self) -> Alive {
        let until = timer::now() + TTL * 6;
        loop {
            if let Some(alive) = self.seen() {
                return alive;
            }
            assert!(timer::now() < until, "no child begins");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Nothing was wrong.
    pub(super) fn tidy(&self) {
        assert_eq!(self.runs.lock().wrong, None);
    }
}
