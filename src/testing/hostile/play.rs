//! The runner.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::time::{Instant, timeout_at};

use super::protocol::{Done, FromClient, Request, ToClient};
use super::scenario::{Call, Scenario, Step, Told};
use super::seen::Count;
use super::{Hostile, after};

/// The longest line of a client, in bytes.
const LONGEST: u64 = 64 * 1024;

/// The result of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// No fault was seen.
    Passed,
    /// A sentence for each fault.
    Failed(Vec<String>),
    /// The client does not support a requirement, and has made no fault before it said so. The text is the
    /// client's.
    NotSupported(String),
}

/// The verdict, and the counts behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// All counts.
    pub seen: BTreeMap<Count, u64>,
}

/// Runs a scenario with a client that reads its lines from `to_client` and writes its own into `from_client`.
///
/// It takes at most the scenario's [limit](Scenario::limit). Every wrong behaviour of the client, including
/// silence, is a fault in the [`Verdict`].
///
/// # Errors
/// The servers cannot be started.
pub async fn play(
    scenario: &Scenario,
    from_client: impl AsyncRead + Unpin,
    to_client: impl AsyncWrite + Unpin,
) -> io::Result<Outcome> {
    let servers = Hostile::start(scenario).await?;
    let mut playing = Playing {
        servers: &servers,
        input: BufReader::new(from_client),
        output: to_client,
        calls: 0,
        waiting: BTreeSet::new(),
        faults: Vec::new(),
        until: after(Instant::now(), scenario.limit()),
    };
    let ended = playing.all(scenario).await;
    let mut faults = std::mem::take(&mut playing.faults);
    let unsupported = match ended {
        Ok(()) => None,
        Err(Stop::NotSupported(what)) => Some(what),
        Err(Stop::Fault(fault)) => {
            faults.push(fault);
            None
        }
    };
    faults.extend(if unsupported.is_some() { servers.lasting_faults() } else { servers.faults() });
    let verdict = match unsupported {
        // A fault that was seen before remains one.
        _ if !faults.is_empty() => Verdict::Failed(faults),
        Some(what) => Verdict::NotSupported(what),
        None => Verdict::Passed,
    };
    // A client that has ended needs no last line.
    let _ = playing.write(&ToClient::End(true)).await;
    Ok(Outcome { verdict, seen: servers.seen() })
}

/// The reason why a scenario ends early.
enum Stop {
    NotSupported(String),
    Fault(String),
}

