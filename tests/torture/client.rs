//! The program that uses the crate, and is killed. It gets its commands on its standard input.

use std::io::BufRead;
use std::time::Duration;

use crate::now;
use tokenflight::oauth::Client;
use tokenflight::source::{AfterCrash, NeedsLogin, RefreshToken, SealKey};
use tokenflight::store::RedisStore;
use tokenflight::vault::{
    FileVault, Record, RedisVault, RefreshTokenStore, Stamp, Stored, Swap, VaultError, VaultLock,
};
use tokenflight::{FetchContext, Reason, Token, TokenSource};

/// Where a program finds its server, its vault and its rules.
pub(crate) const URL: &str = "TORTURE_URL";
pub(crate) const VAULT: &str = "TORTURE_VAULT";
pub(crate) const GRACE: &str = "TORTURE_GRACE";
pub(crate) const RULE: &str = "TORTURE_RULE";

pub(crate) const ID: &str = "rotating";
pub(crate) const SECRET: &str = "rotating-secret";

/// A caller's patience. The exchange goes on without the caller.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two tokens. Still an exchange is under way for a fifth of the time.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// Whoever gets no token for so long rests all the same.
const LONGEST: Duration = Duration::from_secs(60);

/// One of the two.
pub(crate) enum Vault {
    File(FileVault),
    Redis(RedisVault),
}

impl Vault {
    pub(crate) fn open(place: &str) -> Self {
        if !place.starts_with("redis:") {
            return Self::File(FileVault::new(place).unwrap());
        }
        let key = SealKey::from_hex("k1", "9f4e61c07a2b8d35e1f6047c93ab58d20c7e91b4f85a3d6672e0c94b1fa8d357")
            .unwrap();
        Self::Redis(RedisVault::new(&RedisStore::builder(place).build().unwrap(), "torture", [key]).unwrap())
    }

    pub(crate) async fn record(&self) -> Option<Record> {
        loop {
            if let Ok(there) = self.load().await {
                return there.map(|there| there.record().clone());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl RefreshTokenStore for Vault {
    async fn lock(&self, limit: Duration) -> Result<VaultLock, VaultError> {
        match self {
            Self::File(vault) => vault.lock(limit).await,
            Self::Redis(vault) => vault.lock(limit).await,
        }
    }

    async fn load(&self) -> Result<Option<Stored>, VaultError> {
        match self {
            Self::File(vault) => vault.load().await,
            Self::Redis(vault) => vault.load().await,
        }
    }

    async fn swap(&self, expected: Option<&Stamp>, record: &Record) -> Result<Swap, VaultError> {
        match self {
            Self::File(vault) => vault.swap(expected, record).await,
            Self::Redis(vault) => vault.swap(expected, record).await,
        }
    }
}

pub(crate) fn source(url: &str, place: &str, grace: Duration, rule: AfterCrash) -> RefreshToken<Vault> {
    let client = Client::with_token_url(url, ID).secret(SECRET).build().unwrap();
    client.refresh_token(Vault::open(place)).grace(grace).after_crash(rule).build().unwrap()
}

/// `None`: this program is the one that gives the orders.
pub(crate) fn is_told() -> bool {
    std::env::var_os(URL).is_some()
}

/// `go 300`: rotates for 300 ms from its first token on, with a pause after each one. One line a token. Then it says that it
/// rests.
pub(crate) fn obey() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let (url, place) = (variable(URL), variable(VAULT));
    let grace = Duration::from_secs(variable(GRACE).parse().unwrap());
    let rule = if variable(RULE) == "try_once" { AfterCrash::TryOnce } else { AfterCrash::NeedsLogin };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let source = runtime.block_on(async { source(&url, &place, grace, rule) });
    let mut last = None;
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let time = line.strip_prefix("go ").and_then(|time| time.parse().ok()).expect("an order");
        runtime.block_on(rotate(&source, Duration::from_millis(time), &mut last));
        println!("rest");
    }
}

async fn rotate(source: &RefreshToken<Vault>, time: Duration, last: &mut Option<Token>) {
    let (begin, mut first) = (now(), None);
    loop {
        let cx = FetchContext::new(Reason::Forced);
        let cx = match &last {
            Some(last) => cx.with_previous(last.clone()),
            None => cx,
        };
        match tokio::time::timeout(PATIENCE, source.fetch(cx)).await {
            Ok(Ok(token)) => {
                println!("token");
                first = first.or(Some(now()));
                *last = Some(token);
            }
            Ok(Err(error)) if error.cause::<NeedsLogin>().is_some() => {
                println!("needs_login");
                return;
            }
            Ok(Err(error)) => {
                println!("failed {error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(_) => println!("late"),
        }
        if !time.is_zero() {
            tokio::time::sleep(LONGEST_PAUSE.mul_f64(fastrand::f64())).await;
        }
        if first.is_some_and(|first| now() >= first + time) || now() > begin + LONGEST {
            return;
        }
    }
}
