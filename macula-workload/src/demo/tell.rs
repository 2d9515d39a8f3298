//! How the demo is told: to people in lines, to programs in JSON.

use macula_workload::election::Token;
use macula_workload::supervision::proto::{Change, Context};
use macula_workload::supervision::{Event, TreeNode, What};
use serde_json::{Value, json};

use crate::cli::{Paint, print};

/// One player's line of the final table.
pub(super) struct ScoreLine {
    pub(super) player: &'static str,
    pub(super) expected: u32,
    /// What each node that counts has.
    pub(super) found: Vec<i64>,
}

impl ScoreLine {
    /// Whether all have what is right.
    pub(super) fn is_right(&self) -> bool {
        !self.found.is_empty() && self.found.iter().all(|found| *found == i64::from(self.expected))
    }
}

/// What the demo adds up to.
pub(super) struct Verdict {
    pub(super) healed: bool,
    pub(super) scores_right: bool,
    /// Under which tokens there were matchmakers.
    pub(super) tokens: Vec<Token>,
    pub(super) failures: usize,
    pub(super) kinds: Vec<String>,
    pub(super) restarts: u64,
}

impl Verdict {
    pub(super) const fn is_good(&self) -> bool {
        self.healed && self.scores_right
    }
}

/// Tells what happens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Teller {
    json: bool,
    paint: Paint,
}

impl Teller {
    pub(super) const fn new(json: bool, paint: Paint) -> Self {
        Self { json, paint }
    }

    fn emit(
        self,
        kind: &str,
        value: Value,
        text: impl FnOnce(Paint) -> String,
    ) -> anyhow::Result<()> {
        if self.json {
            let mut object = json!({ "type": kind });
            if let (Value::Object(object), Value::Object(value)) = (&mut object, value) {
                object.extend(value);
            }
            print(&object.to_string())
        } else {
            print(&text(self.paint))
        }
    }

    pub(super) fn chapter(self, title: &str) -> anyhow::Result<()> {
        self.emit("chapter", json!({ "title": title }), |paint| format!("\n{}", paint.bold(title)))
    }

    pub(super) fn tree(self, node: &str, tree: &TreeNode) -> anyhow::Result<()> {
        self.emit("tree", json!({ "node": node, "tree": tree }), |paint| {
            format!("{}\n{}", paint.yellow(&format!("node {node}")), paint.tree(tree))
        })
    }

    /// A failure that the demo is about to make.
    pub(super) fn fault(self, round: u32, what: &str) -> anyhow::Result<()> {
        self.emit("fault", json!({ "round": round, "what": what }), |paint| {
            format!("\n{} {what}", paint.yellow(&format!("round {round:2}:")))
        })
    }

    /// Who brings players together, and under which token.
    pub(super) fn matchmaker(self, node: &str, token: Token) -> anyhow::Result<()> {
        self.emit("matchmaker", json!({ "node": node, "token": token }), |paint| {
            let line = format!("the matchmaker is on this node, under token {token}");
            format!("{:>10}  {}", paint.dim(node), paint.green(&line))
        })
    }

    /// Something that happened in a node's tree. Starts and dead letters are told to programs only.
    pub(super) fn event(self, node: &str, event: &Event) -> anyhow::Result<()> {
        if self.json {
            return self.emit("event", json!({ "node": node, "event": event }), |_| String::new());
        }
        let path = &event.path;
        let paint = self.paint;
        let line = match &event.what {
            What::Life(Change::Hung { bound_ms }) => {
                paint.red(&format!("hung       {path}: busy for {bound_ms} ms; it is killed"))
            }
            What::Life(Change::Restarting { delay_ms: 0 }) => format!("restarting {path}"),
            What::Life(Change::Restarting { delay_ms }) => {
                format!("restarting {path} after a back-off of {delay_ms} ms")
            }
            What::Life(Change::Started) => {
                paint.green(&format!("started    {path} (incarnation {})", event.incarnation))
            }
            What::Life(Change::Stopped { reason }) => {
                paint.dim(&format!("stopped    {path}: {reason}"))
            }
            What::Report(report) if report.context == Context::Meltdown => {
                let (supervisor, reason) = (&report.supervisor, &report.reason);
                paint.red(&format!("meltdown   {supervisor}: {reason}"))
            }
            What::Report(report) if report.context == Context::ChildTerminated => {
                paint.red(&format!("failed     {path}: {}", report.reason))
            }
            _ => return Ok(()),
        };
        print(&format!("{:>10}  {line}", paint.dim(node)))
    }

    pub(super) fn lost(self, count: u64) -> anyhow::Result<()> {
        self.emit("lost_events", json!({ "count": count }), |_| {
            format!("          ({count} events came too fast to be told)")
        })
    }

    pub(super) fn scores(self, lines: &[ScoreLine]) -> anyhow::Result<()> {
        let rows: Vec<Value> = lines
            .iter()
            .map(|line| {
                json!({ "player": line.player, "expected": line.expected, "found": line.found })
            })
            .collect();
        self.emit("scores", json!({ "scores": rows }), |paint| {
            let mut text = format!("{:<8} {:>8}  {}", "player", "won", "on each node");
            for line in lines {
                let ScoreLine { player, expected, found } = line;
                let mark = if line.is_right() { paint.green("ok") } else { paint.red("WRONG") };
                let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                let found = found.join(" ");
                text.push_str(&format!("\n{player:<8} {expected:>8}  {found:<12}  {mark}"));
            }
            text
        })
    }

    pub(super) fn verdict(self, verdict: &Verdict) -> anyhow::Result<()> {
        let Verdict { healed, scores_right, tokens, failures, kinds, restarts } = verdict;
        let value = json!({
            "healed": healed, "scores_right": scores_right, "failures": failures, "kinds": kinds,
            "restarts": restarts, "tokens": tokens, "ok": verdict.is_good(),
        });
        self.emit("verdict", value, |paint| {
            let kinds = kinds.join(", ");
            let summary = format!(
                "\n{failures} failures of {} kinds ({kinds}), {restarts} restarts: ",
                verdict.kinds.len()
            );
            let judgement = match (healed, scores_right) {
                (true, true) => paint.green("everything healed and no score was lost"),
                (false, _) => paint.red("NOT everything healed"),
                (true, false) => paint.red("a score is WRONG"),
            };
            summary + &judgement
        })
    }
}
