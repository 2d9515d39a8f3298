//! The exchange of whole views: what gossip misses is found here.
//!
//! A node sends the sums over its view, bucket by bucket. The other answers with those buckets that
//! differ, page by page; each page is all that it holds of the nodes in a range. The first then
//! tells what it knows better, and asks for what it knows less well. So the cost follows the
//! difference. The departed are not in the sums, for they are remembered up to a bound and no two
//! nodes need to remember the same; but they are on the pages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;

use super::super::update::{Belief, Claim, Seen, Status, Update, Verdict};
use super::ring::below;
use super::suspicion::Suspicion;
use super::swim::{Stage, Swim};
use super::table::{Gone, bucket};
use super::timer::Timer;
use super::{BUCKETS, Body, Brief, Offence, PAGE_ENTRIES_MAX, Page, TELL_UPDATES_MAX};

/// How many pages one digest is answered with.
const PAGES_MAX: usize = 64;

/// Of how many nodes one page or one question is answered.
const TOLD_MAX: usize = 256;

/// How soon the next comparison follows on one that has taught anybody anything.
const SYNC_SOON: Duration = Duration::from_secs(1);

impl Swim {
    /// Compares views with some member.
    pub(super) fn sync(&mut self, now: Instant) {
        let learned = std::mem::take(&mut self.learned);
        if !self.members.is_empty() {
            self.fresh &= learned;
        }
        let soon = learned || self.fresh;
        let wait = if soon { SYNC_SOON } else { self.config.sync_interval };
        let wait = self.jittered(wait);
        self.timers.set(Timer::Sync, now + wait);
        if let Some(node) = self.ring.pick(1, None, &mut self.entropy).pop() {
            self.send_digest(now, node);
        }
    }

    fn send_digest(&mut self, now: Instant, node: NodeId) {
        self.synced_at = Some(now);
        let sums = self.sums.all().to_vec();
        self.introduce(node, Body::Digest { sums });
    }

    /// One that was held to be down is back: perhaps it comes from the other side of a partition.
    pub(super) fn sync_with_returned(&mut self, now: Instant, node: NodeId) {
        if self.synced_at.is_none_or(|at| now >= at + SYNC_SOON) {
            self.send_digest(now, node);
        }
    }

    /// Answers a digest with all that differs.
    pub(super) fn compare(&mut self, from: NodeId, sums: &[u64]) {
        if sums.len() != BUCKETS {
            return self.misbehaved(from, Offence::Digest);
        }
        let pairs = self.sums.all().iter().zip(sums).zip(0_u8..);
        let differing = pairs.filter(|((mine, theirs), _)| mine != theirs);
        let mut lines: BTreeMap<u8, Vec<Brief>> =
            differing.map(|(_, bucket)| (bucket, Vec::new())).collect();
        if lines.is_empty() {
            return;
        }
        for brief in self.briefs() {
            if let Some(lines) = lines.get_mut(&bucket(brief.node)) {
                lines.push(brief);
            }
        }
        let mut pages: Vec<Page> = Vec::new();
        for (bucket, mut briefs) in lines {
            briefs.sort_unstable_by_key(|brief| brief.node);
            paginate(bucket, &briefs, &mut pages);
        }
        // The rest comes with another digest, beginning elsewhere.
        let start = below(&mut self.entropy, pages.len());
        pages.rotate_left(start);
        for page in pages.into_iter().take(PAGES_MAX) {
            self.send(from, Body::Page(page));
        }
    }

    /// All lines of the view, this node's own among them.
    fn briefs(&self) -> impl Iterator<Item = Brief> {
        let line = |seen: &Seen, gone| Brief { node: seen.node(), stamp: seen.stamp(), gone };
        let members = self.members.values().map(move |member| line(&member.belief.seen, false));
        let departed = self.departed.iter().map(move |(_, gone)| line(&gone.belief.seen, true));
        members.chain(departed).chain([line(&self.me, false)])
    }

    /// Takes a page of another's view: what it does not know is told, and what it knows better asked.
    pub(super) fn read_page(
        &mut self,
        now: Instant,
        from: NodeId,
        page: &Page,
        asked: &mut Vec<NodeId>,
    ) {
        if !is_sound(page) {
            return self.misbehaved(from, Offence::Page);
        }
        let mut told: Vec<NodeId> = Vec::new();
        for brief in &page.entries {
            self.read_line(now, from, brief, (asked, &mut told));
        }
        let listed =
            |node: &NodeId| page.entries.binary_search_by_key(node, |brief| brief.node).is_ok();
        let mine = self.members.keys().copied().chain([self.me.node()]);
        told.extend(mine.filter(|node| page.covers(*node) && !listed(node)));
        self.learned |= !told.is_empty() || !asked.is_empty();
        self.answer(from, &told);
    }

