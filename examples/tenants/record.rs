//! The requests, the answers, and their cost.

use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

use tokenflight::registry::RegistryStatus;

use crate::{OUTAGE, REJECTED, TENANTS, WRONG_SECRET};

/// One request to the service.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) tenant: u32,
    pub(crate) at: Duration,
    pub(crate) took: Duration,
    pub(crate) status: u16,
}

/// One call to the auth server.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) at: Duration,
    /// How many were under way, this one included.
    pub(crate) at_once: usize,
    pub(crate) status: u16,
    pub(crate) client: String,
}

pub(crate) struct Record {
    pub(crate) requests: Vec<Request>,
    pub(crate) calls: Vec<Call>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Healthy,
    WrongSecret,
    Rejected,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Healthy, Self::WrongSecret, Self::Rejected];

    pub(crate) fn of(tenant: u32) -> Self {
        match tenant {
            WRONG_SECRET => Self::WrongSecret,
            REJECTED => Self::Rejected,
            _ => Self::Healthy,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy tenants",
            Self::WrongSecret => "one with a wrong secret",
            Self::Rejected => "one whom the API rejects",
        }
    }
}

/// From the auth server's view to the service's, a call may take a little longer.
const A_CALL: Duration = Duration::from_millis(500);

impl Record {
    pub(crate) fn table(&self, totals: &RegistryStatus, bytes: usize) -> String {
        let mut text = String::new();
        let _ = self.rows(&mut text, totals, bytes);
        text
    }

    fn rows(&self, text: &mut String, totals: &RegistryStatus, bytes: usize) -> std::fmt::Result {
        let (down, up) = (OUTAGE.start.as_secs_f64(), OUTAGE.end.as_secs_f64());
        writeln!(
            text,
            "{TENANTS} tenants, one registry. The auth server answers after 10 ms, and 503 from {down} s to {up} s.\n"
        )?;
        writeln!(
            text,
            "{:<26}{:>9}{:>7}{:>11}{:>11}{:>12}",
            "", "requests", "ok", "p50", "p99", "auth calls"
        )?;
        for kind in Kind::ALL {
            let calls = self.calls.iter().filter(|call| kind_of_client(&call.client) == kind).count();
            row(text, kind.name(), &self.of(kind, 0), &calls.to_string())?;
            if kind == Kind::Healthy {
                row(text, "  after the first of each", &self.of(kind, TENANTS as usize), "")?;
            }
        }
        writeln!(
            text,
            "\nauth server: {} calls, at most {} at once (allowed: {}), {} of them in the outage",
            self.calls.len(),
            self.most_at_once(),
            totals.max_calls,
            self.in_outage()
        )?;
        let gate = if totals.closed.is_some() { "closed" } else { "open" };
        writeln!(
            text,
            "gate: closed {} times (the outage, and probes that failed), {gate} now",
            totals.closures
        )?;
        writeln!(text, "memory: {bytes} bytes for a tenant that rests, with a token of 100 bytes")
    }

    /// Without the first so many of all.
    fn of(&self, kind: Kind, skipped: usize) -> Vec<Request> {
        let later = self.requests.iter().skip(skipped);
        later.filter(|request| Kind::of(request.tenant) == kind).copied().collect()
    }

    fn most_at_once(&self) -> usize {
        self.calls.iter().map(|call| call.at_once).max().unwrap_or_default()
    }

    fn in_outage(&self) -> usize {
        self.calls.iter().filter(|call| call.status == 503).count()
    }

    /// # Errors
    /// What the registry has not kept.
    pub(crate) fn verdict(&self, few: usize) -> Result<(), Box<dyn Error>> {
        if self.most_at_once() > 16 {
            return Err(format!("{} calls at once", self.most_at_once()).into());
        }
        if self.in_outage() > few {
            return Err(format!("{} calls in the outage", self.in_outage()).into());
        }
        let served = |call: &&Call| call.status == 200 && call.at >= OUTAGE.end;
        let there_again = self.calls.iter().filter(served).map(|call| call.at).min();
        let there_again = there_again.ok_or("the outage has not ended")?;
        let is_far = |request: &&Request| {
            request.at + request.took < OUTAGE.start || request.at > there_again + A_CALL
        };
        let refused = self.requests.iter().filter(is_far);
        let refused =
            refused.filter(|request| Kind::of(request.tenant) == Kind::Healthy && request.status != 200);
        match refused.count() {
            0 => Ok(()),
            refused => {
                Err(format!("{refused} requests of healthy tenants were refused without an outage").into())
            }
        }
    }
}

fn row(text: &mut String, name: &str, requests: &[Request], calls: &str) -> std::fmt::Result {
    let ok = requests.iter().filter(|request| request.status == 200).count();
    let mut times: Vec<_> = requests.iter().map(|request| request.took).collect();
    times.sort_unstable();
    let share = |percent: usize| {
        let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        let millis = times.get(place).map_or(0.0, Duration::as_secs_f64) * 1_000.0;
        format!("{millis:.1} ms")
    };
    writeln!(text, "{name:<26}{:>9}{ok:>7}{:>11}{:>11}{calls:>12}", requests.len(), share(50), share(99))
}

fn kind_of_client(client: &str) -> Kind {
    let tenant = client.strip_prefix("tenant-").and_then(|tenant| tenant.parse().ok());
    tenant.map_or(Kind::Healthy, Kind::of)
}
