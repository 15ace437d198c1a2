//! Visits all choices, depth first: each way starts with a new world.

use super::gates::{Kind, Step};
use super::shelf::Act;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The step of a process is done.
    Step,
    /// Nothing else moves until the next timer.
    Time,
    /// A process that was frozen goes on, with the step that it was about to do.
    Thaw,
    Fault(Fault),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The step is done, and its answer does not arrive.
    AnswerLost,
    /// The store does not answer the step, and does not do it.
    Hang,
    /// The auth server answers 503.
    Unavailable,
    /// The process dies. Nobody gives its lease back.
    Crash,
    /// Its caller drops the attempt.
    Leave,
    /// The process is suspended for longer than a lease.
    Freeze,
    /// A writer without a key.
    Write(Act),
    /// The same, again and again.
    Restless(Act),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) what: What,
    /// The process, and its step.
    pub(super) step: Step,
    pub(super) kind: Option<Kind>,
}

impl Choice {
    pub(super) fn of(what: What, step: Step, kind: Kind) -> Self {
        Self { what, step, kind: Some(kind) }
    }

    pub(super) fn by_nobody(what: What) -> Self {
        Self { what, step: (usize::MAX, 0), kind: None }
    }

    pub(super) fn label(self) -> String {
        let name = ["A", "B", "C", "D"].get(self.step.0).unwrap_or(&"");
        match (self.what, self.kind) {
            (What::Step, Some(kind)) => format!("{name}: {kind:?}"),
            (What::Fault(fault), Some(kind)) => format!("{name}: {kind:?} ({fault:?})"),
            (What::Fault(fault), None) => format!("{fault:?}"),
            (What::Thaw, _) => format!("{name}: Thaw"),
            (what, _) => format!("{what:?}"),
        }
    }

    fn is_fault(self) -> bool {
        matches!(self.what, What::Fault(_))
    }

    /// What it does with the store: nothing, if it happens to a process alone.
    fn touches(self) -> Option<Kind> {
        match self.what {
            What::Step | What::Fault(Fault::AnswerLost | Fault::Unavailable) => self.kind,
            What::Fault(Fault::Write(_)) => Some(Kind::Take),
            _ => None,
        }
    }

    /// Whether their order makes no difference. Then only one order is visited.
    fn commutes_with(self, other: Self) -> bool {
        let is_of_the_world =
            |choice: Self| matches!(choice.what, What::Time | What::Thaw | What::Fault(Fault::Restless(_)));
        // Time touches everything; and one fault leaves less room for another.
        if self.step.0 == other.step.0
            || is_of_the_world(self)
            || is_of_the_world(other)
            || self.is_fault() && other.is_fault()
        {
            return false;
        }
        let (Some(one), Some(two)) = (self.touches(), other.touches()) else { return true };
        let calls = [one, two].iter().filter(|kind| **kind == Kind::Call).count();
        let tells = |kind| matches!(kind, Kind::Commit | Kind::Fail);
        match (one, two) {
            _ if calls > 0 => calls == 1,
            (Kind::Watch, kind) | (kind, Kind::Watch) => !tells(kind),
            (Kind::Read, Kind::Read) => true,
            _ => false,
        }
    }
}

/// A point where there was a choice.
struct Point {
    choices: Vec<Choice>,
    at: usize,
    /// Choices that were tried before, and that commute with everything since. What follows them is known.
    asleep: Vec<Choice>,
}

/// The way through the choices.
#[derive(Default)]
pub(super) struct Explorer {
    points: Vec<Point>,
    depth: usize,
    pub(super) runs: u64,
    /// Runs that ended early, because another run has shown the rest.
    pub(super) cut: u64,
    pub(super) choice_points: u64,
    pub(super) longest: usize,
}

impl Explorer {
    /// The next choice of this run. `None`: another run has shown the rest.
    pub(super) fn choose(&mut self, mut choices: Vec<Choice>) -> Option<Choice> {
        if self.depth == self.points.len() {
            let asleep = self.points.last().map_or_else(Vec::new, |point| {
                let taken = point.choices[point.at];
                let tried = point.asleep.iter().chain(&point.choices[..point.at]);
                tried.filter(|choice| choice.commutes_with(taken)).copied().collect()
            });
            choices.retain(|choice| !asleep.contains(choice));
            if choices.is_empty() {
                return None;
            }
            self.choice_points += u64::from(choices.len() > 1);
            self.points.push(Point { choices, at: 0, asleep });
        } else {
            let expected = self.points[self.depth].choices[self.points[self.depth].at];
            assert!(
                choices.contains(&expected),
                "a run that cannot be repeated: no {expected:?} in {choices:?}"
            );
        }
        let point = &self.points[self.depth];
        self.depth += 1;
        self.longest = self.longest.max(self.depth);
        Some(point.choices[point.at])
    }

    /// Ends a run. Returns whether there is another one.
    pub(super) fn next_run(&mut self, whole: bool) -> bool {
        if whole {
            self.runs += 1;
        } else {
            self.cut += 1;
        }
        self.points.truncate(self.depth);
        self.depth = 0;
        while let Some(point) = self.points.last_mut() {
            point.at += 1;
            if point.at < point.choices.len() {
                return true;
            }
            self.points.pop();
        }
        false
    }

    /// The way of this run.
    pub(super) fn way(&self) -> String {
        let taken = self.points[..self.depth].iter().map(|point| point.choices[point.at].label());
        taken.collect::<Vec<_>>().join(", ")
    }
}