    fn read_line(
        &mut self,
        now: Instant,
        from: NodeId,
        brief: &Brief,
        (asked, told): (&mut Vec<NodeId>, &mut Vec<NodeId>),
    ) {
        let Brief { node, stamp, gone } = *brief;
        let claim = Claim { node, stamp, verdict: Verdict::Down, by: from };
        if node == self.me.node() {
            if gone {
                self.accused(now, from, stamp, asked);
            } else if stamp < self.me.stamp() {
                told.push(node);
            }
        } else if let Some(member) = self.members.get(&node) {
            let held = member.belief.seen.stamp();
            if stamp > held {
                asked.push(node);
            } else if stamp < held {
                told.push(node);
            } else if gone {
                self.hear_verdict(now, from, claim);
            }
        } else if let Some(held) = self.departed.get(&node) {
            let held = held.belief.seen.stamp();
            if stamp > held && !gone {
                asked.push(node);
            } else if stamp < held || (stamp == held && !gone) {
                told.push(node);
            }
        } else if !gone || self.departed.len() < self.config.departed_max {
            // Also one that is down: this node may be the only one left to find it again.
            asked.push(node);
        }
    }

    /// Tells all that is known of some nodes.
    pub(super) fn answer(&mut self, to: NodeId, nodes: &[NodeId]) {
        let known = nodes.iter().take(TOLD_MAX).flat_map(|node| self.all_of(*node));
        let updates: Vec<Update> = known.collect();
        let mut rest = updates.as_slice();
        while !rest.is_empty() {
            // A claim is not parted from its presence.
            let mut len = TELL_UPDATES_MAX.min(rest.len());
            if len < rest.len() && matches!(rest.get(len), Some(Update::Claim(_))) {
                len -= 1;
            }
            let (page, more) = rest.split_at(len);
            rest = more;
            self.send(to, Body::Tell { updates: page.to_vec() });
        }
    }

    fn all_of(&self, node: NodeId) -> Vec<Update> {
        let Some(seen) = self.seen(node) else { return Vec::new() };
        let suspected = self.suspicion_claim(node, Suspicion::first_accuser);
        let claim = suspected.or_else(|| self.departed.get(&node)?.claim());
        let presence = Update::Presence(Arc::clone(seen));
        [presence].into_iter().chain(claim.map(Update::Claim)).collect()
    }

    /// Takes what another knows better.
    pub(super) fn told(&mut self, now: Instant, from: NodeId, updates: Vec<Update>) {
        if updates.len() > TELL_UPDATES_MAX {
            return self.misbehaved(from, Offence::TooMany);
        }
        self.learned |= !updates.is_empty();
        let mut updates = updates.into_iter().peekable();
        while let Some(update) = updates.next() {
            match update {
                Update::Presence(seen) => {
                    let down = updates.next_if(|next| is_down(next, &seen));
                    self.told_of(now, from, seen, down);
                }
                // What is still unknown then is not asked for: the answer would be as this one.
                Update::Claim(_) => self.hear(now, from, update, &mut Vec::new()),
            }
        }
    }

    fn told_of(&mut self, now: Instant, from: NodeId, seen: Arc<Seen>, down: Option<Update>) {
        let node = seen.node();
        let stranger = self.seen(node).is_none();
        if let (true, Some(Update::Claim(claim))) = (stranger, &down) {
            // It was down before this node could know it, so nobody here has to hear of it.
            if self.departed.len() < self.config.departed_max {
                let belief = Belief { seen, status: Status::Down };
                self.remember(Gone { belief, by: claim.by, met: false, accused_at: None });
            }
            return;
        }
        // To a newcomer all are strangers, and nobody else needs to be told of them.
        self.hear_presence(now, seen, !(stranger && self.fresh));
        if let Some(claim) = down {
            self.hear(now, from, claim, &mut Vec::new());
        }
    }

    pub(super) fn begin_sync(&mut self, now: Instant) {
        if self.stage == Stage::Active {
            let wait = self.part_of(SYNC_SOON);
            self.timers.set(Timer::Sync, now + wait);
        }
    }
}

fn is_down(update: &Update, seen: &Seen) -> bool {
    matches!(update, Update::Claim(claim) if claim.verdict == Verdict::Down
        && claim.node == seen.node() && claim.stamp == seen.stamp())
}

/// Cuts a bucket into pages, which together cover all of it.
fn paginate(bucket: u8, briefs: &[Brief], pages: &mut Vec<Page>) {
    let mut after = None;
    let mut rest = briefs;
    loop {
        let (entries, more) = rest.split_at(PAGE_ENTRIES_MAX.min(rest.len()));
        let last = entries.last().map(|brief| brief.node).filter(|_| !more.is_empty());
        pages.push(Page { bucket, after, upto: last, entries: entries.to_vec() });
        if more.is_empty() {
            return;
        }
        (after, rest) = (last, more);
    }
}

impl Page {
    fn covers(&self, node: NodeId) -> bool {
        bucket(node) == self.bucket
            && self.after.is_none_or(|after| node > after)
            && self.upto.is_none_or(|upto| node <= upto)
    }
}

fn is_sound(page: &Page) -> bool {
    page.entries.len() <= PAGE_ENTRIES_MAX
        && page.entries.iter().all(|brief| page.covers(brief.node))
        && page.entries.is_sorted_by(|a, b| a.node < b.node)
}
