//! The format of `tests/scenarios/*.json`, as its README describes it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::SignedDuration;
use jiff::fmt::rfc2822::DateTimeParser;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tokenflight::RefreshPolicy;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    pub(super) name: String,
    #[serde(default, rename = "why")]
    _why: String,
    #[serde(default, deserialize_with = "policy")]
    pub(super) policy: Option<RefreshPolicy>,
    pub(super) given: Option<Given>,
    #[serde(default)]
    pub(super) answers: Vec<Answer>,
    pub(super) steps: Vec<Step>,
}

/// The token in hand when the scenario begins.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    pub(super) token: String,
    pub(super) lifetime: Option<Span>,
    #[serde(default)]
    pub(super) age: Span,
}

/// What the source does when it is called.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    pub(super) token: Option<String>,
    pub(super) lifetime: Option<Span>,
    pub(super) error: Option<ErrorKind>,
    pub(super) retry_after: Option<RetryAfter>,
    pub(super) fault: Option<Fault>,
    #[serde(default)]
    pub(super) takes: Span,
    #[serde(default = "once")]
    pub(super) times: usize,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ErrorKind {
    Transient,
    Terminal,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fault {
    Panic,
    Hang,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RetryAfter {
    Seconds(u64),
    Date(String),
}

/// One step: at most one action, and what is seen after it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Step {
    get: Option<String>,
    read: Option<String>,
    refresh: Option<String>,
    subscribe: Option<String>,
    ticket: Option<u64>,
    timeout: Option<Span>,
    leave: Option<String>,
    replace: Option<String>,
    token: Option<String>,
    invalidate: Option<String>,
    discard: Option<String>,
    times: Option<usize>,
    advance: Option<Span>,
    suspend: Option<Span>,
    set_clock: Option<Shift>,
    shutdown: Option<bool>,
    pub(super) expect: Option<Expect>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Expect {
    pub(super) gets: BTreeMap<String, Option<String>>,
    pub(super) fails: BTreeMap<String, Failure>,
    pub(super) calls: usize,
    pub(super) reason: Option<String>,
    pub(super) previous: Option<String>,
    pub(super) state: Option<State>,
    pub(super) waiters: Option<usize>,
    pub(super) suspect: Option<bool>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) retry_after: Option<Span>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Rejected,
    Unavailable,
    Timeout,
    Overloaded,
    Stopped,
    Panic,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Idle,
    Fetching,
    Pausing,
    Cooldown,
    Stopped,
}

/// What a step does.
#[derive(Debug)]
pub(super) enum Action<'a> {
    Get { name: &'a str, times: usize },
    Read { name: &'a str },
    Refresh { name: &'a str, times: usize },
    Subscribe { name: &'a str, ticket: u64, timeout: Option<Duration>, times: usize },
    Leave { name: &'a str },
    Replace { name: &'a str, token: &'a str, times: usize },
    Invalidate { token: &'a str, times: usize },
    Discard { token: &'a str },
    Advance(Duration),
    Suspend(Duration),
    SetClock(SignedDuration),
    Shutdown,
    Nothing,
}

impl Scenario {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.steps.is_empty() {
            return Err("has no steps".into());
        }
        for (number, answer) in (1..).zip(&self.answers) {
            answer.check().map_err(|fault| format!("answer {number}: {fault}"))?;
        }
        for (number, step) in (1..).zip(&self.steps) {
            step.action().map_err(|fault| format!("step {number}: {fault}"))?;
        }
        Ok(())
    }
}

impl Answer {
    fn check(&self) -> Result<(), String> {
        let (token, error, fault) = (self.token.is_some(), self.error.is_some(), self.fault.is_some());
        if usize::from(token) + usize::from(error) + usize::from(fault) != 1 {
            return Err("is one of `token`, `error`, `fault`".into());
        }
        if self.lifetime.is_some() && !token {
            return Err("`lifetime` belongs to a token".into());
        }
        match &self.retry_after {
            Some(_) if !error => Err("`retry_after` belongs to an error".into()),
            Some(RetryAfter::Date(text)) if date(text).is_none() => {
                Err(format!("retry_after {text:?} is neither seconds nor an HTTP date"))
            }
            _ => Ok(()),
        }
    }
}

impl RetryAfter {
    /// How long that is from `now`.
    pub(super) fn delay(&self, now: SystemTime) -> Duration {
        match self {
            Self::Seconds(seconds) => Duration::from_secs(*seconds),
            Self::Date(text) => date(text).and_then(|date| date.duration_since(now).ok()).unwrap_or_default(),
        }
    }
}

fn date(text: &str) -> Option<SystemTime> {
    Some(DateTimeParser::new().parse_timestamp(text).ok()?.into())
}

impl Step {
    pub(super) fn action(&self) -> Result<Action<'_>, String> {
        let times = self.times.unwrap_or(1);
        let mut actions: Vec<(Action<'_>, &[&str])> = Vec::new();
        if let Some(name) = &self.get {
            actions.push((Action::Get { name, times }, &["times"]));
        }
        if let Some(name) = &self.read {
            actions.push((Action::Read { name }, &[]));
        }
        if let Some(name) = &self.refresh {
            actions.push((Action::Refresh { name, times }, &["times"]));
        }
        if let Some(name) = &self.subscribe {
            let (ticket, timeout) = (self.ticket.unwrap_or(0), self.timeout.map(|span| span.0));
            let with: &[&str] = &["ticket", "timeout", "times"];
            actions.push((Action::Subscribe { name, ticket, timeout, times }, with));
        }
        if let Some(name) = &self.leave {
            actions.push((Action::Leave { name }, &[]));
        }
        if let Some(name) = &self.replace {
            let token = self.token.as_deref().ok_or("`replace` needs a `token`")?;
            actions.push((Action::Replace { name, token, times }, &["token", "times"]));
        }
        if let Some(token) = &self.invalidate {
            actions.push((Action::Invalidate { token, times }, &["times"]));
        }
        if let Some(token) = &self.discard {
            actions.push((Action::Discard { token }, &[]));
        }
        actions.extend(self.advance.map(|span| (Action::Advance(span.0), [].as_slice())));
        actions.extend(self.suspend.map(|span| (Action::Suspend(span.0), [].as_slice())));
        actions.extend(self.set_clock.map(|shift| (Action::SetClock(shift.0), [].as_slice())));
        match self.shutdown {
            Some(true) => actions.push((Action::Shutdown, &[])),
            Some(false) => return Err("`shutdown` is true or absent".into()),
            None => {}
        }
        if actions.is_empty() && self.expect.is_none() {
            return Err("does nothing and expects nothing".into());
        }
        if actions.len() > 1 {
            return Err("does two things: make two steps of it".into());
        }
        let (action, with) = actions.pop().unwrap_or((Action::Nothing, &[]));
        self.check_companions(with)?;
        Ok(action)
    }

    fn check_companions(&self, with: &[&str]) -> Result<(), String> {
        let given = [
            ("times", self.times.is_some()),
            ("ticket", self.ticket.is_some()),
            ("token", self.token.is_some()),
            ("timeout", self.timeout.is_some()),
        ];
        match given.iter().find(|(name, given)| *given && !with.contains(name)) {
            Some((name, _)) => Err(format!("`{name}` does not go with this action")),
            None => Ok(()),
        }
    }
}

/// As it stands in the file, so that a reader can find it.
impl fmt::Display for Action<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get { name, .. } => write!(f, r#"{{"get": "{name}"}}"#),
            Self::Read { name } => write!(f, r#"{{"read": "{name}"}}"#),
            Self::Refresh { name, .. } => write!(f, r#"{{"refresh": "{name}"}}"#),
            Self::Subscribe { name, ticket, .. } => {
                write!(f, r#"{{"subscribe": "{name}", "ticket": {ticket}}}"#)
            }
            Self::Leave { name } => write!(f, r#"{{"leave": "{name}"}}"#),
            Self::Replace { name, token, .. } => write!(f, r#"{{"replace": "{name}", "token": "{token}"}}"#),
            Self::Invalidate { token, .. } => write!(f, r#"{{"invalidate": "{token}"}}"#),
            Self::Discard { token } => write!(f, r#"{{"discard": "{token}"}}"#),
            Self::Advance(span) => write!(f, r#"{{"advance": "{span:?}"}}"#),
            Self::Suspend(span) => write!(f, r#"{{"suspend": "{span:?}"}}"#),
            Self::SetClock(shift) => write!(f, r#"{{"set_clock": "{shift:#}"}}"#),
            Self::Shutdown => f.write_str(r#"{"shutdown": true}"#),
            Self::Nothing => f.write_str("{}"),
        }
    }
}

/// A duration as people write it: "90s", "1h 30m".
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let shift = Shift::deserialize(deserializer)?.0;
        Duration::try_from(shift).map(Self).map_err(|_| D::Error::custom("a duration is not negative"))
    }
}

/// The same with a sign: "-24h".
#[derive(Clone, Copy, Debug)]
pub(super) struct Shift(pub(super) SignedDuration);

impl<'de> Deserialize<'de> for Shift {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| D::Error::custom(format!("{text:?} is not a duration")))
    }
}

fn once() -> usize {
    1
}

/// The suite's settings: no dice, and tokens that have settled from the start.
pub(super) fn plain() -> RefreshPolicy {
    RefreshPolicy::deserialize(Value::Object(suite())).expect("the suite's settings are sound")
}

fn suite() -> Map<String, Value> {
    Map::from_iter([
        ("jitter".into(), 0.0.into()),
        ("backoff".into(), "0s".into()),
        ("settle".into(), "0s".into()),
    ])
}

/// The scenario's settings on top of the suite's.
fn policy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RefreshPolicy>, D::Error> {
    let mut settings = suite();
    settings.extend(Map::deserialize(deserializer)?);
    RefreshPolicy::deserialize(Value::Object(settings)).map(Some).map_err(D::Error::custom)
}
