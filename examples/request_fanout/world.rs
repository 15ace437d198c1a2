//! The inputs of the runs: the clients and the servers. The built-in servers are started and stopped here.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Data;
use indicatif::ProgressBar;
use jiff::SignedDuration;

use crate::client::{self, Credentials};
use crate::options::{Mode, Options, Strategy};
use crate::record::{CallLog, Run};
use crate::report;
use crate::servers::{Issuer, Running, start_api, start_auth};
use crate::strategies::{self, Setup};

/// The only client that the built-in auth server knows.
const CLIENT_ID: &str = "fanout";

pub(crate) struct World {
    /// In words, for the report.
    pub(crate) servers: report::Servers,
    setup: Setup,
    /// What the built-in auth server knows.
    issuer: Option<Data<Issuer>>,
    running: Vec<Running>,
}

impl World {
    /// # Errors
    /// A server that does not start.
    pub(crate) fn start(options: &Options) -> Result<Self, String> {
        let mut running = Vec::new();
        let mut issuer = None;

        let (token_url, secret) = if let Some(url) = &options.token_url {
            (url.clone(), String::new())
        } else {
            // The prefix lets `grep` tell whether the secret got into the output.
            let secret = format!("fanout-secret-{:032x}", fastrand::u128(..));
            let header = client::basic(CLIENT_ID, &secret).map_err(client::describe)?;
            let header = header.to_str().map_err(|err| err.to_string())?.to_owned();
            let known = Data::new(Issuer::new(options, header));
            let auth = start_auth(known.clone()).map_err(|err| format!("the auth server: {err}"))?;
            let url = auth.url.clone();
            running.push(auth);
            issuer = Some(known);
            (url, secret)
        };
        let api_url = if let Some(url) = &options.api_url {
            url.clone()
        } else {
            let api =
                start_api(issuer.clone(), options.api_latency()).map_err(|err| format!("the API: {err}"))?;
            let url = api.url.clone();
            running.push(api);
            url
        };

        let credentials = Credentials {
            token_url,
            id: options.client_id.clone().unwrap_or_else(|| CLIENT_ID.into()),
            secret: options.client_secret.clone().unwrap_or(secret),
            scope: options.scope(),
        };
        let setup = Setup {
            credentials: Rc::new(credentials),
            api_url,
            requests: options.requests,
            turn: options.first_lifetime().map(|lifetime| turn(options.latency, lifetime)),
            calls: Arc::new(CallLog::default()),
        };
        Ok(Self { servers: in_words(options), setup, issuer, running })
    }

    /// One run; the built-in servers have forgotten the one before.
    ///
    /// # Errors
    /// A setting that cannot work.
    pub(crate) async fn run(
        &self,
        strategy: Strategy,
        mode: Mode,
        progress: &ProgressBar,
    ) -> Result<Run, String> {
        let mut run = strategies::run(&self.setup, strategy, mode, progress).await?;
        if let Some(issuer) = &self.issuer {
            // Its own count is the truth; the client's would miss what the client does not know of.
            run.auth_calls = issuer.end_run();
        }
        Ok(run)
    }

    /// Stops the built-in servers.
    pub(crate) async fn stop(&mut self) {
        for server in self.running.drain(..) {
            server.stop().await;
        }
    }
}

/// When the token that was asked for at the start has certainly expired.
fn turn(latency: Duration, lifetime: Duration) -> Duration {
    const SURE: Duration = Duration::from_millis(50);
    latency + lifetime + SURE
}

fn in_words(options: &Options) -> report::Servers {
    let auth = match (&options.token_url, options.first_lifetime()) {
        (Some(url), _) => client::without_secrets(url),
        (None, first) => {
            let first = first.map(|first| format!("; the first one {}", human(first))).unwrap_or_default();
            let (latency, lifetime) = (after(options.latency), human(options.lifetime));
            format!("built-in, answers {latency}, tokens last {lifetime}{first}")
        }
    };
    let api = match (&options.api_url, &options.token_url) {
        (Some(url), _) => client::without_secrets(url),
        (None, Some(_)) => "built-in, accepts any bearer token: it cannot ask that auth server".into(),
        (None, None) => {
            format!(
                "built-in, asks the auth server about each token, answers {}",
                after(options.api_latency())
            )
        }
    };
    report::Servers { auth, api }
}

fn after(latency: Duration) -> String {
    if latency.is_zero() { "at once".into() } else { format!("after {}", human(latency)) }
}

/// As it would be written on the command line.
fn human(duration: Duration) -> String {
    SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |duration| format!("{duration:#}"))
}
