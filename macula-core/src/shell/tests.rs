//! The shell in virtual time, around a toy machine.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{Bell, Driver, Effects, Inbox, Shell};
use crate::clock::{Clock, TokioClock};
use crate::machine::Machine;

/// What a toy is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tell {
    Note(u32),
    /// Ask for a call after so many milliseconds.
    Wake(u64),
    /// Give up the deadline.
    Hush,
    /// Say three more notes, one after the other, and end.
    End,
}

/// What a toy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Note(u32),
    Woken(u64),
    Next(u32),
    Finished,
}

#[derive(Debug)]
struct Toy {
    born: Instant,
    due: Option<Instant>,
    said: VecDeque<Said>,
}

impl Machine for Toy {
    type Input = Tell;
    type Output = Said;

    fn handle(&mut self, now: Instant, input: Tell) {
        match input {
            Tell::Note(3) => self.said.push_back(Said::Finished),
            Tell::Note(note) if note >= 1000 => self.said.push_back(Said::Note(note)),
            Tell::Note(note) => self.said.push_back(Said::Next(note + 1)),
            Tell::Wake(after) => self.due = Some(now + Duration::from_millis(after)),
            Tell::Hush => self.due = None,
            Tell::End => self.said.push_back(Said::Next(1)),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            let after = u64::try_from((now - self.born).as_millis()).unwrap();
            self.said.push_back(Said::Woken(after));
        }
    }

    fn poll_output(&mut self) -> Option<Said> {
        self.said.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        Some((self.due?, "wake"))
    }
}

type Heard = Arc<Mutex<Vec<Said>>>;

struct Ears {
    heard: Heard,
    finished: bool,
}

impl Effects<Toy> for Ears {
    fn apply(&mut self, _now: Instant, output: Said, inbox: &Inbox<Tell>) {
        self.heard.lock().push(output);
        match output {
            Said::Next(note) => inbox.push(Tell::Note(note)),
            Said::Finished => self.finished = true,
            Said::Note(_) | Said::Woken(_) => {}
        }
    }

    fn stop_input(&mut self) -> Option<Tell> {
        Some(Tell::End)
    }

    fn finished(&self) -> bool {
        self.finished
    }
}

struct Stage {
    actor: ActorRef<Bell>,
    task: tokio::task::JoinHandle<()>,
    inbox: Inbox<Tell>,
    heard: Heard,
}

async fn stage(len_max: usize, first: &[Tell]) -> Stage {
    let toy = Toy { born: TokioClock.now(), due: None, said: VecDeque::new() };
    staged(toy, len_max, first).await
}

async fn staged(toy: Toy, len_max: usize, first: &[Tell]) -> Stage {
    let (inbox, heard) = (Inbox::new(len_max), Heard::default());
    for &input in first {
        inbox.push(input);
    }
    let ears = Ears { heard: Arc::clone(&heard), finished: false };
    let driver = Driver::new(toy, ears, TokioClock, inbox.clone());
    let (actor, task) = Actor::spawn(None, Shell::default(), driver).await.unwrap();
    Stage { actor, task, inbox, heard }
}

async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn inputs_are_handled_in_order_and_those_before_the_start_first() {
    let stage = stage(8, &[Tell::Note(1000), Tell::Note(1001)]).await;
    stage.inbox.push(Tell::Note(1002));
    stage.inbox.try_push(Tell::Note(1003)).unwrap();
    pass(1).await;
    let heard: Vec<Said> = (1000..1004).map(Said::Note).collect();
    assert_eq!(*stage.heard.lock(), heard);
    assert!(stage.inbox.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_machine_wants_from_its_birth_on_needs_no_input() {
    let born = TokioClock.now();
    let due = Some(born + Duration::from_millis(5));
    let toy = Toy { born, due, said: VecDeque::from([Said::Note(7)]) };
    let stage = staged(toy, 8, &[]).await;
    pass(1).await;
    assert_eq!(*stage.heard.lock(), [Said::Note(7)]);
    pass(10).await;
    assert_eq!(*stage.heard.lock(), [Said::Note(7), Said::Woken(5)]);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_not_done_goes_on() {
    let stage = stage(8, &[]).await;
    for note in 1000..3000 {
        stage.inbox.push(Tell::Note(note));
    }
    pass(1).await;
    assert_eq!(stage.heard.lock().len(), 2000);
}

/// Counts its bells and answers none.
struct Deaf;

impl Actor for Deaf {
    type Msg = Bell;
    type State = Arc<AtomicUsize>;
    type Arguments = Arc<AtomicUsize>;

    async fn pre_start(
        &self,
        _myself: ActorRef<Bell>,
        bells: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(bells)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Bell>,
        _bell: Bell,
        bells: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        bells.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn many_inputs_ring_one_bell() {
    let bells = Arc::new(AtomicUsize::new(0));
    let (actor, _task) = Actor::spawn(None, Deaf, Arc::clone(&bells)).await.unwrap();
    let inbox = Inbox::new(8);
    inbox.push(0);
    inbox.connect(actor);
    for answered in 1..=3 {
        (0..1000).for_each(|input| inbox.push(input));
        pass(1).await;
        assert_eq!(bells.load(Ordering::Relaxed), answered);
        inbox.answer_bell();
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_fires_at_its_moment() {
    let stage = stage(8, &[Tell::Wake(70)]).await;
    pass(69).await;
    assert_eq!(*stage.heard.lock(), []);
    pass(2).await;
    assert_eq!(*stage.heard.lock(), [Said::Woken(70)]);
    pass(1000).await;
    assert_eq!(stage.heard.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_alarm_that_is_too_early_is_harmless() {
    let stage = stage(8, &[Tell::Wake(50)]).await;
    pass(10).await;
    stage.inbox.push(Tell::Wake(100));
    pass(60).await;
    assert_eq!(*stage.heard.lock(), []);
    pass(50).await;
    assert_eq!(*stage.heard.lock(), [Said::Woken(110)]);
    stage.inbox.push(Tell::Wake(20));
    pass(1).await;
    stage.inbox.push(Tell::Hush);
    pass(100).await;
    assert_eq!(stage.heard.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_deadline_takes_the_place_of_a_later_one() {
    let stage = stage(8, &[Tell::Wake(500)]).await;
    pass(10).await;
    stage.inbox.push(Tell::Wake(5));
    pass(10).await;
    assert_eq!(*stage.heard.lock(), [Said::Woken(15)]);
}

#[tokio::test(start_paused = true)]
async fn a_full_inbox_gives_the_input_back() {
    let inbox = Inbox::new(2);
    inbox.try_push(1).unwrap();
    inbox.try_push(2).unwrap();
    let full = inbox.try_push(3).unwrap_err();
    assert_eq!((full.input, full.len_max, inbox.len()), (3, 2, 2));
    assert_eq!(full.to_string(), "inbox is full (2 inputs wait); the input was not taken");
    inbox.push(4);
    assert_eq!(inbox.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_driven_to_its_end() {
    let stage = stage(8, &[]).await;
    stage.actor.stop(None);
    stage.task.await.unwrap();
    let said = [Said::Next(1), Said::Next(2), Said::Next(3), Said::Finished];
    assert_eq!(*stage.heard.lock(), said);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_has_finished_ends_its_actor() {
    let stage = stage(8, &[Tell::End]).await;
    stage.task.await.unwrap();
    assert_eq!(stage.heard.lock().last(), Some(&Said::Finished));
    stage.inbox.push(Tell::Note(1000));
    assert_eq!(stage.inbox.len(), 1);
}