struct Playing<'a, R, W> {
    servers: &'a Hostile,
    input: BufReader<R>,
    output: W,
    /// How many calls were requested.
    calls: u64,
    /// The calls that have not ended.
    waiting: BTreeSet<u64>,
    faults: Vec<String>,
    until: Instant,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Playing<'_, R, W> {
    async fn all(&mut self, scenario: &Scenario) -> Result<(), Stop> {
        self.write(&ToClient::Configure(Box::new(self.servers.configure()))).await?;
        match self.read().await? {
            FromClient::Ready(_) => {}
            FromClient::Done(done) => return Err(unasked(&done)),
            FromClient::Unsupported(what) => return Err(Stop::NotSupported(what)),
        }
        for step in scenario.steps() {
            self.servers.act(step);
            match step {
                Step::Call(call) => self.call(call).await?,
                Step::Pause(time) => self.pause(*time).await?,
                Step::Revoke(_) | Step::AuthServer(_) => {}
            }
        }
        Ok(())
    }

    async fn pause(&mut self, time: Duration) -> Result<(), Stop> {
        self.pause_until(after(Instant::now(), time)).await
    }

    async fn pause_until(&mut self, end: Instant) -> Result<(), Stop> {
        if end > self.until {
            return Err(Stop::Fault("the scenario's limit is shorter than its pauses".to_owned()));
        }
        tokio::time::sleep_until(end).await;
        Ok(())
    }

    async fn call(&mut self, call: &Call) -> Result<(), Stop> {
        let begin = Instant::now();
        for number in 0..call.times {
            self.pause_until(after(begin, call.every.saturating_mul(number))).await?;
            self.calls += 1;
            let (id, api) = (self.calls, self.servers.configure().api);
            let (method, body) = (call.method.clone(), call.body.clone());
            let query = call.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
            let url = format!("{api}/orders/{id}{query}");
            self.waiting.insert(id);
            self.write(&ToClient::Call(Request { id, method, url, body })).await?;
            if call.in_turn {
                self.end_of_calls(call.told).await?;
            }
        }
        self.end_of_calls(call.told).await
    }

    async fn end_of_calls(&mut self, told: Told) -> Result<(), Stop> {
        while !self.waiting.is_empty() {
            match self.read().await? {
                FromClient::Done(done) => self.done(&done, told)?,
                FromClient::Unsupported(what) => return Err(Stop::NotSupported(what)),
                FromClient::Ready(_) => return Err(Stop::Fault("the client said `ready` twice".to_owned())),
            }
        }
        Ok(())
    }

    fn done(&mut self, done: &Done, told: Told) -> Result<(), Stop> {
        if !self.waiting.remove(&done.id) {
            return Err(unasked(done));
        }
        let is_ok = done.error.is_none() && done.status.is_some_and(|status| (200..300).contains(&status));
        self.servers.told(if is_ok { Count::CallsOk } else { Count::CallsFailed });
        let is_expected = match told {
            Told::Ok => is_ok,
            Told::Failed => !is_ok,
            Told::Any => true,
        };
        if !is_expected && self.faults.is_empty() {
            let status = done.status.map(|status| format!("status {status}"));
            let ended =
                done.error.clone().or(status).unwrap_or_else(|| "neither status nor error".to_owned());
            let expected = if told == Told::Ok { "success" } else { "failure" };
            self.faults.push(format!(
                "call {} ended with {}, expected {expected}",
                done.id,
                shortened(&ended)
            ));
        }
        Ok(())
    }

    async fn write(&mut self, line: &ToClient) -> Result<(), Stop> {
        let gone = |_| Stop::Fault("the client has closed its input".to_owned());
        let text = serde_json::to_string(line).map_err(|error| Stop::Fault(error.to_string()))?;
        let written = async {
            self.output.write_all(format!("{text}\n").as_bytes()).await?;
            self.output.flush().await
        };
        match timeout_at(self.until, written).await {
            Ok(written) => written.map_err(gone),
            Err(_) => Err(Stop::Fault("the client does not read its input".to_owned())),
        }
    }

    async fn read(&mut self) -> Result<FromClient, Stop> {
        let line = match timeout_at(self.until, line(&mut self.input)).await {
            Ok(line) => line.map_err(Stop::Fault)?,
            Err(_) => return Err(Stop::Fault(self.silence())),
        };
        if self.servers.is_told(&line) {
            self.servers.told(Count::SecretsTold);
        }
        serde_json::from_str(&line).map_err(|error| {
            Stop::Fault(format!(
                "the client wrote a line that is not understood: {}: {error}",
                shortened(&line)
            ))
        })
    }

    fn silence(&self) -> String {
        match self.waiting.first() {
            Some(id) => {
                format!("the time limit ended before call {id} had ended ({} in all)", self.waiting.len())
            }
            None => "the time limit ended before the client was ready".to_owned(),
        }
    }
}

fn unasked(done: &Done) -> Stop {
    Stop::Fault(format!("the client told of call {}, which it was not asked for, or told of before", done.id))
}

async fn line(input: &mut (impl AsyncBufRead + Unpin)) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = input.take(LONGEST).read_until(b'\n', &mut bytes).await;
    match read {
        Ok(0) => Err("the client has closed its output".to_owned()),
        Ok(_) if !bytes.ends_with(b"\n") => Err("the client wrote a line without an end".to_owned()),
        Ok(_) => String::from_utf8(bytes).map_err(|_| "the client wrote a line that is no UTF-8".to_owned()),
        Err(error) => Err(format!("the client's output cannot be read: {error}")),
    }
}

fn shortened(text: &str) -> String {
    let text = text.trim();
    let mut short: String = text.chars().take(160).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}
